"""What lies around the drawn voxels: it tells look-alikes of one scan apart, and leaves all else alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.volume import Geometry, Volume, slice_stack
from PromptSegLib.imaging.window import Window
from PromptSegLib.inference import surrounding_logits as module
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.neighborhood import Neighborhood, Place
from PromptSegLib.inference.surrounding_logits import SurroundingLogits

SHAPE, SPACING = (24, 60, 80), (4.0, 3.0, 3.0)
CT = Window("ct")
DRAWN = (4, 12, 19)
WHOLE = (slice(0, SHAPE[0]), slice(0, SHAPE[1]), slice(0, SHAPE[2]))
NO_BODY = -20.0


def disc(row: float, column: float, radius: float) -> np.ndarray:
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside: np.ndarray = (y - row) ** 2 + (x - column - 0.2 * z) ** 2 < radius**2
    return inside


LEFT, RIGHT = disc(26, 52, 6), disc(26, 22, 6)
"""Two tubes that look alike, of which only one is drawn."""


def image(inside_hu: float = 110) -> Volume:
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    body = ((y - 30) / 27) ** 2 + ((x - 40) / 37) ** 2 < 1
    values = np.where(np.broadcast_to(body, SHAPE), 30.0, -1000.0) + np.random.default_rng(0).normal(0, 8, SHAPE)
    values[LEFT | RIGHT] = inside_hu
    values[disc(44, 40, 5)] = 700
    return Volume(values.astype(np.int16), Geometry(SHAPE, SPACING))


def drawing(slices: tuple[int, ...] = DRAWN, unknown: np.ndarray | None = None) -> Drawn:
    labels = np.zeros(SHAPE, np.uint8)
    labels[list(slices)] = LEFT[list(slices)]
    if unknown is not None:
        labels[unknown] = UNKNOWN
    return Drawn(Volume(labels, Geometry(SHAPE, SPACING)), {1: (0, frozenset(slices))})


def of(
    drawn: Drawn, place: Place = WHOLE, scan: Volume | None = None, check: Callable[[], None] = lambda: None
) -> SurroundingLogits | None:
    scan = scan or image()
    return SurroundingLogits.of(scan, slice_stack(scan, 0), CT, drawn, 1, place, check)


def beside_nothing(found: SurroundingLogits | None) -> np.ndarray:
    """Twice the mean of 0 and what is said: what is said."""
    assert found is not None
    return 2 * found.beside(np.zeros(SHAPE, np.float32), slice(0, SHAPE[0]))


@pytest.mark.parametrize("inside_hu", [110.0, -1000.0])
def test_tells_look_alikes_apart_on_slices_that_were_not_drawn(inside_hu: float) -> None:
    said = beside_nothing(of(drawing(), scan=image(inside_hu)))
    others = [index for index in range(SHAPE[0]) if index not in DRAWN]
    found = said[others] > 0
    assert 2 * np.count_nonzero(found & LEFT[others]) / (found.sum() + LEFT[others].sum()) > 0.85
    assert np.count_nonzero(found & RIGHT[others]) < 0.02 * RIGHT[others].sum()


def test_a_box_says_what_the_whole_scan_says_there() -> None:
    place = (slice(2, 20), slice(15, 40), slice(40, 70))
    whole, box = beside_nothing(of(drawing())), beside_nothing(of(drawing(), place))
    np.testing.assert_allclose(box[place], whole[place], atol=1e-3)
    box[place] = 0
    assert not box.any()


def test_of_a_large_box_not_every_cell_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = beside_nothing(of(drawing()))
    monkeypatch.setattr(module, "_MOST_NODES", 1000)
    coarse = of(drawing())
    assert coarse is not None and coarse._nodes.size <= 1000
    assert np.corrcoef(beside_nothing(coarse).ravel(), fine.ravel())[0, 1] > 0.85


def test_a_part_of_the_slices_is_what_all_of_them_say() -> None:
    found = of(drawing(), (slice(2, 20), slice(15, 40), slice(40, 70)))
    assert found is not None
    logits = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    whole = found.beside(logits, slice(0, SHAPE[0]))
    for start in range(0, SHAPE[0], 5):
        part = slice(start, min(start + 5, SHAPE[0]))
        np.testing.assert_allclose(found.beside(logits[part], part), whole[part], atol=1e-5)


def test_where_there_is_no_body_nothing_changes() -> None:
    found = of(drawing())
    assert found is not None
    logits = np.full(SHAPE, NO_BODY, np.float32)
    assert np.array_equal(found.beside(logits, slice(0, SHAPE[0])), logits)


def test_what_is_unknown_teaches_nothing() -> None:
    """Of the look-alike, nothing is known, and it is found as well."""
    around = np.zeros(SHAPE, bool)
    around[:, :, :40] = True
    lax, strict = beside_nothing(of(drawing(unknown=around))), beside_nothing(of(drawing()))
    assert lax[RIGHT].mean() > strict[RIGHT].mean() + 2


@pytest.mark.parametrize("drawn", [drawing((12,)), Drawn(image().with_array(np.zeros(SHAPE, np.uint8)), {})])
def test_one_slice_or_none_says_nothing(drawn: Drawn) -> None:
    assert of(drawn) is None


def test_a_drawing_on_another_plane_says_nothing() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 20:30:3] = LEFT[:, 20:30:3]
    assert of(Drawn(Volume(labels, Geometry(SHAPE, SPACING)), {1: (1, frozenset(range(20, 30, 3)))})) is None


def test_nothing_but_the_structure_on_all_slices_says_nothing() -> None:
    labels = np.full(SHAPE, UNKNOWN, np.uint8)
    labels[LEFT] = 1
    assert of(Drawn(Volume(labels, Geometry(SHAPE, SPACING)), {1: (0, frozenset())})) is None


def test_two_slices_are_enough_however_many_are_empty() -> None:
    shown = drawing((4, 19))
    assert of(shown) is not None
    said = beside_nothing(of(Drawn(shown.labels, {1: (0, frozenset({4, 19, *range(8, 16)}))})))
    # Between the two there is nothing of it: so it was drawn.
    assert said[10:14][LEFT[10:14]].mean() < beside_nothing(of(shown))[10:14][LEFT[10:14]].mean() - 2


def test_what_tells_nothing_says_nothing() -> None:
    """A structure that looks like all around it, and lies elsewhere on each slice."""
    chance = np.random.default_rng(3)
    noise = Volume(chance.normal(30, 60, SHAPE).astype(np.int16), Geometry(SHAPE, SPACING))
    labels = np.zeros(SHAPE, np.uint8)
    for index, row, column in ((4, 8, 60), (12, 45, 10), (19, 30, 35)):
        labels[index, row : row + 8, column : column + 8] = 1
    assert of(Drawn(noise.with_array(labels), {1: (0, frozenset(DRAWN))}), scan=noise) is None


def test_a_structure_too_thin_for_its_cells_is_left_to_the_network() -> None:
    """At a tenth of the size, all of it lies in a cell or two."""
    small = Geometry(SHAPE, (0.05, 0.05, 0.05))
    scan = Volume(image().array, small)
    drawn = drawing()
    sure = np.where(LEFT, 4, -4).astype(np.float32)
    found = of(Drawn(Volume(drawn.labels.array, small), drawn.slices), scan=scan)
    mixed = sure if found is None else found.beside(sure, slice(0, SHAPE[0]))
    assert 2 * np.count_nonzero((mixed > 0) & LEFT) / ((mixed > 0).sum() + LEFT.sum()) > 0.9


def test_a_sure_network_is_not_overruled() -> None:
    found = of(drawing())
    assert found is not None
    assert (found.beside(np.full(SHAPE, 7, np.float32), slice(0, SHAPE[0])) > 0).all()
    assert (found.beside(np.full(SHAPE, -7, np.float32), slice(0, SHAPE[0])) < 0).all()


def test_strokes_are_enough() -> None:
    labels = np.full(SHAPE, UNKNOWN, np.uint8)
    labels[list(DRAWN), 24:28, 50:58] = 1
    labels[list(DRAWN), 8:14, 20:60] = 2
    labels[list(DRAWN), 24:28, 18:28] = 2
    said = beside_nothing(of(Drawn(Volume(labels, Geometry(SHAPE, SPACING)), {1: (0, frozenset())})))
    assert said[LEFT].mean() > said[RIGHT].mean() + 2


def test_it_repeats_and_can_be_stopped() -> None:
    assert np.array_equal(beside_nothing(of(drawing())), beside_nothing(of(drawing())))

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        of(drawing(), check=stop)


def test_the_box_around_a_drawing_holds_all_that_is_asked_for() -> None:
    drawn = drawing()
    around = Neighborhood.of(drawn, 1, slice_stack(image(), 0))
    assert around is not None
    said = beside_nothing(of(drawn, around.place))
    assert (said[around.place] != 0).any() and 2 * np.count_nonzero((said > 0) & LEFT) > np.count_nonzero(LEFT)
