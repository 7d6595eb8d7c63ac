"""Synthetic anatomy as an objective: pixels of a structure must be alike in two views that differ in all but its shape.

After Dey et al., *Learning General-Purpose Biomedical Volume Representations using Randomized Synthesis*,
arXiv 2411.02372.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from PromptSegLib.learning.augmentation import augment, intensity_augmentation
from PromptSegLib.learning.pretraining.objectives import Drawn, Objective, images_for
from PromptSegLib.learning.pretraining.synthetic_anatomy import draw_anatomy
from PromptSegLib.learning.pretraining.synthetic_rendering import render
from PromptSegLib.learning.pretraining.synthetic_shapes import Outlines
from PromptSegLib.networks.backbone import BackboneModule
from PromptSegLib.networks.device import full_precision

TEMPERATURE = 0.1
SLICE_SPACINGS = (1.0, 4.0)
"""Slices of 3-D samples are from ``SLICE_SPACINGS[0]`` to ``[1]`` pixels of the plane apart."""

_PIXELS_PER_LABEL = 24
_MIN_LABEL_PIXELS = 3


@dataclass(frozen=True)
class SyntheticBatch:
    """Two views of each label map. images: 2 x (B, 1, *shape) in [-1.5, 1.5]; labels: (B, *shape) int64, 0 is air."""

    images: tuple[Tensor, Tensor]
    labels: Tensor


class SyntheticSampler:
    """Draws samples as they are asked for; nothing is stored. outlines: real bodies and organs to mix in."""

    def __init__(self, outlines: Outlines | None = None):
        self.outlines = outlines
        self.augmentation = intensity_augmentation()

    def sample(self, seed: int, shape: Sequence[int]) -> SyntheticBatch:
        """Sample number ``seed``, a batch of one: the same wherever and whenever it is drawn.

        shape: (rows, columns), or (rows, columns, slices), whose slices are of random thickness.
        """
        rng = np.random.default_rng(seed)
        thickness = float(np.exp(rng.uniform(*np.log(SLICE_SPACINGS))))
        ensemble = draw_anatomy(rng, shape, self.outlines, thickness)
        views = [torch.from_numpy(render(rng, ensemble, thickness))[None, None] for _ in range(2)]
        first, second = (augment(self.augmentation, view, int(rng.integers(2**31))) for view in views)
        return SyntheticBatch((first, second), torch.from_numpy(ensemble.labels.astype(np.int64))[None])

    def paired(self, rng: np.random.Generator, count: int, shape: Sequence[int]) -> SyntheticBatch:
        samples = [self.sample(int(seed), shape) for seed in rng.integers(2**62, size=count)]
        first, second = (torch.cat([s.images[side] for s in samples]) for side in range(2))
        return SyntheticBatch((first, second), torch.cat([s.labels for s in samples]))


class SyntheticObjective:
    """Multi-positive contrast of pixels over the labels of synthetic anatomy, in two views at once.

    keep_statistics: leave the batch norms' running statistics to the objectives that see real scans. block: shape of
    the samples, which else are square patches.
    """

    name = "synthetic"

    def __init__(
        self,
        sampler: SyntheticSampler,
        pairs: int,
        keep_statistics: bool,
        weight: float = 0.3,
        block: Sequence[int] | None = None,
    ):
        self.sampler, self.pairs, self.keep_statistics, self.weight = sampler, pairs, keep_statistics, weight
        self.block = block

    def draw(self, rng: np.random.Generator, patch: int) -> Drawn[SyntheticBatch]:
        shape = self.block or (patch, patch)
        pairs = images_for(self.pairs, round(math.sqrt(math.prod(shape))))
        return Drawn(self.sampler.paired(rng, pairs, shape), 2 * pairs)

    def __call__(self, network: BackboneModule, drawn: Drawn[SyntheticBatch], rng: np.random.Generator) -> Tensor:
        batch = drawn.batch
        with running_statistics_kept(network, self.keep_statistics):
            embedding = network.decode(network.encode(torch.cat(batch.images).to(network.device)))
        strides = [n // m for n, m in zip(batch.labels.shape[1:], embedding.shape[2:], strict=True)]
        labels = batch.labels[(slice(None), *(slice(stride // 2, None, stride) for stride in strides))]
        losses = []
        for first, second, numbers in zip(*embedding.chunk(2), labels.flatten(1), strict=True):
            pixels = pixels_of_each(numbers, rng)
            found = numbers[pixels].repeat(2).to(network.device)
            pixels = pixels.to(network.device)
            anchors = torch.cat([first.flatten(1)[:, pixels], second.flatten(1)[:, pixels]], dim=1)
            losses.append(multi_positive_loss(anchors.T, found))
        return self.weight * torch.stack(losses).mean()


def pixels_of_each(labels: Tensor, rng: np.random.Generator, count: int = _PIXELS_PER_LABEL) -> Tensor:
    """Positions of at most ``count`` random pixels of each label, so that a vessel counts as much as a liver; labels
    of fewer than three pixels have none. labels: (N,)."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels.numpy()[order], kind="stable")]
    _, starts, counts = np.unique(labels.numpy()[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, counts)
    return torch.from_numpy(order[(rank < count) & (np.repeat(counts, counts) >= _MIN_LABEL_PIXELS)])


@full_precision()
def multi_positive_loss(embeddings: Tensor, labels: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Supervised contrastive loss, Khosla et al., arXiv 2004.11362, L_out: for each anchor the mean cross-entropy of
    finding each other pixel of its label among all other pixels.

    embeddings: (N, C), of any length; labels: (N,), of which at least one occurs twice.
    """
    directions = F.normalize(embeddings.float(), dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    scores = (directions @ directions.T / temperature).masked_fill(itself, -torch.inf)
    positive = (labels[:, None] == labels) & ~itself
    found = scores.log_softmax(dim=1).masked_fill(~positive, 0).sum(1)
    count = positive.sum(1)
    return -(found / count.clamp_min(1))[count > 0].mean()


@contextmanager
def running_statistics_kept(network: nn.Module, kept: bool = True) -> Iterator[None]:
    """Batch norms normalize by the batch as ever, but do not learn its statistics, which inference will use."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)] if kept else []
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


class Mixture:
    """In each step either real scans or synthetic anatomy, at random. share: of the synthetic ones."""

    def __init__(self, real: Objective, synthetic: Objective, share: float):
        self.real, self.synthetic, self.share = real, synthetic, share
        self.name = f"{real.name} or {synthetic.name}"

    def draw(self, rng: np.random.Generator, patch: int) -> Drawn[tuple[bool, Drawn[Any]]]:
        synthetic = bool(rng.random() < self.share)
        drawn = (self.synthetic if synthetic else self.real).draw(rng, patch)
        return Drawn((synthetic, drawn), drawn.samples)

    def __call__(
        self, network: BackboneModule, drawn: Drawn[tuple[bool, Drawn[Any]]], rng: np.random.Generator
    ) -> Mapping[str, Tensor]:
        synthetic, inner = drawn.batch
        objective = self.synthetic if synthetic else self.real
        found = objective(network, inner, rng)
        return {objective.name: found} if isinstance(found, Tensor) else found
