"""What a drawing tells of a structure besides its looks: in how many pieces, how large, and where in the body it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.body import body_middles
from PromptSegLib.imaging.outline import body_axis, heights_mm, outline
from PromptSegLib.imaging.volume import Volume, slice_stack
from PromptSegLib.imaging.window import Window
from PromptSegLib.tokens.height import Level

_CRUMB = 0.1
"""Of the largest piece's size, how large another one may be that does not count."""

_SURELY_WHOLE = 8
"""Slices without a gap from which on a structure counts as wholly drawn, also if nothing is known beyond."""

_LEAST_BEYOND_MM = 30.0
"""How far a structure may reach beyond what was drawn of it, at the least, if slices were left out."""


def showing_slices(annotation: Annotation) -> tuple[list[int], list[int]]:
    """Drawn slices that show the structure, and those that do not."""
    showing = [i for i in annotation.slices if annotation.foreground(i).any()]
    return showing, sorted(set(annotation.slices) - set(showing))


def is_one_piece(annotation: Annotation) -> bool:
    """Whether the structure is one piece, but for crumbs: in space where no slice was left out, or else on each slice.

    A bow shows two pieces on most of its slices, and is one.
    """
    showing, _ = showing_slices(annotation)
    masks = [annotation.foreground(index).astype(np.uint8) for index in showing]
    return _in_one_piece(np.stack(masks)) if _is_gapless(showing) else all(_in_one_piece(mask) for mask in masks)


def is_whole(annotation: Annotation) -> bool:
    """Whether all of the structure was drawn that the scan shows: no slice was left out, within it or at its ends."""
    showing, _ = showing_slices(annotation)
    if not _is_gapless(showing) or not annotation.drawn.issuperset(showing):
        return False
    last = annotation.geometry.shape[annotation.axis] - 1
    ends = {max(0, showing[0] - 1), min(last, showing[-1] + 1)}
    return len(showing) >= _SURELY_WHOLE or annotation.drawn.issuperset(ends)


def volume_ml(annotation: Annotation) -> float | None:
    """Of the structure; None if it may be larger than what was drawn, since slices were left out or the scan ends."""
    showing, _ = showing_slices(annotation)
    if not is_whole(annotation) or {0, annotation.geometry.shape[annotation.axis] - 1} & set(showing):
        return None
    voxels = sum(int(annotation.foreground(index).sum()) for index in showing)
    return voxels * annotation.geometry.voxel_volume_mm3 / 1000


def offsets_mm(image: Volume, annotation: Annotation, window: Window) -> np.ndarray:
    """(n, 2): how far from the middle of the body, along rows and columns of their slice, each drawn pixel of the
    structure lies; not a number where the scan does not show it."""
    stack = slice_stack(image, annotation.axis)
    middles = body_middles(image.array, stack, window)
    offsets = []
    for index in annotation.slices:
        mask = annotation.foreground(index)
        pixels = np.argwhere(stack.view(np.expand_dims(mask, stack.axis))[0])
        offsets.append(pixels * np.array(stack.spacing[1:]) - middles[index])
    return np.concatenate(offsets)


def level(image: Volume, annotation: Annotation) -> Level | None:
    """At which height in the body the structure lies; None where the scan shows nothing of the body around it."""
    axis, heights = body_axis(image), heights_mm(image)
    drawn = _indices(annotation, axis)
    low, high = np.sort(heights[[drawn[0], drawn[-1]]])
    if annotation.axis == axis and not is_whole(annotation):
        beyond = max(high - low, _LEAST_BEYOND_MM)
        low, high = low - beyond, high + beyond
    spacing = image.geometry.spacing[axis]
    ends = (bool(low > heights.min() + spacing / 2), bool(high < heights.max() - spacing / 2))
    return Level.of(outline(image), float(low), float(high), ends)


def _indices(annotation: Annotation, axis: int) -> Sequence[int]:
    """Of the array axis ``axis``, those that show the structure on some drawn slice."""
    showing, _ = showing_slices(annotation)
    if annotation.axis == axis:
        return showing
    across = [other for other in range(3) if other not in (annotation.axis, axis)]
    masks = [np.expand_dims(annotation.foreground(index), annotation.axis) for index in showing]
    flat = np.any([mask.any(axis=(annotation.axis, *across)) for mask in masks], axis=0)
    found: list[int] = np.flatnonzero(flat).tolist()
    return found


def _is_gapless(showing: Sequence[int]) -> bool:
    return len(showing) > 1 and showing[-1] - showing[0] == len(showing) - 1


def _in_one_piece(mask: np.ndarray) -> bool:
    import SimpleITK as sitk

    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray(mask), True))
    sizes = np.bincount(sitk.GetArrayViewFromImage(pieces).ravel())[1:]
    return len(sizes) < 2 or bool(sizes[1] <= _CRUMB * sizes[0])
