"""Write results into the user's segments as an effect of the Segment Editor would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from PromptSegLib.engine.messages import Box, ClassInfo, SegmentedClass, SliceDrawing
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.grids import (
    Region,
    box_extent,
    box_on_grid,
    box_shape,
    extent_box,
    intersection,
    labels_on_grid,
    region_on_grid,
    union,
)
from PromptSegLib.mrml.masking import editable_area, editor_like, may_overlap, require_mask
from PromptSegLib.mrml.nodes import require_segment, require_volume, voxels
from PromptSegLib.mrml.segments import (
    describe_segment,
    layer_of,
    layer_to_world,
    region_on_volume,
    require_editable,
    set_reference_geometry,
)
from PromptSegLib.mrml.volumes import index_to_world

_Logic = slicer.vtkSlicerSegmentEditorLogic
_EditorNode = slicer.vtkMRMLSegmentEditorNode
_SegmentationNode = slicer.vtkMRMLSegmentationNode


@dataclass(frozen=True, eq=False)
class _Target:
    """What a class shall be. found: the result; editable: where it may differ from the segment; same box."""

    found: Region
    editable: Region


def apply_results(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    editor_node: slicer.vtkMRMLSegmentEditorNode,
    results: Sequence[SegmentedClass],
    drawings: Drawings,
    save_state: Callable[[], object],
    *,
    drawn: Mapping[str, SliceDrawing] | None = None,
    infos: Mapping[str, ClassInfo] | None = None,
    overwrite: bool = False,
) -> None:
    """Let the user's segments become the results, except on the slices that were drawn.

    Editable area and intensity range of the editor node are respected. Voxels of other segments are left alone: the
    result gives way to them, or lies over them if the editor node allows overlap or limits editing to their inside.

    Args:
        segmentation_node: the user's segments.
        volume_node: the scan that the results are of.
        editor_node: the user's settings of the Segment Editor; not changed.
        results: keys are segment IDs.
        drawings: what was drawn; the results are remembered there as such.
        save_state: makes the one undo step, as ``saveStateForUndo`` of the Segment Editor does.
        drawn: by segment ID, what was drawn where that is less than ``drawings`` says, as with scribbles: results fill
            what is unknown of a slice.
        infos: name, color and terminology for segments that hold nothing yet, by segment ID.
        overwrite: other segments lose the voxels that the editor node's overwrite mode says.

    Raises:
        InputError: if a node or segment was deleted, or lies under a non-linear transform, or if the segments are not
            made of voxels, or if the editable area or intensity range cannot be had.
    """
    require_editable(segmentation_node)
    require_volume(volume_node)
    if editor_node is None or editor_node.GetScene() is None:
        raise InputError("the settings of the Segment Editor are no longer in the scene: open the Segment Editor again")
    require_mask(editor_node, segmentation_node)
    former = {result.key: drawings.read(result.key) or SliceDrawing(result.axis, {}) for result in results}
    drawn = {**former, **{key: drawing for key, drawing in (drawn or {}).items() if key in former}}
    set_reference_geometry(segmentation_node, volume_node)

    with editor_like(editor_node, segmentation_node, volume_node) as logic, slicer.util.NodeModify(segmentation_node):
        writers = []
        for result in results:
            others = [drawing for key, drawing in drawn.items() if key != result.key]
            if may_overlap(editor_node):
                others = []
            target = _target(segmentation_node, volume_node, result, drawn[result.key], others)
            writers.append(_Writer(logic, editor_node, volume_node, result.key, target))

        save_state()
        for key, drawing in former.items():
            if drawing.planes:
                drawings.remember(key, drawing)
            elif infos and key in infos and region_on_volume(segmentation_node, key, volume_node) is None:
                describe_segment(segmentation_node, key, infos[key])
        # All classes give up voxels before any takes some, so that a voxel can change hands.
        for writer in writers:
            writer.remove()
        for writer in writers:
            writer.add(overwrite)
        for key, drawing in drawn.items():
            drawings.remember(key, drawing)


def _target(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLScalarVolumeNode,
    result: SegmentedClass,
    drawing: SliceDrawing,
    others: Sequence[SliceDrawing],
) -> _Target | None:
    """What a class shall be on the voxels of the scan, None if nothing was and nothing shall be."""
    former = region_on_volume(segmentation_node, result.key, volume_node)
    boxes = [result.box] if all(box_shape(result.box)) else []
    boxes += [former.box] if former is not None else []
    if not boxes:
        return None
    slices, rows, columns = (slice(span.start - 1, span.stop + 1) for span in union(*boxes))
    box = intersection((slices, rows, columns), extent_box(volume_node.GetImageData().GetExtent()))
    if box is None:
        raise InputError("the result lies outside of the scan: segment the scan again")
    found = Region(result.box, result.mask).within(box).copy()
    for other in others:
        for part, plane in _drawn_parts(found, box, other):
            part[plane == 1] = False
    editable = np.ones(box_shape(box), dtype=bool)
    for part, plane in _drawn_parts(editable, box, drawing):
        part[plane != UNKNOWN] = False
    return _Target(Region(box, found), Region(box, editable))


def _drawn_parts(mask: np.ndarray, box: Box, drawing: SliceDrawing) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The slices of a mask in a box that are drawn on, and what is drawn there."""
    rows, columns = (box[other] for other in range(3) if other != drawing.axis)
    stack = np.moveaxis(mask, drawing.axis, 0)
    for index, plane in drawing.planes.items():
        if box[drawing.axis].start <= index < box[drawing.axis].stop:
            yield stack[index - box[drawing.axis].start], plane[rows, columns]


