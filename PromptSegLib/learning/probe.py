"""A probe: the head's numbers that fit the embeddings of some pixels, before any prompt is tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.learning.losses import known_dice_focal
from PromptSegLib.networks.head import similarity_logits

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
    tell: Callable[[int, float, Mapping[str, Tensor]], None] = lambda step, loss, numbers: None,
    beside: Tensor | None = None,
) -> dict[str, Tensor]:
    """The head's tokens, scale and offset that fit these pixels best.

    Args:
        numbers: of the head, to start from, without a leading class axis.
        points: embeddings (V, C).
        truth: (V,), 1 on the structure and 0 beside it.
        check: called before every step, and may raise to end it.
        tell: called after every step with its number, 1, 2, …, its loss, and the numbers as they are, which go on
            changing.
        beside: logits (V,) that are added to those of the tokens.
    """
    parameters = {name: value[None].clone().requires_grad_() for name, value in numbers.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=_RATE)
    embedding = points.T[None, :, None, :]
    for step in range(1, steps + 1):
        check()
        logits = similarity_logits(embedding, parameters, (1, len(points)))[:, 0]
        if beside is not None:
            logits = logits + beside
        loss = known_dice_focal(logits, truth[None], torch.ones_like(logits))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        tell(step, float(loss.detach()), {name: value.detach()[0] for name, value in parameters.items()})
    return {name: value.detach()[0] for name, value in parameters.items()}


def sample_pixels(target: Tensor, known: Tensor, count: int, generator: torch.Generator) -> list[Tensor]:
    """Indices (V, 2) of known pixels of a slice (h, w): inside, close outside, where the edge is decided, and anywhere
    outside; at most ``count`` of each."""
    inside = known & (target > 0.5)
    near = reached(target, _CLOSE)
    return some_of_each((inside, known & ~inside & near, known & ~inside & ~near), count, generator)


def reached(target: Tensor, side: int) -> Tensor:
    """Where (h, w) a square of this side, in pixels, reaches the structure if its middle is there."""
    along_rows = F.max_pool2d(target[None, None], (1, side), 1, (0, side // 2))
    return F.max_pool2d(along_rows, (side, 1), 1, (side // 2, 0))[0, 0] > 0.5


def some_of_each(masks: Iterable[Tensor], count: int, generator: torch.Generator) -> list[Tensor]:
    """Indices (V, 2) of pixels of each mask (h, w), by chance, at most ``count`` of each."""
    chosen = []
    for mask in masks:
        pixels = torch.nonzero(mask)
        order = torch.randperm(len(pixels), generator=generator)[:count]
        chosen.append(pixels[order])
    return chosen
