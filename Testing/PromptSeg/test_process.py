"""The worker under Qt's event loop."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


class Heard:
    """What a transport calls back with."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.exits: list[int] = []
        self.log: list[str] = []


@pytest.fixture
def start(panel_package: None, tmp_path: Path) -> Iterator[Callable[[], tuple[Any, Heard]]]:
    """Starts a worker whose folder of arrays is `tmp_path / "arrays"`."""
    from PromptSegPanel.process import QProcessTransport, wait_for_leaving

    started = []

    def start_one() -> tuple[Any, Heard]:
        (tmp_path / "arrays").mkdir(exist_ok=True)
        transport, heard = QProcessTransport(), Heard()
        transport.start([str(tmp_path / "arrays")], heard.lines.append, heard.exits.append, heard.log.append)
        started.append(transport)
        return transport, heard

    yield start_one
    for transport in started:
        transport.stop()
    wait_for_leaving()


def wait(until: Callable[[], Any]) -> None:
    from Testing.slicer_harness.driving import process_events

    process_events(until, 60)


def test_the_worker_greets(start: Callable[[], tuple[Any, Heard]]) -> None:
    transport, heard = start()
    wait(lambda: heard.lines)
    assert b"hello" in heard.lines[0] and not heard.lines[0].endswith(b"\n")
    assert transport.pid > 0


def test_a_killed_worker_is_noticed(start: Callable[[], tuple[Any, Heard]]) -> None:
    transport, heard = start()
    wait(lambda: heard.lines)
    os.kill(transport.pid, signal.SIGKILL)
    wait(lambda: heard.exits)
    assert heard.exits == [-9]
    transport.write(b"{}\n")


def test_a_stopped_worker_ends_by_itself_and_calls_back_no_more(
    start: Callable[[], tuple[Any, Heard]], tmp_path: Path
) -> None:
    from PromptSegPanel.process import wait_for_leaving

    transport, heard = start()
    wait(lambda: heard.lines)
    pid = transport.pid
    transport.stop()
    transport.stop()
    wait_for_leaving()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert heard.exits == [] and transport.pid == 0
    assert not (tmp_path / "arrays").exists(), "a worker that is left alone removes its folder"


def test_a_worker_that_cannot_be_started_is_noticed(
    start: Callable[[], tuple[Any, Heard]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("PromptSegPanel.process._python", lambda: str(tmp_path / "no python"))
    _, heard = start()
    wait(lambda: heard.exits)
    assert heard.exits == [-1]


def test_one_that_fails_to_start_at_once_is_heard_of_after_the_start(
    start: Callable[[], tuple[Any, Heard]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where Qt tells of it before QProcess.start returns."""
    import qt

    def fail(process: Any, program: str, arguments: list[str]) -> None:
        process.errorOccurred.emit(qt.QProcess.FailedToStart)

    monkeypatch.setattr(qt.QProcess, "start", fail)
    _, heard = start()
    assert heard.exits == []
    wait(lambda: heard.exits)
    assert heard.exits == [-1]


def test_a_callback_that_raises_loses_nothing_else(
    panel_package: None, problems: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from PromptSegPanel.process import QProcessTransport

    worker = tmp_path / "worker"
    worker.write_text("#!/bin/sh\nprintf 'preview\\ndone\\nlast\\n'\necho words >&2\nexit 3\n")
    worker.chmod(0o755)
    monkeypatch.setattr("PromptSegPanel.process._python", lambda: str(worker))
    heard: list[Any] = []

    def on_line(line: bytes) -> None:
        heard.append(line)
        if line == b"preview":
            raise RuntimeError("the views are gone")

    transport = QProcessTransport()
    with problems.expected("the views are gone"):
        transport.start([], on_line, heard.append, lambda line: None)
        wait(lambda: 3 in heard)
    assert heard == [b"preview", b"done", b"last", 3]
    transport.stop()


def test_a_callback_may_stop_the_worker(panel_package: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from PromptSegPanel.process import QProcessTransport
    from Testing.slicer_harness.driving import process_events

    worker = tmp_path / "worker"
    worker.write_text("#!/bin/sh\nprintf 'first\\nsecond\\n'\n")
    worker.chmod(0o755)
    monkeypatch.setattr("PromptSegPanel.process._python", lambda: str(worker))
    transport, heard = QProcessTransport(), []

    def on_line(line: bytes) -> None:
        heard.append(line)
        transport.stop()

    transport.start([], on_line, heard.append, lambda line: None)
    wait(lambda: heard)
    process_events()
    assert heard == [b"first"]
