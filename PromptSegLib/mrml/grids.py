"""Parts of voxel grids, and the voxels of one grid seen on another.

A box is three slices of array indices (slices, rows, columns), an extent VTK's first and last (i, j, k).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import vtk

from PromptSegLib.engine.messages import Box
from PromptSegLib.imaging.volume import GRID_TOLERANCE
from PromptSegLib.mrml.nodes import matrix_from_array, voxels


@dataclass(frozen=True, eq=False)
class Region:
    """What is marked on a grid. box: where the mask lies; mask: bool, of the box's shape."""

    box: Box
    mask: np.ndarray

    @classmethod
    def where(cls, labels: np.ndarray, value: int, box: Box) -> Region | None:
        """Where the labels in a box have a value, in the smallest box; None if nowhere.

        What is drawn on a few slices is found in the time that it takes to look at those, whichever axis they are on.
        """
        occupied = _occupied(labels)
        axis = min(range(3), key=lambda k: len(occupied[k]) / labels.shape[k])
        stack = np.moveaxis(labels, axis, 0)
        planes = {int(index): stack[index] == value for index in occupied[axis]}
        planes = {index: plane for index, plane in planes.items() if plane.any()}
        if not planes:
            return None
        shadow = np.zeros(stack.shape[1:], dtype=bool)
        for plane in planes.values():
            shadow |= plane
        first, *others = (
            slice(int(span[0]), int(span[-1]) + 1)
            for span in (list(planes), np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0)))
        )
        spans = [*others]
        spans.insert(axis, first)
        slices, rows, columns = spans
        mask = np.zeros(box_shape((slices, rows, columns)), dtype=bool)
        target = np.moveaxis(mask, axis, 0)
        for index, plane in planes.items():
            target[index - first.start] = plane[others[0], others[1]]
        return cls(moved((slices, rows, columns), [span.start for span in box]), mask)

    def cropped(self) -> Region | None:
        """The same in the smallest box, None if nothing is marked."""
        return Region.where(self.mask, True, self.box)

    @cached_property
    def occupied(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Along each array axis of the mask, the ascending indices at which something is marked."""
        return _occupied(self.mask)

    def within(self, box: Box) -> np.ndarray:
        """bool of the shape of ``box``: what is marked there."""
        return _cut(self.mask, self.box, box)


def extent_box(extent: tuple[int, ...]) -> Box:
    """The box of an extent."""
    return slice(extent[4], extent[5] + 1), slice(extent[2], extent[3] + 1), slice(extent[0], extent[1] + 1)


def box_extent(box: Box) -> tuple[int, int, int, int, int, int]:
    """The extent of a box."""
    slices, rows, columns = box
    return columns.start, columns.stop - 1, rows.start, rows.stop - 1, slices.start, slices.stop - 1


def box_shape(box: Box) -> tuple[int, int, int]:
    slices, rows, columns = (max(0, span.stop - span.start) for span in box)
    return slices, rows, columns


def union(*boxes: Box) -> Box:
    """The smallest box around all of them."""
    slices, rows, columns = (
        slice(min(span.start for span in spans), max(span.stop for span in spans)) for spans in zip(*boxes, strict=True)
    )
    return slices, rows, columns


def intersection(first: Box, second: Box) -> Box | None:
    """What two boxes have in common, None if that is nothing."""
    slices, rows, columns = (
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True)
    )
    box = (slices, rows, columns)
    return box if all(box_shape(box)) else None


def box_on_grid(box: Box, to_grid: np.ndarray) -> Box:
    """The box of a grid that the voxels of another grid's box touch.

    Args:
        box: on the other grid.
        to_grid: 4x4 matrix from the voxel (i, j, k) of the other grid to that of the grid.
    """
    extent = box_extent(box)
    edges = [(extent[first] - 0.5, extent[first + 1] + 0.5) for first in (0, 2, 4)]
    corners = (to_grid @ np.array([(*corner, 1) for corner in product(*edges)]).T)[:3]
    # Rounding errors of the matrices must not make a box of one grid a voxel larger on the same grid.
    lowest = np.floor(corners.min(axis=1) + 0.5 + GRID_TOLERANCE)
    highest = np.ceil(corners.max(axis=1) + 0.5 - GRID_TOLERANCE)
    columns, rows, slices = (slice(int(low), int(high)) for low, high in zip(lowest, highest, strict=True))
    return slices, rows, columns


def labels_on_grid(image: vtk.vtkImageData, to_grid: np.ndarray, box: Box) -> np.ndarray:
    """The labels of an image at the voxels of a grid, 0 outside of the image.

    Where the voxels coincide the result may share the image's memory, elsewhere the nearest voxel counts.

    Args:
        image: label map; its extent tells which voxels it holds.
        to_grid: 4x4 matrix from the voxel (i, j, k) of the image to that of the grid.
        box: which part of the grid.
    """
    own = extent_box(image.GetExtent())
    offset = _whole_shift(to_grid, own)
    if offset is not None:
        return _cut(voxels(image), moved(own, offset), box)
    source = vtk.vtkImageData()
    source.ShallowCopy(image)
    source.SetOrigin(0, 0, 0)
    source.SetSpacing(1, 1, 1)
    source.SetDirectionMatrix(1, 0, 0, 0, 1, 0, 0, 0, 1)
    transform = vtk.vtkMatrixToLinearTransform()
    transform.SetInput(matrix_from_array(np.linalg.inv(to_grid)))
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(source)
    reslice.SetResliceTransform(transform)
    reslice.SetInterpolationModeToNearestNeighbor()
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent(box_extent(box))
    reslice.Update()
    return voxels(reslice.GetOutput())


def region_on_grid(region: Region, to_grid: np.ndarray, box: Box) -> np.ndarray:
    """bool of the shape of ``box``: what a region of another grid marks there; to_grid: from that grid's voxels."""
    offset = _whole_shift(to_grid, region.box)
    if offset is not None:
        return _cut(region.mask, moved(region.box, offset), box)
    return labels_on_grid(image_of(region), to_grid, box) > 0


def image_of(region: Region) -> vtk.vtkImageData:
    """A region as an image of uint8, 1 where it is marked, whose extent is its box."""
    image = vtk.vtkImageData()
    image.SetExtent(box_extent(region.box))
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    np.copyto(voxels(image), region.mask)
    return image


def _occupied(array: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along each axis of a 3-D array, the ascending indices at which anything is not 0."""
    # The maximum of bytes takes half the time of `any`.
    array = array.view(np.uint8) if array.dtype == np.bool_ else array
    slices = np.flatnonzero([plane.max() for plane in array])
    shadow = np.zeros(array.shape[1:], dtype=array.dtype)
    for index in slices:
        np.maximum(shadow, array[index], out=shadow)
    return slices, np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))


def _whole_shift(to_grid: np.ndarray, box: Box) -> tuple[int, int, int] | None:
    """By how many voxels (slices, rows, columns) a box is shifted on a grid, None if it lies otherwise on it."""
    extent = box_extent(box)
    shift = np.rint(to_grid[:3, 3])
    corners = np.array([(*corner, 1) for corner in product(extent[:2], extent[2:4], extent[4:])]).T
    off = (to_grid @ corners)[:3] - corners[:3] - shift[:, None]
    if np.linalg.norm(off, axis=0).max() > GRID_TOLERANCE:
        return None
    return int(shift[2]), int(shift[1]), int(shift[0])


def moved(box: Box, by: Sequence[int]) -> Box:
    """A box shifted along the axes (slices, rows, columns)."""
    slices, rows, columns = (
        slice(span.start + offset, span.stop + offset) for span, offset in zip(box, by, strict=True)
    )
    return slices, rows, columns


def _cut(array: np.ndarray, at: Box, box: Box) -> np.ndarray:
    """The part in ``box`` of an array that lies in the box ``at``: a view where it can be, 0 outside of ``at``."""
    common = intersection(at, box)
    if common == box:
        return array[moved(box, [-span.start for span in at])]
    result = np.zeros(box_shape(box), dtype=array.dtype)
    if common is not None:
        result[moved(common, [-span.start for span in box])] = array[moved(common, [-span.start for span in at])]
    return result
