"""What pre-training asks of the backbone. An objective draws its own samples and makes a loss of them; more can be
added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from PromptSegLib.learning.losses import known_dice_focal
from PromptSegLib.learning.pretraining.samples import LabelledBatch, PairedBatch, SliceSampler
from PromptSegLib.networks.backbone import BackboneModule, Prompts
from PromptSegLib.networks.device import full_precision
from PromptSegLib.networks.head import INITIAL_SCALE, head_shapes, similarity_logits

REGION_TEMPERATURE = 0.1
_MIN_REGION_PIXELS = 6
_PIXELS_PER_VIEW = 1500


def images_for(count: int, patch: int) -> int:
    """As many images of ``patch`` pixels as cost about what ``count`` images of 128 do."""
    return max(1, round(count * (128 / patch) ** 2))


Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Drawn(Generic[Batch]):
    """What the network is to see, on the CPU. samples: how many these are; everywhere: whether prompts go into the
    encoder, too."""

    batch: Batch
    samples: int
    everywhere: bool = True


class Objective(Protocol):
    name: str

    def draw(self, rng: np.random.Generator, patch: int) -> Drawn[Any]:
        """The samples of one call. They may be drawn in another process, ahead of time."""
        ...

    def __call__(
        self, network: BackboneModule, drawn: Drawn[Any], rng: np.random.Generator
    ) -> Tensor | Mapping[str, Tensor]:
        """The loss, or the losses by name, to be added up. rng: as it was left by ``draw``."""
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

    def draw(self, rng: np.random.Generator, patch: int) -> Drawn[LabelledBatch]:
        sample = self.sampler.labelled(rng, self.classes, images_for(self.per_class, patch), patch)
        return Drawn(sample, len(sample.image), everywhere=bool(rng.random() >= 0.5))

    def __call__(self, network: BackboneModule, drawn: Drawn[LabelledBatch], rng: np.random.Generator) -> Tensor:
        sample = drawn.batch
        prompts: Prompts = self.base.prompts(sample.classes)
        if not drawn.everywhere:
            prompts = {name: value for name, value in prompts.items() if not name.startswith("encoder")}
        embedding = network.decode(network.encode(sample.image.to(network.device), prompts, paired=True), prompts)
        return segmentation_loss(embedding, prompts, sample.target, sample.known)


class RegionObjective:
    """Pixels of one view must find their own supervoxel among the mean embeddings of another view's.

    Without labels and without prompts, this asks for what a drawing on a new class needs first: that a handful of mean
    embeddings (prototypes) of one slice recognizes the same place in the next, and tells it from its look-alikes
    elsewhere, the other side of the body included.

    across: share of the pairs that show a base class in two patients. Its pixels in one must find its mean embedding
    in the other among the supervoxels there: what a token needs that is to serve other scans.
    """

    name = "regions"

    def __init__(self, sampler: SliceSampler, pairs: int, weight: float = 0.3, across: float = 0.0):
        self.sampler, self.pairs, self.weight, self.across = sampler, pairs, weight, across

    def draw(self, rng: np.random.Generator, patch: int) -> Drawn[PairedBatch]:
        pairs = images_for(self.pairs, patch)
        return Drawn(self.sampler.paired(rng, pairs, patch, self.across), 2 * pairs)

    def __call__(self, network: BackboneModule, drawn: Drawn[PairedBatch], rng: np.random.Generator) -> Tensor:
        images = torch.cat(drawn.batch.images)
        embedding = network.decode(network.encode(images.to(network.device)))
        first, second = embedding.chunk(2)
        stride = images.shape[-1] // embedding.shape[-1]
        regions = [r[:, stride // 2 :: stride, stride // 2 :: stride].to(network.device) for r in drawn.batch.regions]
        losses = []
        for pair in range(len(first)):
            sides = [(first[pair], regions[0][pair]), (second[pair], regions[1][pair])]
            for source, target in (sides, sides[::-1]):
                loss = region_loss(*source, *target, rng)
                if loss is not None:
                    losses.append(loss)
        if not losses:
            return embedding.sum() * 0
        return self.weight * torch.stack(losses).mean()


@full_precision()
def segmentation_loss(embedding: Tensor, prompts: Prompts, target: Tensor, known: Tensor | None = None) -> Tensor:
    """Dice and focal loss of classes' logits; embedding: (N * R, C, *spatial), target in [0, 1] and known, all by
    default, in {0, 1}: (N * R, *size)."""
    logits = similarity_logits(embedding, prompts, tuple(target.shape[1:]))
    target = target.to(logits)
    return known_dice_focal(logits, target, torch.ones_like(target) if known is None else known.to(logits))


@full_precision()
def region_loss(
    source: Tensor, source_regions: Tensor, target: Tensor, target_regions: Tensor, rng: np.random.Generator
) -> Tensor | None:
    """Cross-entropy of each target pixel against the mean embeddings of the source's regions.

    Embeddings (C, h, w), regions (h, w) with 0 unknown. None when the source shows fewer than two regions, or the
    target next to nothing of them.
    """
    source, target = (F.normalize(e.float().flatten(1), dim=0) for e in (source, target))
    numbers, inverse, counts = torch.unique(source_regions.flatten(), return_inverse=True, return_counts=True)
    sums = source.new_zeros(len(source), len(numbers)).index_add(1, inverse, source)
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
        pixels = pixels[torch.from_numpy(rng.choice(len(pixels), _PIXELS_PER_VIEW, replace=False)).to(pixels.device)]
    scores = target[:, pixels].T @ prototypes / REGION_TEMPERATURE
    return F.cross_entropy(scores, position[pixels])
