"""What goes wrong without an exception that reaches the test: in slots, observers, VTK, Qt and forgotten dialogs."""

from __future__ import annotations

import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from Testing.slicer_harness.dialogs import DIALOGS

HARMLESS = re.compile(r"propagateSizeHints|XDG_RUNTIME_DIR|does not support raise\(\)|OpenType support missing")


class ProblemsFound(AssertionError):
    """Something failed where no exception could reach the caller."""


class Problems:
    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, kind: str, text: str) -> None:
        if not HARMLESS.search(text):
            self._texts.append(f"{kind}: {text.strip()}")

    def take(self) -> list[str]:
        """Everything since the last call."""
        texts, self._texts = self._texts, []
        return texts

    @contextmanager
    def expected(self, pattern: str) -> Iterator[None]:
        """Inside, problems that match a regular expression are wanted: at least one has to come."""
        before = self.take()
        yield
        found = self.take()
        wanted = [text for text in found if re.search(pattern, text)]
        self._texts = before + [text for text in found if text not in wanted]
        if not wanted:
            raise ProblemsFound(f"No problem matches {pattern!r}; there were {found}")

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Collects while it is open and raises at its end if anything was found."""
        self.take()
        DIALOGS.reset()
        with _python_hooks(self), _qt_messages(self), _vtk_messages(self):
            yield
        for answer in DIALOGS.unused():
            self.add("dialog", f"the answer {answer!r} was queued, but no dialog asked for it")
        found = self.take()
        if found:
            raise ProblemsFound("\n".join(found))


PROBLEMS = Problems()


@contextmanager
def _python_hooks(problems: Problems) -> Iterator[None]:
    """Qt's slots, VTK's observers and threads print their exceptions and go on; they do it through these hooks."""

    def collect(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        problems.add("exception", "".join(traceback.format_exception(kind, error, trace)))

    def collect_from_thread(failure: threading.ExceptHookArgs) -> None:
        collect(failure.exc_type, failure.exc_value, failure.exc_traceback)

    before = sys.excepthook, threading.excepthook
    sys.excepthook, threading.excepthook = collect, collect_from_thread
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook = before


@contextmanager
def _qt_messages(problems: Problems) -> Iterator[None]:
    from PySide6 import QtCore

    def collect(kind: QtCore.QtMsgType, context: object, text: str) -> None:
        if kind in (QtCore.QtMsgType.QtWarningMsg, QtCore.QtMsgType.QtCriticalMsg, QtCore.QtMsgType.QtFatalMsg):
            problems.add("Qt", text)

    before = QtCore.qInstallMessageHandler(collect)
    try:
        yield
    finally:
        QtCore.qInstallMessageHandler(before)


@contextmanager
def _vtk_messages(problems: Problems) -> Iterator[None]:
    import vtk

    @vtk.calldata_type(vtk.VTK_STRING)
    def collect(window: vtk.vtkOutputWindow, event: str, text: str) -> None:
        problems.add(event.replace("Event", "").replace("Error", "VTK error").replace("Warning", "VTK warning"), text)

    window = vtk.vtkOutputWindow()
    tags = [window.AddObserver(event, collect) for event in ("ErrorEvent", "WarningEvent")]
    before = vtk.vtkOutputWindow.GetInstance()
    vtk.vtkOutputWindow.SetInstance(window)
    try:
        yield
    finally:
        vtk.vtkOutputWindow.SetInstance(before)
        for tag in tags:
            window.RemoveObserver(tag)
