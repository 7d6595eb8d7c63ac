"""Directions of all levels, in closed form: the linear map of a backbone's maps that tells drawn pixels best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.networks.head import direction_name

_SHRINKING = 0.2
"""Of ridge regression on maps of unit variance. Pixels of one patient are much alike, and what tells them says little
of the next patient's: leaving out scans in turn asks for a tenth of it, which finds other patients far worse."""

_FLATTEST, _STEEPEST = 1.0, 20.0
"""Of the logits over the scores, whose targets are -1 and 1."""


@dataclass(frozen=True)
class Points:
    """Some pixels of the drawn slices.

    embedding: (V, C), of unit length; levels: (V, sum of C), all maps side by side; channels: of each map; truth: (V,)
    share of the structure.
    """

    embedding: Tensor
    levels: Tensor
    channels: tuple[int, ...]
    truth: Tensor

    @classmethod
    def together(cls, parts: Sequence[Points]) -> Points:
        return cls(
            torch.cat([part.embedding for part in parts]),
            torch.cat([part.levels for part in parts]),
            parts[0].channels,
            torch.cat([part.truth for part in parts]),
        )

    @property
    def inside(self) -> Tensor:
        return self.truth > 0.5

    def along(self, directions: Mapping[str, Tensor]) -> Tensor:
        """Sum (V,) over all maps of how far the pixels lie along these directions; 0 where there are none."""
        names = [direction_name(level) for level in range(len(self.channels))]
        if any(name not in directions for name in names):
            return torch.zeros(len(self.truth))
        return self.levels @ torch.cat([directions[name] for name in names])


def at_pixels(maps: Sequence[Tensor], size: tuple[int, ...], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding (V, C) of unit length and levels (V, sum of C) of pixels (V, 2) of a slice of this size.

    maps: (1, C, *spatial) each; the first is the embedding.
    """
    grid = (2 * pixels.flip(1) + 1) / torch.tensor(size).flip(0) - 1

    def at(x: Tensor) -> Tensor:
        where = grid[None, None].to(x)
        return F.grid_sample(x, where, padding_mode="border", align_corners=False)[0, :, 0].T.cpu()

    levels = [at(x.float()) for x in maps]
    return F.normalize(levels[0], dim=1), torch.cat(levels, dim=1)


def fit_directions(points: Points) -> tuple[dict[str, Tensor], Tensor]:
    """Directions of all maps, and the offset (1,), that tell these pixels best: ridge regression in which structure and
    background weigh the same."""
    mean, deviation = points.levels.mean(0), points.levels.std(0).clamp_min(1e-4)
    x = torch.cat([(points.levels - mean) / deviation, torch.ones(len(points.truth), 1)], dim=1)
    inside = points.inside.float()
    share = inside.mean().clamp(1e-6, 1 - 1e-6)
    weighed = x * ((inside / share + (1 - inside) / (1 - share)) / (2 * len(x)))[:, None]
    matrix = weighed.T @ x + _SHRINKING * torch.eye(x.shape[1])
    solution = torch.linalg.solve(matrix, weighed.T @ (2 * inside - 1))
    scale, offset = _as_logits(x @ solution, inside)
    direction = scale * solution[:-1] / deviation
    ends = [0, *torch.cumsum(torch.tensor(points.channels), 0).tolist()]
    parts = {direction_name(level): direction[a:b].clone() for level, (a, b) in enumerate(pairwise(ends))}
    return parts, (scale * solution[-1] + offset - direction @ mean).reshape(1)


def _as_logits(scores: Tensor, truth: Tensor) -> tuple[float, float]:
    """Scale and offset that make logits of scores (V,), by logistic regression."""
    numbers = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([numbers], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(numbers[0] * scores + numbers[1], truth)
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)
    scale, offset = numbers.detach()
    return float(scale.clamp(_FLATTEST, _STEEPEST)), float(offset)
