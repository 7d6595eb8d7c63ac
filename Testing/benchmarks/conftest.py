"""Tests that train the tiny network's own weights, and runs of the whole command on it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning.tuning import TuningOptions
from Testing.benchmarks import data
from Testing.support import scan, tiny_backbone


@pytest.fixture(autouse=True)
def without_onednn() -> Iterator[None]:
    """torch 2.13's gradient of a strided 1x1 convolution from 8 to 12 channels writes beyond its memory with oneDNN;
    convolutions as wide as those of the real presets do not."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@pytest.fixture
def small_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's scans are of a few thousand voxels and hold a spleen, any backbone is the tiny one that takes one
    step, and nothing is run before it is measured."""
    from Testing.benchmarks import __main__ as benchmarks
    from Testing.benchmarks import variants

    monkeypatch.delenv("PROMPTSEG_DATA", raising=False)
    monkeypatch.setattr(data, "scans", _small_scans)
    monkeypatch.setattr(variants, "scans", _small_scans)
    monkeypatch.setattr(variants, "random_scans", _small_scans)
    monkeypatch.setattr(benchmarks, "TuningOptions", partial(TuningOptions, steps=1, probe_steps=40))
    monkeypatch.setattr(benchmarks, "warm_up", lambda methods, setup: None)
    monkeypatch.setattr(variants, "warm_up", lambda methods, setup: None)
    monkeypatch.setattr(benchmarks, "find_backbone", Path)
    monkeypatch.setattr(benchmarks, "load_backbone", lambda path, device: tiny_backbone(name=path.name))


def _small_scans(part: str, count: int, *where: object, organs: object = ()) -> Iterator[tuple[str, Volume, Volume]]:
    for number in range(count):
        image, truth = scan(seed=number + (part == "train"))
        yield f"{part} {number}", image, image.with_array(truth.astype(np.uint8) * data.PHANTOM_CLASSES["spleen"])
