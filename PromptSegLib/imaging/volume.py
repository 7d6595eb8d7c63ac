"""Voxels and their place in the patient.

Array axes are always (slices, rows, columns) as stored in the file; positions are LPS millimeters: x grows to the
patient's left, y to posterior, z to superior. Any axis may run in any direction; `slice_stack` turns a volume into
conventionally oriented 2-D images without copying it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from PromptSegLib.errors import InputError

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

# Two grids that differ by less than this part of a voxel are one grid: NIfTI stores its geometry in single precision,
# so an image and its label map rarely agree to the last digit.
GRID_TOLERANCE = 0.05

# Relative difference below which two spacings are equal, for the same reason.
SPACING_TOLERANCE = 1e-3

# For the plane across each LPS axis (x, y, z): its name, then (LPS axis, sign) along which rows and columns increase
# on a radiologist's screen.
_PLANES = (
    ("sagittal", (2, -1), (1, +1)),
    ("coronal", (2, -1), (0, +1)),
    ("axial", (1, +1), (0, +1)),
)


@dataclass(frozen=True)
class Geometry:
    """The grid that a volume's voxels lie on.

    The four numbers are stored as they were read, and the affine is derived from them, because an affine that is taken
    apart again does not give back the same spacing and direction to the last bit.

    Attributes:
        shape: voxels along (slices, rows, columns).
        spacing: mm between voxel centers, in the same order.
        origin: LPS position (x, y, z) in mm of the center of voxel (0, 0, 0).
        direction: 3x3; column k is the LPS unit vector along array axis k.

    Raises:
        InputError: if the shape or the spacing is not positive.
    """

    shape: tuple[int, int, int]
    spacing: Vector
    origin: Vector = (0.0, 0.0, 0.0)
    direction: Matrix = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        # Plain tuples make two geometries comparable with ==, whatever arrays they were built from.
        slices, rows, columns = (int(n) for n in self.shape)
        object.__setattr__(self, "shape", (slices, rows, columns))
        object.__setattr__(self, "spacing", _vector(self.spacing))
        object.__setattr__(self, "origin", _vector(self.origin))
        first, second, third = (_vector(row) for row in self.direction)
        object.__setattr__(self, "direction", (first, second, third))
        if min(self.shape) < 1:
            raise InputError(f"a volume needs at least one voxel along each axis, but its shape is {self.shape}")
        if not all(0 < s < float("inf") for s in self.spacing):
            raise InputError(f"the spacing between voxels must be positive, but it is {self.spacing} mm")

    @property
    def affine(self) -> np.ndarray:
        """4x4 float64 matrix from (slice, row, column, 1) to LPS mm."""
        affine = np.eye(4)
        affine[:3, :3] = np.array(self.direction) * np.array(self.spacing)
        affine[:3, 3] = self.origin
        return affine

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in cubic mm."""
        return self.spacing[0] * self.spacing[1] * self.spacing[2]

    def same_grid(self, other: Geometry, tolerance_mm: float | None = None) -> bool:
        """Whether voxel (i, j, k) lies at the same place in both.

        Args:
            other: the geometry to compare with.
            tolerance_mm: largest distance between corresponding corner voxels; by default `GRID_TOLERANCE` of the
                smallest spacing.
        """
        if self.shape != other.shape:
            return False
        if tolerance_mm is None:
            tolerance_mm = GRID_TOLERANCE * min(self.spacing + other.spacing)
        corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in self.shape))])
        distances = np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :3], axis=1)
        return bool(distances.max() <= tolerance_mm)


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels on a grid.

    Attributes:
        array: (slices, rows, columns), any dtype; HU for CT.
        geometry: where the voxels lie.

    Raises:
        InputError: if the array's shape is not the geometry's.
    """

    array: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise InputError(f"an array of shape {self.array.shape} does not fit a grid of {self.geometry.shape}")

    def with_array(self, array: np.ndarray) -> Volume:
        """Other voxels on the same grid."""
        return Volume(array, self.geometry)


@dataclass(frozen=True)
class SliceStack:
    """A volume seen as a stack of 2-D images along one array axis, oriented as on a radiologist's screen.

    Axial images have posterior at the bottom and the patient's left on the right; coronal ones inferior at the bottom
    and left on the right; sagittal ones inferior at the bottom and posterior on the right. Image i of the stack is
    index i of the array axis: the stack itself is never flipped.

    Attributes:
        axis: array axis that the images are stacked along.
        plane: "axial", "coronal" or "sagittal", whichever is nearest.
        shape: (images, rows, columns).
        spacing: mm (between images, between rows, between columns).
    """

    axis: int
    plane: str
    shape: tuple[int, int, int]
    spacing: Vector
    _order: tuple[int, int, int]
    _steps: tuple[int, int]

    def view(self, array: np.ndarray) -> np.ndarray:
        """The stack (images, rows, columns) of an array (slices, rows, columns), sharing its memory."""
        row_step, column_step = self._steps
        return array.transpose(self._order)[:, ::row_step, ::column_step]

    def restore(self, stack: np.ndarray) -> np.ndarray:
        """The inverse of `view`: a stack back in the volume's own axis order, sharing its memory."""
        row_step, column_step = self._steps
        slices, rows, columns = (self._order.index(axis) for axis in range(3))
        return stack[:, ::row_step, ::column_step].transpose(slices, rows, columns)

    def axes(self, geometry: Geometry) -> np.ndarray:
        """(3, 3); column k is the LPS unit vector along axis k (images, rows, columns) of this stack of a volume."""
        steps = np.array([1, *(int(math.copysign(1, step)) for step in self._steps)])
        turned: np.ndarray = np.array(geometry.direction)[:, self._order] * steps
        return turned

    def locate(self, voxel: tuple[int, int, int]) -> tuple[int, int, int]:
        """(image, row, column) in the stack of an array index (slice, row, column)."""
        image, row, column = (int(voxel[axis]) for axis in self._order)
        row_step, column_step = self._steps
        _, rows, columns = self.shape
        return image, row if row_step > 0 else rows - 1 - row, column if column_step > 0 else columns - 1 - column


