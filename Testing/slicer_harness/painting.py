"""Writes into a segment as the effects of the segment editor do: through the modifier labelmap and the real logic."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from vtk import vtkMatrix4x4
from vtk.util.numpy_support import vtk_to_numpy


def modifier_array(logic: Any) -> np.ndarray:
    """The emptied modifier labelmap on the grid of the segmentation: (slices, rows, columns), a view."""
    logic.UpdateReferenceGeometryImage()
    if not logic.ResetModifierLabelmapToDefault():
        raise RuntimeError("The segment editor has no segmentation with a reference geometry to paint on.")
    labelmap = logic.GetModifierLabelmap()
    return vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(labelmap.GetDimensions()[::-1])


def write(logic: Any, segment_id: str, mask: np.ndarray, box: tuple[slice, slice, slice], erase: bool = False) -> None:
    """Adds to the segment, or takes from it, where ``mask`` (bool, shape of ``box``) is set; one undo step.

    Editable area, intensity range and overwrite mode of the editor node are respected.
    """
    array = modifier_array(logic)
    array[box] = mask
    labelmap = logic.GetModifierLabelmap()
    labelmap.GetPointData().GetScalars().Modified()
    labelmap.Modified()
    start = labelmap.GetExtent()[::2]
    extent = [
        first + side for first, axis in zip(start, reversed(box), strict=True) for side in (axis.start, axis.stop - 1)
    ]
    logic.UpdateAlignedSourceVolume()
    logic.UpdateMaskLabelmap()
    logic.SaveStateForUndo()
    mode = logic.ModificationModeRemove if erase else logic.ModificationModeAdd
    logic.ModifySegmentByLabelmap(logic.GetSegmentationNode(), segment_id, labelmap, mode, extent, False, False)


def write_slice(logic: Any, segment_id: str, axis: int, index: int, mask: np.ndarray, erase: bool = False) -> None:
    """Paints on one slice; ``mask`` is 2-D, as `np.moveaxis(array, axis, 0)[index]` of the grid."""
    box = [slice(0, size) for size in np.insert(mask.shape, axis, 1)]
    box[axis] = slice(index, index + 1)
    write(logic, segment_id, np.expand_dims(mask, axis).astype(bool), (box[0], box[1], box[2]), erase)


def brush(
    logic: Any, slice_node: Any, stroke: list[tuple[float, float]], radius_mm: float
) -> tuple[np.ndarray, tuple[slice, slice, slice]] | None:
    """(mask, box) of a stroke of view positions (x, y): disks in the plane of the view, one voxel thick.

    None where the stroke lies outside the grid.
    """
    labelmap = logic.GetReferenceGeometryImage()
    ras_to_ijk = _world_to_image(logic, labelmap)
    in_view = np.array([(x, y, 0.0, 1.0) for x, y in stroke])
    centers = (in_view @ slicer.util.arrayFromVTKMatrix(slice_node.GetXYToRAS()).T)[:, :3]
    axes = slicer.util.arrayFromVTKMatrix(slice_node.GetSliceToRAS())[:3, :2]
    reach = radius_mm * np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)]) @ axes.T
    corners = (centers[:, None] + reach).reshape(-1, 3)
    nearest = np.rint(corners @ ras_to_ijk[:3, :3].T + ras_to_ijk[:3, 3]).astype(int)
    low = np.maximum(nearest.min(axis=0), 0)
    high = np.minimum(nearest.max(axis=0) + 1, labelmap.GetDimensions())
    if (low >= high).any():
        return None
    box = tuple(slice(int(start), int(stop)) for start, stop in zip(low[::-1], high[::-1], strict=True))
    k, j, i = np.mgrid[box]
    ijk_to_ras = np.linalg.inv(ras_to_ijk)
    voxels = np.stack([i, j, k], axis=-1) @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]
    mask = np.zeros(i.shape, bool)
    for center in centers:
        mask |= (((voxels - center) @ axes) ** 2).sum(axis=-1) <= radius_mm**2
    return mask, (box[0], box[1], box[2])


def _world_to_image(logic: Any, image: Any) -> np.ndarray:
    """4 x 4 from the world's RAS to the voxels of an oriented image of the segmentation."""
    image_to_world = vtkMatrix4x4()
    logic.ImageToWorldMatrix(image, logic.GetSegmentationNode(), image_to_world)
    return np.linalg.inv(slicer.util.arrayFromVTKMatrix(image_to_world))
