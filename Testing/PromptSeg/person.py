"""A person at the panel: chooses, paints, presses buttons, waits. To be imported once a fixture has started Slicer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer

from PromptSegLib.engine.messages import SliceDrawing
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.phantom import LABELS, make_phantom
from Testing.slicer_harness.driving import add_scan, paint, process_events, segment_array

MODULE = Path(__file__).resolve().parents[2] / "PromptSeg" / "PromptSeg.py"
SHAPE = (12, 64, 64)
SPACING = (12.0, 4.5, 4.5)

LONG_S = 270.0
"""A worker that starts cold on a busy machine needs some of it."""


class Patient:
    """A generated abdomen in the scene. truth: by structure, bool (slices, rows, columns)."""

    def __init__(self, seed: int = 0, name: str = "CT", shape: tuple[int, int, int] = SHAPE) -> None:
        phantom = make_phantom(seed, shape, SPACING)
        # The scan node has the phantom's voxel order: its slices run to superior, and so on.
        self.scan = add_scan(phantom.image.array.astype(np.int16), SPACING, name)
        self.labels = phantom.labels.array

    def truth(self, structure: str) -> np.ndarray:
        return self.labels == LABELS[structure]

    def slices(self, structure: str, count: int = 3) -> list[int]:
        """So many slices that show the structure, spread evenly over it."""
        shown = np.flatnonzero(self.truth(structure).any(axis=(1, 2)))
        inner = np.linspace(0, len(shown) - 1, count + 2)[1:-1] if count < len(shown) else range(len(shown))
        return [int(shown[round(i)]) for i in inner]


class Person:
    """Works with an open panel.

    Args:
        widget: the module's widget object.
    """

    def __init__(self, widget: Any) -> None:
        self.widget = widget
        self.ui = widget.ui
        self.panel = widget.panel
        self.controller = widget.panel.controller

    @property
    def status(self) -> str:
        return str(self.ui.statusLabel.text)

    @property
    def segmentation(self) -> Any:
        return self.ui.segmentationSelector.currentNode()

    def choose(self, scan: Any) -> None:
        self.ui.inputSelector.setCurrentNode(scan)
        self.wait(lambda: self.controller.case is not None)

    def add_structure(self, name: str) -> str:
        """Add a segment, as the editor's Add button does, and give it a name."""
        segment_id = self.segmentation.GetSegmentation().AddEmptySegment(name, name)
        self.ui.segmentEditor.setCurrentSegmentID(segment_id)
        return str(segment_id)

    def draw(self, key: str, mask: np.ndarray, slices: Iterable[int], axis: int = 0) -> None:
        """Paint whole slices of a structure, and wait until the panel has seen it."""
        for index in slices:
            paint(self.ui.segmentEditor, key, axis, index, np.moveaxis(mask, axis, 0)[index])
        self.wait(lambda: any(s.key == key and s.drawn for s in self.controller.situation.structures))

    def press(self, name: str) -> None:
        """Press a button, which must be enabled. Whatever Apply must leave alone is compared by checksum."""
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} is greyed out: {button.toolTip}"
        if name != "applyButton":
            button.click()
            return
        case = self.controller.case
        drawings = {key: case.drawing(key, self.controller.training.scribbles) for key in case.results}
        before = self._checksums(drawings)
        button.click()
        assert self._checksums(drawings) == before, "Apply changed another segment or a drawn slice"

    def _checksums(self, drawings: Mapping[str, SliceDrawing | None]) -> dict[str, str]:
        """Of the known voxels of each drawn slice, and of every segment that has no result."""
        case, parts = self.controller.case, {}
        for key in case.keys:
            voxels = segment_array(case.segmentation_node, key, case.volume_node) > 0
            drawing = drawings.get(key)
            if key not in drawings:
                parts[key] = voxels
            elif drawing is not None:
                planes = np.moveaxis(voxels, drawing.axis, 0)
                for index, drawn in drawing.planes.items():
                    parts[f"{key}, slice {index}"] = planes[index] & (drawn != UNKNOWN)
        return {name: hashlib.sha256(np.packbits(part).tobytes()).hexdigest() for name, part in parts.items()}

    def wait(self, until: Callable[[], Any], timeout_s: float = LONG_S) -> None:
        try:
            process_events(until, timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error} The status line says: {self.status!r}") from error

    def train(self, seconds: float = 5.0) -> None:
        """Press Train and wait for the result's preview."""
        self.widget._parameterNode.timeBudget = seconds
        self.press("trainButton")
        self.wait(lambda: not self.controller.situation.busy)
        assert self.controller.situation.has_preview, self.status

    def segment(self, key: str, patient: Patient) -> np.ndarray:
        """bool (slices, rows, columns)."""
        return segment_array(self.segmentation, key, patient.scan) > 0


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * np.count_nonzero(found & truth) / max(1, np.count_nonzero(found) + np.count_nonzero(truth)))


def preview_nodes() -> list[Any]:
    """The hidden segmentations in the scene."""
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if node.GetHideFromEditors()]


def texts(listing: qt.QListWidget) -> list[str]:
    return [listing.item(row).text() for row in range(listing.count)]
