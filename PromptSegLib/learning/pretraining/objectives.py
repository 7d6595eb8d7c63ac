"""What pre-training asks of the backbone. An objective draws its own samples and returns a loss; more can be added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from PromptSegLib.learning.losses import known_dice_focal
from PromptSegLib.learning.pretraining.samples import SliceSampler
from PromptSegLib.networks.backbone import BackboneModule
from PromptSegLib.networks.head import INITIAL_SCALE, class_logits, head_shapes

REGION_TEMPERATURE = 0.1
_MIN_REGION_PIXELS = 6
_PIXELS_PER_VIEW = 1500


def images_for(count: int, patch: int) -> int:
    """As many images of ``patch`` pixels as cost about what ``count`` images of 128 do."""
    return max(1, round(count * (128 / patch) ** 2))


class Objective(Protocol):
    name: str

    def __call__(self, network: BackboneModule, rng: np.random.Generator, patch: int) -> Tensor | Mapping[str, Tensor]:
        """The loss, or the losses by name, to be added up."""
        ...


class BaseClasses(nn.Module):
    """The base classes' prompts and head tokens, trained together with the body. Shapes: (classes, ...)."""

    def __init__(self, network: BackboneModule, names: list[str]):
        super().__init__()
        self.names = names
        shapes = network.prompt_shapes(network.preset.widest_prompting) | head_shapes(network.embedding_channels)
        self.numbers = nn.ParameterDict()
        for name, shape in shapes.items():
            value = torch.zeros(len(names), *shape)
            if name.endswith(("tokens", "ground")):
                nn.init.normal_(value, std=1.0 if name.startswith("head") else 0.5)
            elif name == "head.log_scale":
                value.fill_(float(np.log(INITIAL_SCALE)))
            self.numbers[name.replace(".", "/")] = nn.Parameter(value)

    def prompts(self, classes: Tensor) -> dict[str, Tensor]:
        """Prompts of the classes at these positions."""
        return {name.replace("/", "."): value[classes] for name, value in self.numbers.items()}


class SegmentationObjective:
    """The paper's concurrent segmentation loss: one random base class is active per sample, all else is background.

    In half of the steps the encoder sees no prompts: its features then serve every class, and it must learn to give
    them what prompts in the decoder, or the head alone, can use.
    """

    name = "segmentation"

    def __init__(self, sampler: SliceSampler, base: BaseClasses, classes: int, per_class: int):
        self.sampler, self.base, self.classes, self.per_class = sampler, base, classes, per_class

    def __call__(self, network: BackboneModule, rng: np.random.Generator, patch: int) -> Tensor:
        sample = self.sampler.labelled(rng, self.classes, images_for(self.per_class, patch), patch)
        prompts: Mapping[str, Tensor] = self.base.prompts(sample.classes)
        if rng.random() < 0.5:
            prompts = {name: value for name, value in prompts.items() if not name.startswith("encoder")}
        features = network.encode(sample.image, prompts, paired=True)
        logits = class_logits(network.decode(features, prompts), prompts, features.size)
        return known_dice_focal(logits, sample.target, torch.ones_like(sample.target))


class RegionObjective:
    """Pixels of one view must find their own supervoxel among the mean embeddings of another view's.

    Without labels and without prompts, this asks for what a drawing on a new class needs first: that a handful of mean
    embeddings (prototypes) of one slice recognizes the same place in the next, and tells it from its look-alikes
    elsewhere, the other side of the body included.
    """

    name = "regions"

    def __init__(self, sampler: SliceSampler, pairs: int, weight: float = 0.3):
        self.sampler, self.pairs, self.weight = sampler, pairs, weight

    def __call__(self, network: BackboneModule, rng: np.random.Generator, patch: int) -> Tensor:
        pairs = images_for(self.pairs, patch)
        sample = self.sampler.paired(rng, pairs, patch)
        features = network.encode(torch.cat(sample.images))
        embedding = network.decode(features)
        first, second = embedding.chunk(2)
        stride = patch // embedding.shape[-1]
        regions = [r[:, stride // 2 :: stride, stride // 2 :: stride] for r in sample.regions]
        losses = []
        for pair in range(pairs):
            sides = [(first[pair], regions[0][pair]), (second[pair], regions[1][pair])]
            for source, target in (sides, sides[::-1]):
                loss = region_loss(*source, *target, rng)
                if loss is not None:
                    losses.append(loss)
        if not losses:
            return embedding.sum() * 0
        return self.weight * torch.stack(losses).mean()


def region_loss(
    source: Tensor, source_regions: Tensor, target: Tensor, target_regions: Tensor, rng: np.random.Generator
) -> Tensor | None:
    """Cross-entropy of each target pixel against the mean embeddings of the source's regions.

    Embeddings (C, h, w), regions (h, w) with 0 unknown. None when the source shows fewer than two regions, or the
    target next to nothing of them.
    """
    source, target = (F.normalize(e.flatten(1), dim=0) for e in (source, target))
    numbers, inverse, counts = torch.unique(source_regions.flatten(), return_inverse=True, return_counts=True)
    sums = torch.zeros(len(source), len(numbers)).index_add(1, inverse, source)
    kept = (counts >= _MIN_REGION_PIXELS) & (numbers > 0)
    if int(kept.sum()) < 2:
        return None
    prototypes, numbers = F.normalize(sums[:, kept], dim=0), numbers[kept]
    wanted = target_regions.flatten()
    position = torch.searchsorted(numbers, wanted).clamp_max(len(numbers) - 1)
    pixels = torch.nonzero(numbers[position] == wanted)[:, 0]
    if len(pixels) < _MIN_REGION_PIXELS:
        return None
    if len(pixels) > _PIXELS_PER_VIEW:
        pixels = pixels[torch.from_numpy(rng.choice(len(pixels), _PIXELS_PER_VIEW, replace=False))]
    scores = target[:, pixels].T @ prototypes / REGION_TEMPERATURE
    return F.cross_entropy(scores, position[pixels])
