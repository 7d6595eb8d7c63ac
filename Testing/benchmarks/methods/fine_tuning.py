"""Our own backbone, but with its weights set free, for as long as PromptSeg learned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.tuning import tune
from PromptSegLib.networks.head import class_logits
from Testing.benchmarks.methods.method import Method, Setup, as_drawn
from Testing.benchmarks.methods.working import Crops, Slicewise, train

RATE, NUMBERS_RATE = 1e-4, 3e-3


def _learn(scans: Sequence[DrawnScan], setup: Setup, decoder_only: bool) -> Slicewise:
    """From the first guess that tuning makes; batch norms keep their statistics, which four crops cannot replace."""
    until = time.monotonic() + setup.seconds
    guess = tune(scans, "Structure", setup.backbone, replace(setup.options, seconds=0.0))
    drawing = prepare_drawing(scans)
    device = setup.backbone.device
    net = deepcopy(setup.backbone).requires_grad_(not decoder_only)
    net.decoder.requires_grad_(True)
    numbers = {
        name: torch.from_numpy(value.copy())[None].to(device).requires_grad_() for name, value in guess.numbers.items()
    }

    def network(images: Tensor) -> Tensor:
        features = net.encode(images.to(device), numbers)
        return class_logits(net.decode(features, numbers), numbers, features.size)

    groups: list[dict[str, object]] = [
        {"params": [p for p in net.parameters() if p.requires_grad], "lr": RATE},
        {"params": list(numbers.values()), "lr": NUMBERS_RATE},
    ]
    train(network, groups, Crops(drawing.slices, setup.seed), until, device)
    return Slicewise.of(network, drawing)


def _find(learned: Slicewise, image: Volume, annotation: Annotation | None) -> np.ndarray:
    return as_drawn(learned(image), annotation)


FULL = Method(
    "full-fine-tuning", "full fine-tuning", partial(_learn, decoder_only=False), _find, timed=True, across=True
)
DECODER = Method(
    "decoder-fine-tuning", "decoder fine-tuning", partial(_learn, decoder_only=True), _find, timed=True, across=True
)
