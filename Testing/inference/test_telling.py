"""Tokens of structures that were drawn in part learn height, size and shape from what they find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.telling import told_by_results
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import tune
from PromptSegLib.tokens.class_token import ClassToken
from Testing.support import FAST, drawing, drawn_labels, drawn_scan, scan, tiny_backbone, tuned_token


def told(token: ClassToken, *scans: DrawnScan) -> ClassToken:
    return told_by_results(token, scans, tiny_backbone())


def ml(mask: np.ndarray, image_mm3: float) -> float:
    return np.count_nonzero(mask) * image_mm3 / 1000


def test_size_and_height_of_what_was_found() -> None:
    image, truth = scan((24, 64, 64), (5.0, 2.0, 2.0))
    token = tuned_token()
    assert token.size is None and token.height is None, "it was drawn on three slices"
    knows = told(token, DrawnScan(image, drawing(image, truth, (6, 11, 16))))
    assert knows.size is not None and knows.size.ml == pytest.approx(ml(truth, 20), rel=0.15)
    shows = np.flatnonzero(truth.any(axis=(1, 2))) * 5.0
    assert knows.height is not None
    (level,) = knows.height.levels
    assert level.low_mm == pytest.approx(shows[0], abs=10) and level.high_mm == pytest.approx(shows[-1], abs=10)
    (shape,) = knows.shapes
    assert np.count_nonzero(shape.distances > 0) * shape.spacing_mm**3 / 1000 == pytest.approx(ml(truth, 20), rel=0.2)
    assert replace(knows, size=None, height=None, shapes=()).to_bytes() == token.to_bytes(), "and nothing else"


@pytest.mark.parametrize("slices", [(11,), (10, 11, 12)])
def test_slices_that_show_a_small_part_tell_nothing(slices: tuple[int, ...]) -> None:
    image, truth = scan((24, 64, 64), (5.0, 2.0, 2.0))
    knows = told(tuned_token(), DrawnScan(image, drawing(image, truth, slices)))
    assert knows.size is None and knows.height is None and not knows.shapes


def test_scribbles_and_whole_drawings_are_not_looked_at() -> None:
    image, truth = scan((24, 64, 64), (5.0, 2.0, 2.0))
    labels = drawn_labels(truth, (6, 11, 16))
    labels[[6, 11, 16], 4:8, 30:40] = 2
    strokes = Annotation.from_label_map(image.with_array(labels), 1, scribbles=True)
    part = Volume(image.array[8:16], replace(image.geometry, shape=(8, 64, 64)))
    whole = Annotation.from_label_map(part.with_array(truth[8:16].astype(np.uint8)), 1, complete=True, axis=0)
    looked: list[float] = []
    for seen in (DrawnScan(image, strokes), DrawnScan(part, whole)):
        token = told_by_results(tuned_token(), [seen], tiny_backbone(), report=looked.append)
        assert token.size is None and not looked


def test_several_scans_tell_together() -> None:
    scans = []
    for seed, spacing in ((0, (5.0, 2.0, 2.0)), (1, (5.0, 2.4, 2.4))):
        image, truth = scan((24, 64, 64), spacing, seed)
        scans.append(DrawnScan(image, drawing(image, truth, (6, 11, 16))))
    one, other, both = told(tuned_token(), scans[0]), told(tuned_token(), scans[1]), told(tuned_token(), *scans)
    assert one.size is not None and other.size is not None and both.size is not None and both.height is not None
    assert both.size.ml == pytest.approx((one.size.ml * other.size.ml) ** 0.5, rel=1e-3)
    assert len(both.height.levels) == 2


def test_what_the_drawing_tells_stays() -> None:
    image, truth = scan((24, 64, 64), (5.0, 2.0, 2.0))
    whole = Annotation.from_label_map(image.with_array(truth.astype(np.uint8)), 1, complete=True, axis=0)
    token = tune([DrawnScan(image, whole)], "Organ", tiny_backbone(), FAST)
    assert token.size is not None and told(token, DrawnScan(image, whole)) is token


def test_other_structures_in_the_drawing_are_none_of_it() -> None:
    """The structure has label 2, and another one label 1."""
    image, truth = scan((24, 64, 64), (5.0, 2.0, 2.0))
    labels = drawn_labels(truth, (6, 11, 16), label=2)
    labels[11, 2:6, 2:6] = 1
    annotation = Annotation.from_label_map(image.with_array(labels), 2, axis=0)
    knows = told(tuned_token(), DrawnScan(image, annotation))
    assert knows.size is not None and knows.size.ml == pytest.approx(ml(truth, 20), rel=0.15)


def test_it_can_be_interrupted_and_says_how_far_it_is() -> None:
    fractions: list[float] = []
    told_by_results(tuned_token(), [drawn_scan(), drawn_scan(seed=1)], tiny_backbone(), report=fractions.append)
    assert fractions == sorted(fractions) and 0 < fractions[0] < 0.5 and fractions[-1] == 1
    with pytest.raises(InterruptedError):
        told_by_results(tuned_token(), [drawn_scan()], tiny_backbone(), cancelled=lambda: True)
