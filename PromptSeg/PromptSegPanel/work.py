"""The jobs of one thing that the user asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from PromptSegLib.engine.messages import Progress
from PromptSegPanel.guidance import Activity

if TYPE_CHECKING:
    from PromptSegLib.engine.client import Client
    from PromptSegLib.engine.job import Job


class Work:
    """A chain of jobs on the engine. What comes of them after the work has ended is not heard any more.

    Attributes:
        activity: what is being done now; one that begins with training goes on with segmenting.
        axis: array axis that the structures are drawn across.
        curves: how training goes, by structure: (part of it done, DSC on the part of the drawing kept aside).
        use_what_there_is: the user ended training early and wants its result.
        identities: of the segments that are worked on, by key, since another one may get the ID of a removed one.

    Args:
        on_progress: called when a job reports.
        on_failed: called once, with a sentence, when a job fails; the others are cancelled.
    """

    def __init__(
        self,
        client: Client,
        activity: Activity,
        keys: tuple[str, ...],
        on_progress: Callable[[Progress], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self.activity = activity
        self.was_trained = activity is Activity.TRAINING
        self.keys = keys
        self.axis = 0
        self.progress: Progress | None = None
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self.use_what_there_is = False
        self.identities: dict[str, str | None] = {}
        self._client = client
        self._on_progress = on_progress
        self._on_failed = on_failed
        self._jobs: list[Job] = []
        self._tokens_before: dict[str, bytes] | None = None
        self._over = False

    def submit(
        self,
        method: str,
        on_done: Callable[[Any], None] = lambda result: None,
        on_preview: Callable[[Any], None] = lambda preview: None,
        **arguments: Any,
    ) -> None:
        """Queue a job of the engine's methods."""
        job = self._client.submit(method, **arguments)
        self._jobs.append(job)
        job.on_progress.append(lambda progress: self._over or self._report(progress))
        job.on_preview.append(lambda preview: self._over or on_preview(preview))
        job.on_done.append(lambda result: self._over or on_done(result))
        self.depend_on([job])

    def depend_on(self, jobs: Iterable[Job]) -> None:
        """Fail when one of these fails. They are not cancelled with the work: what was sent need not be sent again."""
        for job in jobs:
            job.on_failed.append(lambda sentence: self._over or self._fail(sentence))

    def saved_tokens(self) -> dict[str, bytes]:
        """The best tokens of this training so far, by key, also if it came to a bad end.

        Another training that was cancelled may have left the client with tokens, too.
        """
        before = self._tokens_before
        if before is None:
            return {}
        return {k: data for k, data in self._client.tokens.items() if k in self.keys and data != before.get(k)}

    def finish_early(self) -> None:
        """End the job that is running, and go on with what it has found so far."""
        self.use_what_there_is = True
        self._cancel_jobs()

    def end(self) -> None:
        """Cancel what is left of it."""
        self._over = True
        self._cancel_jobs()

    def _cancel_jobs(self) -> None:
        for job in reversed(self._jobs):
            if not job.is_finished:
                self._client.cancel(job)

    def _report(self, progress: Progress) -> None:
        self.progress = progress
        if self._tokens_before is None:
            # Now no other job is under way any more, and this one has saved nothing yet.
            self._tokens_before = dict(self._client.tokens)
        if progress.key is not None and progress.held_out_dsc is not None:
            curve = self.curves.setdefault(progress.key, [])
            if not curve or curve[-1] != (progress.fraction, progress.held_out_dsc):
                curve.append((progress.fraction, progress.held_out_dsc))
        self._on_progress(progress)

    def _fail(self, sentence: str) -> None:
        self.end()
        self._on_failed(sentence)
