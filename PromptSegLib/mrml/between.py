"""Slices of a segmentation's own, finer grid that lie between those of the scan."""

from __future__ import annotations

import numpy as np
import slicer

from PromptSegLib.mrml.grids import Region, extent_box
from PromptSegLib.mrml.nodes import require_segment, voxels
from PromptSegLib.mrml.scan_grid import ScanGrid
from PromptSegLib.mrml.segments import layer_of, layer_to_parent


def slices_between(
    segmentation_node: slicer.vtkMRMLSegmentationNode, segment_id: str, scan: ScanGrid, axis: int
) -> int:
    """How many slices of a segment no slice of the scan sees, since it lies nearest to another one.

    Adjoining slices are one, which is seen if any of them is.

    Args:
        axis: array axis that is drawn across.

    Raises:
        InputError: if the segmentation or the segment was deleted.
    """
    segment = require_segment(segmentation_node, segment_id)
    layer = layer_of(segment)
    if layer is None:
        return 0
    box = extent_box(layer.GetExtent())
    first = np.eye(4)
    first[:3, 3] = [box[2].start, box[1].start, box[0].start]
    columns, rows, slices = layer.GetDimensions()
    grid = ScanGrid((slices, rows, columns), layer_to_parent(layer) @ first)
    seen = grid.seen_on(scan)
    if seen is None:
        return 0
    indices = seen.indices[axis][seen.indices[axis] >= 0]
    # To look at a large label map takes a while, and most are on the scan's own grid.
    if np.abs(np.diff(indices)).max(initial=0) <= 1:
        return 0
    region = Region.where(voxels(layer), segment.GetLabelValue(), box)
    if region is None:
        return 0
    painted = region.occupied[axis] + region.box[axis].start - box[axis].start
    within = painted[(painted > indices.min()) & (painted < indices.max())]
    runs = np.split(within, np.flatnonzero(np.diff(within) > 1) + 1)
    return sum(1 for run in runs if len(run) and not np.isin(run, indices).any())
