"""Training crops: which slices they are cut from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.learning.drawing import Drawing, DrawnScan, empty_weight, prepare_drawing
from PromptSegLib.learning.features import FeatureCache
from PromptSegLib.learning.tuner import Tuner
from Testing.support import FAST, drawn_labels, drawn_scan, scan, tiny_backbone


def with_ends(slices: Sequence[int], empty: Sequence[int]) -> Drawing:
    """The organ drawn on some slices, and erased on others."""
    drawn = drawn_scan(slices)
    known = {*slices, *empty}
    annotation = replace(drawn.annotation, slices=tuple(sorted(known)), drawn=frozenset(known))
    return prepare_drawing([DrawnScan(drawn.image, annotation)])


def empty_crops(drawing: Drawing, *, augmented: int = 10_000) -> float:
    """Share of the crops that show nothing, of the slices as drawn and of at most so many changed views."""
    known = [part.known for part in drawing.slices]
    cache = FeatureCache(drawing, known, tiny_backbone().encode, 0, torch.device("cpu"))
    cache.augment(lambda: len(cache.views) >= len(drawing.slices) + augmented)
    generator = torch.Generator().manual_seed(0)
    return float(np.mean([not bool((cache.crop(generator).target > 0.5).any()) for _ in range(600)]))


@pytest.mark.parametrize(
    ("slices", "empty", "expected"),
    [((6,), (0, 11), 1 / 3), ((6,), (0,), 1 / 2), ((3, 6), (0, 11), 1 / 3), ((3, 5, 6, 9), (0,), 1 / 5)],
)
def test_slices_that_mark_the_ends_are_not_seen_more_often_than_the_structure(
    slices: tuple[int, ...], empty: tuple[int, ...], expected: float
) -> None:
    """To half of a slice: a single end is seen as often as the single slice beside it."""
    drawing = with_ends(slices, empty)
    assert [part.empty for part in drawing.slices] == [index in empty for index in sorted({*slices, *empty})]
    assert empty_crops(drawing) == pytest.approx(expected, abs=0.06)
    assert empty_crops(replace(drawing, empty_share=0.9)) == pytest.approx(len(empty) / len(drawing.slices), abs=0.06)


def test_changed_views_that_were_not_made_in_time_do_not_change_the_rule() -> None:
    drawing = with_ends((3, 6), (0,))
    assert empty_crops(drawing, augmented=1) == pytest.approx(2 / 4, abs=0.06), "as often as they are there"


def test_strokes_beside_a_structure_are_no_end_of_it() -> None:
    image, truth = scan()
    labels = drawn_labels(truth, [6])
    labels[[2, 3, 9, 10], 5:8, 5:8] = 2
    annotation = Annotation.from_label_map(image.with_array(labels), 1, scribbles=True, axis=0)
    drawing = prepare_drawing([DrawnScan(image, annotation)])
    assert len(drawing.slices) == 5 and not any(part.empty for part in drawing.slices)


def test_the_first_guess_sees_fewer_pixels_of_empty_slices() -> None:
    def seen(empty_share: float) -> tuple[int, int]:
        drawing = replace(with_ends((6,), (0, 11)), empty_share=empty_share)
        backbone = tiny_backbone()
        tuner = Tuner(drawing, backbone, backbone.encode, FAST, "end", time.monotonic(), lambda: False)
        _, truth = tuner._points()
        return int((truth > 0.5).sum()), int((truth <= 0.5).sum())

    (inside, outside), (as_many_inside, more_outside) = seen(1 / 3), seen(0.9)
    assert inside == as_many_inside > 0 and 0 < outside < 0.7 * more_outside


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
