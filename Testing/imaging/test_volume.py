"""Geometry, and volumes seen as stacks of conventionally oriented images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.volume import Geometry, Volume, slice_stack, through_plane_axis

# Columns: LPS unit vectors along slices, rows, columns.
LPS_AXIAL = ((0, 0, 1), (0, 1, 0), (1, 0, 0))
RAS_AXIAL = ((0, 0, -1), (0, -1, 0), (1, 0, 0))
# As scanned: sagittal slices towards the left, rows towards inferior, columns towards posterior.
SAGITTAL = ((1, 0, 0), (0, 0, 1), (0, -1, 0))
# As scanned: coronal slices towards posterior, rows towards inferior, columns towards left.
CORONAL = ((0, 0, 1), (1, 0, 0), (0, -1, 0))


def rotation(degrees: float) -> np.ndarray:
    """About the patient's left-right axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


directions = st.builds(
    lambda seed: np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0], st.integers(0, 2**32 - 1)
)
shapes = st.tuples(*[st.integers(1, 5)] * 3)
spacings = st.tuples(*[st.floats(0.1, 10)] * 3)
origins = st.tuples(*[st.floats(-1000, 1000)] * 3)
geometries = st.builds(Geometry, shapes, spacings, origins, directions)


def position(geometry: Geometry, index: tuple[int, ...]) -> np.ndarray:
    return (geometry.affine @ (*index, 1))[:3]


def test_affine_maps_indices_to_lps() -> None:
    geometry = Geometry((4, 5, 6), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0), RAS_AXIAL)
    assert position(geometry, (0, 0, 0)).tolist() == [10, 20, 30]
    assert position(geometry, (1, 2, 3)).tolist() == [10 - 3, 20 - 4, 30 + 3]
    assert geometry.voxel_volume_mm3 == 6


def test_geometries_from_arrays_compare_equal() -> None:
    a = Geometry((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), LPS_AXIAL)
    b = Geometry(tuple(np.array([2, 3, 4])), np.ones(3), np.zeros(3), np.array(LPS_AXIAL))  # type: ignore[arg-type]
    assert a == b
    assert hash(a) == hash(b)


