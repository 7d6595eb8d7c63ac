"""Where the slice views are, in terms of a scan's own slices."""

from __future__ import annotations

import numpy as np
import slicer

from PromptSegLib.errors import InputError
from PromptSegLib.mrml.nodes import array_from_matrix
from PromptSegLib.mrml.volumes import index_to_world

# A view counts as showing a scan's slices up to this angle between the two (about 6 degrees).
_PARALLEL = 0.995


def show_slice(volume_node: slicer.vtkMRMLScalarVolumeNode, axis: int, index: int) -> None:
    """Move every slice view that shows planes across `axis` to slice `index`; the other views stay.

    Args:
        axis: array axis of the scan: 0 slices, 1 rows, 2 columns.

    Raises:
        InputError: if the scan lies under a non-linear transform.
    """
    center = [(n - 1) / 2 for n in _shape(volume_node)]
    center[axis] = index
    position = _array_to_ras(volume_node) @ [*center, 1]
    for slice_node in _slice_nodes():
        if _is_across(slice_node, volume_node, axis):
            slice_node.JumpSliceByOffsetting(*position[:3])


def shown_slice(volume_node: slicer.vtkMRMLScalarVolumeNode, axis: int) -> int | None:
    """The slice across `axis` that a slice view shows now, None where no view does or the scan is bent."""
    try:
        ras_to_array = np.linalg.inv(_array_to_ras(volume_node))
    except InputError:
        return None
    for slice_node in _slice_nodes():
        if _is_across(slice_node, volume_node, axis):
            position = array_from_matrix(slice_node.GetSliceToRAS())[:, 3]
            index = round(float((ras_to_array @ position)[axis]))
            return index if 0 <= index < _shape(volume_node)[axis] else None
    return None


def _is_across(slice_node: slicer.vtkMRMLSliceNode, volume_node: slicer.vtkMRMLScalarVolumeNode, axis: int) -> bool:
    across = _array_to_ras(volume_node)[:3, axis]
    normal = array_from_matrix(slice_node.GetSliceToRAS())[:3, 2]
    return bool(abs(across @ normal) > _PARALLEL * np.linalg.norm(across) * np.linalg.norm(normal))


def _slice_nodes() -> list[slicer.vtkMRMLSliceNode]:
    return list(slicer.util.getNodesByClass("vtkMRMLSliceNode"))


def _shape(volume_node: slicer.vtkMRMLScalarVolumeNode) -> tuple[int, int, int]:
    columns, rows, slices = volume_node.GetImageData().GetDimensions()
    return slices, rows, columns


def _array_to_ras(volume_node: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """4x4, from (slice, row, column, 1) to RAS mm in the world, with the transforms that the scan is under."""
    matrix: np.ndarray = index_to_world(volume_node)[:, [2, 1, 0, 3]]
    return matrix
