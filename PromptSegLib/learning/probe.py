"""A probe: the head's numbers that fit the embeddings of some pixels, before any prompt is tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.learning.losses import known_dice_focal
from PromptSegLib.networks.head import class_logits

GLIMPSE_STEPS = 30
"""Steps of the probe after which its head is worth a look."""

_RATE = 2e-2
_CLOSE = 13
"""Pixels: the side of a square that reaches the structure where its middle is close to it."""


def fit_head(
    numbers: Mapping[str, Tensor],
    points: Tensor,
    truth: Tensor,
    steps: int,
    check: Callable[[], None] = lambda: None,
    glimpse: Callable[[dict[str, Tensor]], None] = lambda numbers: None,
) -> dict[str, Tensor]:
    """The head's numbers that fit these pixels best.

    Args:
        numbers: of the head, to start from, without a leading class axis.
        points: embeddings (V, C).
        truth: (V,), 1 on the structure and 0 beside it.
        check: called before every step, and may raise to end it.
        glimpse: called with the numbers as they are after GLIMPSE_STEPS.
    """
    parameters = {name: value[None].clone().requires_grad_() for name, value in numbers.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=_RATE)
    embedding = points.T[None, :, None, :]
    for step in range(steps):
        if step == GLIMPSE_STEPS:
            glimpse({name: value.detach()[0].clone() for name, value in parameters.items()})
        check()
        logits = class_logits(embedding, parameters, (1, len(points)))[:, 0]
        loss = known_dice_focal(logits, truth[None], torch.ones_like(logits))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
    return {name: value.detach()[0] for name, value in parameters.items()}


def sample_pixels(target: Tensor, known: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """Indices (V, 2) of known pixels of a slice (h, w): inside, close outside, where the edge is decided, and anywhere
    outside; at most ``count`` of each."""
    inside = known & (target > 0.5)
    near = F.max_pool2d(target[None, None], _CLOSE, 1, _CLOSE // 2)[0, 0] > 0.5
    chosen = []
    for mask in (inside, known & ~inside & near, known & ~inside & ~near):
        pixels = torch.nonzero(mask)
        order = torch.randperm(len(pixels), generator=generator)[:count]
        chosen.append(pixels[order])
    return chosen
