"""How a client reaches its worker. A plain subprocess here; Slicer's module has one on Qt's own process class."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Protocol

WORKER_MODULE = "PromptSegLib.engine.worker"

STOP_SECONDS = 2.0
"""How long a worker may take to end by itself."""


class Transport(Protocol):
    """A worker process and the lines to and from it.

    All callbacks are made on the thread that calls ``pump``, or by the event loop that it belongs to.
    """

    @property
    def pid(self) -> int:
        """Process number, 0 before the start."""
        ...

    def start(
        self,
        arguments: Sequence[str],
        on_line: Callable[[bytes], None],
        on_exit: Callable[[int], None],
        on_log: Callable[[str], None],
    ) -> None:
        """Start ``python -m PromptSegLib.engine.worker ARGUMENTS``.

        Args:
            on_line: gets each line of standard output, without its line feed.
            on_exit: gets the exit code, once; the negative number of the signal that ended the process, if one did.
            on_log: gets each line of standard error.
        """
        ...

    def write(self, data: bytes) -> None:
        """Send bytes; silently nothing once the process has ended, since ``on_exit`` tells."""
        ...

    def pump(self, timeout_s: float) -> None:
        """Make the callbacks for what has arrived; wait for something at most ``timeout_s``."""
        ...

    def stop(self) -> None:
        """Close standard input, and end the process if it does not end by itself. No callback comes any more."""
        ...


class SubprocessTransport:
    """A worker with the interpreter that runs this one; threads read its lines into a queue."""

    def __init__(self, python: str = sys.executable, module: str = WORKER_MODULE):
        self.python, self.module = python, module
        self._process: subprocess.Popen[bytes] | None = None
        self._arrived: queue.Queue[Callable[[], None]] = queue.Queue()

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def start(
        self,
        arguments: Sequence[str],
        on_line: Callable[[bytes], None],
        on_exit: Callable[[int], None],
        on_log: Callable[[str], None],
    ) -> None:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [self.python, "-m", self.module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._process = process

        def read_lines(stream: IO[bytes], deliver: Callable[[bytes], None]) -> None:
            for line in stream:
                self._arrived.put(lambda line=line: deliver(line.rstrip(b"\r\n")))  # type: ignore[misc]

        def read_answers() -> None:
            assert process.stdout is not None
            read_lines(process.stdout, on_line)
            code = process.wait()
            self._arrived.put(lambda: on_exit(code))

        def read_log() -> None:
            assert process.stderr is not None
            read_lines(process.stderr, lambda line: on_log(line.decode(errors="replace")))

        for target in (read_answers, read_log):
            threading.Thread(target=target, daemon=True).start()

    def write(self, data: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (OSError, ValueError):
            return

    def pump(self, timeout_s: float) -> None:
        wait = timeout_s > 0
        while True:
            try:
                callback = self._arrived.get(wait, timeout_s)
            except queue.Empty:
                return
            wait = False
            callback()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            try:
                process.stdin.close()
            except OSError:
                process.kill()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
