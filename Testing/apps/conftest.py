"""A folder with a scan and a token of it, and a way to run commands there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from PromptSegLib.apps.cli import main
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.networks import catalog, presets
from PromptSegLib.networks.weights import DEFAULT_BACKBONE, save_backbone
from Testing.apps.running import Run, default_backbone
from Testing.support import TINY, drawn_labels, scan, tuned_token


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbones")
    save_backbone(default_backbone(), folder / f"{DEFAULT_BACKBONE}.safetensors", {"license": "CC0", "scans": 0})
    return folder


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, backbones: Path) -> None:
    """The tiny backbone is the only one there is, and the default."""
    monkeypatch.setitem(presets.PRESETS, TINY.name, TINY)
    monkeypatch.setattr(catalog, "SHIPPED_FOLDERS", ())
    monkeypatch.setenv("PROMPTSEG_BACKBONES", str(backbones))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scan, three drawn slices of it, its truth, a token and a folder, under the names that the tests use."""
    image, truth = scan()
    write_image(image, tmp_path / "scan.nii.gz")
    write_image(image.with_array(drawn_labels(truth)), tmp_path / "drawing.nii.gz")
    write_image(image.with_array(truth.astype(np.uint8)), tmp_path / "truth.nii.gz")
    reference = replace(tuned_token().backbone, name=DEFAULT_BACKBONE)
    replace(tuned_token(), backbone=reference).save(tmp_path / "organ.promptseg")
    (tmp_path / "maps").mkdir()
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(folder)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        found = capsys.readouterr()
        return int(caught.value.code or 0), found.out, found.err

    return call
