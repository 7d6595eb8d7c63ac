"""What works with PUNet works with transformers: pre-train, tune, segment, tokens, the session and the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from PromptSegLib.apps.cli import main
from PromptSegLib.engine.messages import ClassInfo, SliceDrawing
from PromptSegLib.engine.session import Session
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import read_label_map, write_image
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.pretraining import trainer
from PromptSegLib.learning.pretraining.objectives import BaseClasses
from PromptSegLib.learning.tuning import tune
from PromptSegLib.networks.backbone import BackboneModule
from PromptSegLib.networks.presets import PRESETS, TransformerPreset
from PromptSegLib.networks.weights import load_backbone
from PromptSegLib.tokens.class_token import ClassToken, load_token
from Testing.support import (
    FAST,
    TINY_SWIN,
    TINY_UNETR,
    drawn_labels,
    drawn_scan,
    dsc,
    organ,
    random_token,
    scan,
    tiny_backbone,
    write_scans,
)


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generated scans with their organ."""
    return write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module", params=[TINY_UNETR, TINY_SWIN], ids=lambda preset: preset.name)
def file(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A backbone that was pre-trained for a few seconds by the command line."""
    preset: TransformerPreset = request.param
    out = tmp_path_factory.mktemp("backbones") / "tiny-1.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, preset.name, preset)
        patch.setattr(trainer, "PATCHES", (64,))
        options = ["--preset", preset.name, "--classes", "1:Organ", "--steps", 6, "--active", 1, "--pairs", 1]
        assert command("pretrain", "--data", data, "--out", out, *options) == 0
        yield out


@pytest.fixture(scope="module")
def backbone(file: Path) -> BackboneModule:
    return load_backbone(file)


@pytest.fixture(scope="module")
def tuned(backbone: BackboneModule) -> tuple[ClassToken, ClassToken]:
    """The first guess of a class and what became of it."""
    seen: list[ClassToken] = []
    token = tune([drawn_scan()], "Organ", backbone, FAST, watch=seen.append)
    return seen[0], token


@pytest.fixture(scope="module")
def token(tuned: tuple[ClassToken, ClassToken]) -> ClassToken:
    return tuned[1]


def test_base_classes_have_the_networks_own_prompts(backbone: BackboneModule) -> None:
    base = BaseClasses(backbone, ["organ"])
    deep = {name for name in base.prompts(torch.tensor([0])) if not name.startswith("head")}
    assert deep == set(backbone.prompt_shapes("deep"))


def test_from_the_command_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, truth = scan()
    write_image(image, tmp_path / "scan.nii.gz")
    write_image(image.with_array(drawn_labels(truth)), tmp_path / "drawing.nii.gz")
    drawn = ("--image", tmp_path / "scan.nii.gz", "--labels", tmp_path / "drawing.nii.gz", "--label", 1)
    token, found = tmp_path / "organ.promptseg", tmp_path / "found.nii.gz"
    tuning = ("tune", *drawn, "--name", "Organ", "--out", token, "--seconds", 2, "--backbone", file)
    assert command(*tuning, "--prompting", "decoder") == 2
    assert "has no prompting 'decoder': choose one of shallow, deep" in capsys.readouterr().err
    assert not token.exists()
    assert command(*tuning, "--prompting", "shallow") == 0
    assert load_token(token).prompting == "shallow"
    segmenting = ("segment", "--image", tmp_path / "scan.nii.gz", "--tokens", token, "--out", found)
    assert command(*segmenting, "--backbone", file) == 0
    assert dsc(read_label_map(found).array == 1, truth) > 0.9
    capsys.readouterr()
    assert command("backbones", "info", file, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["family"] in ("UNETR", "Swin UNETR") and list(said["trained"]) == ["shallow", "deep"]


def test_another_class_changes_no_bit(backbone: BackboneModule, token: ClassToken) -> None:
    image, truth = scan(seed=5)
    other = random_token(backbone, "Other", "shallow")
    other = replace(other, plane="axial", spacing_mm=token.spacing_mm, window=token.window)
    before = backbone.fingerprint()
    alone = Segmenter(backbone, [token]).segment(image, probabilities=True)
    both = Segmenter(backbone, [other, token]).segment(image, probabilities=True)
    assert np.array_equal(alone.probabilities[0].array, both.probabilities[1].array)
    assert not np.array_equal(both.probabilities[0].array, both.probabilities[1].array)
    assert dsc(alone.labels.array == 1, truth) > 0.9
    assert backbone.fingerprint() == before == token.backbone.fingerprint


def test_deep_prompts_are_tuned(backbone: BackboneModule, tuned: tuple[ClassToken, ClassToken]) -> None:
    guess, token = tuned
    assert token.prompting == "deep" and (guess.training.steps, token.training.steps) == (0, FAST.steps)
    for name in backbone.prompt_shapes("deep"):
        assert not np.array_equal(token.numbers[name], guess.numbers[name]), name


def test_wrong_backbone(backbone: BackboneModule, token: ClassToken) -> None:
    with pytest.raises(InputError, match="belongs to the backbone tiny-1"):
        Segmenter(tiny_backbone(name="punet-1"), [token])
    with pytest.raises(InputError, match="has no prompting 'full': choose one of shallow, deep"):
        Segmenter(backbone, [replace(token, prompting="full")])


def test_a_session(file: Path) -> None:
    image, truth = scan()
    session = Session("cpu", str(file))
    session.set_image(image)
    planes = {i: truth[i].astype(np.uint8) for i in (3, 6, 9)}
    session.annotate("a", ClassInfo("Organ"), SliceDrawing(0, planes))
    previews: list[object] = []
    result = session.tune(["a"], 2.0, preview=previews.append)
    assert list(result.tokens) == ["a"] and previews
    (found,) = session.segment(["a"])
    mask = np.zeros(truth.shape, bool)
    mask[found.box] = found.mask
    assert dsc(mask, organ()) > 0.9
    with pytest.raises(InputError, match="has no prompting 'start'"):
        session.tune(["a"], 2.0, "start")
    session.close()
