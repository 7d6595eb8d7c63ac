"""Tests that train the tiny network's own weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def without_onednn() -> Iterator[None]:
    """torch 2.13's gradient of a strided 1x1 convolution from 8 to 12 channels writes beyond its memory with oneDNN;
    convolutions as wide as those of the real presets do not."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield
