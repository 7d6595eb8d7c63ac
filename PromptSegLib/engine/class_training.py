"""The training of one class in its turn: what is learned, told and shown meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PromptSegLib.engine.messages import Preview, Progress
from PromptSegLib.engine.previewer import Previewer
from PromptSegLib.engine.scan_class import ScanClass
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning.drawing import Drawing
from PromptSegLib.learning.tuning import TuningOptions, TuningProgress
from PromptSegLib.tokens.class_token import ClassToken

if TYPE_CHECKING:
    from PromptSegLib.engine.session import Session


@dataclass(frozen=True)
class Audience:
    """Who is told while classes are trained; see `Session.tune`."""

    report: Callable[[Progress], None]
    preview: Callable[[Preview], None]
    checkpoint: Callable[[str, bytes], None]
    cancelled: Callable[[], bool]


@dataclass(frozen=True)
class Turn:
    """Of the class ``key``, which is number ``number``, from 0 on, of ``count``."""

    key: str
    number: int
    count: int

    def begins(self, stage: str) -> Progress:
        return Progress(stage, self.number / self.count, None, self.key)

    def progress(self, now: TuningProgress) -> Progress:
        """How far all classes are; the time left is known for the last of them alone."""
        done = (self.number + now.step / now.steps) / self.count
        left = now.seconds_left if self.count == 1 else None
        return Progress("training", done, left, self.key, now.step, now.loss, now.held_out_dsc)


class ClassTraining:
    """Learns a class of a session from what is drawn of it.

    before: the token to go on from, if any.
    """

    def __init__(
        self,
        session: Session,
        entry: ScanClass,
        image: Volume,
        turn: Turn,
        before: ClassToken | None,
        audience: Audience,
    ):
        assert entry.drawing is not None
        self.session, self.entry, self.turn, self.before, self.audience = session, entry, turn, before, audience
        self.scan = entry.drawn_scan(image)
        self._previewer = Previewer(session, turn.key, entry.drawing, self.scan, audience.preview, audience.cancelled)

    def run(self, options: TuningOptions) -> ClassToken:
        """The token; ``entry`` stays as it is.

        Raises:
            InterruptedError: if it was cancelled before there was one.
        """
        return self.session.learn(
            self.scan,
            self.entry.info,
            self.before,
            options,
            ready=self._ready,
            report=lambda now: self.audience.report(self.turn.progress(now)),
            watch=self._improved,
            cancelled=self.audience.cancelled,
        )

    def _ready(self, drawing: Drawing) -> None:
        self._previewer.look_ahead(drawing)
        self.audience.report(self.turn.begins("training"))

    def _improved(self, token: ClassToken) -> None:
        self.audience.checkpoint(self.turn.key, token.to_bytes())
        self._previewer.show(token)
