"""Differences to a token's numbers, each learned from some scans."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.learning.directions import logits_of, threshold
from PromptSegLib.learning.drawing import Drawing, DrawnScan
from PromptSegLib.learning.head_tuner import HeadChanger
from PromptSegLib.learning.holding_out import split
from PromptSegLib.learning.tuner import Tuner, TuningOptions, TuningProgress
from PromptSegLib.networks.backbone import Backbone
from PromptSegLib.networks.head import is_direction
from PromptSegLib.tokens.class_token import ClassToken

_PULL = 1.0
"""Weight, per scan, of how far the numbers have gone from where they started, in relation to their size."""

_PROBED_BELOW = 0.3
"""DSC of the token's network alone on what is held out, or on all where nothing is, below which its head is no good
start."""

Difference = dict[str, np.ndarray]
"""float16 by the name of the number that it is added to; numbers that do not differ are left out."""


def divided(scans: Sequence[DrawnScan], parts: int, seed: int) -> list[list[DrawnScan]]:
    """As many parts of the scans, by chance; each scan is in one of them, and they differ by one scan at the most."""
    order = torch.randperm(len(scans), generator=torch.Generator().manual_seed(seed)).tolist()
    bounds = [len(scans) * number // parts for number in range(parts + 1)]
    return [[scans[number] for number in order[first:last]] for first, last in itertools.pairwise(bounds)]


def learn_difference(
    token: ClassToken,
    drawing: Drawing,
    backbone: Backbone,
    options: TuningOptions,
    *,
    report: Callable[[TuningProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Difference, int]:
    """A difference to the token's numbers, drawn towards none unless the token finds next to nothing, and after which
    step it was best: none at all is after step 0. Directions of a head alone are changed in closed form, without any
    step; beside deep prompts, they stay.

    Args:
        drawing: as the token sees it.
        options: the prompting is the token's, whatever they say.
        report: called after every step.
        cancelled: asked between any two steps.

    Raises:
        InterruptedError: once it was cancelled.
        InputError: if the time was over before the first step.
    """
    if HeadChanger.suits(token):
        changer = HeadChanger(
            token, drawing, backbone, backbone.encode, options, time.monotonic(), cancelled, share=1.0
        )
        changer.run(lambda: None, report, lambda: None)
        if cancelled():
            raise InterruptedError("learning was cancelled")
        return _difference(changer.best, token), 0
    tuner = _DifferenceTuner(token, drawing, backbone, options, cancelled)
    tuner.run(lambda: None, report, lambda: None)
    if cancelled():
        raise InterruptedError("learning was cancelled")
    if not tuner.steps_taken:
        raise InputError("the time limit is too short to learn anything from these scans: give more --seconds")
    return _difference(tuner.best, token), tuner.best_step


def _difference(numbers: Mapping[str, Tensor], token: ClassToken) -> Difference:
    """What these numbers differ from the token's by."""
    rounded = {name: (value.cpu().numpy() - token.numbers[name]).astype(np.float16) for name, value in numbers.items()}
    return {name: difference for name, difference in rounded.items() if difference.any()}


class _DifferenceTuner(Tuner):
    """Tuning that starts from a token's numbers and stays close to them."""

    most_evaluated = 10

    def __init__(
        self,
        token: ClassToken,
        drawing: Drawing,
        backbone: Backbone,
        options: TuningOptions,
        cancelled: Callable[[], bool],
    ):
        self.base = {name: torch.from_numpy(n.copy()).to(backbone.device) for name, n in token.numbers.items()}
        self.under = token.calibration
        self._sizes = {name: float(n.square().mean().clamp_min(1e-2)) for name, n in self.base.items()}
        self._anchor = self.base
        super().__init__(drawing, backbone, backbone.encode, options, token.prompting, time.monotonic(), cancelled)

    def _split(self) -> tuple[list[Tensor], list[Tensor]]:
        return split(self.drawing.slices, self.generator, empty_too=True)

    def _start(self, ready: Callable[[], None], improved: Callable[[], None]) -> dict[str, Tensor]:
        """The base; where its head fits the center badly, with one that a probe fits to the drawn pixels.

        A probe sees as many pixels of the structure as of anything else, and finds too much: it is a better start only
        where the base finds next to nothing.
        """
        base = {name: value[None] for name, value in self.base.items()}
        dsc, _ = self._keep_if_better(base, 0)
        if (self._agreement(base) if dsc is None else dsc) > _PROBED_BELOW:
            return self.base
        head = {n: value.cpu() for n, value in self.base.items() if n.startswith("head") and not is_direction(n)}
        along = {name: value.cpu() for name, value in self.base.items() if is_direction(name)}
        if along:
            points = self.levels_of_pixels(base)
            # A probe takes small steps, and directions may be far off here.
            between = threshold(logits_of(points, head | along), points.inside)
            head["head.offset"] = head["head.offset"] - between
            fitted = self._fit_head(head, points.embedding, points.truth, beside=points.along(along))
        else:
            fitted = self._fit_head(head, *self._points(base))
        self._anchor = self.base | fitted
        return self._anchor

    def _pull(self, parameters: Mapping[str, Tensor]) -> Tensor:
        terms = [
            (value[0] - self._anchor[name]).square().mean() / self._sizes[name]
            for name, value in parameters.items()
            if not is_direction(name)
        ]
        return _PULL / self.drawing.scans * torch.stack(terms).sum()
