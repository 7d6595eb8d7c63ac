"""What a person does at the panel, for tests: wait, paint, click, save, look."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from Testing.slicer_harness import painting, qt

COLORS = ((0.90, 0.62, 0.0), (0.34, 0.71, 0.91), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65))
"""Of new segments: Slicer chooses them by chance, pictures in tests should be alike."""
MOUSE_STEP = 5
"""Pixels between two events of a moving mouse."""


def process_events(until: Callable[[], Any] | None = None, timeout_s: float = 10.0) -> None:
    """Runs the event loop until ``until()`` is true, or once; a timeout raises."""
    qt.QApplication.processEvents()
    end = time.monotonic() + timeout_s
    while until is not None and not until():
        if time.monotonic() > end:
            raise TimeoutError(f"Nothing happened within {timeout_s:g} s.")
        qt.QApplication.processEvents(qt.QEventLoop.AllEvents, 20)
        time.sleep(0.001)
    qt.QApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)


class Heartbeat:
    """How long the event loop stood still: `longest_gap_ms` between two beats of a fast timer."""

    def __init__(self, interval_ms: int = 5) -> None:
        self.longest_gap_ms = 0.0
        self.beats = 0
        self._last = time.perf_counter()
        self._timer = qt.QTimer()
        self._timer.setTimerType(qt.Qt.PreciseTimer)
        self._timer.interval = interval_ms
        self._timer.timeout.connect(self._beat)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest_gap_ms = max(self.longest_gap_ms, 1000 * (now - self._last))
        self._last = now
        self.beats += 1

    def start(self) -> None:
        self._last = time.perf_counter()
        self._timer.start()

    def stop(self) -> None:
        self._beat()
        self._timer.stop()


@contextmanager
def heartbeat() -> Iterator[Heartbeat]:
    measured = Heartbeat()
    measured.start()
    try:
        yield measured
    finally:
        measured.stop()


def paint(where: Any, segment_id: str, axis: int, index: int, mask: np.ndarray, erase: bool = False) -> None:
    """Paints on one slice of the segmentation's grid through the real segment editor logic, as the Paint effect does.

    ``where``: a segment editor widget (its undo stack and masking apply) or a segmentation with a reference volume.
    ``axis`` counts in the array (slices, rows, columns); ``mask`` is 2-D, as `np.moveaxis(array, axis, 0)[index]`.
    """
    if isinstance(where, qt.QWidget):
        painting.write_slice(where._logic, segment_id, axis, index, mask, erase)
        return
    logic = slicer.vtkSlicerSegmentEditorLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetHideFromEditors(True)
    try:
        logic.SetSegmentEditorNode(editor)
        logic.SetSegmentationNode(where)
        logic.SetSourceVolumeNode(where.GetNodeReference(where.GetReferenceImageGeometryReferenceRole()))
        editor.SetSelectedSegmentID(segment_id)
        painting.write_slice(logic, segment_id, axis, index, mask, erase)
    finally:
        logic.SetSegmentEditorNode(None)
        slicer.mrmlScene.RemoveNode(editor)


def add_scan(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), name: str = "Scan") -> Any:
    """A scalar volume node of an array (slices, rows, columns), axis-aligned, centered on the origin."""
    ijk_to_ras = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    ijk_to_ras[:3, 3] = -ijk_to_ras[:3, :3] @ ((np.array(array.shape[::-1]) - 1) / 2)
    node = slicer.util.addVolumeFromArray(array, ijkToRAS=ijk_to_ras, name=name)
    node.CreateDefaultDisplayNodes()
    return node


def add_segmentation(volume: Any, *names: str) -> Any:
    """A segmentation of a volume with empty segments; the names are the segment IDs too."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, color in zip(names, cycle(COLORS), strict=False):
        node.GetSegmentation().AddEmptySegment(name, name, color)
    return node


def segment_array(segmentation: Any, segment_id: str, volume: Any) -> np.ndarray:
    """uint8 (slices, rows, columns) on the grid of the volume; zeros for an empty segment."""
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segment_id, volume)
    shape = volume.GetImageData().GetDimensions()[::-1]
    return np.zeros(shape, np.uint8) if array is None else np.array(array)


def save_scene(path: Path | str) -> None:
    """Writes an .mrb (or .mrml) file."""
    if not slicer.util.saveScene(str(path)):
        raise OSError(f"The scene was not written to {path}.")


def load_scene(path: Path | str) -> None:
    """Closes the scene and opens another, as a user does the next day."""
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(path))


def show_in_slice_views(volume: Any) -> None:
    layout = slicer.app.layoutManager()
    for name in layout.sliceViewNames():
        layout.sliceWidget(name).mrmlSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    layout.resetSliceViews()


def click(slice_name: str, ras: tuple[float, float, float]) -> None:
    drag(slice_name, [ras])


def drag(slice_name: str, path: list[tuple[float, float, float]]) -> None:
    """Press at the first position (RAS), move along, release at the last; the view is not moved to them."""
    view = slicer.app.layoutManager().sliceWidget(slice_name).sliceView()
    interactor = view.interactor()
    corners = np.array([view.convertRASToXYZ(ras)[:2] for ras in path])
    positions = [corners[:1]]
    for start, end in pairwise(corners):
        steps = max(1, round(np.linalg.norm(end - start) / MOUSE_STEP))
        positions.append(start + (end - start) * (np.arange(1, steps + 1) / steps)[:, None])
    for number, (x, y) in enumerate(np.concatenate(positions)):
        interactor.SetEventInformation(round(x), round(y), 0, 0, "\0", 0, None)
        interactor.MouseMoveEvent()
        if number == 0:
            interactor.LeftButtonPressEvent()
    interactor.LeftButtonReleaseEvent()


def press(parent: qt.QWidget, text: str) -> None:
    """Clicks the button with this text below a widget; one that a user could not click raises."""
    buttons = [it for it in parent.findChildren(qt.QAbstractButton) if it.text.replace("&", "") == text]
    if len(buttons) != 1:
        raise LookupError(f"{len(buttons)} buttons say {text!r}.")
    if not buttons[0].isEnabled() or buttons[0].isHidden():
        raise LookupError(f"The button {text!r} is {'hidden' if buttons[0].isHidden() else 'disabled'}.")
    buttons[0].click()


def jump(ras: tuple[float, float, float]) -> None:
    """Moves all slice views to a position."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *ras, slicer.vtkMRMLSliceNode.CenteredJumpSlice)


def picture(view_name: str) -> np.ndarray:
    """uint8 (rows, columns, 3) of a slice view ("Red", "Yellow", "Green") or of the 3-D view ("3D")."""
    layout = slicer.app.layoutManager()
    if view_name == "3D":
        return layout.threeDWidget(0).threeDView().pixels()
    return layout.sliceWidget(view_name).sliceView().pixels()


def grab(widget: qt.QWidget, path: Path | str, width: int = 0, height: int = 0) -> None:
    """Shows a widget off screen and writes its picture as a PNG."""
    widget.show()
    if width and height:
        widget.resize(width, height)
    process_events()
    if not widget.grab().save(str(path)):
        raise OSError(f"No picture was written to {path}.")
