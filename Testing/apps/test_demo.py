"""Where the demo may write."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from PromptSegLib.apps import demo
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.imaging.phantom import make_phantom
from Testing.apps.running import Run
from Testing.support import scan


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that takes no time, and an end before the learning."""

    def end(*arguments: object) -> None:
        raise InputError("the learning began")

    monkeypatch.setattr(demo, "make_phantom", partial(make_phantom, shape=(31, 64, 64), spacing=(8.0, 5.4, 5.4)))
    monkeypatch.setattr(demo, "tune_files", end)


@pytest.mark.parametrize("name", ["truth.nii.gz", "segmentation.nii.gz", "left_kidney.promptseg", "demo.png"])
def test_files_of_a_user_are_not_written_over(run: Run, folder: Path, name: str) -> None:
    (folder / "maps" / name).write_bytes(b"precious")
    code, _, err = run("demo", "--out", "maps")
    assert code == 2
    assert err.startswith(f"promptseg: maps/{name} is not of a former demo and would be written over: choose another")
    assert [path.read_bytes() for path in (folder / "maps").iterdir()] == [b"precious"]


def test_the_scan_of_a_user_is_not_written_over(run: Run, folder: Path) -> None:
    write_image(scan()[0], folder / "maps" / "scan.nii.gz")
    before = (folder / "maps" / "scan.nii.gz").read_bytes()
    code, _, err = run("demo", "--out", "maps")
    assert code == 2 and "maps/scan.nii.gz is not of a former demo" in err
    assert [path.read_bytes() for path in (folder / "maps").iterdir()] == [before]


def test_a_former_demo_is_renewed(run: Run, folder: Path) -> None:
    (folder / "maps" / "notes.txt").write_text("of the user")
    for _ in range(2):
        assert "the learning began" in run("demo", "--out", "maps")[2]
        (folder / "maps" / "left_kidney.promptseg").write_bytes(b"of the demo")
    (folder / "maps" / "truth.nii.gz").unlink()
    assert "the learning began" in run("demo", "--out", "maps")[2]
    assert (folder / "maps" / "truth.nii.gz").is_file()
