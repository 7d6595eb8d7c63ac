"""What a worker was told, so that another one can be told the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PromptSegLib.engine.job import Job
from PromptSegLib.engine.messages import ClassInfo, SliceDrawing, TuneResult
from PromptSegLib.engine.protocol import Codec, Packed, ProtocolError, reason
from PromptSegLib.imaging.volume import Volume


class Replay(Job):
    """A request that tells a new worker what an earlier one knew; nobody waits for it."""


class Known:
    """The scan, the drawings and the tokens of a worker. tokens: of a class that is trained, the best one so far."""

    def __init__(self) -> None:
        self.scan: ScanFiles | None = None
        self.tokens: dict[str, bytes] = {}
        self._drawings: dict[str, tuple[ClassInfo, SliceDrawing | None]] = {}

    def change_scan(self, scan: ScanFiles, *, keep_drawings: bool) -> None:
        """The worker is about to get a scan. keep_drawings: it is the one that they were drawn on."""
        if self.scan is not None:
            self.scan.remove()
        self.scan = scan
        if not keep_drawings:
            self._drawings.clear()

    def note(self, job: Job, result: Any) -> None:
        """A request was fulfilled."""
        arguments = job.arguments
        if job.method == "annotate":
            self._drawings[arguments["key"]] = (arguments["info"], arguments["drawing"])
        elif job.method == "put_token":
            self.tokens[arguments["key"]] = arguments["data"]
        elif job.method == "forget":
            self._drawings.pop(arguments["key"], None)
            self.tokens.pop(arguments["key"], None)
        elif job.method == "tune":
            self.tokens.update(result.tokens)
        elif job.method == "segment":
            self.tokens.update({found.key: found.token for found in result if found.token is not None})

    def replays(self) -> Iterator[Replay]:
        """The requests that tell all of it."""
        if self.scan is not None:
            yield Replay("set_image", {"image": self.scan.volume})
        for key, (info, drawing) in self._drawings.items():
            yield Replay("annotate", {"key": key, "info": info, "drawing": drawing})
        for key, data in self.tokens.items():
            yield Replay("put_token", {"key": key, "data": data})

    def saved_result(self, job: Job) -> TuneResult | None:
        """What is left of a job whose worker is no more: the tokens that it saved, or that there were before."""
        if job.method != "tune":
            return None
        return TuneResult({key: self.tokens[key] for key in job.arguments["keys"] if key in self.tokens}, True)


class ScanFiles:
    """A scan on its way into its file, in a thread of its own: 160 MB would stop a window for a moment.

    packed: what stands for it in a message; problem: why it could not be written. Both only once it `is_over`.
    """

    def __init__(self, volume: Volume, codec: Codec):
        self.volume = volume
        self.packed: Packed | None = None
        self.problem: str | None = None
        self._codec = codec
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Until it is over."""
        self._thread.join()

    @property
    def exists(self) -> bool:
        """Whether it can be read: systems clean their folders of temporary files now and then."""
        return self.packed is not None and all(path.exists() for path in self._files)

    def remove(self) -> None:
        for path in self._files:
            path.unlink(missing_ok=True)

    @property
    def _files(self) -> list[Path]:
        return self._codec.written

    def _write(self) -> None:
        try:
            self.packed = self._codec.pack(self.volume)
        except (OSError, MemoryError, ProtocolError) as error:
            self.problem = reason(error)
