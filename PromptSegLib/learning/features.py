"""Features of the drawn slices, computed once and cut to training crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.imaging.working_grid import BLOCK
from PromptSegLib.learning.drawing import MIN_BOX, Drawing
from PromptSegLib.networks.backbone import Features

CROP = MIN_BOX
"""Edge of a training crop in pixels."""

MAX_VIEWS = 160
AUGMENTED_VIEWS = 3
AUGMENTATION_STRENGTH = 0.5
_ON_STRUCTURE = 0.75


@dataclass(frozen=True)
class View:
    """A drawn slice, as drawn or changed at random, and its features while they are kept.

    image, target, known (1, h, w): known is what may be trained on; features: of one image, or None where prompts steer
    the encoder; empty: as in `WorkingSlice`.
    """

    image: Tensor
    target: Tensor
    known: Tensor
    features: Features | None
    empty: bool


@dataclass(frozen=True)
class Crop:
    """features or image of one view, cut to CROP pixels; target, known: (1, CROP, CROP)."""

    source: Features | Tensor
    target: Tensor
    known: Tensor


class FeatureCache:
    """Views of the drawn slices. The first of them, one per slice, are the slices as drawn; `augment` adds more.

    Args:
        drawing: whose slices these are; it says how often crops are cut from empty ones.
        training: bool (1, h, w) per slice: what may be trained on.
        encode: images (1, 1, h, w) on the device.
        cancelled: asked before every slice; InterruptedError once it is true.
    """

    def __init__(
        self,
        drawing: Drawing,
        training: Sequence[Tensor],
        encode: Callable[[Tensor], Features],
        seed: int,
        device: torch.device,
        *,
        keep_features: bool = True,
        cancelled: Callable[[], bool] = lambda: False,
    ):
        self.drawing, self.device, self.seed, self.keep_features = drawing, device, seed, keep_features
        self.encode = encode
        self._drawn = list(zip(drawing.slices, training, strict=True))
        self.views: list[View] = []
        for part, known in self._drawn:
            if cancelled():
                raise InterruptedError("training was cancelled before there was a first guess")
            self._add(part.image, part.target, known, part.empty)

    def augment(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Add randomly changed views of every slice, until ``enough`` is true."""
        # MONAI takes seconds to import, and the first guess does without.
        from PromptSegLib.learning.augmentation import augment, intensity_augmentation, shape_augmentation

        extra = min(AUGMENTED_VIEWS, max(0, MAX_VIEWS // len(self._drawn) - 1))
        shapes, intensities = shape_augmentation(), intensity_augmentation(AUGMENTATION_STRENGTH)
        for repeat in range(1, 1 + extra):
            for part, training in self._drawn:
                if enough():
                    return
                draw = (self.seed + 7919 * repeat + part.seed) % 2**31
                shapes.set_random_state(seed=draw)
                changed = shapes({"image": part.image, "target": part.target, "known": training.float()})
                image, target, known = (torch.as_tensor(np.asarray(changed[k])) for k in ("image", "target", "known"))
                # Only what is wholly known stays known: next to unknown pixels, the target is a blend with nothing.
                self._add(augment(intensities, image[None], draw)[0], target, known > 0.99, part.empty)

    def _add(self, image: Tensor, target: Tensor, known: Tensor, empty: bool) -> None:
        features = None
        if self.keep_features:
            with torch.no_grad():
                features = self.encode(image[None].to(self.device))
        self.views.append(View(image.to(self.device), target, known, features, empty))

    def crop(self, generator: torch.Generator) -> Crop:
        """A random crop of a random view; three times in four, it shows some of the structure where there is any."""
        views = self.views
        if self.drawing.empty_weight < 1:
            empty = torch.rand(1, generator=generator).item() < self.drawing.empty_share
            views = [view for view in views if view.empty == empty]
        view = views[int(torch.randint(len(views), (1,), generator=generator))]
        target = view.target
        box = []
        height, width = target.shape[1:]
        points = torch.nonzero(target[0] > 0.5)
        on_structure = len(points) > 0 and torch.rand(1, generator=generator).item() < _ON_STRUCTURE
        point = points[torch.randint(len(points), (1,), generator=generator)][0] if on_structure else None
        for axis, length in enumerate((height, width)):
            starts = torch.arange(0, length - CROP + 1, BLOCK)
            if point is not None:
                shown = starts[(starts <= point[axis]) & (point[axis] < starts + CROP)]
                starts = shown if len(shown) else starts
            box.append(int(starts[torch.randint(len(starts), (1,), generator=generator)]))
        top, left = box

        def cut(x: Tensor, stride: int = 1) -> Tensor:
            edge = CROP // stride
            return x[..., top // stride : top // stride + edge, left // stride : left // stride + edge]

        if view.features is None:
            source: Features | Tensor = cut(view.image)
        else:
            maps = view.features.maps
            source = Features(tuple(cut(m, height // m.shape[-2]) for m in maps), (CROP, CROP))
        return Crop(source, cut(target), cut(view.known))


def stack(crops: Sequence[Crop], device: torch.device) -> tuple[Features | Tensor, Tensor, Tensor]:
    """Crops as one batch: features or images (B, 1, CROP, CROP), targets and known (B, CROP, CROP)."""
    target = torch.cat([c.target for c in crops]).to(device)
    known = torch.cat([c.known for c in crops]).float().to(device)
    sources = [c.source for c in crops]
    if isinstance(sources[0], Tensor):
        return torch.stack([s for s in sources if isinstance(s, Tensor)]), target, known
    maps = zip(*(s.maps for s in sources if isinstance(s, Features)), strict=True)
    return Features(tuple(torch.cat(m) for m in maps), (CROP, CROP)), target, known


def full_resolution(embedding: Tensor, size: tuple[int, ...]) -> Tensor:
    """Embeddings of unit length at the image's size."""
    return F.normalize(F.interpolate(embedding.float(), size=size, mode="bilinear", align_corners=False), dim=1)