class _Writer:
    """Writes one class on the grid of its layer, or on the reference geometry as long as it has no voxels."""

    def __init__(
        self,
        logic: slicer.vtkSlicerSegmentEditorLogic,
        user_editor: slicer.vtkMRMLSegmentEditorNode,
        volume_node: slicer.vtkMRMLScalarVolumeNode,
        segment_id: str,
        target: _Target | None,
    ) -> None:
        self._logic = logic
        self._user_editor = user_editor
        self._editor = logic.GetSegmentEditorNode()
        self._node = logic.GetSegmentationNode()
        self._segment_id = segment_id
        self._segment = require_segment(self._node, segment_id)
        logic.UpdateReferenceGeometryImage()
        reference = logic.GetReferenceGeometryImage()
        grid = layer_of(self._segment) or reference
        match = slicer.vtkOrientedImageDataResample.DoGeometriesMatch(grid, reference)
        if user_editor.GetSourceVolumeIntensityMask() and not match:
            raise InputError(
                f'the editable intensity range cannot be applied to the segment "{self._segment.GetName()}", whose '
                "grid is not that of the segmentation: switch the range off in the Segment Editor"
            )
        self._to_parent = vtk.vtkMatrix4x4()
        grid.GetImageToWorldMatrix(self._to_parent)
        self._from_world = np.linalg.inv(layer_to_world(grid, self._node))
        if target is None:
            self._remove = self._add = None
            return
        from_volume = self._from_world @ index_to_world(volume_node)
        box = box_on_grid(target.found.box, from_volume)
        found = region_on_grid(target.found, from_volume, box)
        former = self._labels_in(box, [segment_id])
        changed = (found != former) & region_on_grid(target.editable, from_volume, box)
        self._remove = Region(box, changed & former).cropped()
        self._add = Region(box, changed & found).cropped()

    def remove(self) -> None:
        """Take away what the class shall no longer be."""
        region = self._editable_part(self._remove)
        if self._user_editor.GetMaskMode() == _SegmentationNode.EditAllowedInsideSingleSegment:
            # Here Slicer's erasing would give the voxels to the masking segment, and we have looked after the mask.
            self._editor.SetMaskMode(_SegmentationNode.EditAllowedEverywhere)
        # Voxels that others hold are none of this segment's, but with any other mode Slicer moves it to a new layer.
        self._editor.SetOverwriteMode(_EditorNode.OverwriteAllSegments)
        self._modify(region, _Logic.ModificationModeRemove)
        self._editor.SetMaskMode(self._user_editor.GetMaskMode())

    def add(self, overwrite: bool) -> None:
        """Give the class what it shall be in addition."""
        region, mode = self._editable_part(self._add), self._user_editor.GetOverwriteMode()
        if region is None:
            return
        if not overwrite and not may_overlap(self._user_editor):
            taken = self._labels_in(region.box, self._others(mode == _EditorNode.OverwriteVisibleSegments))
            region = Region(region.box, region.mask & ~taken).cropped()
        self._editor.SetOverwriteMode(mode if overwrite else _EditorNode.OverwriteNone)
        self._modify(region, _Logic.ModificationModeAdd)

    def _editable_part(self, region: Region | None) -> Region | None:
        """What the user's masking leaves of a region. Slicer itself masks only what lies on the reference geometry."""
        if region is None:
            return None
        area = editable_area(self._user_editor, self._node, self._segment_id)
        if area is not None:
            inside = self._labels_in(region.box, area.segment_ids) == area.is_inside
            region = Region(region.box, region.mask & inside)
        if self._user_editor.GetSourceVolumeIntensityMask():
            box = intersection(region.box, extent_box(self._logic.GetReferenceGeometryImage().GetExtent()))
            if box is None:
                return None
            region = Region(box, region.within(box))
        return region.cropped()

    def _modify(self, region: Region | None, mode: int) -> None:
        if region is None:
            return
        modifier = slicer.vtkOrientedImageData()
        modifier.SetImageToWorldMatrix(self._to_parent)
        modifier.SetExtent(box_extent(region.box))
        modifier.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        np.copyto(voxels(modifier), region.mask)
        self._editor.SetSelectedSegmentID(self._segment_id)
        self._logic.ModifySegmentByLabelmap(self._node, self._segment_id, modifier, mode, False, False)

    def _others(self, visible_only: bool) -> list[str]:
        display = self._node.GetDisplayNode()
        return [
            other
            for other in self._node.GetSegmentation().GetSegmentIDs()
            if other != self._segment_id
            and (not visible_only or (display is not None and display.GetSegmentVisibility(other)))
        ]

    def _labels_in(self, box: Box, segment_ids: Sequence[str]) -> np.ndarray:
        """bool of the box's shape: where any of some segments lies, on this class's grid."""
        result = np.zeros(box_shape(box), dtype=bool)
        labels: dict[slicer.vtkOrientedImageData, list[int]] = {}
        for segment in (self._node.GetSegmentation().GetSegment(segment_id) for segment_id in segment_ids):
            layer = None if segment is None else layer_of(segment)
            if layer is not None:
                labels.setdefault(layer, []).append(segment.GetLabelValue())
        for layer, values in labels.items():
            to_grid = self._from_world @ layer_to_world(layer, self._node)
            there = labels_on_grid(layer, to_grid, box)
            result |= there == values[0] if len(values) == 1 else np.isin(there, values)
        return result
