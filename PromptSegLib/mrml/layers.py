"""Which segments of a shared label map have changed, and where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import slicer
from scipy import ndimage

from PromptSegLib.engine.messages import Box
from PromptSegLib.mrml.grids import Region, extent_box, moved, union
from PromptSegLib.mrml.nodes import voxels
from PromptSegLib.mrml.segments import layer_of


@dataclass(frozen=True, eq=False)
class _Seen:
    """A layer as it was last seen. changed: when a label did so after the layer was seen for the first time, in VTK's
    modification times; labels: a copy of its voxels, None where only one segment has the layer; digest: of them then;
    boxes: of the layer's array, by label, as they were at first, where several segments have it.
    """

    time: int
    first_time: int
    box: Box
    labels: np.ndarray | None = None
    digest: bytes = b""
    changed: Mapping[int, int] = field(default_factory=dict)
    boxes: Mapping[int, Box] = field(default_factory=dict)


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
        seen = self._see(layer)
        return seen.changed.get(label, seen.first_time)

    def box(self, layer: slicer.vtkOrientedImageData, label: int) -> Box:
        """A box of voxels of the layer, in which all of a label lies. Of a label map with many segments, as other tools
        make them, it is a small part; to look for each of them everywhere would take seconds."""
        seen = self._see(layer)
        found = None if label in seen.changed else seen.boxes.get(label)
        return seen.box if found is None else found

    def _see(self, layer: slicer.vtkOrientedImageData) -> _Seen:
        if layer not in self._seen or self._seen[layer].time != layer.GetMTime():
            self._look(layer)
        return self._seen[layer]

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
            self._seen[layer] = _Seen(time, time, box, labels.copy(), boxes=_boxes(labels, box))
            return
        both = union(former.box, box)
        pairs = zip(Region(former.box, former.labels).within(both), Region(box, labels).within(both), strict=True)
        changed: set[int] = set()
        for before, now in pairs:
            if not np.array_equal(before, now):
                differs = before != now
                changed.update(np.unique([before[differs], now[differs]]).tolist())
        times = {**former.changed, **dict.fromkeys(changed, time)}
        self._seen[layer] = replace(former, time=time, box=box, labels=labels.copy(), changed=times)


def _boxes(labels: np.ndarray, box: Box) -> dict[int, Box]:
    """Of each label in a box, where it lies."""
    occupied = Region(box, labels).occupied
    if not len(occupied[0]):
        return {}
    # Most of a scan shows nothing, and few slices of a drawing show anything.
    rows, columns = (slice(int(along[0]), int(along[-1]) + 1) for along in occupied[1:])
    found: dict[int, Box] = {}
    for index in occupied[0].tolist():
        for label, spans in enumerate(ndimage.find_objects(labels[index, rows, columns]), start=1):
            if spans is not None:
                here = (slice(index, index + 1), *spans)
                found[label] = union(found[label], here) if label in found else here
    offset = [box[0].start, box[1].start + rows.start, box[2].start + columns.start]
    return {label: moved(spans, offset) for label, spans in found.items()}
