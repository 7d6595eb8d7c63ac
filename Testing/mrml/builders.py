"""Nodes for tests, and a user who paints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import slicer
import vtk

from PromptSegLib.mrml.grids import Region, image_of
from PromptSegLib.mrml.nodes import matrix_from_array, voxels
from PromptSegLib.mrml.segments import layer_of

SHAPE = (12, 20, 24)


def add_volume(array: np.ndarray | None = None, ijk_to_ras: np.ndarray | None = None) -> slicer.vtkMRMLScalarVolumeNode:
    """A scan; by default of 3 x 2 x 1.5 mm, its values rising along the columns."""
    if array is None:
        array = np.broadcast_to(np.arange(SHAPE[2], dtype=np.int16) * 10, SHAPE).copy()
    matrix = np.diag([1.5, 2.0, 3.0, 1.0]) if ijk_to_ras is None else ijk_to_ras
    return slicer.util.addVolumeFromArray(array, ijkToRAS=matrix, name="CT")


def add_segmentation(volume: slicer.vtkMRMLScalarVolumeNode, *names: str) -> slicer.vtkMRMLSegmentationNode:
    """A segmentation on the grid of a volume, with empty segments whose IDs are their names."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in names:
        node.GetSegmentation().AddEmptySegment(name, name)
    return node


def add_transform(matrix: np.ndarray, *nodes: slicer.vtkMRMLTransformableNode) -> slicer.vtkMRMLTransformNode:
    """A linear transform, applied to nodes."""
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(matrix_from_array(matrix))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


class Editor:
    """The Segment Editor as it stands before a user: a node with its settings, and a logic that can undo."""

    def __init__(self, segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLScalarVolumeNode) -> None:
        self.node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.node.SetAndObserveSegmentationNode(segmentation)
        self.node.SetAndObserveSourceVolumeNode(volume)
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetSegmentEditorNode(self.node)
        self.segmentation = segmentation

    def paint(self, segment_id: str, mask: np.ndarray, *, erase: bool = False) -> None:
        """Paint or erase where a mask (slices, rows, columns) of the reference geometry is True, as a brush does."""
        self.logic.SaveStateForUndo()
        self.logic.UpdateReferenceGeometryImage()
        matrix = vtk.vtkMatrix4x4()
        self.logic.GetReferenceGeometryImage().GetImageToWorldMatrix(matrix)
        region = Region((slice(0, mask.shape[0]), slice(0, mask.shape[1]), slice(0, mask.shape[2])), mask).cropped()
        if region is None:
            return
        modifier = slicer.vtkOrientedImageData()
        modifier.ShallowCopy(image_of(region))
        modifier.SetImageToWorldMatrix(matrix)
        self.node.SetSelectedSegmentID(segment_id)
        mode = self.logic.ModificationModeRemove if erase else self.logic.ModificationModeAdd
        self.logic.ModifySegmentByLabelmap(self.segmentation, segment_id, modifier, mode, False, False)


def on_slices(mask: np.ndarray, indices: Iterable[int], axis: int = 0) -> np.ndarray:
    """The mask on some slices only."""
    result = np.zeros_like(mask)
    for index in indices:
        np.moveaxis(result, axis, 0)[index] = np.moveaxis(mask, axis, 0)[index]
    return result


def ellipsoid(
    shape: tuple[int, int, int] = SHAPE, center: tuple[float, ...] = (0.5, 0.5, 0.5), radius: float = 0.3
) -> np.ndarray:
    """bool (slices, rows, columns); center and radius in parts of the shape."""
    z, y, x = (((np.arange(n, dtype=np.float32) + 0.5) / n - at) ** 2 for n, at in zip(shape, center, strict=True))
    mask: np.ndarray = z[:, None, None] + y[:, None] + x < radius**2
    return mask


def voxels_of(
    segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, shape: tuple[int, ...] = SHAPE
) -> np.ndarray:
    """bool (slices, rows, columns): the segment as it is stored, on a grid that starts at its extent's origin."""
    result = np.zeros(shape, dtype=bool)
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    layer = layer_of(segment)
    if layer is not None:
        i, _, j, _, k, _ = layer.GetExtent()
        array = voxels(layer) == segment.GetLabelValue()
        result[k : k + array.shape[0], j : j + array.shape[1], i : i + array.shape[2]] = array
    return result


def checksum(segmentation: slicer.vtkMRMLSegmentationNode, segment_id: str, shape: tuple[int, ...] = SHAPE) -> str:
    return hashlib.sha256(np.packbits(voxels_of(segmentation, segment_id, shape))).hexdigest()


def reload(path: str) -> None:
    """Save the scene as an .mrb, close it, and open it again."""
    assert slicer.mrmlScene.WriteToMRB(path)
    slicer.mrmlScene.Clear()
    assert slicer.mrmlScene.ReadFromMRB(path, True)
