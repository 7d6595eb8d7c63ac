"""Many classes in one label map."""

from __future__ import annotations

import numpy as np

from PromptSegLib.imaging.volume import Geometry, Volume, slice_stack
from PromptSegLib.inference.merging import MergedClasses

SHAPE = (2, 3, 4)
STACK = slice_stack(Volume(np.zeros(SHAPE, np.int16), Geometry(SHAPE, (1.0, 1.0, 1.0))), 0)


def test_the_surest_class_wins_whatever_the_order() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (3, *SHAPE)).astype(np.float32)
    expected = np.where(logits.max(0) > 0, logits.argmax(0) + 1, 0)
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = MergedClasses(SHAPE, 3)
        for number in order:
            merged.enter(STACK, number, (slice(None),), logits[number])
        assert np.array_equal(STACK.view(merged.labels), expected)


def test_a_voxel_just_above_one_half_is_found() -> None:
    merged = MergedClasses(SHAPE, 2)
    merged.enter(STACK, 0, (slice(None),), np.full(SHAPE, -1e-4, np.float32))
    assert not merged.labels.any()
    merged.enter(STACK, 1, (slice(None),), np.full(SHAPE, 1e-4, np.float32))
    assert (merged.labels == 2).all()
