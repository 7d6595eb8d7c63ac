"""Around a drawing: what is taken out comes back, settled by what the image shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.volume import Geometry, SliceStack, Volume, slice_stack
from PromptSegLib.imaging.window import Window
from PromptSegLib.inference import neighborhood as module
from PromptSegLib.inference.appearance import appearance_logits
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.extent import Extent
from PromptSegLib.inference.fitting import Template
from PromptSegLib.inference.neighborhood import Neighborhood
from PromptSegLib.learning.shapes import shape_of

SHAPE, SPACING = (15, 40, 48), (3.0, 2.0, 2.0)
DRAWN = (3, 8, 12)
CT = Window("ct")
NOTHING = -20.0


def ball() -> np.ndarray:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return ((z - 7.5) * 3) ** 2 + ((y - 18) * 2) ** 2 + ((x - 25) * 2) ** 2 < 21**2


def drawing(*slices: int, axis: int = 0) -> Drawn:
    labels = np.full(SHAPE, UNKNOWN, np.uint8)
    np.moveaxis(labels, axis, 0)[list(slices)] = np.moveaxis(ball(), axis, 0)[list(slices)]
    return Drawn(Volume(labels, Geometry(SHAPE, SPACING)), {1: (axis, frozenset(slices))})


def stack_of(drawn: Drawn) -> SliceStack:
    return slice_stack(drawn.labels, 0)


def image() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return (np.where(ball(), 100, 20) + noise).astype(np.int16)


def settled(drawn: Drawn, logits: np.ndarray) -> np.ndarray:
    stack = stack_of(drawn)
    neighborhood = Neighborhood.of(drawn, 1, stack)
    assert neighborhood is not None
    whole = stack.view(logits).copy()
    for start in range(0, SHAPE[0], 4):
        part = slice(start, min(start + 4, SHAPE[0]))
        whole[part] = neighborhood.take(whole[part], part, NOTHING)
    assert (whole[neighborhood.place] == NOTHING).all()
    for place, found in neighborhood.settle(stack.view(image()), stack, CT, lambda: None):
        whole[place] = found
    return stack.restore(whole)


def dice(found: np.ndarray) -> float:
    return float(2 * np.count_nonzero(found & ball()) / (np.count_nonzero(found) + np.count_nonzero(ball())))


def vague() -> np.ndarray:
    """A guess that is off by four pixels and knows nothing of the edge."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    distance = np.sqrt(((z - 7.5) * 3) ** 2 + ((y - 22) * 2) ** 2 + ((x - 21) * 2) ** 2)
    return ((20 - distance) / 10).astype(np.float32)


def test_the_image_mends_a_vague_guess() -> None:
    assert dice(vague() > 0) < 0.75
    assert dice(settled(drawing(*DRAWN), vague()) > 0) > 0.95


def test_what_is_known_stays() -> None:
    found = settled(drawing(*DRAWN), vague()) > 0
    neighborhood = Neighborhood.of(drawing(*DRAWN), 1, stack_of(drawing(*DRAWN)))
    assert neighborhood is not None and neighborhood.known.any()
    assert np.array_equal(found[list(DRAWN)], ball()[list(DRAWN)])


def test_across_another_axis_and_with_strokes() -> None:
    across = drawing(18, 22, axis=1)
    found = settled(across, vague()) > 0
    assert np.array_equal(found[:, [18, 22]], ball()[:, [18, 22]])
    labels = np.full(SHAPE, UNKNOWN, np.uint8)
    labels[8, 16:20, 22:28] = 1
    labels[8, 23, 22:28] = 2
    strokes = Drawn(Volume(labels, Geometry(SHAPE, SPACING)), {})
    found = settled(strokes, vague()) > 0
    assert found[labels == 1].all() and not found[labels == 2].any()


def test_far_away_nothing_changes() -> None:
    logits = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    drawn = drawing(8)
    neighborhood = Neighborhood.of(drawn, 1, stack_of(drawn))
    assert neighborhood is not None
    outside = np.ones(SHAPE, bool)
    stack_of(drawn).view(outside)[neighborhood.place] = False
    assert outside.any() and np.array_equal(settled(drawn, logits)[outside], logits[outside])


def test_nothing_drawn() -> None:
    drawn = drawing(8)
    assert Neighborhood.of(drawn, 2, stack_of(drawn)) is None
    empty = replace(drawn, labels=drawn.labels.with_array(np.zeros(SHAPE, np.uint8)))
    assert Neighborhood.of(empty, 1, stack_of(drawn)) is None