@pytest.mark.parametrize(
    "shape, spacing", [((0, 1, 1), (1, 1, 1)), ((1, 1, 1), (0, 1, 1)), ((1, 1, 1), (1, np.nan, 1))]
)
def test_impossible_geometry(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    with pytest.raises(InputError):
        Geometry(shape, spacing)


def test_volume_must_fit_its_grid() -> None:
    geometry = Geometry((2, 3, 4), (1.0, 1.0, 1.0))
    volume = Volume(np.zeros((2, 3, 4)), geometry)
    assert volume.with_array(np.ones((2, 3, 4), bool)).geometry is geometry
    with pytest.raises(InputError):
        volume.with_array(np.zeros((2, 3, 5)))


@given(geometries)
@settings(max_examples=50, deadline=None)
def test_same_grid_survives_single_precision(geometry: Geometry) -> None:
    single = Geometry(
        geometry.shape,
        np.float32(geometry.spacing),  # type: ignore[arg-type]
        np.float32(geometry.origin),  # type: ignore[arg-type]
        np.float32(geometry.direction),  # type: ignore[arg-type]
    )
    assert geometry.same_grid(single)


def test_same_grid_sees_differences() -> None:
    geometry = Geometry((10, 100, 100), (3.0, 0.7, 0.7))
    assert geometry.same_grid(geometry, tolerance_mm=0)
    assert not geometry.same_grid(Geometry((10, 100, 99), (3.0, 0.7, 0.7)))
    assert not geometry.same_grid(Geometry((10, 100, 100), (3.0, 0.7, 0.7), (0.1, 0.0, 0.0)))
    assert geometry.same_grid(Geometry((10, 100, 100), (3.0, 0.7, 0.7), (0.1, 0.0, 0.0)), tolerance_mm=0.2)
    assert not geometry.same_grid(Geometry((10, 100, 100), (3.0, 0.71, 0.7)))
    assert not geometry.same_grid(Geometry((10, 100, 100), (3.0, 0.7, 0.7), direction=RAS_AXIAL))


@pytest.mark.parametrize(
    "spacing, axis",
    [
        *[((5, 1, 1), 0), ((1, 5, 1), 1), ((1, 1, 5), 2), ((1, 1, 1), 0), ((3, 3.0000002, 3), 0)],
        *[((1, 2, 2), 0), ((2, 1, 2), 1), ((2, 2, 1), 2), ((0.6, 0.98, 0.98), 0), ((1, 2, 3), 2), ((3, 2, 1), 0)],
    ],
)
def test_through_plane_axis(spacing: tuple[float, float, float], axis: int) -> None:
    assert through_plane_axis(Geometry((2, 2, 2), spacing)) == axis


@given(geometries, st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_axes_of_a_stack_are_those_of_its_voxels(geometry: Geometry, axis: int) -> None:
    stack = slice_stack(geometry, axis)
    indices = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    places = indices @ geometry.affine[:3, :3].T
    viewed = np.stack([stack.view(places[..., k]) for k in range(3)], axis=-1)
    for step in range(3):
        along = np.diff(viewed, axis=step).reshape(-1, 3)
        assert np.allclose(along, stack.axes(geometry)[:, step] * stack.spacing[step], atol=1e-6)


@given(geometries, st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_restore_inverts_view_without_copying(geometry: Geometry, axis: int) -> None:
    array = np.arange(np.prod(geometry.shape)).reshape(geometry.shape)
    stack = slice_stack(geometry, axis)
    view = stack.view(array)
    assert view.shape == stack.shape
    assert np.shares_memory(view, array)
    restored = stack.restore(view)
    assert np.array_equal(restored, array)
    assert np.shares_memory(restored, array)
    assert np.array_equal(stack.view(stack.restore(view)), view)
    for index in range(geometry.shape[axis]):
        assert set(view[index].flat) == set(np.take(array, index, axis).flat)
    assert sorted(slice_stack(geometry, k).plane for k in range(3)) == ["axial", "coronal", "sagittal"]


@given(geometries, st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_images_are_oriented_by_convention(geometry: Geometry, axis: int) -> None:
    stack = slice_stack(geometry, axis)
    # The positions themselves travel through the view, so their steps are those of the displayed image.
    indices = np.indices(geometry.shape).reshape(3, -1)
    lps = (geometry.affine[:3, :3] @ indices).reshape(3, *geometry.shape)
    x, y, z = (stack.view(component) for component in lps)
    along_rows, along_columns = {
        "axial": (y, x),
        "coronal": (-z, x),
        "sagittal": (-z, y),
    }[stack.plane]
    assert not (np.diff(along_rows, axis=1) < -1e-9).any() or _is_oblique(geometry)
    assert not (np.diff(along_columns, axis=2) < -1e-9).any() or _is_oblique(geometry)
    if stack.shape[1] > 1:
        step = np.linalg.norm([np.diff(c, axis=1)[0, 0, 0] for c in (x, y, z)])
        assert step == pytest.approx(stack.spacing[1])
    if stack.shape[2] > 1:
        step = np.linalg.norm([np.diff(c, axis=2)[0, 0, 0] for c in (x, y, z)])
        assert step == pytest.approx(stack.spacing[2])


def _is_oblique(geometry: Geometry) -> bool:
    """So oblique that an array axis may stand for an anatomical axis that it hardly points along."""
    return bool(np.abs(np.array(geometry.direction)).max(axis=0).min() < 0.8)


@pytest.mark.parametrize(
    "direction, planes",
    [
        (LPS_AXIAL, ["axial", "coronal", "sagittal"]),
        (RAS_AXIAL, ["axial", "coronal", "sagittal"]),
        (SAGITTAL, ["sagittal", "axial", "coronal"]),
        (CORONAL, ["coronal", "axial", "sagittal"]),
        (rotation(20) @ np.array(LPS_AXIAL), ["axial", "coronal", "sagittal"]),
        (rotation(-20) @ np.array(RAS_AXIAL), ["axial", "coronal", "sagittal"]),
        (rotation(20) @ np.array(CORONAL), ["coronal", "axial", "sagittal"]),
    ],
)
def test_a_known_patient_is_displayed_as_radiologists_expect(direction: np.ndarray, planes: list[str]) -> None:
    """A marker at the patient's far left, posterior and inferior corner is at a known corner of every image."""
    shape = (4, 5, 6)
    geometry = Geometry(shape, (1.0, 1.0, 1.0), direction=direction)  # type: ignore[arg-type]
    corners = [tuple(corner) for corner in np.ndindex(2, 2, 2)]
    indices = [tuple(c * (n - 1) for c, n in zip(corner, shape, strict=True)) for corner in corners]
    left_posterior_inferior = max(indices, key=lambda index: position(geometry, index) @ (1, 1, -1))
    array = np.zeros(shape, bool)
    array[left_posterior_inferior] = True
    for axis in range(3):
        stack = slice_stack(Volume(array, geometry), axis)
        assert stack.plane == planes[axis]
        assert stack.axis == axis
        # Bottom right: left or posterior is on the right, posterior or inferior at the bottom.
        assert stack.view(array)[left_posterior_inferior[axis], -1, -1]


def test_lps_axial_stack_is_the_array_itself() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    stack = slice_stack(Geometry((2, 3, 4), (5.0, 2.0, 1.0), direction=LPS_AXIAL), 0)
    assert np.array_equal(stack.view(array), array)
    assert stack.spacing == (5, 2, 1)


def test_ras_axial_stack_turns_images_but_not_their_order() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    stack = slice_stack(Geometry((2, 3, 4), (5.0, 2.0, 1.0), direction=RAS_AXIAL), 0)
    assert np.array_equal(stack.view(array), array[:, ::-1, ::-1])


def test_no_such_axis() -> None:
    with pytest.raises(InputError, match="axis 3"):
        slice_stack(Geometry((1, 1, 1), (1.0, 1.0, 1.0)), 3)
