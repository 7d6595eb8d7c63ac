"""What the command line makes of drawings that are not quite what it asks for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from PromptSegLib.imaging.formats import read_label_map, write_image
from PromptSegLib.tokens.class_token import load_token
from Testing.apps.running import Run
from Testing.support import drawn_labels, dsc, organ, scan

TUNE = "tune --image scan.nii.gz --labels mixed.nii.gz --label 1 --name Organ --out new.promptseg --seconds 1"
SEGMENT = "segment --image scan.nii.gz --tokens organ.promptseg --out found.nii.gz --drawn mixed.nii.gz"


def write_mixed(folder: Path, slices: dict[int, tuple[int, ...]]) -> None:
    """The organ on slices of several axes."""
    image, truth = scan()
    drawn = np.max([drawn_labels(truth, indices, axis) for axis, indices in slices.items()], axis=0)
    write_image(image.with_array(drawn), folder / "mixed.nii.gz")


@pytest.mark.parametrize(
    ("axial", "others"), [((3, 6, 9), {1: (29,)}), ((6,), {1: (29,)}), ((5,), {1: (29,), 2: (39,)})]
)
def test_slices_of_another_plane_do_not_count(
    run: Run, folder: Path, axial: tuple[int, ...], others: dict[int, tuple[int, ...]]
) -> None:
    write_mixed(folder, {0: axial, **others})
    planes = " and ".join(["axial", "coronal", "sagittal"][: 1 + len(others)])
    said = f"promptseg: mixed.nii.gz was drawn on {planes} slices, and only the axial ones count: "
    adapt = "adapt --token organ.promptseg --center B --image scan.nii.gz --labels mixed.nii.gz --seconds 1"
    for command in (TUNE, SEGMENT, adapt):
        code, _, err = run(*command.split())
        assert code == 0 and err.startswith(said) and err.count("\n") == 1, err
    assert load_token(folder / "new.promptseg").training.slices == len(axial)
    found = read_label_map(folder / "found.nii.gz").array == 1
    assert dsc(found, organ()) > 0.8
    for axis, indices in {0: axial, **others}.items():
        for index in indices:
            assert (np.take(found, index, axis) >= np.take(organ(), index, axis)).all(), "it stays as drawn"


def test_two_planes_of_which_neither_can_be_chosen(run: Run, folder: Path) -> None:
    write_mixed(folder, {1: (29,), 2: (39,)})
    for command in (TUNE, SEGMENT):
        code, _, err = run(*command.split())
        assert (code, err) == (
            2,
            "promptseg: mixed.nii.gz was drawn on coronal and sagittal slices: draw all of them on one plane\n",
        )


@pytest.mark.parametrize("background", [2, 300])
def test_strokes_on_the_background_keep_the_result_away(run: Run, folder: Path, background: int) -> None:
    """The very strokes that a token is learned from."""
    image, truth = scan()
    strokes = np.zeros(truth.shape, np.int16)
    strokes[6, 28, 36:44], strokes[6, 4:60, 4] = 1, background
    erased = np.zeros(truth.shape, bool)
    erased[5] = truth[5]
    strokes[erased] = background
    write_image(image.with_array(strokes), folder / "mixed.nii.gz")
    code, _, err = run(*TUNE.split(), "--scribbles")
    assert code == 0, err
    code, out, err = run(*SEGMENT.split(), "--scribbles", "--json")
    assert (code, err) == (0, "") and len(json.loads(out)["classes"]) == 1
    found = read_label_map(folder / "found.nii.gz").array
    assert set(np.unique(found)) == {0, 1}
    assert not found[erased].any() and found[strokes == 1].all()
    assert dsc(found == 1, truth & ~erased) > 0.7


def test_strokes_without_saying_so(run: Run, folder: Path) -> None:
    image, truth = scan()
    write_image(image.with_array(drawn_labels(truth, label=2)), folder / "mixed.nii.gz")
    code, _, err = run(*SEGMENT.split())
    assert code == 2 and "holds label 2, but there are 1 tokens" in err and "say with --scribbles" in err
