"""What a drawing tells of a structure besides its looks: in how many pieces, how large, of which shape, and
where in the body it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.body import body_middles
from PromptSegLib.imaging.outline import body_axis, heights_mm, outline
from PromptSegLib.imaging.volume import Volume, bounding_box, slice_stack
from PromptSegLib.imaging.window import Window
from PromptSegLib.learning.shapes import shape_of, some_shapes
from PromptSegLib.tokens.class_token import ClassToken
from PromptSegLib.tokens.height import Height, Level
from PromptSegLib.tokens.shape import Shape
from PromptSegLib.tokens.size import Size

_CRUMB = 0.1
"""Of the largest piece's size, how large another one may be that does not count."""

_SURELY_WHOLE = 8
"""Slices without a gap from which on a structure counts as wholly drawn, also if nothing is known beyond."""

_SURELY_WHOLE_MM = 20.0
"""What these slices must make up for its ends to count as drawn: few thin ones may lie amid a long structure."""


_SUPPORTED = 1 / 3
"""Share of a result's extent that drawn slices must span for its ends to be believed."""


def is_one_piece(annotation: Annotation) -> bool:
    """Whether the structure is one piece, but for crumbs: in space where no slice was left out, or else on each slice.

    A bow shows two pieces on most of its slices, and is one.
    """
    showing = annotation.showing
    masks = [annotation.foreground(index).astype(np.uint8) for index in showing]
    return _in_one_piece(np.stack(masks)) if _is_gapless(showing) else all(_in_one_piece(mask) for mask in masks)


def is_whole(annotation: Annotation) -> bool:
    """Whether all of the structure that the scan shows seems to be drawn: no slice was left out within it, and it is
    known to end there or shows on _SURELY_WHOLE slices."""
    showing = annotation.showing
    if not _is_gapless(showing) or not annotation.drawn.issuperset(showing):
        return False
    last = annotation.geometry.shape[annotation.axis] - 1
    ends = {max(0, showing[0] - 1), min(last, showing[-1] + 1)}
    return len(showing) >= _SURELY_WHOLE or annotation.drawn.issuperset(ends)


def volume_ml(annotation: Annotation) -> float | None:
    """Of the structure; None if it may be larger than what was drawn, since slices were left out or the scan ends."""
    if not is_whole(annotation):
        return None
    mask = annotation.label_map == annotation.label
    if not _is_inside(bounding_box(mask), mask.shape):
        return None
    return np.count_nonzero(mask) * annotation.geometry.voxel_volume_mm3 / 1000


def sizes_and_shapes(annotations: Sequence[Annotation], pieces: str) -> tuple[list[float], tuple[Shape, ...]]:
    """Volumes in ml of structures that were wholly drawn and lie wholly in their scan; and if the structure is one
    piece, the shapes of some whose sizes differ.

    pieces: one or many, as in a `ClassToken`.
    """
    known = [(volume, annotation) for annotation in annotations if (volume := volume_ml(annotation)) is not None]
    volumes = [volume for volume, _ in known]

    def shape(number: int) -> Shape | None:
        annotation = known[number][1]
        return shape_of(annotation.label_map == annotation.label, annotation.geometry)

    return volumes, some_shapes(volumes, shape) if pieces == "one" else ()


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


def level(image: Volume, annotation: Annotation, window: Window) -> Level | None:
    """At which height in the body the structure lies: as far as its ends were drawn, or slices beyond them that show
    nothing of it. None if neither end is known, or nothing of the body around."""
    return _level(image, window, *_ends(annotation, body_axis(image)))


