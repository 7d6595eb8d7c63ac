"""The shape that a token keeps of a structure: it is the structure's, however its scan was stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.learning.anatomy import sizes_and_shapes
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.shapes import is_in_pieces, shape_of, spread
from PromptSegLib.tokens.class_token import PLANES
from PromptSegLib.tokens.shape import MOST_SHAPES, MOST_VOXELS, Shape
from Testing.support import drawing, reoriented, scan

RADII = np.array([30.0, 14.0, 20.0])
"""mm towards superior, posterior and left."""


def ellipsoid(spacing: tuple[float, float, float], turn: float = 0.0, scale: float = 1.0) -> Volume:
    """bool, on a grid that is turned in its first plane by ``turn``."""
    cosine, sine = np.cos(turn), np.sin(turn)
    direction = np.array([[0, 0, 1], [sine, cosine, 0], [cosine, -sine, 0]])
    half = (RADII.max() * scale + 8) / np.array(spacing)
    shape = tuple(int(n) for n in 2 * np.ceil(half) + 1)
    places = np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij"), axis=-1) * spacing
    upwards = places @ direction[::-1].T
    inside = np.square(upwards / (RADII * scale)).sum(axis=-1) < 1
    return Volume(inside, Geometry(shape, spacing, direction=tuple(map(tuple, direction))))  # type: ignore[arg-type]


def shape(volume: Volume) -> Shape:
    found = shape_of(volume.array, volume.geometry)
    assert found is not None
    return found


def places_mm(found: Shape) -> np.ndarray:
    """(…, 3): offsets of the grid's voxels from its middle."""
    counts = found.distances.shape
    return np.stack(np.meshgrid(*(np.arange(n) - n // 2 for n in counts), indexing="ij"), axis=-1) * found.spacing_mm


@given(
    spacing=st.tuples(st.floats(2.0, 5.0), st.floats(0.8, 4.0), st.floats(0.8, 4.0)),
    turn=st.floats(-0.5, 0.5),
)
@settings(max_examples=25, deadline=None)
def test_it_is_the_ellipsoid_whatever_the_grid(spacing: tuple[float, float, float], turn: float) -> None:
    found = shape(ellipsoid(spacing, turn))
    assert found.distances.size <= MOST_VOXELS and all(n % 2 for n in found.distances.shape)
    radial = np.sqrt(np.square(places_mm(found) / RADII).sum(axis=-1))
    slack = max(spacing) / RADII.min()
    assert (found.distances[radial < 1 - slack] > 0).all() and (found.distances[radial > 1 + slack] < 0).all()
    along = tuple(slice(None) if axis == 2 else n // 2 for axis, n in enumerate(found.distances.shape))
    offsets = np.abs(places_mm(found)[along][:, 2])
    beyond = offsets > RADII[2]
    assert np.allclose(found.distances_mm[along][beyond], (RADII[2] - offsets)[beyond], atol=max(spacing))


@given(order=st.permutations(range(3)), flips=st.tuples(st.booleans(), st.booleans(), st.booleans()))
@settings(max_examples=20, deadline=None)
def test_however_stored_it_is_the_same(order: list[int], flips: tuple[bool, ...]) -> None:
    whole = ellipsoid((3.0, 2.0, 1.5), turn=0.3)
    # Not symmetrical, so that a mirrored or swapped axis shows.
    places = np.argwhere(whole.array)
    whole.array[tuple(places[places[:, 0] > places[:, 0].mean()].T)] &= (
        places[places[:, 0] > places[:, 0].mean()][:, 1:].sum(axis=1) < places[:, 1:].sum(axis=1).mean()
    )
    expected, stored = shape(whole), reoriented(whole, tuple(order), flips)
    found = shape(stored)
    assert found.spacing_mm == expected.spacing_mm and found.distances.shape == expected.distances.shape
    assert np.abs(found.distances.astype(int) - expected.distances).max() <= 1
    mirrored = shape(whole.with_array(whole.array[:, ::-1]))
    assert mirrored.distances.shape != found.distances.shape or (
        np.abs(mirrored.distances.astype(int) - found.distances).max() > 4
    )


def test_a_large_structure_on_a_fine_grid() -> None:
    found = shape(ellipsoid((1.0, 0.7, 0.7), scale=2.5))
    assert found.distances.size <= MOST_VOXELS
    inside = np.square(places_mm(found) / (2.5 * RADII)).sum(axis=-1) < 1
    assert 2 * (inside & (found.distances > 0)).sum() > 0.98 * (inside.sum() + (found.distances > 0).sum())


def test_a_thin_long_structure_has_none() -> None:
    mask = np.zeros((80, 80, 80), dtype=bool)
    for step in range(80):
        mask[step, step, step] = True
    assert shape_of(mask, Geometry((80, 80, 80), (3.0, 3.0, 3.0))) is None
    assert shape_of(np.zeros((4, 4, 4), dtype=bool), Geometry((4, 4, 4), (1.0, 1.0, 1.0))) is None


def test_one_voxel_is_a_shape() -> None:
    mask = np.zeros((5, 5, 5), dtype=bool)
    mask[2, 2, 2] = True
    assert (shape(Volume(mask, Geometry((5, 5, 5), (3.0, 2.0, 2.0)))).distances > 0).any()


def whole_drawing(first: int, last: int, scale: float = 1.0) -> Annotation:
    """All of an organ, in the slices from first to last of its scan."""
    volume = ellipsoid((3.0, 2.0, 2.0), scale=scale)
    array = volume.array[first:last]
    part = Volume(array, Geometry(array.shape, (3.0, 2.0, 2.0)))
    return Annotation.from_label_map(part.with_array(part.array.astype(np.uint8)), 1, complete=True, axis=0)


def test_only_what_lies_wholly_in_the_scan_has_a_shape() -> None:
    drawn = whole_drawing(0, 27)
    sizes, shapes = sizes_and_shapes([drawn], "one")
    assert len(shapes) == 1 and sizes == [pytest.approx(np.count_nonzero(drawn.label_map) * 12 / 1000)]
    assert sizes_and_shapes([drawn], "many") == (sizes, ())
    middle = np.flatnonzero(ellipsoid((3.0, 2.0, 2.0)).array.any(axis=(1, 2))).mean()
    assert sizes_and_shapes([whole_drawing(0, int(middle))], "one") == ([], ())
    beside = ellipsoid((3.0, 2.0, 2.0))
    cut = beside.array[:, :, beside.array.shape[2] // 2 :]
    half = Volume(cut.astype(np.uint8), Geometry(cut.shape, (3.0, 2.0, 2.0)))
    assert sizes_and_shapes([Annotation.from_label_map(half, 1, complete=True, axis=0)], "one") == ([], ())
    assert not prepare_drawing([DrawnScan(scan()[0], drawing(*scan(), slices=(3, 6, 9)))]).shapes


def test_of_many_scans_small_and_large_ones_count() -> None:
    scales = [1.0, 1.05, 0.95, 0.7, 1.02, 1.3, 0.98]
    _, found = sizes_and_shapes([whole_drawing(0, 400, scale) for scale in scales], "one")
    assert len(found) == MOST_SHAPES
    volumes = [np.count_nonzero(each.distances > 0) * each.spacing_mm**3 for each in found]
    assert max(volumes) > 4 * min(volumes)


def test_several_pieces_have_none() -> None:
    image, truth = scan((24, 64, 64), (4.0, 2.0, 2.0))
    labels = truth.astype(np.uint8)
    labels[8:16, 8:16, 8:16] = 1
    drawing = prepare_drawing([DrawnScan(image, Annotation.from_label_map(image.with_array(labels), 1, complete=True))])
    assert drawing.pieces == "many" and drawing.size is not None and not drawing.shapes


def bow() -> Volume:
    """Two pillars, joined at one end."""
    mask = np.zeros((24, 40, 60), dtype=bool)
    mask[4:20, 10:20, 10:18] = mask[4:20, 10:20, 40:48] = mask[4:8, 10:20, 10:48] = True
    return Volume(mask, Geometry((24, 40, 60), (3.0, 2.0, 2.0)))


def test_a_bow_is_in_pieces_on_slices_across_it() -> None:
    assert is_in_pieces(shape(bow()), "axial") and not is_in_pieces(shape(bow()), "coronal")
    assert not any(is_in_pieces(shape(ellipsoid((3.0, 2.0, 2.0))), plane) for plane in PLANES)


@given(st.lists(st.floats(0.1, 1000), max_size=30))
def test_spread(volumes: list[float]) -> None:
    chosen = spread(volumes)
    assert chosen == sorted(set(chosen)) and len(chosen) == min(MOST_SHAPES, len(volumes))
    if len(volumes) > 1:
        assert {min(volumes), max(volumes)} <= {volumes[number] for number in chosen}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_token_knows_it_from_whichever_plane_was_drawn_on(axis: int) -> None:
    image, truth = scan((24, 64, 64), (4.0, 2.0, 2.0))
    whole = Annotation.from_label_map(image.with_array(truth.astype(np.uint8)), 1, complete=True, axis=axis)
    (found,) = prepare_drawing([DrawnScan(image, whole)]).shapes
    assert np.array_equal(found.distances, shape(image.with_array(truth)).distances)
