"""Directions of all levels, in closed form: the linear map of a backbone's maps that tells drawn pixels best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.learning.drawing import Drawing, WorkingSlice
from PromptSegLib.learning.probe import reached, some_of_each
from PromptSegLib.networks.backbone import Prompts
from PromptSegLib.networks.head import direction_name, similarity_logits
from PromptSegLib.tokens.class_token import Calibration

_SHRINKING = 0.2
"""Of ridge regression on maps of unit variance. Pixels of one patient are much alike, and what tells them says little
of the next patient's: leaving out scans in turn asks for a tenth of it, which finds other patients far worse."""

_SHRINKING_OF_DIFFERENCE = 1.0
"""Likewise, where a token is changed, which knows more than these pixels."""

_AIR = -0.95
"""Windowed intensity up to which there is no tissue; lungs are brighter."""

_AROUND = 41
"""Pixels: the side of a square that reaches the structure where its middle is around it."""

_MARGIN = 2.0
"""Logit by which a pixel should lie on its side."""

_PIXELS, _LEAST_PIXELS = 2000, 100
"""Of each kind: of all slices together, and of each slice at least."""

_LEAST_DEVIATION = 1e-4
"""Of a channel: one that hardly changes tells nothing."""

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

    def similar(self, prompts: Prompts) -> Tensor:
        """Logits (1, V) by a class's tokens, which have a leading class axis."""
        return similarity_logits(self.embedding.T[None, :, None, :], prompts, (1, len(self.truth)))[:, 0]

    def along(self, directions: Mapping[str, Tensor]) -> Tensor:
        """Sum (V,) over all maps of how far the pixels lie along these directions; 0 where there are none."""
        names = [direction_name(level) for level in range(len(self.channels))]
        if any(name not in directions for name in names):
            return torch.zeros(len(self.truth))
        return self.levels @ torch.cat([directions[name] for name in names])


