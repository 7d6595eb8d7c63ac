"""Which segments of a shared label map have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import slicer

from PromptSegLib.engine.messages import Box
from PromptSegLib.mrml.grids import Region, extent_box, union
from PromptSegLib.mrml.nodes import voxels
from PromptSegLib.mrml.segments import layer_of


@dataclass(frozen=True, eq=False)
class _Seen:
    """A layer as it was last seen. changed: when a label did so after the layer was seen for the first time, in VTK's
    modification times; labels: a copy of its voxels, None where only one segment has the layer; digest: of them then.
    """

    time: int
    first_time: int
    box: Box
    labels: np.ndarray | None = None
    digest: bytes = b""
    changed: Mapping[int, int] = field(default_factory=dict)


class LayerRevisions:
    """Tells a stroke on one segment from changes of others, whose layers Slicer may touch, too: they need not be looked
    at again then.

    That takes the time of comparing the layer with a copy of it, which is kept where several segments share it.
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
        if layers.count(layer) == 1:
            digest = hashlib.blake2b(np.ascontiguousarray(labels).data).digest()
            is_as_before = former is not None and (former.box, former.digest) == (box, digest)
            first_time = former.first_time if former is not None and is_as_before else time
            self._seen[layer] = _Seen(time, first_time, box, digest=digest)
            return
        if former is None or former.labels is None:
            self._seen[layer] = _Seen(time, time, box, labels.copy())
            return
        both = union(former.box, box)
        pairs = zip(Region(former.box, former.labels).within(both), Region(box, labels).within(both), strict=True)
        changed: set[int] = set()
        for before, now in pairs:
            if not np.array_equal(before, now):
                differs = before != now
                changed.update(np.unique([before[differs], now[differs]]).tolist())
        times = {**former.changed, **dict.fromkeys(changed, time)}
        self._seen[layer] = _Seen(time, former.first_time, box, labels.copy(), changed=times)
