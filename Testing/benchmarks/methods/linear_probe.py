"""Logistic regression on the embeddings that the unprompted backbone gives, class-balanced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.features import full_resolution
from Testing.benchmarks.methods.method import Method, Setup, as_drawn
from Testing.benchmarks.methods.working import Slicewise

_PIXELS = 2000
_DECAY = 1e-3


def _learn(scans: Sequence[DrawnScan], setup: Setup) -> Slicewise:
    backbone, drawing = setup.backbone, prepare_drawing(scans)

    def embed(images: Tensor) -> Tensor:
        """(n, 1, h, w) -> (n, C, h, w)"""
        with torch.no_grad():
            features = backbone.encode(images.to(backbone.device))
            return full_resolution(backbone.decode(features), features.size).cpu()

    generator = torch.Generator().manual_seed(setup.seed)
    inside, outside = [], []
    for part in drawing.slices:
        (embedding,) = embed(part.image[None])
        truth, known = part.target[0] > 0.5, part.known[0]
        for mask, points in ((truth & known, inside), (~truth & known, outside)):
            pixels = torch.nonzero(mask)
            pixels = pixels[torch.randperm(len(pixels), generator=generator)[:_PIXELS]]
            points.append(embedding[:, pixels[:, 0], pixels[:, 1]].T)
    weight, bias = _logistic(torch.cat(inside), torch.cat(outside))
    return Slicewise.of(lambda images: torch.einsum("nchw,c->nhw", embed(images), weight) + bias, drawing)


def _find(learned: Slicewise, image: Volume, annotation: Annotation | None) -> np.ndarray:
    return as_drawn(learned(image), annotation)


def _logistic(inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (C) and bias from points (V, C) of either class."""
    points = torch.cat([inside, outside])
    truth = torch.cat([torch.ones(len(inside)), torch.zeros(len(outside))])
    balance = torch.cat([torch.full((len(p),), 0.5 / len(p)) for p in (inside, outside)])
    weight, bias = torch.zeros(points.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (balance * F.binary_cross_entropy_with_logits(points @ weight + bias, truth, reduction="none")).sum()
        loss = loss + _DECAY * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


LINEAR_PROBE = Method("linear-probe", "linear probe", _learn, _find, across=True)
