"""What would be found, shown over the scan beside the user's segments, which stay as they are."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

import numpy as np
import slicer
import vtk

from PromptSegLib.engine.messages import Box, Preview, SegmentedClass
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.grids import Region, box_extent, box_shape, extent_box, union
from PromptSegLib.mrml.nodes import array_from_matrix, require_segment, require_segmentation, require_volume, voxels
from PromptSegLib.mrml.segments import BINARY_LABELMAP, layer_of

_CLOSED_SURFACE = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


class PreviewNode:
    """A hidden segmentation with one layer per class, on the voxels of the scan, wherever the scan is moved.

    It is neither listed nor saved. Its segments have the IDs, names and colors of the user's.

    Args:
        segmentation_node: the user's segments.
        volume_node: the scan.

    Raises:
        InputError: if a node was deleted.
    """

    def __init__(
        self, segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode
    ) -> None:
        self._user_node = require_segmentation(segmentation_node)
        self._volume_node = require_volume(volume_node)
        self._show_3d = False
        self._node = slicer.vtkMRMLSegmentationNode()
        self._node.SetName("PromptSeg preview")
        self._node.SetHideFromEditors(True)
        self._node.SetSaveWithScene(False)
        volume_node.GetScene().AddNode(self._node)
        self._node.CreateDefaultDisplayNodes()
        self._node.GetDisplayNode().SetSaveWithScene(False)
        self._node.GetDisplayNode().SetVisibility3D(False)
        self._node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        node = self._node
        _place(node, volume_node)
        # Without a transform, a scan is moved as by "Center volume".
        moving = (slicer.vtkMRMLTransformableNode.TransformModifiedEvent, vtk.vtkCommand.ModifiedEvent)
        tags = [volume_node.AddObserver(event, lambda caller, event: _place(node, volume_node)) for event in moving]
        self._stop_following = weakref.finalize(self, _stop_observing, volume_node, tags)
        self._stop_following.atexit = False

    @property
    def node(self) -> slicer.vtkMRMLSegmentationNode:
        """The node in the scene.

        Raises:
            InputError: if it was removed.
        """
        if self._node.GetScene() is None:
            raise InputError("the preview is no longer in the scene: train or segment again")
        return self._node

    def update(self, preview: Preview) -> None:
        """Show what is found so far on a few slices; other slices stay as they are.

        Raises:
            InputError: if the preview, a node or the class's segment was deleted.
        """
        image = self._layer(preview.key)
        boxes = [_plane_box(index, plane, preview.axis) for index, plane in preview.planes.items() if plane.any()]
        if image.GetNumberOfPoints():
            boxes.append(extent_box(image.GetExtent()))
        if not boxes:
            return
        box = union(*boxes)
        _enlarge(image, box)
        stack = np.moveaxis(voxels(image), preview.axis, 0)
        rows, columns = (box[other] for other in range(3) if other != preview.axis)
        for index, plane in preview.planes.items():
            if box[preview.axis].start <= index < box[preview.axis].stop:
                stack[index - box[preview.axis].start] = plane[rows, columns]
        self._changed(preview.key, image)

    def show(self, results: Iterable[SegmentedClass]) -> None:
        """Show what was found of some classes in place of what was shown of them.

        Raises:
            InputError: if the preview, a node or a class's segment was deleted.
        """
        for result in results:
            image = self._layer(result.key)
            if not result.mask.size:
                self.node.GetSegmentation().RemoveSegment(result.key)
                continue
            if image.GetExtent() != box_extent(result.box) or not image.GetNumberOfPoints():
                image.SetExtent(box_extent(result.box))
                image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
            np.copyto(voxels(image), result.mask)
            self._changed(result.key, image)
        self._show_surfaces()

    def mask(self, segment_id: str) -> Region | None:
        """What is shown of a class on the voxels of the scan, None if that is nothing.

        Raises:
            InputError: if the preview was removed.
        """
        segment = self.node.GetSegmentation().GetSegment(segment_id)
        image = None if segment is None else layer_of(segment)
        if image is None:
            return None
        return Region.where(voxels(image), 1, extent_box(image.GetExtent()))

    def keep(self, segment_ids: Iterable[str]) -> None:
        """Show nothing of other classes than these."""
        segmentation = self._node.GetSegmentation()
        for segment_id in {*segmentation.GetSegmentIDs()} - {*segment_ids}:
            segmentation.RemoveSegment(segment_id)

    def clear(self) -> None:
        """Show nothing.

        Raises:
            InputError: if the preview was removed.
        """
        self.node.GetSegmentation().RemoveAllSegments()

    def remove(self) -> None:
        """Take the preview out of the scene, if it still is there."""
        self._stop_following()
        scene = self._node.GetScene()
        if scene is not None:
            display = self._node.GetDisplayNode()
            scene.RemoveNode(self._node)
            if display is not None:
                scene.RemoveNode(display)

    @property
    def visible(self) -> bool:
        """Whether the views show it."""
        return bool(self.node.GetDisplayNode().GetVisibility())

    @visible.setter
    def visible(self, visible: bool) -> None:
        self.node.GetDisplayNode().SetVisibility(visible)

    @property
    def opacity(self) -> float:
        """0 to 1; at 1 outlines are solid and areas half transparent."""
        return float(self.node.GetDisplayNode().GetOpacity())

    @opacity.setter
    def opacity(self, opacity: float) -> None:
        self.node.GetDisplayNode().SetOpacity(opacity)

    @property
    def show_3d(self) -> bool:
        """Whether the 3-D views show it. Surfaces are made of results, not while training."""
        return self._show_3d

    @show_3d.setter
    def show_3d(self, show_3d: bool) -> None:
        self._show_3d = show_3d
        self.node.GetDisplayNode().SetVisibility3D(show_3d)
        self._show_surfaces()

    def _changed(self, segment_id: str, image: slicer.vtkOrientedImageData) -> None:
        """Tell the views."""
        image.GetPointData().GetScalars().Modified()
        image.Modified()
        # Of voxels alone views do not hear, and the segmentation itself does only after the first change of a segment.
        self.node.GetSegmentation().GetSegment(segment_id).Modified()

    def _show_surfaces(self) -> None:
        if self._show_3d:
            self.node.CreateClosedSurfaceRepresentation()
        else:
            self.node.RemoveClosedSurfaceRepresentation()

    def _layer(self, segment_id: str) -> slicer.vtkOrientedImageData:
        """The label map of one class, named and colored like the user's segment."""
        users = require_segment(self._user_node, segment_id)
        segmentation = self.node.GetSegmentation()
        segment = segmentation.GetSegment(segment_id)
        if segment is None:
            image = slicer.vtkOrientedImageData()
            image.SetImageToWorldMatrix(_voxel_places(require_volume(self._volume_node)))
            image.SetExtent(0, -1, 0, -1, 0, -1)
            image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
            # A new segment is given a surface as others have one, which would stay that of no voxels.
            self.node.RemoveClosedSurfaceRepresentation()
            segment = slicer.vtkSegment()
            segment.SetLabelValue(1)
            segment.AddRepresentation(BINARY_LABELMAP, image)
            segmentation.AddSegment(segment, segment_id)
        segment.SetName(users.GetName())
        segment.SetColor(users.GetColor())
        return segment.GetRepresentation(BINARY_LABELMAP)


