"""Jobs for a worker process: they wait in line, are sent one by one, and come back with their results, whatever happens
to the worker meanwhile.

Nothing here imports torch or a window toolkit. Nothing blocks but the methods that say so: data is written by a thread,
and answers are looked for in `Dispatcher.poll`.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PromptSegLib.engine.exchange import TOUCH_SECONDS, make_folder, remove_files, remove_folder, touch_folder
from PromptSegLib.engine.job import Job
from PromptSegLib.engine.known import Known, Replay, ScanFiles
from PromptSegLib.engine.messages import TuneResult
from PromptSegLib.engine.protocol import PROTOCOL_VERSION, Codec, ProtocolError, reason
from PromptSegLib.engine.transport import Transport
from PromptSegLib.errors import InputError

CANCEL_SECONDS = 5.0
"""A worker that does not obey a cancel for so long is ended and started anew."""

MOST_DEATHS = 3
"""Deaths in a row, each before the worker was usable, after which it is not started again by itself."""

LOG_LINES = 400

_KILLED_BY_THE_SYSTEM = (-9, 9, 137)
_DIES_AGAIN_AND_AGAIN = (
    "the engine was ended again and again, most likely because memory runs out: "
    "close other programs, or choose a smaller part of the scan"
)
_LEAVE = b'{"method": "leave"}\n'


class Dispatcher:
    """One worker, one scan, many classes; another worker, told all that the last one knew, when it dies.

    Args:
        transport_factory: makes the worker's transport; again after the worker died.
        device, backbone: as of `Session`.
    """

    def __init__(
        self, transport_factory: Callable[[], Transport], *, device: str = "auto", backbone: str | None = None
    ):
        self.device, self.backbone = device, backbone
        self.notice: Callable[[str], None] = lambda sentence: None
        """Called with a sentence for the user whenever something happened that no job tells."""
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        """The worker's last words."""
        self.opened: dict[str, str] = {}
        """Device and backbone in use, once the worker has opened them."""
        self._factory = transport_factory
        self._transport: Transport | None = None
        self._start_wanted = False
        self._folder: Path | None = None
        self._touched = -TOUCH_SECONDS
        self._codec: Codec | None = None
        self._numbers = itertools.count(1)
        self._ready = False
        self._deaths = 0
        self._queue: deque[Job] = deque()
        self._running: _Running | None = None
        self._cancel_since: float | None = None
        self._known = Known()
        self._scans = itertools.count(1)
        self._writing: tuple[Job, ScanFiles] | None = None
        self._focus: tuple[int, int] | None = None

    def submit(self, method: str, **arguments: Any) -> Job:
        """Queue a request of the Session's methods and return at once; `poll` sends it, and starts a worker for it."""
        job = Job(method, arguments)
        self._queue.append(job)
        if self._transport is None and not self._start_wanted:
            self._deaths = 0
            self._start_wanted = True
        return job

    def set_focus(self, axis: int, index: int) -> None:
        """Say which slice the user looks at: it is previewed first."""
        if (axis, index) != self._focus:
            self._focus = (axis, index)
            if self._ready:
                self._write({"method": "focus", "arguments": {"axis": axis, "index": index}})

    def cancel(self, job: Job) -> None:
        """End a job; its ``on_done`` still comes, with what there is."""
        if job in self._queue:
            self._queue.remove(job)
            job.finish(None, cancelled=True)
        elif self._running is not None and self._running.job is job and self._cancel_since is None:
            self._cancel_since = time.monotonic()
            self._write({"method": "cancel", "arguments": {"id": self._running.number}})

    def poll(self, timeout_s: float = 0.0) -> None:
        """Make the callbacks for what has happened; wait for something at most ``timeout_s``."""
        if self._start_wanted:
            self._start()
        if self._folder is not None and time.monotonic() - self._touched > TOUCH_SECONDS:
            self._touched = time.monotonic()
            touch_folder(self._folder)
        if self._transport is not None:
            self._transport.pump(timeout_s)
        if self._cancel_since is not None and time.monotonic() - self._cancel_since > CANCEL_SECONDS:
            self._replace_deaf_worker()
        self._send_next()

    def close(self) -> None:
        """End the worker and remove the folder; every job that is not finished fails. Waits for a scan that is being
        written, whose file would be left behind."""
        self._stop_worker("the engine was closed")
        if self._writing is not None:
            self._writing[1].wait()
            self._writing = None
        if self._folder is not None:
            remove_folder(self._folder)
            self._folder = self._codec = None
            self._known.scan = None

    @property
    def worker_pid(self) -> int:
        """Process number of the worker, 0 while there is none."""
        return 0 if self._transport is None else self._transport.pid

    # Starting, sending, hearing.

    def _start(self) -> None:
        self._start_wanted = False
        try:
            if self._folder is None:
                self._folder = make_folder()
                self._codec = Codec(self._folder, "client")
            # Systems clean their folders of temporary files now and then.
            self._folder.mkdir(mode=0o700, exist_ok=True)
            # What an earlier worker wrote last, and nobody read.
            remove_files(self._folder, "worker*.raw")
            self._launch(self._factory(), self._folder)
        except (OSError, InputError) as error:
            self._give_up(f"the engine cannot be started: {getattr(error, 'strerror', None) or error}")

    def _launch(self, transport: Transport, folder: Path) -> None:
        self._transport, self._ready = transport, False

        def on_line(line: bytes) -> None:
            if transport is self._transport:
                self._on_line(line)

        def on_exit(code: int) -> None:
            if transport is self._transport:
                self._on_exit(code)

        transport.start([str(folder)], on_line, on_exit, self.log.append)

    def _stop_worker(self, reason: str) -> None:
        transport, self._transport, self._start_wanted = self._transport, None, False
        if transport is not None:
            # So that it leaves the folder in place.
            transport.write(_LEAVE)
            transport.stop()
        for job in self._abandoned():
            job.fail(reason)

    def _abandoned(self) -> list[Job]:
        """The jobs of a worker that is no more, which are nobody's now."""
        running, self._running = self._running, None
        self._ready, self._cancel_since = False, None
        jobs = [*([running.job] if running is not None else []), *self._queue]
        self._queue.clear()
        return [job for job in jobs if not isinstance(job, Replay)]

    def _write(self, message: dict[str, Any]) -> None:
        assert self._transport is not None and self._codec is not None
        self._transport.write(self._codec.encode(message))

    def _send_next(self) -> None:
        if not self._ready or self._running is not None or not self._queue:
            return
        job = self._queue[0]
        if job.method == "set_image" and not self._scan_is_written(job):
            return
        self._queue.popleft()
        assert self._codec is not None and self._transport is not None
        self._codec.written.clear()
        number = next(self._numbers)
        arguments = job.arguments
        if job.method == "set_image" and self._known.scan is not None:
            arguments = {"image": self._known.scan.packed}
        try:
            line = self._codec.encode({"id": number, "method": job.method, "arguments": arguments})
        except (OSError, MemoryError, ProtocolError) as error:
            job.fail(f"the engine cannot be told: {reason(error)}")
            return
        job.state = "running"
        self._running = _Running(number, job, list(self._codec.written))
        self._transport.write(line)

    def _scan_is_written(self, job: Job) -> bool:
        """Whether the scan lies in its file; begins to write it, in a thread, when nobody has yet."""
        known, is_replay = self._known, isinstance(job, Replay)
        if is_replay and known.scan is not None and known.scan.exists:
            return True
        if self._writing is not None and self._writing[0] is not job:
            overtaken = self._writing[1]
            if not overtaken.is_over:
                return False
            overtaken.remove()
            self._writing = None
        if self._writing is None:
            assert self._folder is not None
            codec = Codec(self._folder, f"scan{next(self._scans)}")
            self._writing = (job, ScanFiles(job.arguments["image"], codec))
        scan = self._writing[1]
        if not scan.is_over:
            return False
        self._writing = None
        if scan.problem is not None:
            self._queue.remove(job)
            job.fail(f"the scan cannot be handed to the engine: {scan.problem}")
            return False
        known.change_scan(scan, keep_drawings=is_replay)
        return True

    def _on_line(self, line: bytes) -> None:
        assert self._codec is not None
        try:
            message = self._codec.decode(line)
        except (ProtocolError, MemoryError) as error:
            self.log.append(reason(error))
            if self._running is not None and Codec.number_of(line) == self._running.number:
                self._end_running().fail(f"the engine's answer cannot be read: {reason(error)}")
            return
        event = message.get("event")
        if event == "hello":
            self._on_hello(message)
        elif event == "notice":
            self.notice(message["message"])
        elif self._running is not None and message.get("id") == self._running.number:
            self._on_event(event, message)

    def _on_hello(self, message: dict[str, Any]) -> None:
        if message["protocol"] != PROTOCOL_VERSION:
            self._give_up(
                f"the engine speaks version {message['protocol']} and the panel version {PROTOCOL_VERSION}: "
                "install the same version of PromptSeg for both"
            )
            return
        opening = Replay("open", {"device": self.device, "backbone": self.backbone})
        self._queue.extendleft(reversed([opening, *self._known.replays()]))
        self._ready = True
        if self._focus is not None:
            self._write({"method": "focus", "arguments": {"axis": self._focus[0], "index": self._focus[1]}})
        self._send_next()

    def _on_event(self, event: str | None, message: dict[str, Any]) -> None:
        assert self._running is not None
        job = self._running.job
        if event == "progress":
            for report in tuple(job.on_progress):
                report(message["progress"])
        elif event == "preview":
            for show in tuple(job.on_preview):
                show(message["preview"])
        elif event == "checkpoint":
            self._known.tokens[message["key"]] = message["token"]
        elif event in ("done", "cancelled", "failed"):
            self._on_end(self._end_running(), event, message)
            self._send_next()

    def _end_running(self) -> Job:
        """The job that was running; nothing is running now."""
        assert self._running is not None
        running, self._running, self._cancel_since = self._running, None, None
        for path in running.files:
            path.unlink(missing_ok=True)
        return running.job

    def _on_end(self, job: Job, event: str, message: dict[str, Any]) -> None:
        if event == "failed":
            if isinstance(job, Replay) and job.method == "open":
                self._give_up(message["message"])
            else:
                job.fail(message["message"])
            return
        result = message.get("result")
        if event == "done":
            self._known.note(job, result)
            if job.method == "open" and result is not None:
                self.opened = result
        if isinstance(job, Replay) and not any(isinstance(other, Replay) for other in self._queue):
            # It knows all that its forerunner knew, and lives.
            self._deaths = 0
        job.finish(result, cancelled=event == "cancelled" or (isinstance(result, TuneResult) and result.cancelled))

    # When the worker dies.

    def _on_exit(self, code: int) -> None:
        was_ready, killed = self._ready, code in _KILLED_BY_THE_SYSTEM
        self._transport = None
        self._deaths += 1
        if not was_ready and not killed:
            words = next((line for line in reversed(self.log) if line.strip()), f"exit code {code}")
            self._give_up(f"the engine cannot be started: {words}")
            return
        if self._deaths >= MOST_DEATHS:
            self._give_up(_DIES_AGAIN_AND_AGAIN)
            return
        if killed:
            cause = "The engine was ended by the system, most likely because memory ran out."
        else:
            cause = "The engine stopped unexpectedly."
        sentence = f"{cause} It is started again, and nothing that you drew is lost."
        failed = self._begin_anew()
        self.notice(sentence)
        if failed is not None:
            failed.result = self._known.saved_result(failed)
            failed.fail(sentence)

    def _replace_deaf_worker(self) -> None:
        """A worker that does not obey is deep in something: end it, and have what was cancelled cancelled."""
        assert self._transport is not None
        self._transport.write(_LEAVE)
        self._transport.stop()
        cancelled = self._begin_anew()
        if cancelled is not None:
            cancelled.finish(self._known.saved_result(cancelled), cancelled=True)

    def _begin_anew(self) -> Job | None:
        """Have a new worker started for the jobs that wait; the one that was running comes back."""
        interrupted = None if self._running is None else self._running.job
        jobs = self._abandoned()
        self._queue.extend(job for job in jobs if job is not interrupted)
        self._transport, self._start_wanted = None, True
        return interrupted if interrupted in jobs else None

    def _give_up(self, reason: str) -> None:
        """The worker cannot work: every job fails, and the next `submit` tries again."""
        self._stop_worker(reason)
        self.notice(reason)


@dataclass
class _Running:
    number: int
    job: Job
    files: list[Path]
