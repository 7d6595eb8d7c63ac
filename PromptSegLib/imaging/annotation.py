"""What the user drew of one structure, and what is known from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.volume import Geometry, Volume, through_plane_axis

# The value in a label map that says "nobody knows".
UNKNOWN = 255

# An axis looks drawn in steps from this abruptness on (see `_abruptness`): runs of up to four equal slices.
_DRAWN_IN_STEPS = 0.5


@dataclass(frozen=True, eq=False)
class Annotation:
    """The drawing of one label. What is not known never counts as background.

    Build it with `from_label_map`.

    Attributes:
        label_map: (slices, rows, columns), as given and not copied; it may hold other labels.
        label: the value of this structure in the label map.
        geometry: the grid of the label map.
        axis: array axis that the structure was drawn across.
        slices: ascending indices on that axis that hold known voxels.
        drawn: the slices on which everything is known that is not `UNKNOWN`; on any other slice only painted voxels.
    """

    label_map: np.ndarray
    label: int
    geometry: Geometry
    axis: int
    slices: tuple[int, ...]
    drawn: frozenset[int]

    @classmethod
    def from_label_map(
        cls,
        label_map: Volume,
        label: int,
        *,
        scribbles: bool = False,
        complete: bool = False,
        axis: int | None = None,
        source: str = "the drawing",
    ) -> Annotation:
        """Read a drawing.

        - A slice that holds the label is known all over. Elsewhere only voxels of other labels are known, as
          background, since a voxel holds one label.
        - If the value 255 occurs, it marks what is unknown, and everything else is known.
        - With `scribbles`, painted voxels are known and nothing else.
        - With `complete`, everything is known that is not 255.

        Args:
            label_map: whole numbers; 0 is unpainted, 255 is unknown.
            label: which of them to learn.
            scribbles: the drawing is strokes on the structure and, in other labels, beside it.
            complete: the whole scan was drawn.
            axis: array axis that was drawn across; found from the drawing if None.
            source: what to call the drawing in an error message, such as its file.

        Raises:
            InputError: if the drawing is empty, lacks the label, has no known background or holds fractions, or if the
                arguments make no sense.
        """
        array = label_map.array
        if label in (0, UNKNOWN):
            raise InputError(
                f"label {label} cannot be learned, since 0 means unpainted and 255 unknown: choose another"
            )
        if scribbles and complete:
            raise InputError(f"take {source} either as scribbles or as a complete drawing, not as both")
        if axis not in (None, 0, 1, 2):
            raise InputError(f"a drawing has the axes 0, 1 and 2, but axis {axis} was given for {source}")
        require_whole_numbers(array, source)

        counts = _count(array, label)
        if not counts.painted[0].any():
            raise InputError(f"there is nothing painted in {source}: draw the structure on at least one slice")
        if not counts.label[0].any():
            raise InputError(
                f"label {label} is not in {source}, which holds {_named_labels(array)}: choose one of these"
            )

        if axis is None:
            if complete:
                axis = through_plane_axis(label_map.geometry)
            else:
                axis = _drawn_axis(counts.painted if scribbles else counts.label, label_map.geometry)
        labeled, painted, not_unknown = counts.label[axis], counts.painted[axis], counts.not_unknown[axis]
        marked_unknown = int(not_unknown.sum()) < array.size

        if scribbles:
            drawn = np.zeros(len(labeled), dtype=bool)
        elif complete or marked_unknown:
            drawn = not_unknown > 0
        else:
            drawn = labeled > 0
        known = np.where(drawn, not_unknown, painted)
        if known.sum() == labeled.sum():
            if scribbles:
                advice = "add strokes of another label beside the structure"
            else:
                advice = "leave some background on the slices that are drawn on"
            raise InputError(f"everything known in {source} is label {label}, and nothing is background: {advice}")
        return cls(
            label_map=array,
            label=label,
            geometry=label_map.geometry,
            axis=axis,
            slices=tuple(np.flatnonzero(known).tolist()),
            drawn=frozenset(np.flatnonzero(drawn).tolist()),
        )

    @cached_property
    def showing(self) -> tuple[int, ...]:
        """Those of ``slices`` that show the structure."""
        return tuple(index for index in self.slices if self.foreground(index).any())

    def foreground(self, index: int) -> np.ndarray:
        """Where slice `index` along `axis` is the structure: 2-D bool, in array orientation."""
        foreground: np.ndarray = self._slice(index) == self.label
        return foreground

    def known(self, index: int) -> np.ndarray:
        """Where slice `index` along `axis` is known: 2-D bool, in array orientation."""
        plane = self._slice(index)
        known: np.ndarray = plane != UNKNOWN
        if index not in self.drawn:
            known &= plane != 0
        return known

    def known_mask(self) -> np.ndarray:
        """Where anything is known: bool (slices, rows, columns)."""
        mask = np.zeros(self.label_map.shape, dtype=bool)
        planes = np.moveaxis(mask, self.axis, 0)
        for index in self.slices:
            planes[index] = self.known(index)
        return mask

    def _slice(self, index: int) -> np.ndarray:
        plane: np.ndarray = np.moveaxis(self.label_map, self.axis, 0)[index]
        return plane


def require_whole_numbers(array: np.ndarray, source: str) -> None:
    """Check that an array can be a label map.

    Args:
        array: (slices, rows, columns).
        source: what to call it in the error message.

    Raises:
        InputError: if it holds anything but whole numbers.
    """
    if array.dtype.kind in "biu":
        return
    if array.dtype.kind != "f" or not all(bool(np.all(plane == np.rint(plane))) for plane in array):
        raise InputError(f"labels must be whole numbers, but {source} holds others: give a label map, not an image")


@dataclass(frozen=True)
class _Counts:
    """Numbers of voxels in each slice along each of the three array axes."""

    label: tuple[np.ndarray, np.ndarray, np.ndarray]
    painted: tuple[np.ndarray, np.ndarray, np.ndarray]
    not_unknown: tuple[np.ndarray, np.ndarray, np.ndarray]


def _count(array: np.ndarray, label: int) -> _Counts:
    """One pass over the array, slice by slice, so that no mask of its full size is made."""
    slices, rows, columns = array.shape
    label_counts, painted_counts, not_unknown_counts = (
        (np.zeros(slices, np.int64), np.zeros(rows, np.int64), np.zeros(columns, np.int64)) for _ in range(3)
    )
    for index, plane in enumerate(array):
        not_unknown = plane != UNKNOWN
        masks = (
            (label_counts, plane == label),
            (painted_counts, not_unknown & (plane != 0)),
            (not_unknown_counts, not_unknown),
        )
        for (along_slices, along_rows, along_columns), mask in masks:
            if mask.any():
                in_rows = np.count_nonzero(mask, axis=1)
                along_slices[index] = in_rows.sum()
                along_rows += in_rows
                along_columns += np.count_nonzero(mask, axis=0)
    return _Counts(label_counts, painted_counts, not_unknown_counts)


def _drawn_axis(counts: tuple[np.ndarray, np.ndarray, np.ndarray], geometry: Geometry) -> int:
    """The array axis that a structure was drawn across.

    Sparsely drawn slices stand out as steps: full outlines next to nothing. A gap alone does not tell, since paired
    organs leave one too, but there the area fades in and out; a drawing across the wrong axis would make background of
    the undrawn rest of the structure.

    Args:
        counts: voxels drawn in each slice along each axis.
        geometry: the grid, whose acquired slices decide where the drawing does not.
    """
    usual = through_plane_axis(geometry)
    filled = [_filled(profile) for profile in counts]
    sparse = [k for k in range(3) if filled[k] < 1 or np.count_nonzero(counts[k]) == 1]
    if not sparse:
        return usual
    steps = {k: _abruptness(counts[k]) for k in {usual, *sparse}}
    steepest = max(steps.values())
    if steepest < _DRAWN_IN_STEPS or np.isclose(steps[usual], steepest):
        return usual
    return min((k for k in steps if np.isclose(steps[k], steepest)), key=lambda k: (filled[k], k))


def _filled(profile: np.ndarray) -> float:
    """Which part of the slices between the first and the last drawn one is drawn."""
    drawn = np.flatnonzero(profile)
    return len(drawn) / float(drawn[-1] - drawn[0] + 1)


def _abruptness(profile: np.ndarray) -> float:
    """How steplike areas change from slice to slice: 2 for single slices, 2/n for blocks of n, near 0 for organs."""
    areas = np.pad(profile.astype(np.float64), 1)
    return float(np.sum(np.diff(areas) ** 2) / np.sum(areas**2))


def painted_labels(array: np.ndarray) -> list[int]:
    """What is painted in a label map (slices, rows, columns), but for what is marked as unknown."""
    return sorted({int(value) for plane in array for value in np.unique(plane)} - {0, UNKNOWN})


def _named_labels(array: np.ndarray) -> str:
    labels = painted_labels(array)
    names = ", ".join(str(value) for value in labels)
    return f"label {names}" if len(labels) == 1 else f"labels {names}"
