"""Shape-based interpolation between drawn slices.

Raya and Udupa, "Shape-based interpolation of multidimensional objects", IEEE Transactions on Medical Imaging 9(1),
1990: each outline becomes a map of signed distances, and the maps are interpolated rather than the outlines.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np
import SimpleITK as sitk

from PromptSegLib.errors import InputError

SHRINKING = 0.3
"""mm by which a shape that keeps its width, or of which a single slice is drawn, shrinks per mm beyond the last drawn
slice."""

NARROWING_WEIGHT = 3.0
"""How much more it shrinks per mm by which it got narrower per mm before. Both were chosen on six training patients:
mean DSC of three organs from 3 and from 5 slices is 0.749 and 0.820 with 1 mm per mm, 0.770 and 0.822 with these."""


def signed_distance(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Distance of each pixel's center to the outline of a mask.

    The outline runs halfway between the centers of inside and outside pixels, so the distance is exact for the shape
    made of whole pixels. The image's own border is not part of it.

    Args:
        mask: 2-D bool.
        spacing: mm between (rows, columns).

    Returns:
        float32 of the mask's shape, mm, positive inside. Where there is no outline, plus or minus the image's diagonal.

    Raises:
        InputError: if the mask is not 2-D.
    """
    if mask.ndim != 2:
        raise InputError(f"a drawn slice must be 2-D, but one of shape {mask.shape} was given")
    inside = mask.astype(bool)
    sign = np.where(inside, np.float32(1), np.float32(-1))
    outline = _outline(inside)
    if not outline.any():
        return sign * np.float32(_diagonal(mask.shape, spacing))
    image = sitk.GetImageFromArray(outline.astype(np.uint8))
    image.SetSpacing((spacing[1] / 2, spacing[0] / 2))
    distances = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    at_centers: np.ndarray = sitk.GetArrayViewFromImage(distances)[::2, ::2] * sign
    return at_centers