def test_large_ones_are_settled_on_a_coarser_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = settled(drawing(*DRAWN), vague()) > 0
    monkeypatch.setattr(module, "MOST_VOXELS", 6000)
    coarse = settled(drawing(*DRAWN), vague()) > 0
    assert not np.array_equal(fine, coarse) and dice(coarse) > 0.9


def test_appearance_tells_bright_from_dark() -> None:
    inside = ball()[7:10]
    values = np.where(inside, 0.5, -0.5).astype(np.float32)
    known = np.zeros(inside.shape, bool)
    known[1] = True
    found = appearance_logits(values, inside, known, SPACING[1:])
    assert found[inside].min() > 3 and found[~inside].max() < -3
    flat = appearance_logits(np.zeros_like(values), inside, known, SPACING[1:])
    assert abs(flat).max() < 0.5


def test_appearance_needs_enough_pixels() -> None:
    inside = np.zeros((3, 20, 20), bool)
    inside[1, 5:8, 5:8] = True
    values = np.random.default_rng(0).uniform(-1, 1, inside.shape).astype(np.float32)
    assert not appearance_logits(values, inside, np.ones_like(inside), (2.0, 2.0)).any()


@pytest.mark.parametrize("length_mm, slices", [(None, 15), (15.0, 5)])
def test_what_was_found_beyond_the_ends_is_dropped(length_mm: float | None, slices: int) -> None:
    """A column through the whole scan, of which the structure makes up a part."""
    column = np.zeros(SHAPE, dtype=bool)
    column[:, 12:24, 18:30] = True
    stack = slice_stack(Geometry(SHAPE, SPACING), 0)
    everything = (slice(0, SHAPE[0]), slice(0, SHAPE[1]), slice(0, SHAPE[2]))
    neighborhood = Neighborhood(everything, None, column, np.where(column, 2.0, -6.0).astype(np.float16))
    if length_mm is not None:
        beyond = np.abs(np.arange(SHAPE[0]) - 7) - 2
        neighborhood.extent = Extent(np.clip(2.0 * beyond, 0, 4), length_mm, 0.25)
    found = np.full(SHAPE, NOTHING)
    for place, logits in neighborhood.settle(np.where(column, 100, 20).astype(np.int16), stack, CT, lambda: None):
        found[place] = logits
    assert np.count_nonzero((found > 0).any(axis=(1, 2))) == slices


def around(inside: np.ndarray, logits: np.ndarray) -> Neighborhood:
    """Of what was found, the whole scan."""
    slices, rows, columns = (slice(0, side) for side in SHAPE)
    return Neighborhood((slices, rows, columns), None, inside, logits.astype(np.float16))


def settled_around(neighborhood: Neighborhood) -> np.ndarray:
    found = np.full(SHAPE, NOTHING)
    stack = slice_stack(Geometry(SHAPE, SPACING), 0)
    for place, logits in neighborhood.settle(np.full(SHAPE, 20, np.int16), stack, CT, lambda: None):
        found[place] = logits
    return found


def template(mask: np.ndarray) -> Template:
    shape = shape_of(mask, Geometry(SHAPE, SPACING))
    assert shape is not None
    return Template((shape,), slice_stack(Geometry(SHAPE, SPACING), 0).axes(Geometry(SHAPE, SPACING)))


def test_a_shape_drops_what_is_too_much_and_fills_up_what_was_missed() -> None:
    """The image shows nothing."""
    wrong = ball() & (np.arange(SHAPE[2]) < 30)
    wrong[5:10, 14:22, 2:14] = True
    found = around(wrong, np.where(wrong, 2.0, -3.5))
    before = settled_around(found) > 0
    found.template = template(ball())
    after = settled_around(found) > 0
    assert dice(after) > dice(before) + 0.03
    assert np.count_nonzero(after & ball()) > np.count_nonzero(before & ball())
    assert np.count_nonzero(after & ~ball()) < np.count_nonzero(before & ~ball())


def test_what_is_too_thin_to_show_on_a_coarser_plane_breaks_no_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    thin = np.zeros(SHAPE, dtype=bool)
    thin[3:12, 20, 20] = True
    found = around(thin, np.where(ball(), 3.0, -6.0))
    found.template = template(ball())
    monkeypatch.setattr(module, "MOST_VOXELS", 3000)
    logits = settled_around(found)
    assert np.isfinite(logits).all() and dice(logits > 0) > 0.8
