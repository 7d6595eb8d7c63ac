"""Our own backbone, but with all or some of its weights set free, for as long as PromptSeg learned."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.levels_tuner import LevelsTuner
from PromptSegLib.learning.tuning import tune
from PromptSegLib.networks.backbone import BackboneModule, freeze
from PromptSegLib.networks.head import class_logits, head_shapes
from Testing.benchmarks.methods.method import Method, Setup, as_drawn
from Testing.benchmarks.methods.partial import Free, decoder, everything
from Testing.benchmarks.methods.working import Crops, Slicewise, train

RATE, NUMBERS_RATE = 1e-4, 3e-3
FEW_WEIGHTS_RATE = 1e-3
"""For biases and for what is added to the weights, as is usual: there is less to break."""


@dataclass(frozen=True)
class Adapted:
    """A backbone and the numbers of one class: images (n, 1, h, w) to logits (n, h, w).

    numbers: of the head, and of deep prompts if there are any, each on a leading axis of 1.
    """

    backbone: BackboneModule
    numbers: Mapping[str, Tensor]

    @classmethod
    def of(cls, backbone: BackboneModule, numbers: Mapping[str, np.ndarray]) -> Adapted:
        """numbers: as a token holds them."""
        return cls(
            backbone,
            {name: torch.from_numpy(value.copy())[None].to(backbone.device) for name, value in numbers.items()},
        )

    def __call__(self, images: Tensor) -> Tensor:
        features = self.backbone.encode(images.to(self.backbone.device), self.numbers)
        return class_logits(self.backbone.decode_levels(features, self.numbers), self.numbers, features.size)


def fine_tune(scans: Sequence[DrawnScan], setup: Setup, free: Free) -> Slicewise:
    """From the head that tuning of deep prompts guesses first, without these prompts. Batch norms keep their
    statistics, which four crops cannot replace."""
    until = time.monotonic() + setup.seconds
    backbone = setup.backbone
    deep = replace(setup.options, prompting=backbone.default_prompting, seconds=0.0)
    # Directions that the guess then goes without would leave their offset behind.
    with patch.object(LevelsTuner, "wants_directions", False):
        guess = tune(scans, "Structure", backbone, deep)
    drawing = prepare_drawing(scans)
    net = deepcopy(backbone)
    weights = [parameter.requires_grad_() for parameter in free(net)]
    network = Adapted.of(net, {name: guess.numbers[name] for name in head_shapes(net.embedding_channels)})
    numbers = [number.requires_grad_() for number in network.numbers.values()]
    groups: list[dict[str, object]] = [{"params": weights, "lr": RATE}, {"params": numbers, "lr": NUMBERS_RATE}]
    train(network, groups, Crops(drawing.slices, setup.seed), until, net.device)
    freeze(net)
    return Slicewise.of(network, drawing)


def find(learned: Slicewise, image: Volume, annotation: Annotation | None) -> np.ndarray:
    return as_drawn(learned(image), annotation)


def _method(key: str, name: str, free: Free) -> Method:
    return Method(key, name, partial(fine_tune, free=free), find, timed=True, across=True)


FULL = _method("full-fine-tuning", "full fine-tuning", everything)
DECODER = _method("decoder-fine-tuning", "decoder fine-tuning", decoder)
