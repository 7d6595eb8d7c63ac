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
