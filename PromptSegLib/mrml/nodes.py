"""What every other file here asks of a node: is it still there, what does it hold, where does it lie."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from PromptSegLib.errors import InputError


def require_volume(node: slicer.vtkMRMLVolumeNode | None) -> slicer.vtkMRMLVolumeNode:
    """The volume node itself.

    Raises:
        InputError: if it was deleted, holds no voxels, or these are not counted from 0, as a script may leave them:
            arrays would be taken for the voxels from 0 on.
    """
    if node is None or node.GetScene() is None:
        raise InputError("the scan is no longer in the scene: choose another scan")
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise InputError(f'the volume "{node.GetName()}" holds no voxels: choose another scan')
    if any(image.GetExtent()[::2]):
        raise InputError(
            f'the voxels of the volume "{node.GetName()}" are not counted from 0: save it and load it again'
        )
    return node


def require_segmentation(node: slicer.vtkMRMLSegmentationNode | None) -> slicer.vtkMRMLSegmentationNode:
    """The segmentation node itself.

    Raises:
        InputError: if it was deleted.
    """
    if node is None or node.GetScene() is None:
        raise InputError("the segmentation is no longer in the scene: choose another segmentation")
    return node


def require_segment(node: slicer.vtkMRMLSegmentationNode | None, segment_id: str) -> slicer.vtkSegment:
    """A segment of the segmentation.

    Raises:
        InputError: if the segmentation or the segment was deleted.
    """
    segment = require_segmentation(node).GetSegmentation().GetSegment(segment_id)
    if segment is None:
        raise InputError(f'the segment "{segment_id}" is no longer in the segmentation: choose another segment')
    return segment


def parent_to_world(node: slicer.vtkMRMLTransformableNode) -> np.ndarray:
    """4x4 matrix from the node's own RAS mm to those of the world.

    Raises:
        InputError: if a non-linear transform is applied to the node.
    """
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise InputError(f'a non-linear transform is applied to "{node.GetName()}": harden or remove it first')
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return array_from_matrix(matrix)


def array_from_matrix(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrix_from_array(array: np.ndarray) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, dtype=float).ravel().tolist())
    return matrix


def voxels(image: vtk.vtkImageData) -> np.ndarray:
    """The voxels (slices, rows, columns) of an image of one component, sharing its memory."""
    columns, rows, slices = image.GetDimensions()
    array: np.ndarray = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(slices, rows, columns)
    return array
