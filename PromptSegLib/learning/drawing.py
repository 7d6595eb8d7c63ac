"""Drawn scans as working images: what tuning learns from."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import SliceStack, Volume, slice_stack
from PromptSegLib.imaging.window import KIND_NAMES, Window, window_for
from PromptSegLib.imaging.working_grid import WorkingGrid, body_box, working_spacing
from PromptSegLib.learning.anatomy import is_one_piece, level, offsets_mm, sizes_and_shapes
from PromptSegLib.tokens.class_token import ClassToken
from PromptSegLib.tokens.height import Height
from PromptSegLib.tokens.place import Place
from PromptSegLib.tokens.shape import Shape
from PromptSegLib.tokens.size import Size

MIN_BOX = 128
"""Smallest working image in pixels: what the crops of a training step take."""

MAX_SLICES = 120
"""Slices used of all scans together: what more a hundred and twenty-first would teach is not worth its memory."""

EMPTY_SHARE = 1 / 3

_FEWEST_WITH_ENDS = 3
"""Fewer slices than that, chosen of more, are not the first and the last one: a structure's ends say least of it."""

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class DrawnScan:
    """A scan, and what was drawn of one structure on it."""

    image: Volume
    annotation: Annotation

    def __post_init__(self) -> None:
        if not self.image.geometry.same_grid(self.annotation.geometry):
            raise InputError("the drawing does not lie on the grid of its image: draw on the image itself")


@dataclass(frozen=True)
class WorkingSlice:
    """One drawn slice as the backbone sees it, cropped to the body. Shapes (1, h, w), multiples of 32.

    image: in [-1, 1]; target: share of the structure in each pixel, [0, 1]; known: bool; scan: number of the scan;
    stands_for: how many drawn slices, in those that one slice of the structure stands for; empty: whether all of it is
    known to be something else, as where a user erased the structure.
    """

    image: Tensor
    target: Tensor
    known: Tensor
    scan: int = 0
    stands_for: float = 1.0
    empty: bool = False

    @cached_property
    def seed(self) -> int:
        """For what chance does to this slice: the same in every round of corrections, whatever else is drawn."""
        return zlib.crc32(self.image.numpy().tobytes())


@dataclass(frozen=True)
class Drawing:
    """The drawn slices of all scans at one working spacing.

    is_complete: whether all slices of all scans are known; empty_share: of what is learned from, how much may show
    nothing of the structure where some of it does; place and height: of the structure in the body, size and shapes: if
    they can be told.
    """

    slices: tuple[WorkingSlice, ...]
    plane: str
    spacing_mm: float
    window: Window
    pieces: str
    scans: int
    is_complete: bool = False
    empty_share: float = EMPTY_SHARE
    place: Place | None = None
    height: Height | None = None
    size: Size | None = None
    shapes: tuple[Shape, ...] = ()

    @property
    def is_for_others(self) -> bool:
        """Whether it is for other scans that one learns from it: there are several, or nothing is left to find."""
        return self.scans > 1 or self.is_complete

    @cached_property
    def empty_weight(self) -> float:
        """What a slice that shows nothing weighs beside one that does."""
        return empty_weight(self.showing, len(self.slices) - self.showing, self.empty_share)

    @property
    def showing(self) -> int:
        """How many slices are not known to show nothing of the structure."""
        return sum(not part.empty for part in self.slices)


