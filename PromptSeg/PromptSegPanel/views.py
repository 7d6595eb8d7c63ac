"""Where the slice views are, in terms of a scan's own slices."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

# A view counts as showing a scan's slices up to this angle between the two (about 6 degrees).
_PARALLEL = 0.995


def show_slice(volume_node: slicer.vtkMRMLScalarVolumeNode, axis: int, index: int) -> None:
    """Move every slice view that shows planes across `axis` to slice `index`; the other views stay.

    Args:
        axis: array axis of the scan: 0 slices, 1 rows, 2 columns.
    """
    center = [(n - 1) / 2 for n in _shape(volume_node)]
    center[axis] = index
    position = _array_to_ras(volume_node) @ [*center, 1]
    for slice_node in _slice_nodes():
        if _is_across(slice_node, volume_node, axis):
            slice_node.JumpSliceByOffsetting(*position[:3])


def shown_slice(volume_node: slicer.vtkMRMLScalarVolumeNode, axis: int) -> int | None:
    """The slice across `axis` that a slice view shows now, None where no view does."""
    ras_to_array = np.linalg.inv(_array_to_ras(volume_node))
    for slice_node in _slice_nodes():
        if _is_across(slice_node, volume_node, axis):
            position = _matrix(slice_node.GetSliceToRAS())[:, 3]
            index = round(float((ras_to_array @ position)[axis]))
            return index if 0 <= index < _shape(volume_node)[axis] else None
    return None


def _is_across(slice_node: slicer.vtkMRMLSliceNode, volume_node: slicer.vtkMRMLScalarVolumeNode, axis: int) -> bool:
    across = _array_to_ras(volume_node)[:3, axis]
    normal = _matrix(slice_node.GetSliceToRAS())[:3, 2]
    return bool(abs(across @ normal) > _PARALLEL * np.linalg.norm(across) * np.linalg.norm(normal))


def _slice_nodes() -> list[slicer.vtkMRMLSliceNode]:
    return list(slicer.util.getNodesByClass("vtkMRMLSliceNode"))


def _shape(volume_node: slicer.vtkMRMLScalarVolumeNode) -> tuple[int, int, int]:
    columns, rows, slices = volume_node.GetImageData().GetDimensions()
    return slices, rows, columns


def _array_to_ras(volume_node: slicer.vtkMRMLScalarVolumeNode) -> np.ndarray:
    """4x4, from (slice, row, column, 1) to RAS mm in the world, with the transforms that the scan is under."""
    ijk_to_ras = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(ijk_to_ras)
    matrix = _matrix(ijk_to_ras)[:, [2, 1, 0, 3]]
    transform_node = volume_node.GetParentTransformNode()
    if transform_node is not None:
        to_world = vtk.vtkMatrix4x4()
        transform_node.GetMatrixTransformToWorld(to_world)
        matrix = _matrix(to_world) @ matrix
    return matrix


def _matrix(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
