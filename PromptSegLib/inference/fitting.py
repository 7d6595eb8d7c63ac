"""Shapes from other scans, laid over what was found of a structure: they tell what of it is no part of the structure,
and what is missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special
from torch import Tensor

from PromptSegLib.tokens.shape import Shape

EDGE_MM = 4.0
"""How far a fitted shape's surface is usually off: of one patient's organs on another's, 2 to 4 mm. From 3 to 8 mm, the
mean DSC on training patients changes by less than 0.01."""

SUREST_LOGIT = 6.0
"""The most that a shape says for or against a voxel."""

_SIZE_SPREAD, _TURN_SPREAD = 0.15, 0.15
"""Standard deviations of the logarithm of a shape's size and of its turns, in radians, between patients."""

_PRIOR_WEIGHT = 0.02
_SOFTNESS_MM = 2.0
_MOST_STEP_MM = 5.0
_STEPS_ACROSS = 4
_MOST_POINTS = 30_000
"""A shape is compared with what was found at points so far apart: some across a small structure, and of a large one no
more than these."""

_STEPS = 40
_SHIFT_RATE, _OTHER_RATE = 0.3, 0.03
"""Of the points' distance, and of the logarithm of the size and radians: the most in one step."""

_SHARPNESS = 0.05
"""How much worse a shape fits, as a loss, that counts 1 / e as much as another one."""

_NO_SHAPE = 0.9
"""The loss from which on nothing said is better than what a shape says. Of shapes that help, it is up to 0.8, where
much more was found than the structure."""


@dataclass(frozen=True)
class Template:
    """Shapes of other patients, one or several, as they would lie on a stack; axes: (3, 3), column k is how far the
    stack's axis k goes towards left, posterior and superior."""

    shapes: Sequence[Shape]
    axes: np.ndarray

    def logits(
        self,
        probability: np.ndarray,
        middle_mm: np.ndarray,
        spacing: Sequence[float],
        check: Callable[[], None] = lambda: None,
    ) -> np.ndarray:
        """What the shapes say for or against each voxel, once each is moved, turned and scaled so that it overlaps best
        with what was found.

        Args:
            probability: of what was found, float32 in [0, 1], (slices, rows, columns).
            middle_mm: of what was found, along these axes, from the first voxel: where fitting starts.
            spacing: mm along these axes.
            check: called often, and may raise to end it.

        Returns:
            float32 of the same shape, at most SUREST_LOGIT either way.
        """
        # A shape's array goes towards superior, posterior and left.
        fits = [_fit(shape, probability, middle_mm, spacing, self.axes[::-1], check) for shape in self.shapes]
        losses = np.array([loss for _, loss in fits] + [_NO_SHAPE])
        weights = special.softmax(-losses / _SHARPNESS)[:-1]
        distances = sum(np.float32(weight) * distance for (distance, _), weight in zip(fits, weights, strict=True))
        logits: np.ndarray = SUREST_LOGIT * np.tanh(distances / np.float32(EDGE_MM * SUREST_LOGIT))
        return logits


@torch.enable_grad()
def _fit(
    shape: Shape,
    probability: np.ndarray,
    middle_mm: np.ndarray,
    spacing: Sequence[float],
    axes: np.ndarray,
    check: Callable[[], None],
) -> tuple[np.ndarray, float]:
    """Distances in mm (slices, rows, columns) to the surface of the fitted shape, and how badly it fits: one minus the
    soft overlap (F. Milletari et al., "V-Net", 3DV 2016), and what a size and turns that are unusual cost."""
    step_mm = _step_mm(shape, math.prod(spacing) * probability.size)
    steps = [min(max(1, round(step_mm / mm)), count) for mm, count in zip(spacing, probability.shape, strict=True)]
    whole = torch.from_numpy(np.ascontiguousarray(probability, dtype=np.float32))
    found = F.avg_pool3d(whole[None], steps, ceil_mode=True)[0]
    places = _places(found.shape, [step * mm for step, mm in zip(steps, spacing, strict=True)])
    places += torch.tensor([(step - 1) / 2 * mm for step, mm in zip(steps, spacing, strict=True)])
    distances, to_body = torch.from_numpy(shape.distances_mm), torch.from_numpy(axes.astype(np.float32))
    shift = torch.tensor(middle_mm, dtype=torch.float32, requires_grad=True)
    growth, turns = torch.zeros(1, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam(
        [{"params": [shift], "lr": _SHIFT_RATE * step_mm}, {"params": [growth, turns], "lr": _OTHER_RATE}]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)

    def laid(places: Tensor) -> Tensor:
        """The distances at places (…, 3), mm along the axes of ``probability``."""
        scale = growth.exp()
        return scale * _distances_at(distances, shape.spacing_mm, (places - shift) @ to_body.T @ _turn(turns) / scale)

    loss = torch.zeros(())
    for _ in range(_STEPS):
        check()
        inside = torch.sigmoid(laid(places) / _SOFTNESS_MM)
        overlap = 2 * (inside * found).sum() / (inside.sum() + found.sum() + 1e-6)
        unusual = (growth / _SIZE_SPREAD).square().sum() + (turns / _TURN_SPREAD).square().sum()
        loss = 1 - overlap + _PRIOR_WEIGHT * unusual
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        fitted: np.ndarray = laid(_places(probability.shape, spacing)).numpy()
    return fitted, float(loss.detach())


def _step_mm(shape: Shape, volume_mm3: float) -> float:
    """Distance of the points, in a box of this volume, at which this shape is compared with what was found."""
    inside_mm3 = np.count_nonzero(shape.distances > 0) * shape.spacing_mm**3
    across_mm = (6 * inside_mm3 / math.pi) ** (1 / 3)
    fewest_mm: float = (volume_mm3 / _MOST_POINTS) ** (1 / 3)
    return max(min(_MOST_STEP_MM, across_mm / _STEPS_ACROSS), fewest_mm)


def _places(counts: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """(slices, rows, columns, 3) in mm from the first voxel."""
    along = [torch.arange(count) * float(mm) for count, mm in zip(counts, spacing, strict=True)]
    return torch.stack(torch.meshgrid(*along, indexing="ij"), dim=-1)


def _distances_at(distances: Tensor, spacing_mm: float, offsets: Tensor) -> Tensor:
    """At these offsets (…, 3) from the middle of the grid, in mm; beyond it, less by how far they are beyond."""
    reach = (torch.tensor(distances.shape) - 1) / 2 * spacing_mm
    within = torch.minimum(torch.maximum(offsets, -reach), reach)
    sampled = F.grid_sample(distances[None, None], (within / reach).flip(-1)[None], align_corners=True)[0, 0]
    return sampled - (offsets - within).square().sum(dim=-1).clamp_min(1e-12).sqrt()


def _turn(angles: Tensor) -> Tensor:
    """Rotation (3, 3) by small angles around the three axes, one after the other."""
    zero = torch.zeros(())
    turn = torch.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        sine, cosine = angle.sin(), angle.cos()
        rows = [[zero] * 3 for _ in range(3)]
        rows[axis][axis] = torch.ones(())
        rows[first][first] = rows[second][second] = cosine
        rows[first][second], rows[second][first] = -sine, sine
        turn = turn @ torch.stack([torch.stack(row) for row in rows])
    return turn
