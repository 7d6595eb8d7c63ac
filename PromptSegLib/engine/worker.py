"""A Session in a process of its own: ``python -m PromptSegLib.engine.worker``; see `PromptSegLib.engine.protocol`.

The process ends, and removes the folder of arrays, when its standard input closes: no parent that dies in whatever way
leaves a worker or a file behind.
"""

from __future__ import annotations

import importlib
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from PromptSegLib import __version__
from PromptSegLib.engine.messages import Preview, Progress
from PromptSegLib.engine.protocol import OUT_OF_MEMORY, PROTOCOL_VERSION, Codec, ProtocolError, reason
from PromptSegLib.errors import InputError
from PromptSegLib.threads import let_threads_sleep

HEARTBEAT_SECONDS = 0.15
"""Progress is repeated this often, with less time left, while a step takes longer."""

IMPORTED_AHEAD = ("torch._dynamo", "PromptSegLib.learning.augmentation")
"""What torch's optimizers, and training after its first guess, are going to import, which takes seconds: begun while
the user draws."""

_NOT_LOADED = (126, 127, 1114)
"""What Windows says when a library of torch's, or one that it needs, is missing, does not fit, or fails to start."""

_NO_MEMORY = ("out of memory", "not enough memory", "allocate memory")


class Worker:
    """Reads requests in a thread and works on them one after the other in the main one.

    Args:
        folder: of arrays; it is removed at the end.
        requests, answers: binary streams.
    """

    def __init__(self, folder: Path, requests: IO[bytes], answers: IO[bytes]):
        self.folder, self.requests, self.answers = folder, requests, answers
        # The number of the process keeps its files apart from those of a worker that died.
        self.codec = Codec(folder, f"worker{os.getpid()}", keep_files=True)
        self.session: Any = None
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self._sending = threading.Lock()
        self._cancelled: set[int] = set()
        self._progress: tuple[int, Progress, float] | None = None
        self._focus: tuple[int, int] | None = None

    def run(self) -> None:
        """Work until the requests end; never returns."""
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        self._send({"event": "hello", "protocol": PROTOCOL_VERSION, "version": __version__, "process": os.getpid()})
        while True:
            if not self._queue.empty() or not self._work_ahead():
                self._answer(self._queue.get())

    def _work_ahead(self) -> bool:
        """Do a little of what is going to be asked for; False if there is nothing."""
        try:
            return self.session is not None and self.session.work_ahead()
        # Nobody asked for it: whatever is wrong is said when somebody does.
        except Exception:
            traceback.print_exc()
            return False

    def _read(self) -> None:
        for line in self.requests:
            try:
                message = self.codec.decode(line)
            except (ProtocolError, MemoryError) as error:
                kind = "memory" if isinstance(error, MemoryError) else "protocol"
                self._send({"event": "failed", "id": Codec.number_of(line), "kind": kind, "message": reason(error)})
                continue
            if message.get("method") == "leave":
                os._exit(0)
            elif message.get("method") == "cancel":
                self._cancelled.add(message["arguments"]["id"])
            elif message.get("method") == "focus":
                self._focus = (message["arguments"]["axis"], message["arguments"]["index"])
                if self.session is not None:
                    self.session.focus = self._focus
            else:
                self._queue.put(message)
        # The main thread may be deep in a computation and would not hear of it: end without asking.
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(0)

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            latest = self._progress
            if latest is not None:
                number, progress, since = latest
                if progress.seconds_left is not None:
                    left = max(0.0, progress.seconds_left - (time.monotonic() - since))
                    progress = Progress(**{**vars(progress), "seconds_left": left})
                self._send({"event": "progress", "id": number, "progress": progress})

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            line = self.codec.encode(message)
            self.codec.written.clear()
            try:
                self.answers.write(line)
                self.answers.flush()
            except OSError:
                shutil.rmtree(self.folder, ignore_errors=True)
                os._exit(0)

    def _answer(self, message: dict[str, Any]) -> None:
        number, method, arguments = message["id"], message["method"], message.get("arguments", {})
        try:
            result = self._call(number, method, arguments)
        except InterruptedError:
            self._finish({"event": "cancelled", "id": number})
        # The one place that must hear of every error: whatever it is, the client waits for an answer.
        except Exception as error:
            self._fail(number, *_told(error))
        else:
            try:
                self._finish({"event": "done", "id": number, "result": result})
            except OSError as error:
                text = (
                    f"the result cannot be written to the folder for temporary files, {self.folder} "
                    f"({reason(error)}): make room on its disk, and try again"
                )
                self._fail(number, "disk", text)
            except (MemoryError, ProtocolError) as error:
                self._fail(number, *_told(error))

    def _fail(self, number: int, kind: str, text: str) -> None:
        self._finish({"event": "failed", "id": number, "kind": kind, "message": text})

    def _finish(self, message: dict[str, Any]) -> None:
        self._progress = None
        self._send(message)

    def _call(self, number: int, method: str, arguments: dict[str, Any]) -> Any:
        if method == "open":
            return self._open(**arguments)
        if self.session is None:
            raise ProtocolError("the first request must be 'open'")
        handlers: dict[str, Callable[..., Any]] = {
            "set_image": self.session.set_image,
            "annotate": self.session.annotate,
            "put_token": self.session.put_token,
            "forget": self.session.forget,
            "clear_cache": self.session.clear_cache,
            "suggest_slice": self.session.suggest_slice,
            "tune": self._tune(number),
            "segment": self._segment(number),
        }
        if method not in handlers:
            raise ProtocolError(f"there is no method {method!r:.40}")
        return handlers[method](**arguments)

    def _open(self, device: str, backbone: str | None) -> dict[str, Any]:
        from PromptSegLib.engine.session import Session

        if self.session is not None:
            self.session.close()
        session = Session(device, backbone, self.folder, notice=self._notice)
        # The user may have scrolled on while the network was loaded.
        session.focus = self._focus
        self.session = session
        threading.Thread(target=_import_ahead, daemon=True).start()
        return {"device": self.session.device_name, "backbone": self.session.backbone_name}

    def _notice(self, sentence: str) -> None:
        self._send({"event": "notice", "message": sentence})

    def _report(self, number: int) -> Callable[[Progress], None]:
        def report(progress: Progress) -> None:
            self._progress = (number, progress, time.monotonic())
            self._send({"event": "progress", "id": number, "progress": progress})

        return report

    def _tune(self, number: int) -> Callable[..., Any]:
        def preview(found: Preview) -> None:
            # A preview that there is no room for is left out: training goes on.
            with suppress(OSError, MemoryError):
                self._send({"event": "preview", "id": number, "preview": found})

        def checkpoint(key: str, token: bytes) -> None:
            self._send({"event": "checkpoint", "id": number, "key": key, "token": token})

        def tune(keys: tuple[str, ...], seconds: float, prompting: str | None, anew: bool) -> Any:
            return self.session.tune(
                keys,
                seconds,
                prompting,
                anew,
                report=self._report(number),
                preview=preview,
                checkpoint=checkpoint,
                cancelled=lambda: number in self._cancelled,
            )

        return tune

    def _segment(self, number: int) -> Callable[..., Any]:
        def segment(keys: tuple[str, ...]) -> Any:
            return self.session.segment(keys, report=self._report(number), cancelled=lambda: number in self._cancelled)

        return segment


