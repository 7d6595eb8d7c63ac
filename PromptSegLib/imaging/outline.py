"""What a body looks like along its length: by that, a height in one body is found in another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from PromptSegLib.imaging.body import CUT_OFF, coarse_planes
from PromptSegLib.imaging.volume import Volume, stack_of_plane
from PromptSegLib.imaging.window import AIR, Window, window_for

STEP_MM = 5.0
"""From one sample to the next."""

QUANTITIES = 4
"""In each sample."""

LONGEST_MM = 3000.0
"""Of a body. Longer scans give another unit for their spacing, or none."""

_SMALLEST_MM2 = 2000.0
_BONE_HU, _GAS_HU = 250.0, -400.0
_BESIDE_LENGTH_MM = 50.0
_BESIDE_AREA_MM2 = 300.0
"""Added before logarithms are taken, so that a little bone or gas is not far from none."""


_KEPT: WeakKeyDictionary[Volume, dict[str, Outline]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Outline:
    """Of the body, from feet to head, one sample each STEP_MM.

    values: (n, 4) float: logarithms of width and depth in mm and of the areas of bone and gas in mm²; not a number
    where there is no body or the scan cuts it off, for bone and gas also in scans other than CT. start_mm: height of
    the first sample, on the scale of `heights_mm`.
    """

    start_mm: float
    values: np.ndarray

    @property
    def heights_mm(self) -> np.ndarray:
        return self.start_mm + STEP_MM * np.arange(len(self.values))


def body_axis(image: Volume) -> int:
    """The array axis from feet to head, or from head to feet."""
    return stack_of_plane(image, "axial").axis


def heights_mm(image: Volume) -> np.ndarray:
    """Of each index of the `body_axis`, how far it lies towards the head, from any beginning."""
    axis = body_axis(image)
    sign = 1.0 if image.geometry.direction[2][axis] >= 0 else -1.0
    return sign * image.geometry.spacing[axis] * np.arange(image.geometry.shape[axis])


def outline(image: Volume, kind: str) -> Outline:
    """How wide and deep the body is at each height of a scan, and how much bone and gas it holds there.

    It is kept as long as the volume is, whose voxels must not change. Of a scan longer than any body, nothing is known.

    kind: of scans, see `Window`.

    Raises:
        InputError: if a scan other than CT has the same value everywhere.
    """
    kept = _KEPT.setdefault(image, {})
    if kind not in kept:
        kept[kind] = _outline(image, window_for(image.array, kind))
        kept[kind].values.flags.writeable = False
    return kept[kind]


def _outline(image: Volume, window: Window) -> Outline:
    stack, heights = stack_of_plane(image, "axial"), heights_mm(image)
    if np.ptp(heights) > LONGEST_MM:
        return Outline(float(heights.min()), np.empty((0, QUANTITIES)))
    planes, coarse_mm = coarse_planes(image.array, stack)
    samples = np.arange(heights.min(), heights.max() + STEP_MM / 2, STEP_MM)
    nearest = np.minimum(np.rint(np.abs(samples) / stack.spacing[0]).astype(int), len(heights) - 1).tolist()
    found = {index: _slice(planes[index].astype(np.float32), window, coarse_mm) for index in sorted(set(nearest))}
    return Outline(float(samples[0]), np.array([found[index] for index in nearest]))


def _slice(plane: np.ndarray, window: Window, spacing: Sequence[float]) -> list[float]:
    # SciPy's images take a moment to import, and tokens are read without.
    from scipy import ndimage

    nothing = [math.nan] * QUANTITIES
    inside = ndimage.binary_opening(window.apply(plane) > AIR)
    pieces, count = ndimage.label(inside)
    if count == 0:
        return nothing
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    body = ndimage.binary_fill_holes(pieces == sizes.argmax())
    pixel_mm2 = math.prod(spacing)
    if np.count_nonzero(body) * pixel_mm2 < _SMALLEST_MM2:
        return nothing
    lengths = []
    for axis, mm in enumerate(spacing):
        along = body.any(axis=1 - axis)
        first, last = (np.take(body, end, axis=axis).mean() for end in (0, -1))
        cut_off = max(first, last) >= CUT_OFF
        lengths.append(math.nan if cut_off else math.log(np.ptp(np.flatnonzero(along)) * mm + mm + _BESIDE_LENGTH_MM))
    depth, width = lengths
    if window.kind != "ct" or math.isnan(depth + width):
        return [width, depth, math.nan, math.nan]
    areas = [np.count_nonzero(body & mask) * pixel_mm2 for mask in (plane > _BONE_HU, plane < _GAS_HU)]
    return [width, depth, *(math.log(area + _BESIDE_AREA_MM2) for area in areas)]
