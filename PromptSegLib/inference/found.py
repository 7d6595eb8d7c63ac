"""What the network found of a class that was not drawn on this scan: kept until the whole of it is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from PromptSegLib.imaging.volume import SliceStack, bounding_box
from PromptSegLib.inference.neighborhood import MARGIN_MM, Neighborhood, Place
from PromptSegLib.tokens import place as whereabouts
from PromptSegLib.tokens.shape import Shape

FAINT = -6.0
"""Logits below this, 0.25 %, are not kept: no random walk makes anything of them."""

BESIDE_MM = 25.0
"""From what was drawn on to the piece that would have been the structure without a drawing: closer, it is another part
of it; farther away along any axis than this, and than the structure is long there, it is another structure. So an
esophagus may be missed on some slices, and one kidney is not taken for the other."""

LONGER = 1.25
"""What was found and what was drawn apart from it are one structure only if they are not longer together than so many
times what the structure is elsewhere."""

LARGE_SHARE = 0.1
"""Of a structure of many pieces, those that have at least this share of the largest one's voxels count."""


Likelihood = Callable[[int, slice, slice], np.ndarray]
"""Of rows and columns of a slice, how likely the structure lies there, 0 to 1."""


@dataclass
class Found:
    """Logits of one class on a stack, each few slices with the rectangle around all that is not hopeless.

    parts: float16 logits with their places in the stack.
    """

    parts: list[tuple[Place, np.ndarray]] = field(default_factory=list)

    @property
    def voxels(self) -> int:
        """How many are more likely than not."""
        return sum(int(np.count_nonzero(logits > 0)) for _, logits in self.parts)

    def add(self, part: slice, logits: np.ndarray) -> None:
        """Keep what was found (n, rows, columns) on the slices ``part``."""
        worth = logits > FAINT
        if worth.any():
            _, rows, columns = bounding_box(worth)
            self.parts.append(((part, rows, columns), logits[:, rows, columns].astype(np.float16)))

    def neighborhood(
        self,
        stack: SliceStack,
        *,
        one_piece: bool,
        likelihood: Likelihood | None = None,
        painted: np.ndarray | None = None,
        beside_mm: Sequence[float] = (BESIDE_MM,) * 3,
        margin_mm: float = MARGIN_MM,
    ) -> Neighborhood | None:
        """The surroundings of what was found; None for nothing.

        Args:
            one_piece: those of the largest piece alone.
            likelihood: makes it the piece with most voxels where the structure is likely to lie.
            painted: bool, voxels of the stack that the user drew: makes it the pieces that these lie in, and the one
                that it would be without if that lies beside them; the surroundings reach to those slices of the
                drawing that may belong to these.
            beside_mm: how far from them it may lie along each axis of the stack.
            margin_mm: how far they reach beyond what was found.
        """
        positive = [place for place, logits in self.parts if (logits > 0).any()]
        if not positive:
            return None
        around = _union(positive)
        labels = sitk.ConnectedComponent(sitk.GetImageFromArray((self._within(around) > 0).astype(np.uint8)), True)
        pieces = sitk.GetArrayViewFromImage(labels)
        sizes = np.zeros(int(pieces.max()) + 1)
        for index, plane in enumerate(pieces, start=around[0].start):
            weights = None if likelihood is None else likelihood(index, *around[1:]).ravel()
            sizes += np.bincount(plane.ravel(), weights, len(sizes))
        sizes[0] = 0
        inside = (sizes == sizes.max() if one_piece else sizes >= LARGE_SHARE * sizes.max())[pieces]
        if one_piece and painted is not None:
            inside = _with_drawn_on(inside, pieces, painted[around], stack.spacing, beside_mm)
        box = _moved(bounding_box(inside), around)
        if one_piece and painted is not None:
            is_drawn_on = bool((inside & painted[around]).any())
            box = _with_slices_of_it(box, painted, is_drawn_on, stack.spacing, beside_mm)
        slices, rows, columns = (
            slice(max(0, side.start - math.ceil(margin_mm / mm)), min(length, side.stop + math.ceil(margin_mm / mm)))
            for side, mm, length in zip(box, stack.spacing, stack.shape, strict=True)
        )
        place = (slices, rows, columns)
        whole = np.zeros([side.stop - side.start for side in place], dtype=bool)
        _overlap(whole, place, inside, around)
        return Neighborhood(place, None, whole, self._within(place))

    def outside(self, place: Place) -> Iterator[tuple[Place, np.ndarray]]:
        """What was found elsewhere than in ``place``, a few slices at a time, with FAINT within it."""
        for own, logits in self.parts:
            rest = logits.astype(np.float32)
            _overlap(rest, own, np.full([side.stop - side.start for side in place], FAINT, np.float32), place)
            yield own, rest

    def _within(self, place: Place) -> np.ndarray:
        logits = np.full([side.stop - side.start for side in place], FAINT, dtype=np.float16)
        for own, part in self.parts:
            _overlap(logits, place, part, own)
        return logits


