"""The commands about centers, from their words to their exit code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from PromptSegLib.apps.console import Interruption
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.learning import adaptation
from PromptSegLib.learning.adaptation import Adaptation
from PromptSegLib.tokens.centers import Center
from PromptSegLib.tokens.class_token import ClassToken, load_token
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.records import Training
from Testing.apps.running import Run
from Testing.support import drawn_labels, scan

pytestmark = pytest.mark.usefixtures("without_views")

ADAPT = ["adapt", *["--token", "organ.promptseg", "--seconds", "400", "--image", "b1.nii.gz", "b2.nii.gz"]]
ADAPT += ["--labels", "b1_drawn.nii.gz", "b2_drawn.nii.gz", "--center"]
SEGMENT = ["segment", "--tokens", "organ.promptseg", "--out", "found.nii.gz", "--probabilities", "maps", "--image"]


@pytest.fixture
def scans(folder: Path) -> Path:
    """Scans of another center, drawn on: its contrast is the other way round, and it is noisy."""
    for number in (1, 2, 3):
        image, truth = scan(seed=number)
        noise = np.random.default_rng(number).normal(0, 25, truth.shape)
        values = np.where(image.array > -500, 240 - image.array + noise, image.array)
        write_image(image.with_array(np.rint(values).astype(np.int16)), folder / f"b{number}.nii.gz")
        write_image(image.with_array(drawn_labels(truth, (2, 4, 6, 8))), folder / f"b{number}_drawn.nii.gz")
        write_image(image.with_array(drawn_labels(truth, (6,), label=2)), folder / f"b{number}_other.nii.gz")
    return folder


@pytest.fixture
def with_center(folder: Path) -> Path:
    """The token with a made-up center of its own."""
    token = load_token(folder / "organ.promptseg")
    rng = np.random.default_rng(0)
    delta = {key: rng.normal(0, 0.1, n.shape).astype(np.float16) for key, n in token.numbers.items()}
    profile = Profile(2, {"noise": 1.0}, {"noise": 0.1})
    center = Center("Hospital A", delta, Training(2, 6, 20, 5.0, "2024-03-01", 0, 0.5), profile)
    replace(token, centers=(center,)).save(folder / "organ.promptseg")
    return folder


def probabilities(run: Run, folder: Path, image: str, *more: str) -> str:
    """Checksum of the probability map that a scan gets."""
    code, _, err = run(*SEGMENT, image, *more)
    assert code == 0, err
    return hashlib.sha256((folder / "maps" / "1_Organ.nii.gz").read_bytes()).hexdigest()


def test_a_new_center_changes_no_bit_of_the_others(run: Run, with_center: Path, scans: Path) -> None:
    asked = [("scan.nii.gz",), ("b3.nii.gz",), ("b3.nii.gz", "--center", "Hospital A")]
    before = [probabilities(run, scans, *words) for words in asked]
    code, out, err = run(*ADAPT, "Hospital B", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["center"] == "Hospital B" and said["training"]["scans"] == 2 and not said["uses_base"]
    assert [probabilities(run, scans, *words) for words in asked] == before
    assert len(set(before)) == 3
    assert probabilities(run, scans, "b3.nii.gz", "--center", "Hospital B") not in before
    assert [c.name for c in load_token(scans / "organ.promptseg").centers] == ["Hospital A", "Hospital B"]

    assert probabilities(run, scans, "b3.nii.gz", "--center", "Base") == before[1]
    code, out, _ = run(*SEGMENT, "b3.nii.gz", "--center", "Auto", "--json")
    (found,) = json.loads(out)["classes"]
    assert code == 0 and found["center"] == "Hospital B" and found["recognition"]["probability"] > 0.5
    code, out, _ = run(*SEGMENT, "scan.nii.gz", "--center", "auto")
    assert code == 0 and "like the scans that the token was learned from" in out
    image, _ = scan(seed=4)
    write_image(image.with_array(image.array + np.int16(500)), scans / "strange.nii.gz")
    code, out, _ = run(*SEGMENT, "strange.nii.gz", "--center", "auto")
    assert code == 0 and "like no known center" in out and out.count("\n") < 12


def test_what_is_shown_of_centers(run: Run, with_center: Path) -> None:
    code, out, _ = run("tokens", "info", "organ.promptseg")
    assert code == 0 and "Hospital A" in out and "0.500" in out
    code, out, _ = run("tokens", "info", "organ.promptseg", "--json")
    (shown,) = json.loads(out)["centers"]
    assert shown["name"] == "Hospital A" and shown["training"]["scans"] == 2 and shown["trained numbers"] > 100
    code, out, _ = run("tokens", "centers", "list", "organ.promptseg", "--json")
    assert json.loads(out) == [shown]


def test_rename_merge_and_remove(run: Run, with_center: Path) -> None:
    path = with_center / "organ.promptseg"
    assert run("tokens", "centers", "rename", "organ.promptseg", "hospital a", "City")[0] == 0
    token = load_token(path)
    replace(token, centers=(*token.centers, replace(token.centers[0], name="Second"))).save(path)
    code, out, _ = run("tokens", "centers", "merge", "organ.promptseg", "City", "Second", "--name", "Both")
    assert code == 0 and "'Both'" in out
    (center,) = load_token(path).centers
    assert center.name == "Both" and center.training.scans == 4
    code, _, _ = run("tokens", "centers", "remove", "organ.promptseg", "Both", "--out", "bare.promptseg")
    assert code == 0 and len(load_token(path).centers) == 1 and not load_token(with_center / "bare.promptseg").centers
    assert "no centers" in run("tokens", "centers", "list", "bare.promptseg")[1]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ([*SEGMENT, "scan.nii.gz", "--center", "C"], "'Organ' has no center 'C': choose one of 'Hospital A'"),
        ([*ADAPT, "hospital a"], "there is a center 'Hospital A' already"),
        ([*ADAPT, "Base"], "no center can be called 'Base'"),
        ([*ADAPT, " "], "a center needs a name"),
        (["adapt", "--token", "organ.promptseg", "--center", "B", "--image", "scan.nii.gz"], "what was drawn"),
        ([*ADAPT, "B", "--labels", "drawing.nii.gz"], "2 images but 3 drawings"),
        ([*ADAPT, "B", "--image", "./b1.nii.gz", "--labels", "b3_drawn.nii.gz"], "b1.nii.gz is given twice: give each"),
        (
            [*ADAPT, "B", "--image", "b3.nii.gz", "--labels", "b3_other.nii.gz"],
            "b1_drawn.nii.gz holds label 1 and b3_other.nii.gz label 2: say with --label which one to learn",
        ),
        ([*ADAPT, "B", "--label", "7"], "label 7 is not in b1_drawn.nii.gz"),
        ([*ADAPT, "B", "--out", "new.nii.gz"], "must end in .promptseg"),
        ([*ADAPT, "B", "--out", "missing/new.promptseg"], "the folder missing does not exist"),
        (["tokens", "centers", "remove", "organ.promptseg", "C"], "has no center 'C'"),
        (["tokens", "centers", "remove", "missing.promptseg", "C"], "there is no class token missing.promptseg"),
        (["tokens", "centers", "rename", "organ.promptseg", "Hospital A", "auto"], "no center can be called 'auto'"),
        (["tokens", "centers", "merge", "organ.promptseg", "Hospital A", "hospital a"], "cannot be merged with itself"),
    ],
)
def test_bad_input_is_one_sentence(run: Run, with_center: Path, scans: Path, command: list[str], sentence: str) -> None:
    before = (with_center / "organ.promptseg").read_bytes()
    code, out, err = run(*command)
    assert code == 2 and out == "" and err.count("\n") == 1 and sentence in err
    assert (with_center / "organ.promptseg").read_bytes() == before


def test_what_others_add_meanwhile_stays(
    run: Run, with_center: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the token's own file and in another one; what holds another token is never replaced."""
    path = with_center / "organ.promptseg"
    made_up = load_token(path).centers[0]

    def add(file: Path, name: str) -> None:
        token = load_token(file)
        replace(token, centers=(*token.centers, replace(made_up, name=name))).save(file)

    def slow(scans: object, token: ClassToken, center: str, *arguments: object, **options: object) -> Adaptation:
        add(path, f"beside {center}")
        return Adaptation(replace(token, centers=(*token.centers, replace(made_up, name=center))), 1, 0.5, 0.6)

    monkeypatch.setattr(adaptation, "adapt", slow)
    assert run(*ADAPT, "B")[0] == 0
    assert [center.name for center in load_token(path).centers] == ["Hospital A", "beside B", "B"]
    other = Path(shutil.copy(path, with_center / "other.promptseg"))
    add(other, "C")
    assert run(*ADAPT, "D", "--out", other.name)[0] == 0
    assert [center.name for center in load_token(other).centers] == ["Hospital A", "beside B", "B", "C", "D"]
    assert run("tokens", "centers", "remove", other.name, "B")[0] == 0
    assert run(*ADAPT, "E", "--out", other.name)[0] == 0
    kept = {center.name for center in load_token(other).centers}
    assert kept == {"Hospital A", "beside B", "B", "beside D", "C", "D", "E"}, "all that either of both has"
    token = load_token(other)
    replace(token, numbers={name: array + 1 for name, array in token.numbers.items()}).save(other)
    before = path.read_bytes(), other.read_bytes()
    code, _, err = run(*ADAPT, "F", "--out", other.name)
    assert code == 2 and "other.promptseg is another token than organ.promptseg was" in err
    assert (path.read_bytes(), other.read_bytes()) == before