class DrawnShape:
    """The shape that a few drawn slices suggest for all slices, worked out slice by slice when asked.

    Args:
        masks: 2-D bool masks (rows, columns) by index in the stack.
        stack_shape: (slices, rows, columns).
        spacing: mm between (slices, rows, columns).
        empty: slices that are known to show nothing: beyond the masks, nothing of the shape is left there.

    Raises:
        InputError: if there is no mask, or one does not fit the stack.
    """

    def __init__(
        self,
        masks: Mapping[int, np.ndarray],
        stack_shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        empty: Collection[int] = (),
    ):
        if not masks:
            raise InputError("there is no drawn slice to interpolate from: draw at least one")
        for index, mask in masks.items():
            if not 0 <= index < stack_shape[0] or mask.shape != tuple(stack_shape[1:]):
                raise InputError(
                    f"a drawing of shape {mask.shape} on slice {index} does not fit a stack of {stack_shape}"
                )
        self.indices = sorted(masks)
        self.between, self._empty = spacing[0], sorted(empty)
        self._distances = {i: signed_distance(masks[i], (spacing[1], spacing[2])) for i in self.indices}
        areas = {i: np.count_nonzero(masks[i]) * spacing[1] * spacing[2] for i in self.indices}
        self._radii = {i: math.sqrt(area / math.pi) for i, area in areas.items()}

    def gap_mm(self, index: int) -> float:
        """How far slice ``index`` is from the nearest drawn one, at most `reach_mm`."""
        return min(min(abs(index - drawn) for drawn in self.indices) * self.between, self.reach_mm)

    @property
    def reach_mm(self) -> float:
        """Half of the largest distance between neighboring drawn slices; for a single one, half of its structure."""
        steps = [b - a for a, b in pairwise(self.indices)]
        if steps:
            return max(steps) * self.between / 2
        return float(max(self._distances[self.indices[0]].max(), self.between))

    def is_between(self, index: int) -> bool:
        """Whether slice ``index`` has drawn slices on both sides, or is drawn itself."""
        return self.indices[0] <= index <= self.indices[-1]

    def is_open(self, index: int) -> bool:
        """Whether slice ``index`` lies beyond a single drawn one, and nothing tells how the shape goes on there: it may
        move, or grow, until a slice is known to show nothing."""
        (end, *others) = self.indices
        distances = (abs(other - end) for other in self._empty_beyond(end, index))
        return not others and index != end and all(abs(index - end) < distance for distance in distances)

    def distance(self, index: int) -> np.ndarray:
        """Signed distance in mm on slice ``index``, float32 (rows, columns), above 0 inside.

        Beyond the first and the last drawn slice, the shape shrinks until nothing is left, the faster, the narrower it
        has become before: a tube goes on for a while.
        """
        after = bisect_left(self.indices, index)
        if after == 0 or after == len(self.indices):
            end, *inner = self.indices[:2] if after == 0 else self.indices[:-3:-1]
            rate = self._shrinking(end, inner, self._empty_beyond(end, index))
            return self._distances[end] - np.float32(rate * abs(index - end) * self.between)
        lower, upper = self.indices[after - 1], self.indices[after]
        weight = np.float32((index - lower) / (upper - lower))
        return (1 - weight) * self._distances[lower] + weight * self._distances[upper]

    def _shrinking(self, end: int, inner: Sequence[int], empty: Sequence[int]) -> float:
        """mm per mm beyond the slice ``end``; inner: the drawn slice next to it, if there is one; empty: slices beyond
        it that show nothing. Widths are radii of circles of the same area.

        Slices that are drawn side by side tell nothing of how the shape goes on; the farther apart, the more.
        """
        depth, rate = float(self._distances[end].max()), SHRINKING
        for other in inner:
            step = abs(end - other) * self.between
            rate = SHRINKING + NARROWING_WEIGHT * (self._radii[other] - self._radii[end]) / step
            rate = min(max(rate, depth / step), 1.0)
        return max([rate, *(depth / (abs(index - end) * self.between) for index in empty)])

    def _empty_beyond(self, end: int, index: int) -> list[int]:
        """Slices without the structure on that side of the slice ``end`` on which slice ``index`` lies."""
        return [other for other in self._empty if (other < end if index < end else other > end)]


def interpolate_shape(
    masks: Mapping[int, np.ndarray],
    stack_shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    extrapolate: bool = False,
) -> np.ndarray:
    """The shape between drawn slices; arguments and errors as of `DrawnShape`.

    Args:
        extrapolate: let the shape go on, shrinking, beyond the first and the last mask; otherwise it ends there.

    Returns:
        float32 (slices, rows, columns): signed distance in mm, above 0 inside.
    """
    shape = DrawnShape(masks, stack_shape, spacing)
    result = np.full(stack_shape, -_diagonal(stack_shape, spacing), dtype=np.float32)
    indices = range(stack_shape[0]) if extrapolate else range(shape.indices[0], shape.indices[-1] + 1)
    for index in indices:
        result[index] = shape.distance(index)
    return result


def _outline(inside: np.ndarray) -> np.ndarray:
    """The outline as points on a grid of half pixels, on which pixel centers have even indices.

    Midpoints and corners of pixel edges are enough: from any pixel's center, the nearest point of an edge is one of
    them.
    """
    rows, columns = inside.shape
    outline = np.zeros((2 * rows - 1, 2 * columns - 1), dtype=bool)
    across_rows = inside[1:] != inside[:-1]
    across_columns = inside[:, 1:] != inside[:, :-1]
    outline[1::2, ::2] = across_rows
    outline[::2, 1::2] = across_columns
    outline[1::2, 1::2] = across_rows[:, 1:] | across_rows[:, :-1] | across_columns[1:] | across_columns[:-1]
    return outline


def _diagonal(shape: tuple[int, ...], spacing: tuple[float, ...]) -> float:
    return float(np.linalg.norm(np.array(shape) * np.array(spacing)))
