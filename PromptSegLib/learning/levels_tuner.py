"""Tuning of deep prompts for other scans: directions of the maps that they steer come beside the tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from PromptSegLib.learning.directions import fit_directions
from PromptSegLib.learning.drawing import Drawing
from PromptSegLib.learning.tuner import Tuner, TuningOptions, TuningProgress
from PromptSegLib.networks.backbone import Backbone
from PromptSegLib.networks.head import is_direction
from PromptSegLib.tokens.class_token import ClassToken


class LevelsTuner(Tuner):
    """Prompts and tokens by gradients; then, where it is for other scans that they are learned, directions in closed
    form. A logit is the mean of what either says: they err on different pixels of other scans.
    """

    def run(
        self, ready: Callable[[], None], report: Callable[[TuningProgress], None], improved: Callable[[], None]
    ) -> None:
        super().run(ready, report, improved)
        if self.earlier is not None or not self.drawing.is_for_others or not self.backbone.level_channels:
            return
        try:
            numbers = self._with_directions()
        except InterruptedError:
            return
        # What is held out lies in the scans that were learned from: prompts that know these too well would seem better.
        self._keep(numbers, self.best_step, self._held_out_dsc(numbers))
        improved()

    def _with_directions(self) -> dict[str, Tensor]:
        """The best numbers, with a leading class axis, and directions beside them."""
        best = {name: value[None] for name, value in self.best.items()}
        return half_of_each(best, self.fitted_directions(), self.device)

    def fitted_directions(self) -> dict[str, Tensor]:
        """Of the maps under the best numbers' prompts, and the offset of a head of these alone."""
        points = self.levels_of_pixels({name: value[None] for name, value in self.best.items()})
        directions, offset = fit_directions(points)
        return directions | {"head.offset": offset}


def half_of_each(
    tokens: Mapping[str, Tensor], directions: Mapping[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """Numbers, with a leading class axis, whose logit is the mean of two heads' logits.

    tokens: of one without directions, with that axis; directions: and the offset, of one without tokens, without it.
    """
    added = {name: value[None].to(device) / 2 for name, value in directions.items()}
    return (
        dict(tokens)
        | {name: value for name, value in added.items() if is_direction(name)}
        | {
            "head.log_scale": tokens["head.log_scale"] - math.log(2),
            "head.offset": tokens["head.offset"] / 2 + added["head.offset"],
        }
    )


def refitted(
    token: ClassToken, drawing: Drawing, backbone: Backbone, options: TuningOptions, cancelled: Callable[[], bool]
) -> ClassToken:
    """A token whose prompts have changed since its directions were fitted, with directions and a calibration anew.

    Args:
        drawing: as the token sees it.

    Raises:
        InterruptedError: once it was cancelled.
    """
    tuner = LevelsTuner(drawing, backbone, backbone.encode, options, token.prompting, time.monotonic(), cancelled)
    tuner.best = {name: torch.from_numpy(n.copy()).to(tuner.device) for name, n in token.numbers.items()}
    for name, value in tuner.fitted_directions().items():
        # The offset is the calibration's to find.
        if is_direction(name):
            tuner.best[name] = value.to(tuner.device) / 2
    numbers = {name: value.cpu().numpy() for name, value in tuner.best.items()}
    return replace(token, numbers=numbers, calibration=tuner.calibration())
