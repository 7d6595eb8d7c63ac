"""Contrastive prototype assignment of *Prompt Tuning for Parameter-efficient Medical Image Segmentation* (2211.09233).

The teacher's embeddings are clustered around prototypes, image by image. A student that sees the same place in another
view must assign it to the prototypes as the teacher does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.networks.device import full_precision

_EXACT = "donot_use_mm_for_euclid_dist"
_MODES = {2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class AssignmentOptions:
    """The paper's numbers.

    reduction, seed_reduction: spacing of the compared positions and of the seeds, in pixels of the embedding; width:
    full width at half maximum of the prototypes' reach, and reach: how far a position's match may lie, both in pixels
    of the frame that positions are given in.
    """

    reduction: int = 2
    seed_reduction: int = 8
    iterations: int = 3
    teacher_temperature: float = 0.033
    student_temperature: float = 0.066
    width: float = 128.0
    reach: float = 4.0


@dataclass(frozen=True)
class Placed:
    """Embeddings (B, C, *spatial) and where they lie (B, 3, *spatial)."""

    embedding: Tensor
    positions: Tensor

    def reduced(self, reduction: int) -> Placed:
        """On a grid that is coarser by ``reduction`` along each axis, of at least one point, through linear values."""
        mode = _MODES[self.embedding.dim() - 2]
        size = [max(1, n // reduction) for n in self.embedding.shape[2:]]
        embedding, positions = (
            F.interpolate(part.float(), size=size, mode=mode, align_corners=False)
            for part in (self.embedding, self.positions)
        )
        return Placed(embedding, positions)

    def jittered(self, reduction: int, rng: np.random.Generator) -> Placed:
        """Without up to ``reduction - 1`` rows and columns on either side, so that grids differ from step to step."""
        embedding, positions = self.embedding, self.positions
        for axis, (before, after) in enumerate(rng.integers(0, reduction, (2, 2)).tolist(), start=2):
            length = embedding.shape[axis] - before - after
            embedding, positions = (part.narrow(axis, before, length) for part in (embedding, positions))
        return Placed(embedding, positions)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Embeddings (B, V, C) and positions (B, V, 3)."""
        return self.embedding.flatten(2).transpose(1, 2), self.positions.flatten(2).transpose(1, 2)


def position_weights(positions: Tensor, centers: Tensor, width: float) -> Tensor:
    """Gaussian weights (B, V, P) of positions (B, V, 3) around centers (B, P, 3): 1/2 at half of ``width``."""
    sigma = width / (2 * sqrt(2 * log(2)))
    return torch.exp(-torch.cdist(positions, centers, compute_mode=_EXACT).square() / (2 * sigma**2))


def similarities(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine similarities (B, V, P) of embeddings (B, V, C) with prototypes (B, P, C)."""
    return F.normalize(embeddings, dim=-1) @ F.normalize(prototypes, dim=-1).transpose(1, 2)


def assignments(embeddings: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Soft assignments (B, V, P) of embeddings (B, V, C) to prototypes (B, P, C); rows sum to 1."""
    return torch.softmax(similarities(embeddings, prototypes) / temperature, dim=-1)


def soft_k_means(
    embeddings: Tensor, positions: Tensor, seeds: Tensor, seed_positions: Tensor, options: AssignmentOptions
) -> Tensor:
    """Prototypes (B, P, C) of embeddings (B, V, C) at (B, V, 3), grown from seeds (B, P, C) at (B, P, 3).

    A prototype takes from what is assigned to it, less from what lies far away from it, and moves along.
    """
    prototypes, centers = seeds, seed_positions
    for _ in range(options.iterations):
        shares = assignments(embeddings, prototypes, options.teacher_temperature)
        shares = shares * position_weights(positions, centers, options.width)
        shares = (shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(shares.dtype).tiny)).transpose(1, 2)
        prototypes, centers = shares @ embeddings, shares @ positions
    return prototypes


def matches(positions: Tensor, candidates: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Of each position (B, V, 3) the nearest candidate (B, W, 3): its index, and whether it lies within ``reach``."""
    # Image by image: the distances of a whole batch take gigabytes. Differences are exact, products of them are not.
    found = [torch.cdist(p, c, compute_mode=_EXACT).min(dim=-1) for p, c in zip(positions, candidates, strict=True)]
    index = torch.stack([nearest.indices for nearest in found])
    return index, torch.stack([nearest.values for nearest in found]) <= reach


@full_precision()
def assignment_loss(
    students: Sequence[Placed], teacher: Placed, rng: np.random.Generator, options: AssignmentOptions
) -> Tensor:
    """Cross-entropy of the students' assignments with the teacher's at matching positions, summed over the students.

    Mean over the positions of an image, then over the images where any match. No gradient reaches the teacher.
    """
    with torch.no_grad():
        embeddings, positions = teacher.reduced(options.reduction).rows()
        seeds = teacher.reduced(options.seed_reduction).rows()
        prototypes = soft_k_means(embeddings, positions, *seeds, options)
        wanted = assignments(embeddings, prototypes, options.teacher_temperature)
    total = torch.zeros((), device=teacher.embedding.device)
    for student in students:
        own, places = student.jittered(options.reduction, rng).reduced(options.reduction).rows()
        index, near = matches(places, positions, options.reach)
        expected = wanted.gather(1, index[:, :, None].expand(-1, -1, wanted.shape[-1]))
        found = torch.log_softmax(similarities(own, prototypes) / options.student_temperature, dim=-1)
        entropy = -(expected * found).sum(-1) * near
        matched = near.sum(1)
        total = total + (entropy.sum(1) / matched.clamp_min(1)).sum() / (matched > 0).sum().clamp_min(1)
    return total
