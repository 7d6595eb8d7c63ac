"""How a backbone sees a slice: resampled to a working spacing, cropped to the body, carried back unshifted.

A slice and its working image cover exactly the same rectangle; only the number of pixels differs. Both directions
interpolate between pixel centers, so nothing moves, whatever the sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.imaging.window import AIR

SPACINGS_MM = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
"""Working spacings: a short ladder, so that several classes share one encoder pass."""

BLOCK = 32
"""Working boxes are multiples of this, the backbone's total stride, so that no level has to pad."""

_PIXELS_ACROSS_A_STRUCTURE = 24
_BODY_MARGIN = 8


def working_spacing(diameter_mm: float, native_mm: float) -> float:
    """Spacing at which a structure of this diameter is about 24 pixels across, from the ladder.

    Never finer than half of the scan's own spacing, which would only blow it up, nor coarser than twice of it (1.5 mm
    for fine scans), which would cost edges.
    """
    finest, coarsest = max(SPACINGS_MM[0], native_mm / 2), max(1.5, 2 * native_mm)
    wanted = float(np.clip(diameter_mm / _PIXELS_ACROSS_A_STRUCTURE, finest, max(finest, coarsest)))
    return nearest_spacing(wanted)


def nearest_spacing(wanted_mm: float) -> float:
    """The rung of the ladder nearest to a spacing."""
    return min(SPACINGS_MM, key=lambda s: abs(np.log(s / wanted_mm)))


@dataclass(frozen=True)
class WorkingGrid:
    """Slices of ``shape`` (rows, columns) pixels of ``spacing`` mm, seen at about ``target`` mm."""

    shape: tuple[int, int]
    spacing: tuple[float, float]
    target: float

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of the working image."""
        rows, columns = (max(1, round(n * s / self.target)) for n, s in zip(self.shape, self.spacing, strict=True))
        return rows, columns

    def to_working(self, slices: Tensor) -> Tensor:
        """(n, rows, columns) -> (n, *size), linear between pixel centers, averaged where it gets coarser."""
        return _resize(slices, self.size)

    def from_working(self, maps: Tensor) -> Tensor:
        """(n, *size) -> (n, rows, columns); for probabilities and logits, never for labels."""
        return _resize(maps, self.shape)

    def known(self, slices: Tensor) -> Tensor:
        """(n, rows, columns) bool -> (n, *size): whether the nearest pixel is known, or where it gets coarser, any
        pixel within."""
        rows, columns = (min(a, b) for a, b in zip(self.shape, self.size, strict=True))
        within = F.adaptive_max_pool2d(slices[:, None].float(), (rows, columns))
        return F.interpolate(within, size=self.size, mode="nearest-exact")[:, 0] > 0.5


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[1:]) == size:
        return images
    coarser = size[0] < images.shape[1] or size[1] < images.shape[2]
    return F.interpolate(images[:, None], size=size, mode="bilinear", align_corners=False, antialias=coarser)[:, 0]


@dataclass(frozen=True)
class Box:
    """A rectangle in a working image, whose edges are multiples of BLOCK; it may reach beyond the image, into air."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, images: Tensor, fill: float) -> Tensor:
        """(n, rows, columns) -> (n, height, width), ``fill`` beyond the image."""
        rows, columns = images.shape[1:]
        beside = (-min(self.left, 0), max(self.left + self.width - columns, 0))
        pad = (*beside, -min(self.top, 0), max(self.top + self.height - rows, 0))
        padded = F.pad(images, pad, value=fill) if any(pad) else images
        top, left = max(self.top, 0), max(self.left, 0)
        return padded[:, top : top + self.height, left : left + self.width]

    def put(self, part: Tensor, whole: Tensor) -> None:
        """The inverse of `cut`: write (n, height, width) into (n, rows, columns), dropping what lies beyond."""
        rows, columns = whole.shape[1:]
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.height, rows), min(self.left + self.width, columns)
        whole[:, top:bottom, left:right] = part[
            :, top - self.top : bottom - self.top, left - self.left : right - self.left
        ]


def body_box(images: Tensor, least: int, also: Tensor | None = None) -> Box | None:
    """The box around the body on all of these working images (n, rows, columns); None where there is only air.

    least: smallest edge in pixels; also: bool (n, rows, columns) that must lie inside, too.
    """
    inside = images.amax(0) > AIR
    if also is not None:
        inside |= also.any(0)
    if not inside.any():
        return None
    edges = []
    for axis, length in ((1, inside.shape[0]), (0, inside.shape[1])):
        found = torch.nonzero(inside.any(axis))[:, 0]
        first, last = int(found[0]) - _BODY_MARGIN, int(found[-1]) + 1 + _BODY_MARGIN
        first, last = max(first, 0), min(last, length)
        extent = -(-max(last - first, least) // BLOCK) * BLOCK
        edges.append((first - (extent - (last - first)) // 2, extent))
    (top, height), (left, width) = edges
    return Box(top, left, height, width)
