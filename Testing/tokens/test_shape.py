"""Shapes in token files: what is written is what is read, and damaged ones are refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from PromptSegLib.errors import InputError
from PromptSegLib.networks.presets import find_preset
from PromptSegLib.networks.punet import PUNet
from PromptSegLib.tokens.centers import Center
from PromptSegLib.tokens.class_token import ClassToken, load_token, parse_token
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.shape import LARGEST, MOST_SHAPES, MOST_VOXELS, Shape
from PromptSegLib.tokens.token_file import LARGEST_BYTES
from Testing.support import random_token, tiny_backbone


def shape(sides: tuple[int, int, int] = (5, 7, 9), seed: int = 0) -> Shape:
    return Shape(np.random.default_rng(seed).integers(-LARGEST, LARGEST + 1, sides).astype(np.int8), 2.5)


@pytest.fixture(scope="module")
def token() -> ClassToken:
    return replace(random_token(tiny_backbone()), shapes=(shape(), shape((3, 4, 11), 1)))


def with_center(token: ClassToken) -> ClassToken:
    delta = {name: np.full(n.shape, 0.5, np.float16) for name, n in token.numbers.items()}
    return replace(
        token,
        centers=(Center("B", delta, replace(token.training, scans=1), Profile(1, {"noise": 3.0}, {"noise": 0.1})),),
    )


@pytest.mark.parametrize("change", [lambda token: token, with_center])
def test_round_trip(token: ClassToken, change: Callable[[ClassToken], ClassToken], tmp_path: Path) -> None:
    whole = change(token)
    whole.save(tmp_path / "a.promptseg")
    loaded = load_token(tmp_path / "a.promptseg")
    assert loaded.to_bytes() == whole.to_bytes() and loaded.describe() == whole.describe()
    assert len(loaded.centers) == len(whole.centers) and loaded.numbers.keys() == whole.numbers.keys()
    for ours, theirs in zip(loaded.shapes, whole.shapes, strict=True):
        assert ours.spacing_mm == theirs.spacing_mm and np.array_equal(ours.distances, theirs.distances)
    assert loaded.at_center(None).shapes == loaded.shapes


def test_a_token_without_shapes_is_written_as_before(token: ClassToken) -> None:
    def version(data: bytes) -> str:
        length = int.from_bytes(data[:8], "little")
        found: str = json.loads(data[8 : 8 + length])["__metadata__"]["version"]
        return found

    plain = replace(token, shapes=())
    versions = [version(each.to_bytes()) for each in (plain, with_center(plain), token, with_center(token))]
    assert versions == ["1", "2", "3", "3"]


def test_as_many_and_as_large_as_they_may_be_fit() -> None:
    full = random_token(PUNet(find_preset("paper-2d")), "Ω" * 120, "full")
    largest = tuple(shape((25, 25, MOST_VOXELS // 625), seed) for seed in range(MOST_SHAPES))
    assert len(replace(full, shapes=largest).to_bytes()) <= LARGEST_BYTES


def damaged(token: ClassToken, change: Callable[[dict[str, Any], dict[str, np.ndarray]], object]) -> str:
    """With which sentence a token is refused, once its description and numbers are changed."""
    data = token.to_bytes()
    length = int.from_bytes(data[:8], "little")
    metadata, numbers = json.loads(data[8 : 8 + length])["__metadata__"], dict(load(data))
    description = json.loads(metadata["token"])
    change(description, numbers)
    with pytest.raises(InputError) as caught:
        parse_token(save(numbers, metadata | {"token": json.dumps(description)}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda description, numbers: description.pop("shapes"), "damaged description"),
        (lambda description, numbers: description.update(shapes=[]), "do not fit"),
        (lambda description, numbers: description["shapes"].pop(), "do not fit"),
        (lambda description, numbers: description["shapes"].extend(8 * [{"spacing_mm": 1.0}]), "do not fit"),
        (lambda description, numbers: description["shapes"][0].update(spacing_mm=1e-9), "spacing of 1e-09"),
        (lambda description, numbers: description["shapes"][0].update(spacing_mm=float("nan")), "spacing of nan"),
        (lambda description, numbers: description["shapes"][0].clear(), "spacing_mm"),
        (lambda description, numbers: numbers.pop("shape.1"), "do not fit"),
        (lambda description, numbers: numbers.update({"shape.x": shape().distances}), "do not fit"),
        (lambda description, numbers: numbers.update({"shape.0": shape((3, 3, 2)).distances}), "is none"),
        (lambda description, numbers: numbers.update({"shape.0": -abs(shape().distances)}), "is none"),
        (lambda description, numbers: numbers.update({"shape.0": shape((30, 30, 30)).distances}), "small grid"),
        (lambda description, numbers: numbers.update({"shape.0": np.ones((3, 3, 3), np.float32)}), "small grid"),
        (lambda description, numbers: numbers.update({"shape.0": np.ones((3, 3), np.int8)}), "small grid"),
        (lambda description, numbers: numbers.update({"head.offset": np.zeros(1, np.int8)}), "not float32"),
    ],
)
def test_damaged_shapes(token: ClassToken, change: Any, sentence: str) -> None:
    assert sentence in damaged(token, change)


def test_shapes_in_a_file_of_an_earlier_version(token: ClassToken) -> None:
    data = token.to_bytes()
    for version in ("1", "2"):
        changed = data.replace(b'"version":"3"', f'"version":"{version}"'.encode())
        with pytest.raises(InputError, match="int8, not float32"):
            parse_token(changed)
