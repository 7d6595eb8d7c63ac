"""The methods that are compared, each from the same drawing to a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.interpolation import interpolate_shape
from PromptSegLib.imaging.volume import Volume, slice_stack
from PromptSegLib.imaging.window import window_for
from PromptSegLib.imaging.working_grid import WorkingGrid, body_box
from PromptSegLib.inference.components import keep_pieces
from PromptSegLib.learning.drawing import MIN_BOX, DrawnScan, prepare_drawing
from PromptSegLib.learning.features import full_resolution
from PromptSegLib.networks.backbone import Backbone

_PIXELS = 2000
_DECAY = 1e-3


def interpolation(annotation: Annotation) -> np.ndarray:
    """Shape-based interpolation between the drawn slices, shrinking beyond the ends; bool on the label map's grid."""
    stack = slice_stack(annotation.geometry, annotation.axis)
    labels = stack.view(annotation.label_map)
    masks = {index: labels[index] == annotation.label for index in annotation.drawn}
    return stack.restore(interpolate_shape(masks, stack.shape, stack.spacing, extrapolate=True) > 0)


class LinearProbe:
    """Logistic regression on the embeddings that the unprompted backbone gives, class-balanced."""

    def __init__(self, backbone: Backbone, scans: Sequence[DrawnScan], seed: int = 0):
        self.backbone = backbone
        drawing = prepare_drawing(scans)
        self.plane, self.spacing_mm = drawing.plane, drawing.spacing_mm
        generator = torch.Generator().manual_seed(seed)
        inside, outside = [], []
        for part in drawing.slices:
            embedding = self._embed(part.image)
            truth, known = part.target[0] > 0.5, part.known[0]
            for mask, points in ((truth & known, inside), (~truth & known, outside)):
                pixels = torch.nonzero(mask)
                pixels = pixels[torch.randperm(len(pixels), generator=generator)[:_PIXELS]]
                points.append(embedding[:, pixels[:, 0], pixels[:, 1]].T)
        self.weight, self.bias = _logistic(torch.cat(inside), torch.cat(outside))

    def _embed(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            return full_resolution(self.backbone.decode(self.backbone.encode(image[None])), tuple(image.shape[1:]))[0]

    def segment(self, image: Volume) -> np.ndarray:
        """Bool on the image's grid, the largest piece."""
        stack = next(s for s in (slice_stack(image, axis) for axis in range(3)) if s.plane == self.plane)
        grid = WorkingGrid((stack.shape[1], stack.shape[2]), stack.spacing[1:], self.spacing_mm)
        window = window_for(image.array)
        labels = np.zeros(image.array.shape, dtype=np.uint8)
        view, source = stack.view(labels), stack.view(image.array)
        for index in range(len(view)):
            working = grid.to_working(torch.from_numpy(np.ascontiguousarray(window.apply(source[index])))[None])
            box = body_box(working, MIN_BOX)
            if box is None:
                continue
            logits = torch.full(working.shape, -20.0)
            embedding = self._embed(box.cut(working, -1.0))
            box.put(torch.einsum("chw,c->hw", embedding, self.weight)[None] + self.bias, logits)
            view[index] = grid.from_working(logits)[0].numpy() > 0
        keep_pieces(labels, 1, None)
        return labels == 1


def _logistic(inside: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
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
