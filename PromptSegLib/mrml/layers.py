"""Which segments of a shared label map have changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import slicer

from PromptSegLib.engine.messages import Box
from PromptSegLib.mrml.grids import Region, extent_box, union
from PromptSegLib.mrml.nodes import voxels
from PromptSegLib.mrml.segments import layer_of


@dataclass(frozen=True, eq=False)
class _Seen:
    """A layer as it was last seen. changed: when a label did so after the layer was seen for the first time, in VTK's
    modification times; labels: a copy of its voxels."""

    time: int
    first_time: int
    box: Box
    labels: np.ndarray
    changed: Mapping[int, int] = field(default_factory=dict)


class LayerRevisions:
    """Tells a stroke on one segment from changes of others, whose layers Slicer may touch, too: they need not be looked
    at again then.

    That takes the time of comparing the layer with a copy of it, which is kept.
    """

    def __init__(self, segmentation_node: slicer.vtkMRMLSegmentationNode) -> None:
        self._segmentation_node = segmentation_node
        self._seen: dict[object, _Seen] = {}

    def revision(self, layer: slicer.vtkOrientedImageData, label: int) -> int:
        """A number that changes whenever the voxels of a label do, and never comes again for another layer."""
        if layer not in self._seen or self._seen[layer].time != layer.GetMTime():
            self._look(layer)
        seen = self._seen[layer]
        return seen.changed.get(label, seen.first_time)

    def _look(self, layer: slicer.vtkOrientedImageData) -> None:
        segmentation = self._segmentation_node.GetSegmentation()
        layers = [layer_of(segmentation.GetSegment(key)) for key in segmentation.GetSegmentIDs()]
        self._seen = {other: seen for other, seen in self._seen.items() if other in layers}
        time, box = layer.GetMTime(), extent_box(layer.GetExtent())
        former, labels = self._seen.get(layer), voxels(layer)
        if former is None:
            self._seen[layer] = _Seen(time, time, box, labels.copy())
            return
        if former.box == box and np.array_equal(former.labels, labels):
            self._seen[layer] = replace(former, time=time)
            return
        both = union(former.box, box)
        pairs = zip(Region(former.box, former.labels).within(both), Region(box, labels).within(both), strict=True)
        changed: set[int] = set()
        for before, now in pairs:
            if not np.array_equal(before, now):
                differs = before != now
                changed.update(np.unique([before[differs], now[differs]]).tolist())
        times = {**former.changed, **dict.fromkeys(changed, time)}
        self._seen[layer] = _Seen(time, former.first_time, box, labels.copy(), times)
