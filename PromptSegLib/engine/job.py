"""What becomes of a request to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from PromptSegLib.engine.messages import Preview, Progress

State = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(eq=False)
class Job:
    """A request on its way. Callbacks are made by ``Client.poll``, on the thread that calls it.

    on_done gets the result, also after a cancel, with what there was by then (None for nothing); on_failed gets one
    sentence. After a worker died, ``result`` holds what it had saved by then.
    """

    method: str
    arguments: dict[str, Any]
    state: State = "queued"
    result: Any = None
    error: str = ""
    on_progress: list[Callable[[Progress], None]] = field(default_factory=list)
    on_preview: list[Callable[[Preview], None]] = field(default_factory=list)
    on_done: list[Callable[[Any], None]] = field(default_factory=list)
    on_failed: list[Callable[[str], None]] = field(default_factory=list)

    @property
    def is_finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def finish(self, result: Any, *, cancelled: bool = False) -> None:
        """End well. For the client, not for its users."""
        self.state, self.result = ("cancelled" if cancelled else "done"), result
        for callback in tuple(self.on_done):
            callback(result)

    def fail(self, error: str) -> None:
        """End badly. For the client, not for its users."""
        self.state, self.error = "failed", error
        for callback in tuple(self.on_failed):
            callback(error)
