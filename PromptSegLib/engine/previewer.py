"""Previews of a class while it is trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from PromptSegLib.engine.messages import Preview, SliceDrawing
from PromptSegLib.engine.previewing import PreviewOrder
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.interpolation import DrawnShape
from PromptSegLib.learning.drawing import Drawing, DrawnScan
from PromptSegLib.tokens.class_token import ClassToken

if TYPE_CHECKING:
    from PromptSegLib.engine.session import Session

PREVIEW_SHARE = 0.25
"""Of the time of training, at most this part goes into previews."""


class Previewer:
    """Sends previews of a class while it is trained, as far as they cost a small part of the time."""

    def __init__(
        self,
        session: Session,
        key: str,
        drawing: SliceDrawing,
        scan: DrawnScan,
        send: Callable[[Preview], None],
        cancelled: Callable[[], bool],
    ):
        self.session, self.key, self.scan, self.send, self.cancelled = session, key, scan, send, cancelled
        self.drawing = drawing
        self.order = PreviewOrder(scan.annotation.slices, scan.image.array.shape[scan.annotation.axis])
        self.shape: DrawnShape | None = None
        self.next: list[int] = []
        self.started, self.spent, self.shown = time.monotonic(), 0.0, 0

    def look_ahead(self, drawing: Drawing) -> None:
        """Have the backbone look at the slice that comes first, and say that training itself begins now."""
        self.next = self._choose()
        self.session.encode_shown(self.scan.image, drawing, self.next[0])
        self.started = time.monotonic()

    def _choose(self) -> list[int]:
        focus = self.session.focus
        return self.order.next(focus[1] if focus is not None and focus[0] == self.drawing.axis else None)

    def show(self, token: ClassToken) -> None:
        """Preview the slice that the user looks at and another one."""
        begin = time.monotonic()
        if self.shown and self.spent > PREVIEW_SHARE * (begin - self.started):
            return
        segmenter = self.session.segmenter([token])
        if not self.shown:
            drawn = self.session.drawn([self.key], self.scan.image, [token])
            self.shape = segmenter.drawn_shape(self.scan.image, drawn)
        shown, self.next = self.next or self._choose(), []
        for index in shown:
            if self.cancelled():
                break
            planes = segmenter.preview(self.scan.image, index, self.shape)
            for known in set(planes) & set(self.drawing.planes):
                plane = self.drawing.planes[known]
                planes[known] = np.where(plane == UNKNOWN, planes[known], plane == 1)
            self.send(Preview(self.key, self.drawing.axis, planes))
        self.shown += 1
        self.spent += time.monotonic() - begin
