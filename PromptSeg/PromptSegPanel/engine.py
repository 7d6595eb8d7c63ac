"""The panel's end of the engine: its worker, what it was sent, and the work that is going on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PromptSegLib.engine.messages import Progress
from PromptSegPanel.guidance import Activity
from PromptSegPanel.sending import Sender
from PromptSegPanel.work import Work

if TYPE_CHECKING:
    from PromptSegLib.engine.client import Client
    from PromptSegPanel.case import Case


@dataclass(frozen=True)
class EngineOptions:
    """device: auto, cpu, cuda or mps; backbone: file, empty for the one that is shipped."""

    device: str = "auto"
    backbone: str = ""


class Engine:
    """One worker at most, started when it is first needed, and one work at a time.

    Args:
        make_client: makes a client with these options, which is cheap.
        notice: gets a sentence for the user when something happened that no work tells of.
    """

    def __init__(self, make_client: Callable[[EngineOptions], Client], notice: Callable[[str], None]) -> None:
        self.work: Work | None = None
        self._make_client = make_client
        self._notice = notice
        self._options = EngineOptions()
        self._client: Client | None = None
        self._sender: Sender | None = None
        self._may_prepare = True

    @property
    def options(self) -> EngineOptions:
        return self._options

    @options.setter
    def options(self, options: EngineOptions) -> None:
        """The worker is ended if these are others, since it computes with what it was started with."""
        if options != self._options:
            self._options = options
            self.stop()

    def begin(
        self,
        activity: Activity,
        keys: tuple[str, ...],
        on_progress: Callable[[Progress], None],
        on_failed: Callable[[str], None],
    ) -> tuple[Work, Sender]:
        """Begin a work in place of the one before."""
        self.end_work()
        self._may_prepare = True
        client, sender = self._start()
        self.work = Work(client, activity, keys, on_progress, on_failed)
        return self.work, sender

    def prepare(self, case: Case, keys: Iterable[str], scribbles: bool) -> None:
        """Start the worker and hand it the scan and what is drawn, so that it need not be waited for later.

        After a failure, which a work would tell of, nothing is tried until there is a work again.
        """
        if self._may_prepare:
            _client, sender = self._start()
            jobs = sender.send_scan(case.volume_node)
            for key in keys:
                jobs += sender.send_drawing(case, key, scribbles)
            for job in jobs:
                job.on_failed.append(lambda sentence: self._stop_preparing())

    def end_work(self) -> None:
        """Cancel what is left of the work, if there is one."""
        work, self.work = self.work, None
        if work is not None:
            work.end()

    def forget_classes(self) -> None:
        """Drop everything of the scan that is left: its segments' IDs may come again for other structures."""
        self.end_work()
        if self._sender is not None:
            self._sender.forget()

    def forget_removed(self, keys: Collection[str]) -> None:
        """Drop all but these classes, of the segments that are left."""
        if self._sender is not None:
            self._sender.forget(keys)

    def clear_cache(self) -> None:
        if self._client is not None:
            self._client.submit("clear_cache")

    def set_focus(self, axis: int, index: int) -> None:
        """Say which slice the user looks at: it is previewed first."""
        if self._client is not None:
            self._client.set_focus(axis, index)

    def poll(self) -> None:
        """Hear what the worker has to say."""
        if self._client is not None:
            self._client.poll()

    def _stop_preparing(self) -> None:
        self._may_prepare = False

    def _start(self) -> tuple[Client, Sender]:
        if self._client is None or self._sender is None:
            self._client = self._make_client(self._options)
            self._client.notice = self._notice
            self._sender = Sender(self._client)
        return self._client, self._sender

    @property
    def log(self) -> tuple[str, ...]:
        """The worker's own last lines, for the report of a problem."""
        return tuple(self._client.log) if self._client is not None else ()

    @property
    def worker_pid(self) -> int:
        """Process number of the worker, 0 while there is none."""
        return self._client.worker_pid if self._client is not None else 0

    def stop(self) -> None:
        """End the worker. The next work starts another one."""
        self.end_work()
        client, self._client, self._sender = self._client, None, None
        if client is not None:
            client.close()