def _stop_observing(node: slicer.vtkMRMLNode, tags: Iterable[int]) -> None:
    for tag in tags:
        node.RemoveObserver(tag)


def _place(node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Let a segmentation on the voxels of a scan lie where the scan is now."""
    if node.GetScene() is None or volume_node.GetScene() is None:
        return
    if node.GetTransformNodeID() != volume_node.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    # When a transform is hardened, it is the scan's own voxels that move.
    places = _voxel_places(volume_node)
    segmentation = node.GetSegmentation()
    had_surfaces, moved = segmentation.ContainsRepresentation(_CLOSED_SURFACE), False
    for segment_id in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segment_id)
        image, matrix = segment.GetRepresentation(BINARY_LABELMAP), vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        if not np.allclose(array_from_matrix(matrix), array_from_matrix(places)):
            image.SetImageToWorldMatrix(places)
            segment.Modified()
            moved = True
    if moved and had_surfaces:
        node.RemoveClosedSurfaceRepresentation()
        node.CreateClosedSurfaceRepresentation()


def _voxel_places(volume_node: slicer.vtkMRMLScalarVolumeNode) -> vtk.vtkMatrix4x4:
    """From the scan's voxel (i, j, k) to its own RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    return matrix


def _plane_box(index: int, plane: np.ndarray, axis: int) -> Box:
    """The smallest box around what is marked on a 2-D plane at an index of an array axis."""
    spans = [np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))]
    spans.insert(axis, np.array([index]))
    slices, rows, columns = (slice(int(span[0]), int(span[-1]) + 1) for span in spans)
    return slices, rows, columns


def _enlarge(image: slicer.vtkOrientedImageData, box: Box) -> None:
    """Make room for a box around all of the image's voxels, which stay."""
    former = None
    if image.GetNumberOfPoints():
        former = Region(extent_box(image.GetExtent()), voxels(image))
        if former.box == box:
            return
    enlarged = np.zeros(box_shape(box), np.uint8) if former is None else former.within(box)
    image.SetExtent(box_extent(box))
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    np.copyto(voxels(image), enlarged)
