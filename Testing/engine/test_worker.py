"""The worker's side of a request, in this process and with a session that is made up."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from PromptSegLib.engine import protocol
from PromptSegLib.engine import worker as worker_module
from PromptSegLib.engine.messages import Preview, TuneResult
from PromptSegLib.engine.protocol import OUT_OF_MEMORY, Codec
from PromptSegLib.engine.worker import Worker
from PromptSegLib.errors import InputError


def answers(folder: Path, method: str, work: Callable[..., Any], **arguments: Any) -> list[dict[str, Any]]:
    """All that is sent about a request whose work is ``work``."""
    sent = io.BytesIO()
    worker = Worker(folder, io.BytesIO(), sent)
    worker.session = Mock(**{method: work})
    worker._answer({"id": 7, "method": method, "arguments": arguments})
    return [Codec(folder, "client").decode(line) for line in sent.getvalue().splitlines()]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has room for eight bytes in a file."""

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell():
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data[:8])

    monkeypatch.setattr(protocol, "open", lambda path, mode, buffering: File(path, mode), raising=False)


@pytest.mark.usefixtures("full_disk")
def test_a_result_that_the_disk_has_no_room_for_fails_by_itself(tmp_path: Path) -> None:
    result = [np.ones(8, bool), np.ones(9, bool)]
    (answer,) = answers(tmp_path, "clear_cache", lambda: result)
    assert answer["event"] == "failed" and answer["id"] == 7
    assert str(tmp_path) in answer["message"] and "No space left" in answer["message"]
    assert not list(tmp_path.iterdir()), "what was written of it is gone"


@pytest.mark.usefixtures("full_disk")
def test_a_preview_that_the_disk_has_no_room_for_is_left_out(tmp_path: Path) -> None:
    def tune(*arguments: Any, preview: Callable[[Preview], None], **options: Any) -> TuneResult:
        preview(Preview("a", 0, {3: np.ones((4, 4), bool)}))
        return TuneResult({"a": b"token"})

    (answer,) = answers(tmp_path, "tune", tune, keys=("a",), seconds=1.0, prompting=None, anew=False)
    assert answer["event"] == "done" and answer["result"].tokens == {"a": b"token"}


def windows_error(number: int, text: str) -> OSError:
    error = OSError(text)
    error.winerror = number  # type: ignore[attr-defined, unused-ignore]
    return error


@pytest.mark.parametrize(
    "error, kind, sentence",
    [
        (InputError("draw more"), "input", "draw more"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "missing", "torch is missing: press Install"),
        (
            ImportError("DLL load failed\nand more", name="_C"),
            "missing",
            "_C cannot be loaded (DLL load failed): install",
        ),
        (windows_error(1114, "a routine failed\nand more"), "missing", "cannot be loaded (a routine failed): install"),
        (windows_error(5, "access is denied"), "internal", "an unexpected problem (OSError)"),
        (MemoryError(), "memory", OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "memory", OUT_OF_MEMORY),
        (KeyError("x"), "internal", "an unexpected problem (KeyError)"),
    ],
)
def test_what_goes_wrong_is_one_sentence(tmp_path: Path, error: Exception, kind: str, sentence: str) -> None:
    (answer,) = answers(tmp_path, "clear_cache", Mock(side_effect=error))
    assert (answer["event"], answer["kind"]) == ("failed", kind) and sentence in answer["message"]


def test_a_result_that_cannot_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (answer,) = answers(tmp_path, "clear_cache", object)
    assert (answer["event"], answer["kind"]) == ("failed", "internal")
    monkeypatch.setattr(np, "ascontiguousarray", Mock(side_effect=MemoryError))
    (answer,) = answers(tmp_path, "clear_cache", lambda: np.ones(3))
    assert (answer["event"], answer["kind"]) == ("failed", "memory") and not list(tmp_path.iterdir())


def test_a_request_that_memory_has_no_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = io.BytesIO()
    worker = Worker(tmp_path, io.BytesIO(b'{"id": 7}\n'), sent)
    monkeypatch.setattr(worker.codec, "decode", Mock(side_effect=MemoryError))
    monkeypatch.setattr(worker_module.os, "_exit", lambda code: None)
    worker._read()
    assert Codec(tmp_path, "client").decode(sent.getvalue())["message"] == OUT_OF_MEMORY


STREAMS = """
import os, stat, sys
from PromptSegLib.engine import worker

class Streams:
    def __init__(self, folder, requests, answers):
        self.requests, self.answers = requests, answers

    def run(self):
        print("not an answer")
        found = "scipy.special" in sys.modules, self.requests.readline(), stat.S_ISCHR(os.fstat(0).st_mode)
        self.answers.write(repr(found).encode())
        self.answers.flush()

worker.Worker = Streams
worker.main()
"""


def test_nothing_that_is_loaded_later_looks_at_the_requests() -> None:
    command, root = [sys.executable, "-c", STREAMS, "folder"], Path(__file__).parents[2]
    found = subprocess.run(command, input=b"request\n", capture_output=True, cwd=root)
    assert found.stdout == b"(True, b'request\\n', True)", found.stderr
