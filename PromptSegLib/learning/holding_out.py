"""What of a drawing is held out from tuning, and what it tells: when to stop, and how sure a token is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.learning.drawing import WorkingSlice
from PromptSegLib.tokens.class_token import Calibration

HELD_OUT_TILE = 16
HELD_OUT_SHARE = 0.15
WHOLE_SLICES_FROM = 8
"""From this many slices of the structure on, whole slices are held out; with fewer, tiles of every slice."""

_CALIBRATION_DECAY = 50.0
"""How many pixels' evidence it takes to move the calibration away from none."""


def split(
    slices: Sequence[WorkingSlice], generator: torch.Generator, empty_too: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Known pixels to train on and known pixels held out, per slice, (1, h, w) bool each.

    empty_too: where whole slices are held out, also some that do not show the structure.

    Nothing is held out where training would be left without any of the structure, or of what surrounds it.
    """
    training, held_out = [], []
    showing = [i for i, part in enumerate(slices) if (part.known & (part.target > 0.5)).any()]
    whole = len(showing) >= WHOLE_SLICES_FROM
    chosen: set[int] = set()
    if whole:
        # Of those that show it inner slices only: nothing else stands in for the ends of the structure.
        order = torch.randperm(len(showing) - 2, generator=generator) + 1
        chosen = {showing[i] for i in order[: round(HELD_OUT_SHARE * len(showing))].tolist()}
        if empty_too:
            empty = [i for i, part in enumerate(slices) if i not in showing and part.known.any()]
            order = torch.randperm(len(empty), generator=generator)
            chosen |= {empty[i] for i in order[: math.ceil(HELD_OUT_SHARE * len(empty))].tolist()}
    for number, part in enumerate(slices):
        aside = torch.full_like(part.known, number in chosen) if whole else _some_tiles(part, generator.initial_seed())
        training.append(part.known & ~aside)
        held_out.append(part.known & aside)
    pairs = list(zip(training, slices, strict=True))
    inside = any(bool((k & (p.target > 0.5)).any()) for k, p in pairs)
    outside = any(bool((k & (p.target <= 0.5)).any()) for k, p in pairs)
    if not (inside and outside):
        return [p.known for p in slices], [torch.zeros_like(p.known) for p in slices]
    return training, held_out


def _some_tiles(part: WorkingSlice, seed: int) -> Tensor:
    """Tiles of a slice, (1, h, w) bool; none if all of the structure, or nothing of it, would lie in them.

    The same in every round: what is held out was never trained on, also by the token that tuning goes on from.
    """
    generator = torch.Generator().manual_seed(seed + part.seed)
    rows, columns = (n // HELD_OUT_TILE for n in part.known.shape[1:])
    tiles = torch.rand(1, 1, rows, columns, generator=generator) < HELD_OUT_SHARE
    aside = F.interpolate(tiles.float(), scale_factor=HELD_OUT_TILE, mode="nearest")[0] > 0.5
    inside = part.known & (part.target > 0.5)
    if not (inside & aside).any() or not (inside & ~aside).any():
        return torch.zeros_like(part.known)
    return aside


def some_holding(held_out: Sequence[Tensor], most: int, generator: torch.Generator) -> list[int]:
    """Positions of slices of which something is held out, ``most`` of them at the most."""
    holding = [i for i, known in enumerate(held_out) if known.any()]
    if len(holding) <= most:
        return holding
    order = torch.randperm(len(holding), generator=generator)[:most]
    return sorted(holding[i] for i in order.tolist())


def dice(logits: Tensor, target: Tensor, weights: Tensor) -> float:
    """DSC of pixels (V,) at a threshold of 0, with targets (V,) in [0, 1]. weights: (V,), how many pixels of the scan
    each stands for."""
    found, truth = (logits > 0) * weights, (target > 0.5) * weights
    return 2 * float((found * (target > 0.5)).sum()) / max(1.0, float(found.sum() + truth.sum()))


def calibrate(logits: Tensor, target: Tensor, weights: Tensor) -> Calibration:
    """Platt scaling of logits (V,) to targets (V,) with weights (V,), drawn towards no change where these are few."""
    log_scale, offset = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_scale, offset], max_iter=30)

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = log_scale.exp() * logits + offset
        loss = F.binary_cross_entropy_with_logits(found, target, weights, reduction="sum")
        loss = loss + _CALIBRATION_DECAY * (log_scale.square() + offset.square()).sum()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)
    scale, shift = float(log_scale.detach().exp()), float(offset.detach())
    if not (math.isfinite(scale) and math.isfinite(shift) and 0.1 <= scale <= 10):
        return Calibration()
    return Calibration(round(scale, 6), round(shift, 6))