@dataclass(frozen=True)
class FoundStructure:
    """What was found on a scan that was drawn on: the box of the scan's array that holds it, its voxels there, bool,
    and its volume. axis, showing: array axis and indices of the slices that were drawn and show it."""

    image: Volume
    box: tuple[slice, slice, slice]
    mask: np.ndarray
    ml: float
    axis: int
    showing: Sequence[int]

    @property
    def is_supported(self) -> bool:
        """Whether the drawing reaches over enough of it to tell where it ends: not of a single slice, say."""
        span = max(self.showing) - min(self.showing) + 1 if len(self.showing) > 1 else 0
        along = self.box[self.axis]
        return bool(span >= _SUPPORTED * (along.stop - along.start))

    @property
    def is_inside(self) -> bool:
        """Whether the scan shows all of it."""
        return self.ml > 0 and _is_inside(self.box, self.image.array.shape)

    def level(self, window: Window) -> Level | None:
        """At which height in the body it lies, as far as its ends are in the scan."""
        axis = body_axis(self.image)
        along, last = self.box[axis], self.image.array.shape[axis] - 1
        first_seen = along.start if along.start > 0 else None
        last_seen = along.stop - 1 if along.stop - 1 < last else None
        return _level(self.image, window, first_seen, last_seen)


def as_found(token: ClassToken, found: Sequence[FoundStructure]) -> ClassToken:
    """The token of a structure that was drawn in part, with height, size and shape of what was found of it on these
    scans, as far as the drawings support it."""
    supported = [structure for structure in found if structure.is_supported]
    levels = [level for level in (structure.level(token.window) for structure in supported) if level is not None]
    inside = [structure for structure in supported if structure.is_inside]
    sizes = [structure.ml for structure in inside]
    known = replace(token, height=Height.of(levels) or token.height)
    if not inside:
        return known

    def shape(number: int) -> Shape | None:
        return shape_of(inside[number].mask, inside[number].image.geometry)

    return replace(known, size=Size.of(sizes), shapes=some_shapes(sizes, shape) if token.pieces == "one" else ())


def _is_inside(box: Sequence[slice], lengths: Sequence[int]) -> bool:
    """Whether a box of an array reaches none of its ends."""
    return all(side.start > 0 and side.stop < length for side, length in zip(box, lengths, strict=True))


def _level(image: Volume, window: Window, first: int | None, last: int | None) -> Level | None:
    """first, last: indices on the body's axis, None for an end that is not known."""
    heights = heights_mm(image)
    ends = [None if index is None else float(heights[index]) for index in (first, last)]
    low, high = ends if heights[0] <= heights[-1] else reversed(ends)
    return Level.of(outline(image, window.kind), low, high)


def _ends(annotation: Annotation, axis: int) -> tuple[int | None, int | None]:
    """First and last index on the body's array axis between which the structure lies, None for an end that was not
    drawn."""
    if annotation.axis != axis:
        return _ends_across(annotation, axis)
    showing, last = annotation.showing, annotation.geometry.shape[axis] - 1
    below = [index for index in annotation.drawn if index < showing[0]]
    above = [index for index in annotation.drawn if index > showing[-1]]
    millimeters = len(showing) * annotation.geometry.spacing[axis]
    if is_whole(annotation) and (millimeters >= _SURELY_WHOLE_MM or (below and above)):
        below, above = below or [showing[0]], above or [showing[-1]]
    # A structure on the first or the last slice goes on beyond the scan.
    return (
        max(below) if below and showing[0] > 0 else None,
        min(above) if above and showing[-1] < last else None,
    )


def _ends_across(annotation: Annotation, axis: int) -> tuple[int | None, int | None]:
    """As `_ends`, of slices that all run along the body: only together they show the ends."""
    if not is_whole(annotation):
        return None, None
    beside = next(other for other in range(3) if other not in (annotation.axis, axis))
    in_slice = beside - (beside > annotation.axis)
    along = np.flatnonzero(np.any([annotation.foreground(i).any(axis=in_slice) for i in annotation.showing], axis=0))
    first, last = int(along[0]), int(along[-1])
    return first if first > 0 else None, last if last < annotation.geometry.shape[axis] - 1 else None


def _is_gapless(showing: Sequence[int]) -> bool:
    return len(showing) > 1 and showing[-1] - showing[0] == len(showing) - 1


def _in_one_piece(mask: np.ndarray) -> bool:
    import SimpleITK as sitk

    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(sitk.GetImageFromArray(mask), True))
    sizes = np.bincount(sitk.GetArrayViewFromImage(pieces).ravel())[1:]
    return len(sizes) < 2 or bool(sizes[1] <= _CRUMB * sizes[0])
