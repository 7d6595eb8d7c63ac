"""Tuning of a network's weights where the product tunes prompts, all else the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from PromptSegLib.learning.levels_tuner import LevelsTuner
from PromptSegLib.learning.tuner import TuningProgress
from PromptSegLib.networks.backbone import freeze
from PromptSegLib.networks.head import class_logits
from Testing.benchmarks.methods.fine_tuning import NUMBERS_RATE
from Testing.benchmarks.methods.working import Crops, train


class WeightsTuner(LevelsTuner):
    """From the head that tuning of prompts guesses first, without these prompts, weights and head are trained for all
    of the time, and what the last step leaves is kept; then directions come beside, and a calibration, as for prompts.

    weights: of the network, at ``rate``; batch_statistics: whether batch norms normalize by those of a batch.
    """

    def __init__(self, *arguments: Any, weights: Sequence[nn.Parameter], rate: float, batch_statistics: bool):
        super().__init__(*arguments)
        self._weights, self._rate, self._batch_statistics = weights, rate, batch_statistics

    def run(
        self, ready: Callable[[], None], report: Callable[[TuningProgress], None], improved: Callable[[], None]
    ) -> None:
        points, truth = self._points()
        ready()
        guess = self._first_guess(points, truth, improved)
        self.best_prompting = "end"
        numbers = {name: value[None].clone().requires_grad_() for name, value in guess.items()}
        self._train(numbers)
        self._keep(numbers, 0, self._held_out_dsc(numbers))
        if self.wants_directions:
            self._keep(self._with_directions(), 0, None)

    def _train(self, numbers: dict[str, Tensor]) -> None:
        network = self.backbone

        def logits(images: Tensor) -> Tensor:
            features = network.encode(images.to(self.device), numbers)
            return class_logits(network.decode_levels(features, numbers), numbers, features.size)

        for weight in self._weights:
            weight.requires_grad_()
        groups: list[dict[str, object]] = [
            {"params": list(self._weights), "lr": self._rate},
            {"params": list(numbers.values()), "lr": NUMBERS_RATE},
        ]
        slices = [replace(part, known=known) for part, known in zip(self.drawing.slices, self.training, strict=True)]
        network.train(self._batch_statistics)
        train(logits, groups, Crops(slices, self.options.seed), time.monotonic() + self.options.seconds, self.device)
        freeze(network)
