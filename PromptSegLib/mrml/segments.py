"""Segments: what they cover on a scan, and what they are called."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from PromptSegLib.engine.messages import Box, ClassInfo
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.grids import Region, box_on_grid, extent_box, intersection, labels_on_grid
from PromptSegLib.mrml.nodes import (
    array_from_matrix,
    parent_to_world,
    require_segment,
    require_segmentation,
    require_volume,
    voxels,
)
from PromptSegLib.mrml.volumes import index_to_world

BINARY_LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
_REFERENCE_GEOMETRY = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
_TERMINOLOGY_TAG = slicer.vtkSegment.GetTerminologyEntryTagName()

# Slicer calls every new segment a tissue until somebody says what it is.
_UNSPECIFIED = ("SCT", "85756007")


def is_editable(segmentation_node: slicer.vtkMRMLSegmentationNode) -> bool:
    """Whether voxels are what the segments are made of; those made of surfaces, as of RT structures, get lost.

    Raises:
        InputError: if the segmentation was deleted.
    """
    segmentation = require_segmentation(segmentation_node).GetSegmentation()
    return bool(segmentation.GetSourceRepresentationName() == BINARY_LABELMAP)


def require_editable(segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
    """See `is_editable`.

    Raises:
        InputError: if the segmentation was deleted, or its segments are not made of voxels.
    """
    if not is_editable(segmentation_node):
        raise InputError(
            "the segments are surfaces, not voxels: choose Paint in the editor and agree to the conversion, or choose "
            "another segmentation"
        )


def layer_of(segment: slicer.vtkSegment) -> slicer.vtkOrientedImageData | None:
    """The label map that a segment shares with others of its layer, None if it has no voxels."""
    image = segment.GetRepresentation(BINARY_LABELMAP)
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        return None
    return image


def is_empty(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> bool:
    """Whether a segment has no voxels, on whichever scan.

    Raises:
        InputError: if the segmentation or the segment was deleted.
    """
    segment = require_segment(segmentation_node, segment_id)
    layer = layer_of(segment)
    return layer is None or not bool((voxels(layer) == segment.GetLabelValue()).any())


def layer_to_world(image: slicer.vtkOrientedImageData, segmentation_node: slicer.vtkMRMLSegmentationNode) -> np.ndarray:
    """4x4 matrix from the voxel (i, j, k) of a segmentation's label map to RAS mm in the world."""
    to_world: np.ndarray = parent_to_world(segmentation_node) @ layer_to_parent(image)
    return to_world


def layer_to_parent(image: slicer.vtkOrientedImageData) -> np.ndarray:
    """As `layer_to_world`, to the segmentation's own RAS mm, before any transform."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return array_from_matrix(matrix)


def region_on_volume(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    volume_node: slicer.vtkMRMLVolumeNode,
    within: Box | None = None,
) -> Region | None:
    """What a segment covers of a volume's voxels, None if that is nothing, or if it is not made of voxels.

    Args:
        within: of the voxels of its label map, a box in which all of it lies, if that is known.

    Raises:
        InputError: if a node or the segment was deleted, or lies under a non-linear transform.
    """
    to_world = index_to_world(require_volume(volume_node))
    whole = extent_box(volume_node.GetImageData().GetExtent())
    return region_on_voxels(segmentation_node, segment_id, to_world, whole, within)


def region_on_voxels(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    segment_id: str,
    to_world: np.ndarray,
    whole: Box,
    within: Box | None = None,
) -> Region | None:
    """As `region_on_volume`, on a grid.

    Args:
        to_world: 4x4 matrix from the grid's voxel (i, j, k) to RAS mm in the world.
        whole: all of the grid's voxels.
        within: as there.

    Raises:
        InputError: if the segmentation or the segment was deleted, or lies under a non-linear transform.
    """
    segment = require_segment(segmentation_node, segment_id)
    layer = layer_of(segment)
    if layer is None or not is_editable(segmentation_node):
        return None
    to_grid = np.linalg.inv(to_world) @ layer_to_world(layer, segmentation_node)
    box = intersection(box_on_grid(within or extent_box(layer.GetExtent()), to_grid), whole)
    if box is None:
        return None
    return Region.where(labels_on_grid(layer, to_grid, box), segment.GetLabelValue(), box)


def set_reference_geometry(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode
) -> None:
    """Let a segmentation be drawn on the voxels of a volume, unless it has a grid of its own already."""
    segmentation = segmentation_node.GetSegmentation()
    segments = (segmentation.GetNthSegment(index) for index in range(segmentation.GetNumberOfSegments()))
    if not segmentation.GetConversionParameter(_REFERENCE_GEOMETRY) or all(layer_of(s) is None for s in segments):
        segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)


def class_info(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str) -> ClassInfo:
    """What a segment is called.

    Raises:
        InputError: if the segmentation or the segment was deleted.
    """
    segment = require_segment(segmentation_node, segment_id)
    red, green, blue = (round(255 * part) for part in segment.GetColor())
    return ClassInfo(segment.GetName(), (red, green, blue), _terminology(segment))


def describe_segment(segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, info: ClassInfo) -> None:
    """Give a segment the name, color and terminology of a class.

    Raises:
        InputError: if the segmentation or the segment was deleted.
    """
    segment = require_segment(segmentation_node, segment_id)
    segment.SetName(info.name)
    segment.SetNameAutoGenerated(False)
    segment.SetColor([part / 255 for part in info.color])
    segment.SetColorAutoGenerated(False)
    if info.terminology is not None:
        segment.SetTag(_TERMINOLOGY_TAG, _serialized(info.terminology))


def add_segment(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode, info: ClassInfo
) -> str:
    """Add an empty segment for a class, to be filled on a scan, and return its segment ID.

    Raises:
        InputError: if a node was deleted, or the segments are not made of voxels.
    """
    require_editable(segmentation_node)
    segmentation = segmentation_node.GetSegmentation()
    set_reference_geometry(segmentation_node, require_volume(volume_node))
    segment_id: str = segmentation.AddEmptySegment("", info.name)
    describe_segment(segmentation_node, segment_id, info)
    return segment_id


def _terminology(segment: slicer.vtkSegment) -> tuple[str, str, str] | None:
    """Scheme, code and meaning of the type in a serialized terminology entry (context~category~type~…)."""
    entry = vtk.reference("")
    segment.GetTag(_TERMINOLOGY_TAG, entry)
    parts = str(entry.get()).split("~")
    codes = parts[2].split("^") if len(parts) > 2 else []
    if len(codes) != 3 or not all(codes) or (codes[0], codes[1]) == _UNSPECIFIED:
        return None
    scheme, code, meaning = codes
    return scheme, code, meaning


def _serialized(terminology: tuple[str, str, str]) -> str:
    kind = "^".join(part.replace("~", " ").replace("^", " ") for part in terminology)
    category = "SCT^123037004^Anatomical Structure"
    return (
        f"Segmentation category and type - 3D Slicer General Anatomy list~{category}~{kind}~^^~"
        "Anatomic codes - DICOM master list~^^~^^"
    )
