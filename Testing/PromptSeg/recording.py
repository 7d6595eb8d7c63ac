"""The main job from the first stroke to the applied result, timed, with pictures. To be imported once Slicer runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer

from PromptSegLib.imaging.volume import Volume
from Testing.benchmarks.data import classes, scans
from Testing.PromptSeg.person import Person, dice
from Testing.slicer_harness.driving import (
    add_scan,
    grab,
    heartbeat,
    jump,
    picture,
    process_events,
    segment_array,
    show_in_slice_views,
)

DRAWN_SLICES = 3
_PANEL_SIZE = (440, 1080)
_SOFT_TISSUE, _BONE = (400, 40), (1600, 350)
_FIELD_MM = 220.0
_GAP = 8
_COLOR = (0.9, 0.62, 0.0)
_PAUSE_S = 0.005
_BONES = ("Mandible",)


@dataclass(frozen=True)
class Record:
    """What came of it; times from pressing Train. first_preview: since the engine began to train, None if none came."""

    source: str
    organ: str
    dice: float
    seconds: float
    first_preview: float | None
    longest_gap_ms: float

    def __str__(self) -> str:
        preview = "none" if self.first_preview is None else f"{self.first_preview:.1f} s"
        return (
            f"{self.source}, {self.organ}: Dice {self.dice:.3f} after {self.seconds:.1f} s, "
            f"first preview after {preview}, "
            f"window never still for more than {self.longest_gap_ms:.0f} ms"
        )


def record(person: Person, folder: Path, seconds: float = 30.0) -> Record:
    """Paint three slices of an organ, train, look, apply, and write panel.png, views.png and 3d.png into a folder.

    Works on a real CT where PROMPTSEG_DATA names a folder of them, else on a generated one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source, image, labels = next(scans("validation", 1))
    organ, label = list(classes().items())[-1]
    truth = labels.array == label
    node = _add(image, *(_BONE if organ in _BONES else _SOFT_TISSUE))
    person.choose(node)
    show_in_slice_views(node)
    key = person.add_structure(organ)
    person.segmentation.GetSegmentation().GetSegment(key).SetColor(*_COLOR)
    shown = np.flatnonzero(truth.any(axis=(1, 2)))
    drawn = shown[np.linspace(0, len(shown) - 1, DRAWN_SLICES + 2)[1:-1].round().astype(int)]
    person.draw(key, truth, drawn)
    index = int((drawn[0] + drawn[1]) // 2)
    _look_at(_ras(node, index, truth))
    person.widget._parameterNode.timeBudget = seconds
    begun = first = None
    with heartbeat() as beats:
        started = time.monotonic()
        person.press("trainButton")
        while person.controller.situation.busy:
            process_events()
            # The worker needs the processor more than this loop.
            time.sleep(_PAUSE_S)
            work, case = person.controller.engine.work, person.controller.case
            if begun is None and work is not None and work.progress is not None:
                begun = time.monotonic()
            if first is None and begun is not None and case is not None and case.preview.mask(key) is not None:
                first = time.monotonic() - begun
            if time.monotonic() - started > 600:
                raise TimeoutError(person.status)
        took = time.monotonic() - started
    assert person.controller.situation.has_preview, person.status
    person.ui.show3DCheckBox.checked = True
    process_events()
    _write_pictures(person, folder)
    person.press("applyButton")
    found = segment_array(person.segmentation, key, node) > 0
    return Record(source, organ, dice(found, truth), took, first, beats.longest_gap_ms)


def _add(image: Volume, window: float, level: float) -> Any:
    node = add_scan(image.array.astype(np.int16), image.geometry.spacing, "CT")
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(window, level)
    return node


def _ras(node: Any, index: int, truth: np.ndarray) -> tuple[float, float, float]:
    """The middle of a structure on a slice, or of the slice where the structure is not on it."""
    rows, columns = np.nonzero(truth[index]) if truth[index].any() else ([truth.shape[1] / 2], [truth.shape[2] / 2])
    place = slicer.util.vtkMatrixFromArray(np.eye(4))
    node.GetIJKToRASMatrix(place)
    right, anterior, superior, _ = place.MultiplyPoint((float(np.mean(columns)), float(np.mean(rows)), index, 1))
    return right, anterior, superior


def _look_at(ras: tuple[float, float, float]) -> None:
    """Slice views as a radiologist would have them, around a place."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        width, height, depth = node.GetFieldOfView()
        node.SetFieldOfView(_FIELD_MM, _FIELD_MM * height / width, depth)
    jump(ras)
    for node in slicer.util.getNodesByClass("vtkMRMLViewNode"):
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)


def _write_pictures(person: Person, folder: Path) -> None:
    layout = slicer.app.layoutManager()
    layout.threeDWidget(0).threeDView().resetFocalPoint()
    layout.threeDWidget(0).threeDView().resetCamera()
    process_events()
    panel_file = folder / "panel.png"
    grab(person.widget.parent, panel_file, *_PANEL_SIZE)
    panel = qt.QImage(str(panel_file))
    views = [[_image(picture(name)) for name in row] for row in (("Red", "3D"), ("Yellow", "Green"))]
    _beside([panel, views[0][0]]).save(str(panel_file))
    _above([_beside(row) for row in views]).save(str(folder / "views.png"))
    views[0][1].save(str(folder / "3d.png"))


def _image(pixels: np.ndarray) -> qt.QImage:
    rows, columns, _ = pixels.shape
    pixels = np.ascontiguousarray(pixels)
    return qt.QImage(pixels.data, columns, rows, 3 * columns, qt.QImage.Format_RGB888).copy()


def _beside(images: list[qt.QImage]) -> qt.QImage:
    """In a row, each as high as the highest."""
    height = max(image.height() for image in images)
    scaled = [image.scaledToHeight(height, qt.Qt.SmoothTransformation) for image in images]
    whole = qt.QImage(sum(i.width() for i in scaled) + _GAP * (len(scaled) - 1), height, qt.QImage.Format_RGB888)
    return _paint(whole, [(sum(i.width() + _GAP for i in scaled[:n]), 0) for n in range(len(scaled))], scaled)


def _above(images: list[qt.QImage]) -> qt.QImage:
    """In a column, each as wide as the widest."""
    width = max(image.width() for image in images)
    scaled = [image.scaledToWidth(width, qt.Qt.SmoothTransformation) for image in images]
    whole = qt.QImage(width, sum(i.height() for i in scaled) + _GAP * (len(scaled) - 1), qt.QImage.Format_RGB888)
    return _paint(whole, [(0, sum(i.height() + _GAP for i in scaled[:n])) for n in range(len(scaled))], scaled)


def _paint(whole: qt.QImage, places: list[tuple[int, int]], images: list[qt.QImage]) -> qt.QImage:
    whole.fill(qt.QColor(255, 255, 255))
    painter = qt.QPainter()
    painter.begin(whole)
    for (x, y), image in zip(places, images, strict=True):
        painter.drawImage(x, y, image)
    painter.end()
    return whole
