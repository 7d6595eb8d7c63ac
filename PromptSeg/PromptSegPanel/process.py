"""The worker process under Qt's event loop."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import qt
from slicer.i18n import tr as _

import PromptSegLib
from PromptSegLib.engine.protocol import Lines
from PromptSegLib.engine.transport import WORKER_MODULE
from PromptSegLib.errors import InputError

_STOP_MS = 2000

_KILLED = -9

# Workers that were told to end, kept until they have: the window does not wait for them.
_leaving: set[qt.QProcess] = set()


class QProcessTransport:
    """A `PromptSegLib.engine.transport.Transport` on `qt.QProcess`: lines arrive between the window's other events.

    A callback that raises loses nothing but itself: the others are made with the next event.
    """

    def __init__(self) -> None:
        self._process: qt.QProcess | None = None
        self._pending: deque[Callable[[], None]] = deque()
        self._answers, self._log = Lines(), Lines()
        self._on_line: Callable[[bytes], None] = lambda line: None
        self._on_exit: Callable[[int], None] = lambda code: None
        self._on_log: Callable[[str], None] = lambda line: None
        self._slots = {
            "readyReadStandardOutput()": self._read,
            "readyReadStandardError()": self._read_log,
            "finished(int,QProcess::ExitStatus)": self._finish,
            "errorOccurred(QProcess::ProcessError)": self._fail,
        }

    @property
    def pid(self) -> int:
        return self._process.processId() if self._process is not None else 0

    def start(
        self,
        arguments: Sequence[str],
        on_line: Callable[[bytes], None],
        on_exit: Callable[[int], None],
        on_log: Callable[[str], None],
    ) -> None:
        self._answers, self._log = Lines(), Lines()
        self._pending.clear()
        self._on_line, self._on_exit, self._on_log = on_line, on_exit, on_log
        process = qt.QProcess()
        environment = qt.QProcessEnvironment.systemEnvironment()
        root = str(Path(PromptSegLib.__file__).resolve().parents[1])
        environment.insert("PYTHONPATH", os.pathsep.join(filter(None, (root, environment.value("PYTHONPATH")))))
        process.setProcessEnvironment(environment)
        for signal, slot in self._slots.items():
            process.connect(signal, slot)
        self._process = process
        process.start(_python(), ["-m", WORKER_MODULE, *arguments])

    def write(self, data: bytes) -> None:
        if self._process is not None and self._process.state() != qt.QProcess.NotRunning:
            self._process.write(data)

    def pump(self, timeout_s: float) -> None:
        """Make the callbacks for what has arrived; wait for something at most this long."""
        if self._process is not None and timeout_s > 0 and not self._pending:
            self._process.waitForReadyRead(round(1000 * timeout_s))
        self._read()

    def stop(self) -> None:
        """Close the worker's input, at which it ends, and kill one that does not. No callback comes any more."""
        process, self._process = self._process, None
        self._pending.clear()
        if process is None:
            return
        for signal, slot in self._slots.items():
            process.disconnect(signal, slot)
        process.closeWriteChannel()
        if process.state() != qt.QProcess.NotRunning:
            _leave_alone(process)

    def _read(self) -> None:
        self._collect_lines()
        self._deliver()

    def _read_log(self) -> None:
        self._collect_log()
        self._deliver()

    def _finish(self, code: int, status: object) -> None:
        self._collect_lines()
        self._collect_log()
        crashed = self._process is not None and self._process.exitStatus() == qt.QProcess.CrashExit
        self._pending.append(functools.partial(self._on_exit, _KILLED if crashed else code))
        self._deliver()

    def _fail(self, error: object) -> None:
        # Every other error ends the process, which _finish hears of.
        if error == qt.QProcess.FailedToStart:
            self._pending.append(functools.partial(self._on_exit, -1))
            # On Windows this is heard within start(), whose caller does not have the transport yet.
            self._deliver_soon()

    def _collect_lines(self) -> None:
        if self._process is not None:
            lines = self._answers.feed(self._process.readAllStandardOutput().data())
            self._pending.extend(functools.partial(self._on_line, line) for line in lines)

    def _collect_log(self) -> None:
        if self._process is not None:
            lines = self._log.feed(self._process.readAllStandardError().data())
            self._pending.extend(functools.partial(self._on_log, line.decode(errors="replace")) for line in lines)

    def _deliver(self) -> None:
        try:
            while self._pending:
                self._pending.popleft()()
        finally:
            if self._pending:
                self._deliver_soon()

    def _deliver_soon(self) -> None:
        qt.QTimer.singleShot(0, self._deliver)


def wait_for_leaving() -> None:
    """Wait until the workers that were told to end have done so, since the application is about to end itself."""
    for process in list(_leaving):
        if not process.waitForFinished(_STOP_MS):
            process.kill()
            process.waitForFinished(_STOP_MS)


def _leave_alone(process: qt.QProcess) -> None:
    """Let a worker end by itself, and kill it if it is still there after a while."""

    def gone(code: int, status: object) -> None:
        _leaving.discard(process)
        process.deleteLater()

    def kill() -> None:
        if process in _leaving:
            process.kill()

    _leaving.add(process)
    process.connect("finished(int,QProcess::ExitStatus)", gone)
    qt.QTimer.singleShot(_STOP_MS, kill)


def _python() -> str:
    """Slicer's Python interpreter, or outside Slicer the one that runs this."""
    python = shutil.which("PythonSlicer") or sys.executable
    if not python:
        raise InputError(_("Slicer's Python interpreter was not found: install Slicer again."))
    return python
