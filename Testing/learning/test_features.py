"""Training crops: which slices they are cut from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from PromptSegLib.learning.drawing import Drawing, DrawnScan, empty_weight, prepare_drawing
from PromptSegLib.learning.features import FeatureCache
from Testing.support import drawn_scan, tiny_backbone


def with_ends(slices: Sequence[int], empty: Sequence[int]) -> Drawing:
    """The organ drawn on some slices, and erased on others."""
    scan = drawn_scan(slices)
    annotation = replace(
        scan.annotation, slices=tuple(sorted({*slices, *empty})), drawn=scan.annotation.drawn | set(empty)
    )
    return prepare_drawing([DrawnScan(scan.image, annotation)])


@pytest.mark.parametrize(
    ("slices", "empty", "expected"),
    [((6,), (0, 11), 1 / 3), ((6,), (0,), 1 / 2), ((3, 6), (0, 11), 1 / 3), ((3, 5, 6, 9), (0,), 1 / 5)],
)
def test_slices_that_mark_the_ends_are_not_seen_more_often_than_the_structure(
    slices: tuple[int, ...], empty: tuple[int, ...], expected: float
) -> None:
    """To half of a slice: a single end is seen as often as the single slice beside it."""
    drawing = with_ends(slices, empty)
    assert sum(part.shows for part in drawing.slices) == len(slices)
    known = [part.known for part in drawing.slices]
    cache = FeatureCache(drawing.slices, known, tiny_backbone().encode, 0, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    shares = [bool((cache.crop(generator).target > 0.5).any()) for _ in range(600)]
    assert np.mean(shares) == pytest.approx(1 - expected, abs=0.06)


def test_what_a_slice_without_the_structure_weighs() -> None:
    third = 1 / 3
    assert empty_weight(1, 4, third) == pytest.approx(1 / 8) and empty_weight(2, 2, third) == pytest.approx(1 / 2)
    for showing, empty, share in (
        (30, 15, third),
        (8, 4, third),
        (1, 0, third),
        (0, 3, third),
        (1, 1, third),
        (2, 3, 0.6),
    ):
        assert empty_weight(showing, empty, share) == 1