@pytest.mark.parametrize(
    ("judged", "dsc", "differs", "sentence"),
    [
        (1, 0.5, True, "judged by a scan that it was not learned from: DSC 0.500, of the token itself 0.250"),
        (3, 0.2, False, "judged by 3 scans that it was not learned from: DSC 0.200, of the token itself 0.250; so the"),
        (0, 0.5, True, "the token itself fails on this scan (DSC 0.250); what was learned from it brings 0.500: check"),
        (0, 0.3, False, "the token itself fails on this scan (DSC 0.250); what was learned from it brings 0.300,"),
        (0, None, False, "the token itself finds this scan with a DSC of 0.250 and is used for this center"),
    ],
)
def test_what_is_said_of_a_center(
    run: Run,
    with_center: Path,
    scans: Path,
    monkeypatch: pytest.MonkeyPatch,
    judged: int,
    dsc: float | None,
    differs: bool,
    sentence: str,
) -> None:
    def adapt(scans: object, token: ClassToken, center: str, *arguments: object, **options: object) -> Adaptation:
        made_up = replace(token.centers[0], name=center)
        there = made_up if differs else replace(made_up, delta={})
        return Adaptation(replace(token, centers=(*token.centers, there)), judged, 0.25, dsc)

    monkeypatch.setattr(adaptation, "adapt", adapt)
    code, out, err = run(*ADAPT, "B")
    assert (code, err) == (0, "") and sentence in out


