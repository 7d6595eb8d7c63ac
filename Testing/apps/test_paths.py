"""Names of files and folders that a system allows, and that not everything can take."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from dataclasses import replace
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PromptSegLib.apps import token_commands
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.dicom import list_series
from PromptSegLib.imaging.files import require_writable
from PromptSegLib.imaging.formats import read_image, write_image
from PromptSegLib.learning import tuning
from PromptSegLib.tokens.class_token import load_token
from Testing.apps.running import Run
from Testing.support import scan

LATIN = os.fsdecode("Müller".encode("latin-1"))
SEGMENT = ("segment", "--image", "scan.nii.gz", "--tokens", "organ.promptseg", "--out")

LONG = "n" * 300

takes_any_bytes = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")


@takes_any_bytes
def test_a_name_that_is_not_utf8_is_refused_before_itk_sees_it(run: Run, folder: Path) -> None:
    """ITK would end the process."""
    shutil.copy(folder / "scan.nii.gz", folder / f"{LATIN}.nii.gz")
    (folder / LATIN).mkdir()
    for name in (f"{LATIN}.nii.gz", LATIN, f"{LATIN}/scan.nii.gz"):
        with pytest.raises(InputError, match="not UTF-8: rename it"):
            read_image(folder / name)
    for write in (require_writable, lambda path: write_image(scan()[0], path)):
        with pytest.raises(InputError, match="not UTF-8: rename it"):
            write(folder / LATIN / "new.nii.gz")
    code, _, err = run(*SEGMENT, f"{LATIN}.nrrd")
    assert code == 2 and "has a name that is not UTF-8: rename it\n" in err
    assert not (folder / f"{LATIN}.nrrd").exists()


@takes_any_bytes
def test_dicom_slices_whose_names_are_not_utf8_are_refused(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((1, 8, 8), np.int16))
    image.SetMetaData("0020|000e", "1.2.3")
    sitk.WriteImage(image, str(tmp_path / "slice.dcm"))
    assert len(list_series(tmp_path)) == 1
    (tmp_path / "slice.dcm").rename(tmp_path / f"{LATIN}.dcm")
    with pytest.raises(InputError, match="not UTF-8: rename it"):
        list_series(tmp_path)


@takes_any_bytes
def test_names_that_are_not_utf8_are_listed(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(folder / "organ.promptseg", folder / f"{LATIN}.promptseg")
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(BytesIO(), encoding="utf-8"))
    assert run("tokens", "list", ".", "--json")[0] == 0
    sys.stdout.flush()
    said = json.loads(sys.stdout.buffer.getvalue())  # type: ignore[attr-defined]
    assert [entry["problem"] for entry in said] == [None, None]


@pytest.mark.parametrize(
    "command",
    [
        ["segment", "--image", f"{LONG}.nii.gz", "--tokens", "organ.promptseg", "--out", "found.nii.gz"],
        ["segment", "--image", "scan.nii.gz", "--tokens", f"{LONG}.promptseg", "--out", "found.nii.gz"],
        [*SEGMENT, f"{LONG}.nii.gz"],
        [*SEGMENT, f"{LONG}/found.nii.gz"],
        ["tokens", "list", LONG],
        ["backbones", "info", LONG],
        ["pretrain", "--data", LONG, "--out", "new.safetensors"],
        ["demo", "--out", LONG],
    ],
)
def test_a_name_that_the_system_refuses_is_one_sentence(run: Run, folder: Path, command: list[str]) -> None:
    before = sorted(folder.rglob("*"))
    code, out, err = run(*command)
    assert (code, out) == (2, "") and err.startswith("promptseg: ") and err.count("\n") == 1, err
    assert LONG in err and "File name too long" in err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "locked/scan"),
            2,
            "promptseg: locked/scan: Permission denied\n",
        ),
        (OSError("unknown"), 2, "promptseg: unknown\n"),
        (InterruptedError(), 130, "promptseg: interrupted\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
)
def test_what_the_system_says(run: Run, monkeypatch: pytest.MonkeyPatch, error: OSError, code: int, says: str) -> None:
    """Nobody looks when a pipe breaks, as that to a pager which was left."""

    def fail(folder: Path) -> None:
        raise error

    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr(token_commands, "list_tokens", fail)
    found = run("tokens", "list", ".")
    assert (found[0], found[2]) == (code, says)


def test_the_longest_names_are_written(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """255 bytes is what file systems take."""
    token = load_token(folder / "organ.promptseg")
    monkeypatch.setattr(tuning, "tune", lambda *arguments, **options: token)
    out = "n" * 245 + ".promptseg"
    command = "tune --image scan.nii.gz --labels drawing.nii.gz --label 1 --name Organ"
    assert run(*command.split(), "--out", out)[0] == 0
    assert load_token(folder / out).name == token.name


def test_a_class_with_a_long_name_has_a_map(run: Run, folder: Path) -> None:
    token = load_token(folder / "organ.promptseg")
    for number, name in enumerate(("肝" * 99 + "左", "肝" * 99 + "右")):
        replace(token, name=name).save(folder / f"{number}.promptseg")
    command = "segment --image scan.nii.gz --tokens 0.promptseg 1.promptseg --out found.nii.gz --probabilities maps"
    code, _, err = run(*command.split())
    assert code == 0, err
    assert sorted(path.name for path in (folder / "maps").iterdir()) == [f"{n}_{'肝' * 66}.nii.gz" for n in (1, 2)]
