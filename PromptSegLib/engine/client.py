"""A Session on a worker process: the same methods, and `submit` for those who cannot wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PromptSegLib.engine.dispatcher import Dispatcher
from PromptSegLib.engine.job import Job
from PromptSegLib.engine.messages import (
    ClassInfo,
    Preview,
    Progress,
    SegmentedClass,
    SliceDrawing,
    Suggestion,
    TuneResult,
)
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.volume import Volume


class Client(Dispatcher):
    """What a `Session` offers, waiting for the answer; whoever cannot wait calls `submit` and `poll`."""

    def set_image(self, image: Volume) -> None:
        """As `Session.set_image`; waits."""
        self._wait(self.submit("set_image", image=image))

    def annotate(self, key: str, info: ClassInfo, drawing: SliceDrawing | None) -> None:
        """As `Session.annotate`; waits."""
        self._wait(self.submit("annotate", key=key, info=info, drawing=drawing))

    @property
    def tokens(self) -> dict[str, bytes]:
        """As `Session.tokens`; of a class that is being trained, the best one so far."""
        return dict(self._known.tokens)

    def put_token(self, key: str, data: bytes) -> ClassInfo:
        """As `Session.put_token`; waits."""
        info: ClassInfo = self._wait(self.submit("put_token", key=key, data=data))
        return info

    def forget(self, key: str) -> None:
        """As `Session.forget`; waits."""
        self._wait(self.submit("forget", key=key))

    def clear_cache(self) -> None:
        """As `Session.clear_cache`; waits."""
        self._wait(self.submit("clear_cache"))

    def suggest_slice(self, key: str) -> Suggestion:
        """As `Session.suggest_slice`; waits."""
        suggestion: Suggestion = self._wait(self.submit("suggest_slice", key=key))
        return suggestion

    def tune(
        self,
        keys: Sequence[str],
        seconds: float = 90.0,
        prompting: str | None = None,
        anew: bool = False,
        *,
        report: Callable[[Progress], None] = lambda progress: None,
        preview: Callable[[Preview], None] = lambda preview: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> TuneResult:
        """As `Session.tune`; waits."""
        job = self.submit("tune", keys=list(keys), seconds=seconds, prompting=prompting, anew=anew)
        job.on_progress.append(report)
        job.on_preview.append(preview)
        result: TuneResult | None = self._wait(job, cancelled)
        return result or TuneResult({}, True)

    def segment(
        self,
        keys: Sequence[str],
        *,
        report: Callable[[Progress], None] = lambda progress: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[SegmentedClass]:
        """As `Session.segment`; waits."""
        job = self.submit("segment", keys=list(keys))
        job.on_progress.append(report)
        found = self._wait(job, cancelled)
        if found is None:
            raise InterruptedError("segmenting was cancelled")
        return list(found)

    def _wait(self, job: Job, cancelled: Callable[[], bool] = lambda: False) -> Any:
        while not job.is_finished:
            if cancelled():
                self.cancel(job)
            self.poll(0.05)
        if job.state == "failed":
            raise InputError(job.error)
        return job.result