def prepare_drawing(
    scans: Sequence[DrawnScan],
    *,
    like: ClassToken | None = None,
    most_slices: int = MAX_SLICES,
    empty_share: float = EMPTY_SHARE,
) -> Drawing:
    """Bring the drawn slices of one structure to a common working spacing.

    Args:
        like: sees the scans as this token does, instead of choosing the spacing.
        most_slices: that are used of all scans together.
        empty_share: of these, how many may show nothing of the structure where there are enough that do; and how much
            those that are empty may weigh in learning, however few do.

    Raises:
        InputError: if the scans were drawn on different planes, CT and other scans are mixed, the drawing is too
            small to show structure and background, or plane or kind of the scans are not those of the token.
    """
    if not scans:
        raise InputError("there is no drawn scan to learn from: give at least one image and its drawing")
    stacks = [slice_stack(scan.image, scan.annotation.axis) for scan in scans]
    planes = sorted({stack.plane for stack in stacks})
    if len(planes) > 1:
        raise InputError(f"the drawings lie on different planes ({', '.join(planes)}): draw all of them on one")
    windows = [window_for(scan.image.array) for scan in scans]
    if len({window.kind for window in windows}) > 1:
        raise InputError("CT scans and others are mixed: learn a class from scans of one kind")

    spacing = _own_spacing(scans, stacks) if like is None else _spacing_of(like, planes[0], windows[0].kind)

    working: list[WorkingSlice] = []
    for number, (scan, stack, window) in enumerate(zip(scans, stacks, windows, strict=True)):
        grid = WorkingGrid((stack.shape[1], stack.shape[2]), stack.spacing[1:], spacing)
        images = stack.view(scan.image.array)
        showing = list(scan.annotation.showing)
        empty = sorted(set(scan.annotation.slices) - set(showing))
        chosen = _chosen_slices(showing, empty, max(1, most_slices // len(scans)), number, empty_share)
        of_empty = _share(chosen, showing) / max(_share(chosen, empty), 1e-6)
        for index in chosen:
            part = _working_slice(scan, index, images[index], grid, window)
            if part is not None:
                stands_for, is_empty = (1.0, False) if index in showing else (of_empty, index in scan.annotation.drawn)
                working.append(replace(part, scan=number, stands_for=stands_for, empty=is_empty))
    inside = any(bool((part.known & (part.target > 0.5)).any()) for part in working)
    outside = any(bool((part.known & (part.target <= 0.5)).any()) for part in working)
    if not (inside and outside):
        raise InputError(
            f"the drawing is too small to be seen at {spacing} mm: draw more, and some background beside it"
        )
    pieces = "one" if all(is_one_piece(scan.annotation) for scan in scans) else "many"
    offsets = [offsets_mm(scan.image, scan.annotation, window) for scan, window in zip(scans, windows, strict=True)]
    levels = [level(scan.image, scan.annotation, window) for scan, window in zip(scans, windows, strict=True)]
    sizes_ml, shapes = sizes_and_shapes([scan.annotation for scan in scans], pieces)
    return Drawing(
        slices=tuple(working),
        plane=planes[0],
        spacing_mm=spacing,
        window=windows[0],
        pieces=pieces,
        scans=len(scans),
        is_complete=all(
            len(set(scan.annotation.slices)) == stack.shape[0] for scan, stack in zip(scans, stacks, strict=True)
        ),
        empty_share=empty_share,
        place=Place.of(np.concatenate(offsets)),
        height=Height.of([found for found in levels if found is not None]),
        size=Size.of(sizes_ml),
        shapes=shapes,
    )


def _own_spacing(scans: Sequence[DrawnScan], stacks: Sequence[SliceStack]) -> float:
    diameters = [
        d for scan, s in zip(scans, stacks, strict=True) for d in _diameters(scan, s.spacing[1] * s.spacing[2])
    ]
    native = float(np.median([np.sqrt(stack.spacing[1] * stack.spacing[2]) for stack in stacks]))
    return working_spacing(float(np.median(diameters)), native)


def _spacing_of(token: ClassToken, plane: str, kind: str) -> float:
    if plane != token.plane:
        raise InputError(f"the drawings are {plane}, and the token '{token.name}' is {token.plane}: draw on its plane")
    if kind != token.window.kind:
        raise InputError(
            f"the token '{token.name}' is for {KIND_NAMES[token.window.kind]}, and these are {KIND_NAMES[kind]}: "
            "learn a token of its own for them"
        )
    return token.spacing_mm


def _share(chosen: Sequence[int], slices: Sequence[int]) -> float:
    """Of the slices, how many are chosen; 1 where there are none."""
    return len(set(chosen) & set(slices)) / len(slices) if slices else 1.0


def empty_weight(showing: int, empty: int, share: float) -> float:
    """What an empty slice weighs beside one of the others, so that, to half a slice, all of them together are no more
    than this ``share``: of one that is drawn and erased beyond its ends, two of three slices show nothing."""
    too_many = empty - share * (showing + empty)
    return showing * share / (1 - share) / empty if showing and too_many > 0.5 else 1.0


def _chosen_slices(showing: list[int], empty: list[int], most: int, number: int, empty_share: float) -> list[int]:
    """At most ``most`` of these drawn slices, evenly spread: a share ``empty_share`` shows nothing of the structure,
    and at least four of them where there are so many.

    number: of the scan. Of many scans, where each has one or two slices, these lie at another height in each.
    """
    beside_all_that_show = math.floor(len(showing) * empty_share / (1 - empty_share) + 1e-6)
    of_empty = min(len(empty), max(int(most * empty_share), most - len(showing)), max(beside_all_that_show, 4))
    shift = number * _GOLDEN_RATIO % 1
    return sorted(_spread(showing, max(1, most - of_empty), shift) + _spread(empty, of_empty, shift))


def _spread(indices: list[int], most: int, shift: float) -> list[int]:
    if len(indices) <= most:
        return indices
    if most < _FEWEST_WITH_ENDS:
        return [indices[int((k + shift) / most * len(indices))] for k in range(most)]
    return [indices[i] for i in np.linspace(0, len(indices) - 1, most).round().astype(int)]


def _working_slice(
    scan: DrawnScan, index: int, plane: np.ndarray, grid: WorkingGrid, window: Window
) -> WorkingSlice | None:
    """None for a slice of nothing but air, in which there is nothing to learn."""
    annotation = scan.annotation
    stack = slice_stack(scan.image, annotation.axis)

    def oriented(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(stack.view(np.expand_dims(array, annotation.axis))))

    known = oriented(annotation.known(index))
    drawn = oriented(annotation.foreground(index)).float()
    image = grid.to_working(torch.from_numpy(np.ascontiguousarray(window.apply(plane)))[None])
    working_known = grid.known(known)
    # Unknown pixels lend nothing: the share of the structure is taken among the known ones around.
    weight = grid.to_working(known.float())
    target = (grid.to_working(drawn * known) / weight.clamp_min(1e-6)).clamp(0, 1)
    peak = float(target.max())
    if 0 < peak <= 0.5:
        # Thinner than a working pixel: where it is most, there it is.
        target = target / peak
    is_drawn = index in annotation.drawn
    box = body_box(image, MIN_BOX, also=(target > 0) & working_known if is_drawn else working_known)
    if box is None:
        return None
    return WorkingSlice(box.cut(image, -1.0), box.cut(target, 0.0), box.cut(working_known.float(), 0.0) > 0.5)


def _diameters(scan: DrawnScan, pixel_mm2: float) -> list[float]:
    """Diameter in mm of the circle as large as the structure, on each slice that shows it."""
    areas = [int(scan.annotation.foreground(i).sum()) for i in scan.annotation.slices]
    return [2 * float(np.sqrt(area * pixel_mm2 / np.pi)) for area in areas if area]