def most_apart_mm(shapes: Sequence[Shape], axes: np.ndarray) -> list[float]:
    """How far a part of a structure may lie from another one, along each axis.

    shapes: what the structure looks like in other scans; axes: (3, 3), column k is the LPS unit vector along axis k.
    """
    sides_mm = [np.abs(axes[::-1].T) @ shape.sides_mm for shape in shapes]
    return [max(BESIDE_MM, *along) for along in zip(*sides_mm, strict=True)] or [BESIDE_MM] * 3


def likelihood(
    place: whereabouts.Place | None,
    middles: np.ndarray | None,
    against: np.ndarray | None,
    stack: SliceStack,
) -> Likelihood | None:
    """Where a structure is likely to lie on a scan; None if nothing tells.

    middles: of the body in each slice of the stack, see `body_middles`; against: of each voxel of the stack, what
    speaks against its height, as a logit.
    """
    if (place is None or middles is None) and against is None:
        return None

    def likely(index: int, rows: slice, columns: slice) -> np.ndarray:
        unlikely = np.zeros((rows.stop - rows.start, columns.stop - columns.start))
        if place is not None and middles is not None:
            unlikely += place.unlikeliness(_offsets_mm(middles[index], rows, columns, stack), stack.plane)
        if against is not None:
            unlikely += against[index, rows, columns]
        weights: np.ndarray = np.exp(-unlikely)
        return weights

    return likely


def _with_drawn_on(
    chosen: np.ndarray,
    pieces: np.ndarray,
    painted: np.ndarray,
    spacing: Sequence[float],
    beside_mm: Sequence[float],
) -> np.ndarray:
    """bool, the pieces that were drawn on, and the chosen one if it lies beside them; the chosen one if none was."""
    numbers = np.unique(pieces[painted])
    drawn_on = np.isin(pieces, numbers[numbers > 0])
    if not drawn_on.any():
        return chosen
    is_beside = _is_beside(bounding_box(drawn_on), bounding_box(chosen), spacing, beside_mm)
    return drawn_on | chosen if is_beside else drawn_on


def _with_slices_of_it(
    box: Place, painted: np.ndarray, is_drawn_on: bool, spacing: Sequence[float], beside_mm: Sequence[float]
) -> Place:
    """The box of what was found, with each drawn slice that lies beside it, unless both together are longer than the
    structure ever is: then it is another one. What lies between drawn slices, none of which meets it, is another one
    too: there, the structure goes from one to the other.
    """
    showing = np.flatnonzero(painted.any(axis=(1, 2)))
    if len(showing) == 0 or (not is_drawn_on and showing[0] < box[0].start and showing[-1] >= box[0].stop):
        return box
    together = box
    for index in showing:
        (_, rows, columns) = bounding_box(painted[index : index + 1])
        drawn = (slice(int(index), int(index) + 1), rows, columns)
        both = _union([box, drawn])
        lengths = [(side.stop - side.start) * mm for side, mm in zip(both, spacing, strict=True)]
        is_short = all(length <= LONGER * most for length, most in zip(lengths, beside_mm, strict=True))
        if is_short and _is_beside(box, drawn, spacing, beside_mm):
            together = _union([together, drawn])
    return together


def _is_beside(one: Place, other: Place, spacing: Sequence[float], beside_mm: Sequence[float]) -> bool:
    gaps = [max(a.start - b.stop, b.start - a.stop) for a, b in zip(one, other, strict=True)]
    return all(gap * mm <= most for gap, mm, most in zip(gaps, spacing, beside_mm, strict=True))


def _offsets_mm(middle: np.ndarray, rows: slice, columns: slice, stack: SliceStack) -> np.ndarray:
    """(rows, columns, 2): how far these pixels of a slice lie from the middle of its body."""
    (_, row_mm, column_mm), (down, right) = stack.spacing, middle
    offsets = np.meshgrid(
        np.arange(rows.start, rows.stop) * row_mm - down,
        np.arange(columns.start, columns.stop) * column_mm - right,
        indexing="ij",
    )
    return np.stack(offsets, axis=-1)


def _moved(box: Place, around: Place) -> Place:
    """A box of what lies at ``around``, in the whole."""
    slices, rows, columns = (
        slice(outer.start + inner.start, outer.start + inner.stop) for inner, outer in zip(box, around, strict=True)
    )
    return slices, rows, columns


def _union(places: list[Place]) -> Place:
    slices, rows, columns = (
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*places, strict=True)
    )
    return slices, rows, columns


def _overlap(target: np.ndarray, place: Place, source: np.ndarray, own: Place) -> None:
    """Copy ``source``, which lies at ``own``, into ``target``, which lies at ``place``, where they meet."""
    common = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(place, own, strict=True)]
    if all(side.start < side.stop for side in common):
        into = tuple(slice(c.start - p.start, c.stop - p.start) for c, p in zip(common, place, strict=True))
        out_of = tuple(slice(c.start - o.start, c.stop - o.start) for c, o in zip(common, own, strict=True))
        target[into] = source[out_of]