def points_of(
    drawing: Drawing,
    training: Sequence[Tensor],
    maps_of: Callable[[int], Sequence[Tensor]],
    generator: torch.Generator,
) -> Points:
    """Some pixels of every drawn slice.

    training: which of a slice are known and not held out, (1, h, w) bool; maps_of: its maps (1, C, *spatial), the
    embedding first.
    """
    found: list[Points] = []
    per_slice = max(_LEAST_PIXELS, _PIXELS // len(drawing.slices))
    of_empty = round(per_slice * drawing.empty_weight)
    dark = is_dark(drawing.slices)
    for number, (part, known) in enumerate(zip(drawing.slices, training, strict=True)):
        if not known.any():
            continue
        maps = maps_of(number)
        pixels = sample_body(part, known[0], of_empty if part.empty else per_slice, generator, dark)
        truth = part.target[0][pixels[:, 0], pixels[:, 1]]
        channels = tuple(level.shape[1] for level in maps)
        found.append(Points(*at_pixels(maps, tuple(part.target.shape[1:]), pixels), channels, truth))
    return Points.together(found)


def at_pixels(maps: Sequence[Tensor], size: tuple[int, ...], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Embedding (V, C) of unit length and levels (V, sum of C) of pixels (V, 2) of a slice of this size.

    maps: (1, C, *spatial) each; the first is the embedding.
    """
    grid = (2 * pixels.flip(1) + 1) / torch.tensor(size).flip(0) - 1

    def at(x: Tensor) -> Tensor:
        return F.grid_sample(x, grid[None, None], padding_mode="border", align_corners=False)[0, :, 0].T

    # On the CPU: Apple's graphics cards cannot in all versions of torch.
    levels = [at(x.float().cpu()) for x in maps]
    return F.normalize(levels[0], dim=1), torch.cat(levels, dim=1)


def is_dark(slices: Sequence[WorkingSlice]) -> bool:
    """Whether the structure is mostly air on these slices."""
    inside = [part.image[part.known & (part.target > 0.5)] for part in slices]
    return bool((torch.cat(inside) <= _AIR).float().mean() > 0.5)


def sample_body(
    part: WorkingSlice, known: Tensor, count: int, generator: torch.Generator, with_air: bool = False
) -> Tensor:
    """Indices (V, 2) of known pixels (h, w) of a slice: inside, around the structure, and anywhere else; at most
    ``count`` of each.

    with_air: for a structure that is dark itself. Else air is left out where there is anything else: it only tells
    that there is a body.
    """
    inside = known & (part.target[0] > 0.5)
    around = reached(part.target[0], _AROUND)
    outside, bright = known & (part.target[0] <= 0.5), part.image[0] > _AIR
    if bright[outside].any() and not with_air:
        outside = outside & bright
    return torch.cat(some_of_each((inside, outside & around, outside & ~around), count, generator))


def fit_directions(points: Points) -> tuple[dict[str, Tensor], Tensor]:
    """Directions of all maps, and the offset (1,), that tell these pixels best."""
    direction, offset = _ridge(points, 2 * points.inside.float() - 1, _SHRINKING)
    scale, shift = _as_logits(points.levels @ direction + offset, points.inside.float())
    return _by_level(scale * direction, points.channels), (scale * offset + shift).reshape(1)


def logits_of(points: Points, numbers: Mapping[str, Tensor]) -> Tensor:
    """(V,), by the numbers of a head, without a leading class axis."""
    return points.similar({name: value[None] for name, value in numbers.items()})[0] + points.along(numbers)


def threshold(logits: Tensor, inside: Tensor) -> Tensor:
    """(), half way between the means of the logits (V,) of pixels inside, bool (V,), and of the others."""
    return (logits[inside].mean() + logits[~inside].mean()) / 2


def changed(numbers: Mapping[str, Tensor], points: Points, under: Calibration) -> dict[str, Tensor]:
    """Numbers of a token, without a leading class axis, with other directions and another offset, which find these
    pixels better under its calibration: each is moved towards the side that it belongs on, and asks for nothing if it
    lies there by a margin already."""
    logits = under.scale * logits_of(points, numbers) + under.offset
    side = 2 * points.inside.float() - 1
    missing = side * (_MARGIN - side * logits).clamp_min(0)
    direction, offset = _ridge(points, missing / under.scale, _SHRINKING_OF_DIFFERENCE)
    difference = _by_level(direction, points.channels) | {"head.offset": offset.reshape(1)}
    return {
        name: value + difference[name].to(value) if name in difference else value for name, value in numbers.items()
    }


def _ridge(points: Points, target: Tensor, shrinking: float) -> tuple[Tensor, Tensor]:
    """Direction (sum of C,) and offset () of a ridge regression to targets (V,), in which structure and background
    weigh the same."""
    mean, deviation = points.levels.mean(0), points.levels.std(0).clamp_min(_LEAST_DEVIATION)
    x = torch.cat([(points.levels - mean) / deviation, torch.ones(len(target), 1)], dim=1)
    inside = points.inside.float()
    share = inside.mean().clamp(1e-6, 1 - 1e-6)
    weighed = x * ((inside / share + (1 - inside) / (1 - share)) / (2 * len(x)))[:, None]
    matrix = weighed.T @ x + shrinking * torch.eye(x.shape[1])
    solution = torch.linalg.solve(matrix, weighed.T @ target)
    direction = solution[:-1] / deviation
    return direction, solution[-1] - direction @ mean


def _by_level(direction: Tensor, channels: tuple[int, ...]) -> dict[str, Tensor]:
    return {direction_name(level): part.clone() for level, part in enumerate(direction.split(channels))}


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
    if not (scale > 0 and numbers.isfinite().all()):
        return _STEEPEST, 0.0
    kept = scale.clamp(_FLATTEST, _STEEPEST)
    # The threshold stays.
    return float(kept), float(offset * kept / scale)
