"""The main job from the first stroke to the applied result, timed, with pictures. To be imported once Slicer runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
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

DRAWING_S = 8.0
"""What a person takes for a slice, at the least. The engine is not idle meanwhile."""

_PANEL_SIZE = (440, 1080)
_SOFT_TISSUE, _BONE = (400, 40), (1600, 350)
_FIELD_MM = 220.0
_GAP = 8
_COLOR = (0.9, 0.62, 0.0)
_PAUSE_S = 0.005
_BONES = ("Mandible",)


@dataclass(frozen=True)
class Record:
    """What came of it; times from pressing Train.

    ready: when the backbone had seen the drawn slices; first_preview: since then; computed: of that, how long the
    engine had the processor, which other programs share. None where these did not come. same: whether Apply wrote what
    the preview showed, voxel for voxel.
    """

    source: str
    organ: str
    dice: float
    seconds: float
    ready: float | None
    first_preview: float | None
    computed: float | None
    longest_gap_ms: float
    same: bool

    def __str__(self) -> str:
        times = (self.ready, self.first_preview, self.computed)
        ready, preview, computed = ("none" if s is None else f"{s:.1f} s" for s in times)
        return (
            f"{self.source}, {self.organ}: Dice {self.dice:.3f} after {self.seconds:.1f} s, "
            f"features ready after {ready}, first preview {preview} later "
            f"({computed} of the engine's processor time), "
            f"window never still for more than {self.longest_gap_ms:.0f} ms"
        )


def record(person: Person, folder: Path, seconds: float = 30.0) -> Record:
    """Paint three slices of an organ, train, look, apply, and write panel.png, views.png and 3d.png into a folder.

    Works on a real CT where PROMPTSEG_DATA names a folder of them, else on a generated one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    person.widget.parent.show()
    person.widget.parent.resize(*_PANEL_SIZE)
    source, image, labels = next(scans("validation", 1))
    organ, label = list(classes().items())[-1]
    truth = labels.array == label
    node = _add(image, *(_BONE if organ in _BONES else _SOFT_TISSUE))
    person.choose(node)
    show_in_slice_views(node)
    key = person.add_structure(organ)
    person.segmentation.GetSegmentation().GetSegment(key).SetColor(*_COLOR)
    holding = np.flatnonzero(truth.any(axis=(1, 2)))
    drawn = holding[np.linspace(0, len(holding) - 1, DRAWN_SLICES + 2)[1:-1].round().astype(int)]
    for index in drawn:
        person.draw(key, truth, [index])
        _let_pass(DRAWING_S)
    index = int((drawn[0] + drawn[1]) // 2)
    _look_at(_ras(node, index, truth))
    person.widget._parameterNode.timeBudget = seconds
    ready = first = computed = None
    with heartbeat() as beats:
        started = time.monotonic()
        person.press("trainButton")
        while person.controller.situation.busy:
            process_events()
            # The worker needs the processor more than this loop.
            time.sleep(_PAUSE_S)
            work, case = person.controller.engine.work, person.controller.case
            if ready is None and work is not None and person.controller.situation.stage == "training":
                ready, computed_before = time.monotonic(), _processor_seconds(person)
            if first is None and ready is not None and case is not None and case.preview.mask(key) is not None:
                first = time.monotonic() - ready
                computed = _processor_seconds(person) - computed_before
            if time.monotonic() - started > 600:
                raise TimeoutError(person.status)
        took = time.monotonic() - started
    assert person.controller.situation.has_preview, person.status
    person.ui.show3DCheckBox.checked = True
    process_events()
    _write_pictures(person, folder)
    shown = person.controller.case.preview.mask(key).within(tuple(slice(0, n) for n in truth.shape))
    person.press("applyButton")
    found = segment_array(person.segmentation, key, node) > 0
    seen = None if ready is None else ready - started
    return Record(
        source,
        organ,
        dice(found, truth),
        took,
        seen,
        first,
        computed,
        beats.longest_gap_ms,
        np.array_equal(shown, found),
    )


def _let_pass(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        process_events()
        time.sleep(_PAUSE_S)


def _processor_seconds(person: Person) -> float:
    times = psutil.Process(person.controller.engine.worker_pid).cpu_times()
    return float(times.user + times.system)


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
