"""How the voxels of maps are sorted into shifted windows, and back (arXiv 2103.14030). Maps are channels-last."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class WindowPlan:
    """How the voxels of a batch of maps are sorted into windows.

    index: (N, P, R, L) flat, row of the (N * R * voxels, channels) map for each window voxel (padding repeats row 0);
    inverse: the row in window order of each map voxel; groups: (number of windows, mask (L, L) or None), in order.
    """

    window: tuple[int, ...]
    windows: int
    index: Tensor
    inverse: Tensor
    padding: Tensor | None
    groups: tuple[tuple[int, Tensor | None], ...]


# Kept for later calls: were it made in inference mode, tuning could not use it.
@lru_cache(maxsize=256)
@torch.inference_mode(False)
def window_plan(
    size: tuple[int, ...], window: tuple[int, ...], shifted: bool, classes: int, repeats: int, device: torch.device
) -> WindowPlan:
    """Plan for maps of spatial ``size``; a window larger than the map shrinks to it and is not shifted."""
    window = tuple(min(w, s) for w, s in zip(window, size, strict=True))
    shift = tuple(w // 2 if shifted and s > w else 0 for w, s in zip(window, size, strict=True))
    counts = tuple(-(-s // w) for w, s in zip(window, size, strict=True))
    padded = tuple(c * w for c, w in zip(counts, window, strict=True))

    voxel = np.full(padded, -1, dtype=np.int64)
    voxel[tuple(slice(0, s) for s in size)] = np.arange(prod(size)).reshape(size)
    region = np.zeros(padded, dtype=np.int64)
    for axis, (s, w, p) in enumerate(zip(shift, window, padded, strict=True)):
        bands = np.zeros(p, dtype=np.int64)
        if s:
            bands[p - w : p - s] = 1
            bands[p - s :] = 2
        region = region * 3 + np.expand_dims(bands, tuple(a for a in range(len(padded)) if a != axis))
    # Regions are numbered after the roll, voxels before it.
    voxel = np.roll(voxel, tuple(-s for s in shift), tuple(range(len(shift))))
    region[voxel < 0] = -1

    def partition(array: np.ndarray) -> np.ndarray:
        split = array.reshape([n for pair in zip(counts, window, strict=True) for n in pair])
        axes = [2 * i for i in range(len(window))] + [2 * i + 1 for i in range(len(window))]
        return split.transpose(axes).reshape(prod(counts), prod(window))

    voxel, region = partition(voxel), partition(region)
    blocked = region[:, :, None] != region[:, None, :]
    patterns, pattern = np.unique(blocked.reshape(len(blocked), -1), axis=0, return_inverse=True)
    pattern = pattern.reshape(-1)
    order = np.argsort(pattern, kind="stable")
    voxel = voxel[order]
    groups: list[tuple[int, Tensor | None]] = []
    sizes = np.bincount(pattern, minlength=len(patterns))
    for number, flat in enumerate(patterns):
        mask = torch.from_numpy(flat.reshape(blocked.shape[1:])).to(device) if flat.any() else None
        groups.append((int(sizes[number]), mask))

    voxels, length = prod(size), prod(window)
    image = np.arange(classes * repeats).reshape(classes, 1, repeats, 1) * voxels
    index = np.where(voxel[None, :, None, :] < 0, 0, image + np.maximum(voxel, 0)[None, :, None, :]).reshape(-1)
    real = np.broadcast_to(voxel[None, :, None, :] >= 0, (classes, len(voxel), repeats, length)).reshape(-1)
    inverse = np.empty(classes * repeats * voxels, dtype=np.int64)
    inverse[index[real]] = np.flatnonzero(real)
    return WindowPlan(
        window=window,
        windows=len(voxel),
        index=torch.from_numpy(index).to(device),
        inverse=torch.from_numpy(inverse).to(device),
        padding=None if real.all() else torch.from_numpy(np.flatnonzero(~real)).to(device),
        groups=tuple(groups),
    )


class Rearrange(torch.autograd.Function):
    """Rows by index, whose gradient is the rows by the inverse index: a scatter-add is many times slower on a CPU."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor, dropped: Tensor | None) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.dropped = dropped
        return rows.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse,) = ctx.saved_tensors
        result = gradient.index_select(0, inverse)
        if ctx.dropped is not None:
            result[ctx.dropped] = 0
        return result, None, None, None
