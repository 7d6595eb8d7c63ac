"""What all networks here share: they learn from crops of the working images and see a scan slice by slice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.imaging.volume import Volume, stack_of_plane
from PromptSegLib.imaging.window import window_for
from PromptSegLib.imaging.working_grid import WorkingGrid, body_box
from PromptSegLib.learning.augmentation import augment, intensity_augmentation, shape_augmentation
from PromptSegLib.learning.drawing import MIN_BOX, Drawing, WorkingSlice
from PromptSegLib.learning.features import AUGMENTATION_STRENGTH
from PromptSegLib.learning.losses import known_dice_focal

BATCH = 4
ON_STRUCTURE = 0.75
_NOTHING = -20.0

Network = Callable[[Tensor], Tensor]
"""Images (n, 1, h, w) in [-1, 1], edges multiples of 32, to logits (n, h, w)."""


@dataclass(frozen=True)
class Slicewise:
    """A network that finds a structure on the slices of one plane, at one working spacing."""

    network: Network
    plane: str
    spacing_mm: float

    @classmethod
    def of(cls, network: Network, drawing: Drawing) -> Slicewise:
        return cls(network, drawing.plane, drawing.spacing_mm)

    def __call__(self, image: Volume) -> np.ndarray:
        """Bool (slices, rows, columns) on the image's grid."""
        mask: np.ndarray = self.logits(image) > 0
        return mask

    def logits(self, image: Volume) -> np.ndarray:
        """float32 (slices, rows, columns) on the image's grid."""
        stack = stack_of_plane(image, self.plane)
        grid = WorkingGrid((stack.shape[1], stack.shape[2]), stack.spacing[1:], self.spacing_mm)
        window = window_for(image.array)
        result = np.full(image.array.shape, _NOTHING, dtype=np.float32)
        found, source = stack.view(result), stack.view(image.array)
        for index, plane in enumerate(source):
            working = grid.to_working(torch.from_numpy(np.ascontiguousarray(window.apply(plane)))[None])
            box = body_box(working, MIN_BOX)
            if box is None:
                continue
            logits = torch.full(working.shape, _NOTHING)
            with torch.no_grad():
                box.put(self.network(box.cut(working, -1.0)[None]).float().cpu(), logits)
            found[index] = grid.from_working(logits)[0].numpy()
        return result


class Crops:
    """Random crops of the drawn slices, changed at random as in tuning, but anew each time."""

    def __init__(self, slices: Sequence[WorkingSlice], seed: int):
        self.slices = slices
        self.rng = np.random.default_rng(seed)
        self._shapes, self._intensities = shape_augmentation(), intensity_augmentation(AUGMENTATION_STRENGTH)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images (BATCH, 1, n, n), targets and known (BATCH, n, n) float, n being MIN_BOX."""
        crops = [self._crop() for _ in range(BATCH)]
        image, target, known = (torch.stack(part) for part in zip(*crops, strict=True))
        return image, target[:, 0], known[:, 0].float()

    def _crop(self) -> tuple[Tensor, Tensor, Tensor]:
        part = self.slices[self.rng.integers(len(self.slices))]
        seed = int(self.rng.integers(2**31))
        self._shapes.set_random_state(seed=seed)
        changed = self._shapes({"image": part.image, "target": part.target, "known": part.known.float()})
        image, target, known = (torch.as_tensor(np.asarray(changed[k])) for k in ("image", "target", "known"))
        image = augment(self._intensities, image[None], seed)[0]
        points = torch.nonzero(target[0] > 0.5).numpy()
        aim = self.rng.choice(points) if len(points) and self.rng.random() < ON_STRUCTURE else None
        rows, columns = (
            self._span(length, None if aim is None else int(aim[axis])) for axis, length in enumerate(target.shape[1:])
        )
        return image[:, rows, columns], target[:, rows, columns], (known > 0.99)[:, rows, columns]

    def _span(self, length: int, aim: int | None) -> slice:
        """MIN_BOX pixels out of ``length``, with ``aim`` among them."""
        first, last = 0, length - MIN_BOX
        if aim is not None:
            first, last = max(first, aim - MIN_BOX + 1), min(last, aim)
        start = int(self.rng.integers(first, last + 1))
        return slice(start, start + MIN_BOX)


def train(network: Network, groups: Sequence[dict[str, object]], crops: Crops, until: float, device: object) -> int:
    """Adam on Dice and focal loss until ``time.monotonic()`` says so; the rates fall to zero like a cosine of the time.

    groups: parameters and their rates, as torch's optimizers take them.

    Returns:
        How many steps were taken.
    """
    optimizer = torch.optim.Adam(list(groups))
    rates = [group["lr"] for group in optimizer.param_groups]
    started, steps = time.monotonic(), 0
    while (now := time.monotonic()) < until:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * (now - started) / (until - started)))
        image, target, known = (tensor.to(device) for tensor in crops.batch())
        loss = known_dice_focal(network(image), target, known)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        steps += 1
    return steps
