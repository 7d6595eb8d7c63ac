"""Going on from a token: what a correction of its drawing changes is learned in a few steps.

Where the token finds next to nothing of what is drawn now, all begins anew.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from PromptSegLib.learning.drawing import Drawing
from PromptSegLib.learning.levels_tuner import LevelsTuner
from PromptSegLib.learning.tuner import TuningOptions
from PromptSegLib.networks.backbone import Backbone, Features
from PromptSegLib.tokens.class_token import Calibration, ClassToken

STEPS = 8
"""Five to ten come to the same on training patients."""

LIKE_SPACING = 1.34
"""A structure that turns out to be larger or smaller by one rung of the ladder of working spacings goes on at the
token's, whose features of the scan are there already."""

AGREES_FROM = 0.3
"""DSC on the drawn slices below which the token is no good start; one of other scans is, wherever it was corrected."""


def goes_on_from(
    token: ClassToken, drawing: Drawing, fingerprint: str, prompting: str, of_other_scans: bool = False
) -> bool:
    """Whether this drawing may be learned from the token's numbers and as the token sees it.

    of_other_scans: whether it was learned from them, so that its prompting and its spacing stay.

    A token with centers is not gone on from: they are differences to its numbers.
    """
    if not _is_for(token, drawing, fingerprint) or token.centers or token.plane != drawing.plane:
        return False
    is_alike = 1 / LIKE_SPACING <= token.spacing_mm / drawing.spacing_mm <= LIKE_SPACING
    return of_other_scans or (token.prompting == prompting and is_alike)


def outweighs(token: ClassToken, drawing: Drawing) -> bool:
    """Whether what a token learned from other scans counts more than a drawing. Two slices that show the structure, or
    three of any kind, tell more than a token that does not know what it looks like in space."""
    return bool(token.shapes) or (drawing.showing < 2 and len(drawing.slices) < 3)


def stays(token: ClassToken, drawing: Drawing, fingerprint: str) -> bool:
    """Whether a token of other scans stays as it is, since learning cannot go on from it with this drawing, which must
    not take its place."""
    is_across = token.plane != drawing.plane and outweighs(token, drawing)
    return _is_for(token, drawing, fingerprint) and (bool(token.centers) or is_across)


def _is_for(token: ClassToken, drawing: Drawing, fingerprint: str) -> bool:
    """Whether it is of this backbone, and for scans of this kind."""
    return token.backbone.fingerprint == fingerprint and token.window.kind == drawing.window.kind


class Corrector(LevelsTuner):
    """Tuning that starts from a token's numbers, if they agree with the drawing.

    What a token knows of other scans, a few slices of this one should change little: its calibration stays, and what is
    kept lies half way between its numbers and those that were learned.
    """

    def __init__(
        self,
        token: ClassToken,
        drawing: Drawing,
        backbone: Backbone,
        encode: Callable[[Tensor], Features],
        options: TuningOptions,
        started: float,
        cancelled: Callable[[], bool],
        of_other_scans: bool = False,
    ):
        self.token, self._of_other_scans = token, of_other_scans
        self._numbers = {name: torch.from_numpy(n.copy()).to(backbone.device) for name, n in token.numbers.items()}
        if of_other_scans:
            self.under = token.calibration
        super().__init__(drawing, backbone, encode, options, token.prompting, started, cancelled)

    def _start(self, ready: Callable[[], None], improved: Callable[[], None]) -> dict[str, Tensor]:
        """The token's numbers: a probe of the head alone would only undo what its prompts have learned."""
        numbers = {name: value[None] for name, value in self._numbers.items()}
        if not self._of_other_scans and self._agreement(numbers) < AGREES_FROM:
            return super()._start(ready, improved)
        self.earlier = self.token
        self.steps = self.options.steps or STEPS
        ready()
        return self._numbers

    @property
    def wants_directions(self) -> bool:
        return not self._of_other_scans and super().wants_directions

    def calibration(self) -> Calibration:
        return self.under if self._of_other_scans else super().calibration()

    def _keep_if_better(self, parameters: dict[str, Tensor], step: int) -> tuple[float | None, bool]:
        if self._of_other_scans:
            parameters = {name: (value.detach() + self._numbers[name]) / 2 for name, value in parameters.items()}
        return super()._keep_if_better(parameters, step)
