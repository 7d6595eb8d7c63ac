"""Tuning without deep prompts: a head is all that is learned, of the backbone's levels and in seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from PromptSegLib.learning.correcting import AGREES_FROM
from PromptSegLib.learning.directions import Points, changed, fit_directions, logits_of
from PromptSegLib.learning.drawing import Drawing
from PromptSegLib.learning.holding_out import dice
from PromptSegLib.learning.prototypes import kmeans
from PromptSegLib.learning.tuner import Tuner, TuningOptions, TuningProgress
from PromptSegLib.networks.backbone import Backbone, Features, Prompts
from PromptSegLib.networks.head import HEAD_TOKENS
from PromptSegLib.tokens.class_token import Calibration, ClassToken

FAINT_SCALE = 2.0
"""Of the tokens' similarities at first, beside directions that are fitted already."""

SILENT_SCALE = 1e-3
"""Where tokens shall say nothing beside them."""


class HeadTuner(Tuner):
    """A head from a drawing: directions in closed form, which make the first preview, then tokens that a probe fits,
    from prototypes of the embeddings on.

    Tokens fit the drawn scan's pixels, and those of others less: where these are what is learned for, directions alone
    tell more.
    """

    before: ClassToken | None = None
    """What was learned from an earlier state of the drawing: what it knows beyond its numbers stays if it agrees."""

    @cached_property
    def _kept(self) -> dict[int, Features]:
        return {}

    def run(
        self, ready: Callable[[], None], report: Callable[[TuningProgress], None], improved: Callable[[], None]
    ) -> None:
        points = self.levels_of_pixels()
        ready()
        if self.before is not None and self._agrees(self.before, points):
            self.earlier = self.before
        directions, offset = fit_directions(points)
        silent = self.drawing.is_for_others or not self.options.probe_steps
        tokens = {
            "head.foreground": kmeans(points.embedding[points.inside], HEAD_TOKENS, self.generator),
            "head.background": kmeans(points.embedding[~points.inside], HEAD_TOKENS, self.generator),
            "head.log_scale": torch.tensor([math.log(SILENT_SCALE if silent else FAINT_SCALE)]),
            "head.offset": offset,
        }
        self._show(tokens | directions, improved)
        if silent:
            return
        started, steps = time.monotonic(), self.options.probe_steps
        last = 0.0

        def tell(step: int, loss: float, head: Mapping[str, Tensor]) -> None:
            nonlocal last
            last = loss
            if step < steps:
                left = (steps - step) * (time.monotonic() - started) / step
                report(TuningProgress(step, steps, loss, self.best_dsc, left))

        along = points.along(directions)
        try:
            tokens = self._fit_head(tokens, points.embedding, points.truth, tell, along)
        except InterruptedError:
            return
        self._show(tokens | directions, improved)
        report(TuningProgress(steps, steps, last, self.best_dsc, 0.0))

    def _agrees(self, token: ClassToken, points: Points) -> bool:
        """Whether the token finds more than next to nothing of these pixels."""
        logits = logits_of(points, {name: torch.from_numpy(n.copy()) for name, n in token.numbers.items()})
        return dice(logits, points.truth, torch.ones_like(logits)) >= AGREES_FROM

    def _show(self, numbers: Mapping[str, Tensor], improved: Callable[[], None]) -> None:
        _, better = self._keep_if_better({name: value[None].to(self.device) for name, value in numbers.items()}, 0)
        if better:
            improved()

    def _features(self, number: int, prompts: Prompts | None) -> Features:
        """Of a drawn slice; kept of those that are looked at again."""
        if number in self._kept:
            return self._kept[number]
        image = self.drawing.slices[number].image[None].to(self.device)
        with torch.no_grad():
            features = self.encode(image)
        if number in self.evaluated:
            self._kept[number] = features
        return features


class HeadChanger(HeadTuner):
    """A change of a token's directions towards a drawing, drawn towards none: the token knows other scans than these.
    Its calibration stays.

    share: of the change that is kept; nothing is held out, since nothing is chosen by it.
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
        share: float = 0.5,
    ):
        self.under, self._share = token.calibration, share
        self._numbers = {name: torch.from_numpy(n.copy()) for name, n in token.numbers.items()}
        super().__init__(drawing, backbone, encode, options, token.prompting, started, cancelled)
        self.earlier = token
        self.best = {name: value.to(self.device) for name, value in self._numbers.items()}

    @staticmethod
    def suits(token: ClassToken) -> bool:
        """Whether directions are what it was learned in."""
        return token.is_head_alone and token.has_directions

    def _split(self) -> tuple[list[Tensor], list[Tensor]]:
        return [part.known for part in self.drawing.slices], [torch.zeros_like(p.known) for p in self.drawing.slices]

    def run(
        self, ready: Callable[[], None], report: Callable[[TuningProgress], None], improved: Callable[[], None]
    ) -> None:
        try:
            points = self.levels_of_pixels()
        except InterruptedError:
            return
        ready()
        new = changed(self._numbers, points, self.under)
        self._show({name: torch.lerp(old, new[name], self._share) for name, old in self._numbers.items()}, improved)

    def calibration(self) -> Calibration:
        return self.under
