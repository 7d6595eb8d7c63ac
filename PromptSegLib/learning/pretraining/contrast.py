"""Pre-training as in arXiv 2211.09233: a student and its teacher see views of the same place.

Contrastive prototype assignment asks the student's embeddings of every view to fall into the teacher's clusters; at the
same time, one base class is active in each sample and must be segmented in the student's views.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from PromptSegLib.learning.pretraining.assignment import AssignmentOptions, Placed, assignment_loss
from PromptSegLib.learning.pretraining.objectives import BaseClasses, Drawn, segmentation_loss
from PromptSegLib.learning.pretraining.views import ViewBatch, Views, ViewSampler
from PromptSegLib.networks.backbone import BackboneModule, Prompts

PROMPTED = ("full", "mixed", "none")
"""Where the base classes' prompts go: into all blocks, in half of the steps into the decoder alone, or nowhere."""

TEACHER_MOMENTUM = 0.99

ASSIGNMENT_WEIGHT = 0.3
"""Beside a segmentation loss of weight 1. The paper's 1e-2 stands beside a focal loss alone on unscaled cosines; the
gradient of Dice plus focal loss on scaled ones was measured to be about 800 times as large before training."""


class Teacher(nn.Module):
    """A network and its base classes that follow the student's as an exponential moving average.

    Its batch norms work with the statistics of its own views, as the student's do.
    """

    def __init__(self, network: BackboneModule, base: BaseClasses, momentum: float = TEACHER_MOMENTUM):
        super().__init__()
        self.network, self.base, self.momentum = deepcopy(network), deepcopy(base), momentum
        self.train().requires_grad_(False)

    @torch.no_grad()
    def follow(self, network: BackboneModule, base: BaseClasses) -> None:
        for own, other in zip(self.parameters(), chain(network.parameters(), base.parameters()), strict=True):
            own.lerp_(other, 1 - self.momentum)


class ViewObjective:
    """The concurrent losses on views, by name: ``segmentation`` where there are labels, ``assignment`` with a teacher.

    Without labels, the base classes are a single stand-in that no head belongs to: its prompts steer both networks.
    """

    def __init__(
        self,
        name: str,
        sampler: ViewSampler,
        base: BaseClasses,
        teacher: Teacher | None,
        samples: int,
        *,
        prompted: str = "mixed",
        weight: float = ASSIGNMENT_WEIGHT,
        options: AssignmentOptions | None = None,
    ):
        self.name, self.sampler, self.base, self.teacher, self.samples = name, sampler, base, teacher, samples
        self.prompted, self.weight, self.options = prompted, weight, options or AssignmentOptions()

    def draw(self, rng: np.random.Generator, patch: int) -> Drawn[ViewBatch]:
        batch = self.sampler.draw(rng, self.samples)
        everywhere = self.prompted == "full" or (self.prompted == "mixed" and bool(rng.random() < 0.5))
        return Drawn(batch, self.samples * (len(batch.students) + 1), everywhere)

    def __call__(
        self, network: BackboneModule, drawn: Drawn[ViewBatch], rng: np.random.Generator
    ) -> Mapping[str, Tensor]:
        batch, everywhere = drawn.batch, drawn.everywhere
        embeddings = [self._embed(network, self.base, views, batch, everywhere) for views in batch.students]
        losses: dict[str, Tensor] = {}
        if self.sampler.labels:
            losses["segmentation"] = self._segmentation(embeddings, batch)
        if self.teacher is not None:
            with torch.no_grad():
                seen = self._embed(self.teacher.network, self.teacher.base, batch.teacher, batch, everywhere)
            students = [placed(e, views) for e, views in zip(embeddings, batch.students, strict=True)]
            loss = assignment_loss(students, placed(seen, batch.teacher), rng, self.options)
            losses["assignment"] = self.weight * loss
        return losses

    def _embed(
        self, network: BackboneModule, base: BaseClasses, views: Views, batch: ViewBatch, everywhere: bool
    ) -> Tensor:
        images = views.images.to(network.device)
        if self.prompted == "none":
            return network.decode(network.encode(images))
        prompts: Prompts = base.prompts(batch.classes if self.sampler.labels else batch.classes[:1])
        if not everywhere:
            prompts = {name: value for name, value in prompts.items() if not name.startswith("encoder")}
        return network.decode(network.encode(images, prompts, paired=True), prompts)

    def _segmentation(self, embeddings: list[Tensor], batch: ViewBatch) -> Tensor:
        prompts = self.base.prompts(batch.classes)
        total = torch.zeros((), device=embeddings[0].device)
        for embedding, target, known in zip(embeddings, batch.targets, batch.known, strict=True):
            total = total + segmentation_loss(embedding, prompts, target, known)
        return total


def placed(embedding: Tensor, views: Views) -> Placed:
    """Embeddings of views with the positions of their pixels."""
    return Placed(embedding, views.placement.positions(embedding.shape[2:]).to(embedding.device))
