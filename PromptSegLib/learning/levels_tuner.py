"""Tuning of deep prompts for other scans: directions of the maps that they steer come beside the tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from PromptSegLib.learning.directions import fit_directions
from PromptSegLib.learning.tuner import Tuner, TuningProgress
from PromptSegLib.networks.backbone import direction_channels
from PromptSegLib.networks.head import is_direction


class LevelsTuner(Tuner):
    """Prompts and tokens by gradients; then, where it is for other scans that they are learned, directions in closed
    form. A logit is the mean of what either says: they err on different pixels of other scans.
    """

    def run(
        self, ready: Callable[[], None], report: Callable[[TuningProgress], None], improved: Callable[[], None]
    ) -> None:
        super().run(ready, report, improved)
        if not self.wants_directions or any(is_direction(name) for name in self.best):
            return
        try:
            numbers = self._with_directions()
        except InterruptedError:
            return
        # What is held out lies in the scans that were learned from: prompts that know these too well would seem better.
        self._keep(numbers, self.best_step, self._held_out_dsc(numbers))
        improved()

    @property
    def wants_directions(self) -> bool:
        return self.drawing.is_for_others and bool(direction_channels(self.backbone))

    def _with_directions(self) -> dict[str, Tensor]:
        """The best numbers, with a leading class axis, and directions beside them."""
        best = {name: value[None] for name, value in self.best.items()}
        directions, offset = fit_directions(self.levels_of_pixels(best))
        return half_of_each(best, directions, offset, self.device)


def half_of_each(
    tokens: Mapping[str, Tensor], directions: Mapping[str, Tensor], offset: Tensor, device: torch.device
) -> dict[str, Tensor]:
    """Numbers, with a leading class axis, whose logit is the mean of two heads' logits.

    tokens: of one without directions, with that axis; directions, offset (1,): of one without tokens, without it.
    """
    return {
        **tokens,
        **{name: value[None].to(device) / 2 for name, value in directions.items()},
        "head.log_scale": tokens["head.log_scale"] - math.log(2),
        "head.offset": (tokens["head.offset"] + offset[None].to(device)) / 2,
    }