def slice_stack(volume: Volume | Geometry, axis: int) -> SliceStack:
    """The view of a volume as 2-D images along `axis`.

    In an oblique volume each array axis stands for the anatomical axis that it is nearest to, each taken once.

    Args:
        volume: the volume, or its geometry alone.
        axis: array axis to stack along: 0, 1 or 2.

    Raises:
        InputError: if there is no such axis.
    """
    geometry = volume.geometry if isinstance(volume, Volume) else volume
    if axis not in (0, 1, 2):
        raise InputError(f"a volume has the axes 0, 1 and 2, but axis {axis} was asked for")
    direction = np.array(geometry.direction)
    lps_axes = max(permutations(range(3)), key=lambda order: sum(abs(direction[order[k], k]) for k in range(3)))

    plane, *in_plane = _PLANES[lps_axes[axis]]
    (row_axis, row_step), (column_axis, column_step) = (
        (lps_axes.index(lps), sign if direction[lps, lps_axes.index(lps)] >= 0 else -sign) for lps, sign in in_plane
    )
    order = (axis, row_axis, column_axis)
    return SliceStack(
        axis=axis,
        plane=plane,
        shape=(geometry.shape[axis], geometry.shape[row_axis], geometry.shape[column_axis]),
        spacing=(geometry.spacing[axis], geometry.spacing[row_axis], geometry.spacing[column_axis]),
        _order=order,
        _steps=(row_step, column_step),
    )


def stack_of_plane(volume: Volume | Geometry, plane: str) -> SliceStack:
    """The view of a volume as 2-D images of a plane: axial, coronal or sagittal."""
    return next(stack for stack in (slice_stack(volume, axis) for axis in range(3)) if stack.plane == plane)


def through_plane_axis(geometry: Geometry) -> int:
    """The array axis across the slices that a scan was acquired in.

    Pixels are as long as they are wide, so it is the axis whose spacing differs from that of both others: the slices of
    a thin-slice CT are closer to each other than its pixels. Where all differ, it is the one with the largest spacing,
    and where none does, the first.
    """
    spacing = geometry.spacing
    for axis, (one, other) in enumerate(((1, 2), (0, 2), (0, 1))):
        pixels_are_square = math.isclose(spacing[one], spacing[other], rel_tol=SPACING_TOLERANCE)
        if pixels_are_square:
            return axis
    return int(np.argmax(spacing))


def _vector(values: tuple[float, ...]) -> Vector:
    x, y, z = (float(value) for value in values)
    return x, y, z


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box around a 3-D mask that is not empty."""
    first, second, third = (
        np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)
    )
    return _from_to(first), _from_to(second), _from_to(third)


def _from_to(places: np.ndarray) -> slice:
    return slice(int(places[0]), int(places[-1]) + 1)