def _told(error: Exception) -> tuple[str, str]:
    """The kind of an error, and a sentence for the user."""
    if isinstance(error, InputError):
        return "input", str(error)
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
        return "memory", OUT_OF_MEMORY
    traceback.print_exc()
    if isinstance(error, ModuleNotFoundError):
        return "missing", f"the Python package {error.name or error} is missing: press Install in the panel"
    if isinstance(error, ImportError):
        first = str(error).partition("\n")[0]
        return "missing", f"{error.name or 'a Python package'} cannot be loaded ({first}): install it again"
    if getattr(error, "winerror", None) in _NOT_LOADED:
        return "missing", f"a library of torch's cannot be loaded ({str(error).splitlines()[0]}): install torch again"
    return "internal", f"the engine met an unexpected problem ({type(error).__name__})"


def _import_ahead() -> None:
    for name in IMPORTED_AHEAD:
        importlib.import_module(name)


def main() -> None:
    """Take over standard input and output; whatever else prints goes to standard error."""
    let_threads_sleep()
    # On Windows, a library of scipy's looks at standard input while it is loaded, and waits as long as a thread reads
    # there (numpy issue 24290, OpenBLAS issue 5109): it is loaded before, and the thread reads elsewhere.
    with suppress(ImportError):
        importlib.import_module("scipy.special")
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if hasattr(os, "nice"):
        # The window and its views come first.
        os.nice(5)
    Worker(Path(sys.argv[1]), requests, answers).run()


if __name__ == "__main__":
    main()
