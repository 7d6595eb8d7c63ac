"""A probe: the head's tokens that fit the embeddings of some pixels, beside directions that are fitted already, before
any prompt is tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.learning.directions import Points
from PromptSegLib.learning.drawing import WorkingSlice
from PromptSegLib.learning.losses import known_dice_focal
from PromptSegLib.networks.head import is_direction

FAINT_SCALE = 2.0
"""Of the tokens' similarities at first, beside directions that are fitted already."""

SILENT_SCALE = 1e-3
"""Where tokens shall say nothing beside them."""

_RATE = 2e-2
_AIR = -0.95
"""Windowed intensity up to which there is no tissue; lungs are brighter."""

_AROUND = 41
"""Pixels: the side of a square that reaches the structure where its middle is around it."""


def fit_head(
    numbers: Mapping[str, Tensor],
    points: Points,
    steps: int,
    check: Callable[[], None] = lambda: None,
    tell: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, Tensor]:
    """The head's tokens that fit these pixels best; directions stay as they are.

    Args:
        numbers: of the head, to start from, without a leading class axis.
        check: called before every step, and may raise to end it.
        tell: called after every step with its number, 1, 2, …, and its loss.
    """
    directions = {name: value for name, value in numbers.items() if is_direction(name)}
    tuned = {name: value[None].clone().requires_grad_() for name, value in numbers.items() if name not in directions}
    optimizer = torch.optim.Adam(tuned.values(), lr=_RATE)
    along = points.along(directions)[None]
    truth = points.truth[None]
    for step in range(1, steps + 1):
        check()
        logits = points.similar(tuned) + along
        loss = known_dice_focal(logits, truth, torch.ones_like(logits))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        tell(step, float(loss.detach()))
    return {name: value.detach()[0] for name, value in tuned.items()} | directions


def sample_pixels(part: WorkingSlice, known: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Indices (V, 2) of known pixels (h, w) of a slice: inside, around the structure, and anywhere else; at most
    ``count`` of each. Air is left out, which only tells that there is a body, unless the structure is dark itself or
    there is nothing else."""
    inside = known & (part.target[0] > 0.5)
    around = F.max_pool2d(part.target[None], _AROUND, 1, _AROUND // 2)[0, 0] > 0.5
    outside, bright = known & (part.target[0] <= 0.5), part.image[0] > _AIR
    if bright[outside].any() and not (inside.any() and bright[inside].float().mean() < 0.5):
        outside = outside & bright
    chosen = []
    for mask in (inside, outside & around, outside & ~around):
        pixels = torch.nonzero(mask)
        order = torch.randperm(len(pixels), generator=generator)[:count]
        chosen.append(pixels[order])
    return torch.cat(chosen)
