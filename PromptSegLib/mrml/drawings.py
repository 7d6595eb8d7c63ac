"""What the user drew of each segment, also after results were applied over it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import slicer

from PromptSegLib.engine.messages import SliceDrawing
from PromptSegLib.imaging.crossing import crossing_slices
from PromptSegLib.imaging.volume import slice_stack
from PromptSegLib.mrml.between import slices_between
from PromptSegLib.mrml.drawn_axis import drawn_axis
from PromptSegLib.mrml.grids import Region
from PromptSegLib.mrml.layers import LayerRevisions
from PromptSegLib.mrml.memory import EMPTY, FEWEST_REMADE, REMADE_SHARE, Memory, State, content_digests, digest_of
from PromptSegLib.mrml.nodes import parent_to_world, require_segment, require_segmentation, require_volume
from PromptSegLib.mrml.records import DRAWINGS, SegmentRecords, follow_segments
from PromptSegLib.mrml.scan_grid import ScanGrid
from PromptSegLib.mrml.segments import is_editable, layer_of, layer_to_world, region_on_volume, region_on_voxels
from PromptSegLib.mrml.volumes import geometry_from_node, index_to_world


@dataclass(frozen=True)
class _Drawn:
    """axis: drawn across; slices: digest of each drawn slice; current: which of them are as the segment is now; grid:
    what these slices are of, the scan or what it was before it was cropped; shown: the drawn slices of the scan, and
    which these are of the grid; covered: see `Drawings.is_covered`; remade: see `Drawings.was_remade`; crossed: array
    axis of a slice that was drawn across another one, and does not count; between: see `Drawings.between`."""

    axis: int
    slices: Mapping[int, str]
    current: frozenset[int]
    grid: ScanGrid
    shown: Mapping[int, int]
    covered: bool = False
    remade: bool = False
    crossed: int | None = None
    between: int = 0


class Drawings:
    """The drawings of a segmentation's segments on the voxels of a scan.

    Until a result was applied, the segment is the drawing. From then on, the drawing is what it was then, and every
    slice across the drawn axis that the user changed since: such a slice is known as it is now, also if it is empty.
    All of this is kept in the scene, and comes back with a removed segment when that is undone.

    Args:
        segmentation_node: whose segments.
        volume_node: on whose voxels.

    Raises:
        InputError: if a node was deleted.
    """

    def __init__(
        self, segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode
    ) -> None:
        self._segmentation_node = require_segmentation(segmentation_node)
        self._volume_node = require_volume(volume_node)
        self._records = SegmentRecords(segmentation_node, DRAWINGS)
        self._layers = LayerRevisions(segmentation_node)
        self._known: dict[str, tuple[tuple[object, ...], _Drawn | None]] = {}
        follow_segments(self, segmentation_node)

    def read(self, segment_id: str) -> SliceDrawing | None:
        """The drawn slices, None if nothing is drawn.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        drawn = self._drawn(segment_id)
        return None if drawn is None else self._read(segment_id, drawn, drawn.slices)

    def read_on(self, segment_id: str, axis: int, indices: Collection[int]) -> SliceDrawing | None:
        """As `read`, of these slices along an array axis only; None if it is drawn across another one.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        drawn = self._drawn(segment_id)
        if drawn is None or drawn.axis != axis:
            return None
        wanted = {drawn.shown[index] for index in indices if index in drawn.shown}
        drawing = self._read(segment_id, drawn, wanted)
        return SliceDrawing(axis, {index: plane for index, plane in drawing.planes.items() if index in indices})

    def _read(self, segment_id: str, drawn: _Drawn, indices: Collection[int]) -> SliceDrawing:
        """These drawn slices of the grid that was drawn on, on the scan."""
        memory, shape = self._memory(segment_id), _plane_shape(drawn.grid, drawn.axis)
        region = self._region(segment_id, drawn.grid) if indices else None
        planes = {}
        for index in sorted(indices):
            remembered = memory.plane(drawn.slices[index], shape)
            if index in drawn.current:
                planes[index] = _plane(region, drawn.axis, index, shape)
            elif remembered is not None:
                planes[index] = remembered
        drawing = SliceDrawing(drawn.axis, planes)
        seen = None if self._is_own(drawn.grid) else drawn.grid.seen_on(self._own_grid())
        return drawing if seen is None else seen.carried(drawing)

    def summary(self, segment_id: str) -> tuple[str, int] | None:
        """The plane drawn in ("axial", "coronal" or "sagittal") and the number of drawn slices; None if nothing is.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        drawn = self._drawn(segment_id)
        if drawn is None:
            return None
        return self._plane_name(drawn.axis), len(drawn.shown)

    def crossing_plane(self, segment_id: str) -> str:
        """The plane of a slice that was drawn across the others and does not count, as in `summary`; empty if none was.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        drawn = self._drawn(segment_id)
        return "" if drawn is None or drawn.crossed is None else self._plane_name(drawn.crossed)

    def between(self, segment_id: str) -> int:
        """How many slices do not count since they lie between those of the scan, on a finer grid of the segmentation.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        drawn = self._drawn(segment_id)
        return 0 if drawn is None else drawn.between

    def is_gapless(self, segment_id: str) -> bool:
        """Whether no slice between the first and the last one is left out of a segment that no result was applied to.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        drawn = self._drawn(segment_id)
        if drawn is None or drawn.covered or drawn.current != drawn.slices.keys():
            return False
        return max(drawn.slices) - min(drawn.slices) + 1 == len(drawn.slices)

    def is_covered(self, segment_id: str) -> bool:
        """Whether a result lies over the drawing, so that what is not marked on a drawn slice was meant to be so.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        drawn = self._drawn(segment_id)
        return drawn is not None and drawn.covered

    def was_remade(self, segment_id: str) -> bool:
        """Whether most slices of a result were changed since, as by smoothing all of it, rather than a few by hand.

        All of them count as drawn nevertheless: who corrected them one by one must not lose that.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        drawn = self._drawn(segment_id)
        return drawn is not None and drawn.remade

    def revision(self, segment_id: str) -> str:
        """A text that changes whenever the drawing does.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        drawn = self._drawn(segment_id)
        content = "" if drawn is None else repr((drawn.axis, sorted(drawn.slices.items())))
        digest = hashlib.blake2b(content.encode(), digest_size=9).hexdigest()
        return f"{self._segmentation_node.GetID()}/{segment_id}/{digest}"

    def remember(self, segment_id: str, drawing: SliceDrawing) -> None:
        """Take the segment as it is now for a result, of which no more than ``drawing`` was drawn.

        Raises:
            InputError: if a node or the segment was deleted, or lies under a non-linear transform.
        """
        region = self._region(segment_id)
        if region is None:
            return
        drawn = {index: digest_of(plane) for index, plane in drawing.planes.items()}
        others = {axis for axis in range(3) if axis != drawing.axis and not drawing.planes}
        beside = {axis: content_digests(region, axis) for axis in others}
        state = State(drawing.axis, content_digests(region, drawing.axis), drawn, beside)
        memory = self._memory(segment_id)
        if not self._is_own(self._grid(segment_id)):
            # What was remembered is of the whole scan. Undo may bring the drawing back, so it begins with that.
            strokes = {index: digest_of((plane == 1).view(np.uint8)) for index, plane in drawing.planes.items()}
            bare = State(drawing.axis, {index: digest for index, digest in strokes.items() if digest}, drawn)
            memory = Memory().with_state(bare, drawing.planes) if bare.content else Memory()
        record = memory.with_state(state, drawing.planes).to_record(self._shape())
        self._records.set(segment_id, {**record, **self._own_grid().to_record()})

    def _drawn(self, segment_id: str) -> _Drawn | None:
        """What is drawn, found anew only if something changed."""
        segment = require_segment(self._segmentation_node, segment_id)
        layer = layer_of(segment)
        if layer is None or not is_editable(self._segmentation_node):
            return None
        world_to_volume = np.linalg.inv(index_to_world(require_volume(self._volume_node)))
        places = world_to_volume @ layer_to_world(layer, self._segmentation_node)
        record = self._segmentation_node.GetNodeReference(DRAWINGS)
        key = (
            self._layers.revision(layer, segment.GetLabelValue()),
            segment.GetLabelValue(),
            tuple(np.round(places, 6).ravel()),
            self._shape(),
            self._records.identity(segment_id),
            None if record is None else (record.GetID(), record.GetMTime()),
        )
        if segment_id not in self._known or self._known[segment_id][0] != key:
            self._known[segment_id] = key, self._find(segment_id)
        return self._known[segment_id][1]

    def _find(self, segment_id: str) -> _Drawn | None:
        region = self._region(segment_id)
        if region is None:
            return None
        grid = self._grid(segment_id)
        whole = region if self._is_own(grid) else self._region(segment_id, grid)
        content_along = _digests_of(whole or region)
        state = self._memory(segment_id).resembling(content_along)
        if state is None:
            axis = drawn_axis(region, geometry_from_node(self._volume_node))
            content = _digests_of(region)(axis)
            crossed, left_out = crossing_slices(region.mask, axis) or ((), frozenset())
            counting = {index: content[index] for index in content if index - region.box[axis].start not in left_out}
            if not counting:
                counting, crossed = dict(content), ()
            shown, own = {index: index for index in counting}, self._own_grid()
            between = slices_between(self._segmentation_node, segment_id, own, axis)
            first = crossed[0] if crossed else None
            return _Drawn(axis, counting, frozenset(counting), own, shown, crossed=first, between=between)
        content = content_along(state.axis)
        covered = any(state.drawn.get(index) != digest for index, digest in state.content.items())
        # Of a result, an emptied slice says that nothing is there. Of a drawing, it is one that is not drawn any more,
        # as when a stroke was taken back after a result was.
        corrected = frozenset(index for index in state.differing(content) if covered or index in content)
        known = {index: digest for index, digest in state.drawn.items() if covered or index in content or not digest}
        slices = {**known, **{index: content.get(index, EMPTY) for index in corrected}}
        remade = len(corrected) >= max(FEWEST_REMADE, REMADE_SHARE * len(content))
        seen = None if self._is_own(grid) else grid.seen_on(self._own_grid())
        shown = {index: index for index in slices} if seen is None else seen.slices(state.axis, slices)
        slices = dict(sorted(slices.items()))
        return _Drawn(state.axis, slices, corrected, grid, shown, covered, remade) if shown else None

    def _memory(self, segment_id: str) -> Memory:
        return Memory.from_record(self._records.get(segment_id), self._grid(segment_id).shape)

    def _grid(self, segment_id: str) -> ScanGrid:
        """What is remembered of a segment is of these voxels: the scan's own, or those of before it was cropped."""
        own, remembered = self._own_grid(), ScanGrid.from_record(self._records.get(segment_id))
        # A scan of the same shape is the same one, also if a transform was hardened since.
        if remembered is None or remembered.shape == own.shape or remembered.seen_on(own) is None:
            return own
        return remembered

    def _own_grid(self) -> ScanGrid:
        return ScanGrid.of(self._segmentation_node, self._volume_node)

    def _is_own(self, grid: ScanGrid) -> bool:
        return grid.shape == self._shape()

    def _region(self, segment_id: str, grid: ScanGrid | None = None) -> Region | None:
        """What a segment covers of a grid, by default the scan's own."""
        segment = require_segment(self._segmentation_node, segment_id)
        layer = layer_of(segment)
        within = None if layer is None else self._layers.box(layer, segment.GetLabelValue())
        if grid is None or self._is_own(grid):
            return region_on_volume(self._segmentation_node, segment_id, self._volume_node, within)
        slices, rows, columns = (slice(0, length) for length in grid.shape)
        to_world = parent_to_world(self._segmentation_node) @ grid.places
        return region_on_voxels(self._segmentation_node, segment_id, to_world, (slices, rows, columns), within)

    def _plane_name(self, axis: int) -> str:
        return str(slice_stack(geometry_from_node(self._volume_node), axis).plane)

    def _shape(self) -> tuple[int, int, int]:
        columns, rows, slices = self._volume_node.GetImageData().GetDimensions()
        return slices, rows, columns


def _plane(region: Region | None, axis: int, index: int, shape: tuple[int, int]) -> np.ndarray:
    plane = np.zeros(shape, np.uint8)
    if region is not None and region.box[axis].start <= index < region.box[axis].stop:
        rows, columns = (region.box[other] for other in range(3) if other != axis)
        plane[rows, columns] = region.mask.take(index - region.box[axis].start, axis)
    return plane


def _plane_shape(grid: ScanGrid, axis: int) -> tuple[int, int]:
    rows, columns = (length for k, length in enumerate(grid.shape) if k != axis)
    return rows, columns


def _digests_of(region: Region) -> Callable[[int], Mapping[int, str]]:
    return lru_cache(maxsize=3)(lambda axis: content_digests(region, axis))