def test_complete_drawings_fit_any_plane(run: Run, scans: Path) -> None:
    """A scan whose coronal slices are the finest ones beside a token of axial slices, and beside an axial scan."""
    image, truth = scan((36, 22, 64), (2.0, 8.0, 3.0), seed=5)
    write_image(image, scans / "coronal.nii.gz")
    write_image(image.with_array(truth.astype(np.uint8)), scans / "coronal_all.nii.gz")
    whole = ["--complete", "--image", "scan.nii.gz", "coronal.nii.gz", "--labels", "truth.nii.gz", "coronal_all.nii.gz"]
    code, _, err = run("adapt", "--token", "organ.promptseg", "--center", "B", "--out", "b.promptseg", *whole)
    assert (code, err) == (0, "") and load_token(scans / "b.promptseg").plane == "axial"
    code, _, err = run("tune", "--label", 1, "--name", "Organ", "--seconds", 2, "--out", "both.promptseg", *whole)
    assert (code, err) == (0, "") and load_token(scans / "both.promptseg").plane == "axial"


def test_an_interruption_at_the_very_end_writes_nothing(
    run: Run, with_center: Path, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = with_center / "organ.promptseg", (with_center / "organ.promptseg").read_bytes()

    def adapt(scans: object, token: ClassToken, center: str, *arguments: object, **options: object) -> Adaptation:
        os.kill(os.getpid(), signal.SIGINT)
        return Adaptation(replace(token, centers=(*token.centers, replace(token.centers[0], name=center))), 1, 0.5, 0.6)

    monkeypatch.setattr(adaptation, "adapt", adapt)
    code, _, err = run(*ADAPT, "B")
    assert (code, err.count("\n")) == (130, 1) and path.read_bytes() == before


def test_drawings_that_nothing_can_be_learned_from(run: Run, scans: Path) -> None:
    image, truth = scan()
    adapt_one = ["adapt", "--token", "organ.promptseg", "--center", "B", "--image", "scan.nii.gz"]
    adapt_one += ["--labels", "other.nii.gz"]
    write_image(image.with_array(np.zeros(truth.shape, np.uint8)), scans / "other.nii.gz")
    code, _, err = run(*adapt_one)
    assert code == 2 and "there is nothing painted in other.nii.gz" in err
    labels = drawn_labels(truth)
    labels[3, :2] = 4
    write_image(image.with_array(labels), scans / "other.nii.gz")
    code, _, err = run(*adapt_one)
    assert code == 2 and "other.nii.gz holds the labels 1, 4: say with --label which one to learn" in err


def test_a_token_of_another_backbone(run: Run, scans: Path) -> None:
    path = scans / "organ.promptseg"
    token = load_token(path)
    replace(token, backbone=replace(token.backbone, fingerprint="0" * 64)).save(path)
    code, _, err = run(*ADAPT, "B")
    assert code == 2 and "belongs to the backbone" in err and err.count("\n") == 1


def test_an_interruption_writes_nothing(run: Run, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (scans / "organ.promptseg").read_bytes()
    monkeypatch.setattr(Interruption, "__call__", lambda self: True)
    code, _, err = run(*ADAPT, "B")
    assert code == 130 and "interrupted" in err and (scans / "organ.promptseg").read_bytes() == before
