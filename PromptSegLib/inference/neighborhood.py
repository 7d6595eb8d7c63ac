"""What was drawn or found of a class on the scan that is segmented, with its surroundings: where a random walk settles
it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy import special

from PromptSegLib.imaging.volume import SliceStack
from PromptSegLib.imaging.window import Window
from PromptSegLib.imaging.working_grid import WorkingGrid
from PromptSegLib.inference.appearance import appearance_logits
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.extent import Extent
from PromptSegLib.inference.fitting import Template
from PromptSegLib.inference.random_walk import random_walk
from PromptSegLib.tokens.size import Size

MARGIN_MM = 10.0
SHAPED_MARGIN_MM = 25.0
"""Where the structure's shape is known, which may add what the network missed beside what it found."""

MOST_VOXELS = 1_500_000
"""Larger surroundings are settled on a coarser plane: a random walk takes a second and 60 MB for so many voxels."""

UNDRAWN_OFFSET = 1.0
"""Where nothing was drawn: the network is less sure on other patients than on its own, and its borders lie too far
inside, so the threshold of the best expected DSC is far below one half (Z. Lipton et al., "Optimal thresholding of
classifiers to maximize F1 measure", ECML PKDD 2014). Offsets from 0.5 to 1.5 change the mean DSC on training patients
by less than 0.01."""

Place = tuple[slice, slice, slice]

_SUREST = 1e-4
_NOTHING = -20.0
_SHIFTS = np.arange(-40, 31) / 10
_AT_ONCE = 8
_SOFT_TISSUE_HU = (-150.0, 250.0)


@dataclass
class Neighborhood:
    """A box of a stack around a drawing or what was found, and the logits found in it.

    place: (slices, rows, columns) of the stack; known: bool, voxels whose class the user gave, None if the user drew
    nothing here; inside: bool, those of this class, or what was found of it; logits: float16; painted: bool, where what
    was found is only corrected by a drawing, its voxels of this class; extent, size, template: of the structure, where
    it was not drawn, or is only corrected.
    """

    place: Place
    known: np.ndarray | None
    inside: np.ndarray
    logits: np.ndarray
    painted: np.ndarray | None = None
    extent: Extent | None = None
    size: Size | None = None
    template: Template | None = None

    @classmethod
    def of(cls, drawn: Drawn, label: int, stack: SliceStack) -> Neighborhood | None:
        """The neighborhood of what was drawn with ``label``; None if nothing was.

        It reaches half of the structure's extent, and at least MARGIN_MM, beyond the drawing in the plane; across
        slices as far as the drawn ones are from each other, and at least half of the extent.
        """
        labels = stack.view(drawn.labels.array)
        painted = [i for i, plane in enumerate(labels) if (plane == label).any()]
        if not painted:
            return None
        flat = np.any([labels[i] == label for i in painted], axis=0)
        extents = [np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))]
        sizes_mm = [(e[-1] - e[0] + 1) * s for e, s in zip(extents, stack.spacing[1:], strict=True)]
        steps_mm = [(b - a) * stack.spacing[0] for a, b in pairwise(painted)]
        edges = [(painted[0], painted[-1], max([max(sizes_mm) / 2, *steps_mm]))]
        edges += [(e[0], e[-1], max(size / 2, MARGIN_MM)) for e, size in zip(extents, sizes_mm, strict=True)]
        slices, rows, columns = (
            slice(max(0, int(first) - math.ceil(margin / mm)), min(length, int(last) + 1 + math.ceil(margin / mm)))
            for (first, last, margin), mm, length in zip(edges, stack.spacing, stack.shape, strict=True)
        )
        place = (slices, rows, columns)
        inside = labels[place] == label
        return cls(place, drawn.known(label, stack, place), inside, np.zeros(inside.shape, dtype=np.float16))

    def correct(self, drawn: Drawn, label: int, stack: SliceStack) -> None:
        """What was found here is corrected by what was drawn."""
        self.known = drawn.known(label, stack, self.place)
        self.painted = stack.view(drawn.labels.array)[self.place] == label

    def take(self, logits: np.ndarray, part: slice, nothing: float) -> np.ndarray:
        """Keep what was found (n, rows, columns) on the slices ``part``; return it with ``nothing`` in its place."""
        slices, rows, columns = self.place
        first, last = max(part.start, slices.start), min(part.stop, slices.stop)
        if first >= last:
            return logits
        own = slice(first - part.start, last - part.start)
        self.logits[first - slices.start : last - slices.start] = logits[own, rows, columns]
        rest = logits.copy()
        rest[own, rows, columns] = nothing
        return rest

    def on_scan(self, stack: SliceStack, shape: tuple[int, ...]) -> np.ndarray:
        """``inside`` on the whole scan, bool of its array's ``shape``."""
        whole = np.zeros(shape, dtype=bool)
        stack.view(whole)[self.place] = self.inside
        return whole

    def settle(
        self, image: np.ndarray, stack: SliceStack, window: Window, check: Callable[[], None]
    ) -> Iterator[tuple[Place, np.ndarray]]:
        """Logits after a random walk between the known voxels, with what was found as its prior: a few slices at a
        time, each with their place in the stack.

        image: the stack's intensities (slices, rows, columns); check: called often, and may raise to end it.
        """
        slices, rows, columns = self.place
        # In units of the stack's own pixels, so that nothing is resampled unless there are too many of them.
        coarser = max(1.0, math.sqrt(self.logits.size / MOST_VOXELS))
        grid = WorkingGrid((self.logits.shape[1], self.logits.shape[2]), (1.0, 1.0), coarser)
        values = _on(grid, image[self.place], lambda part: soft_tissue(window, part))
        found = _on(grid, self.logits, _as_float)
        share = _on(grid, self.inside, _as_float)
        row_mm, column_mm = (mm * n / m for mm, n, m in zip(stack.spacing[1:], grid.shape, grid.size, strict=True))
        spacing = (stack.spacing[0], row_mm, column_mm)
        fixed = np.zeros(share.shape, dtype=bool) if self.known is None else _on(grid, self.known, _as_float) > 0.99
        if self.known is None or self.painted is not None:
            painted = fixed if self.painted is None else _on(grid, self.painted, _as_float)

            def walked(prior: np.ndarray) -> np.ndarray:
                probability = np.where(fixed, painted, special.expit(prior)).astype(np.float32)
                return _logits(random_walk(values, probability, fixed, spacing, check))

            anywhere = np.ones(share.shape, dtype=bool)
            likelier = UNDRAWN_OFFSET + appearance_logits(values, share > 0.5, anywhere, spacing[1:])
            prior = found + likelier
            settled = self._as_expected(walked(prior), stack, spacing)
            if self.template is not None and (settled > 0).any():
                middle_mm = np.argwhere(settled > 0).mean(axis=0) * spacing
                prior += self.template.logits(special.expit(settled), middle_mm, spacing, check)
                settled = self._as_expected(walked(prior), stack, spacing)
        else:
            prior = special.expit(found + appearance_logits(values, share > 0.5, fixed, spacing[1:]))
            prior = np.where(fixed, share, prior).astype(np.float32)
            settled = _logits(random_walk(values, prior, fixed, spacing, check))
        for first in range(0, len(settled), _AT_ONCE):
            part = torch.from_numpy(settled[first : first + _AT_ONCE])
            logits: np.ndarray = grid.from_working(part).numpy()
            start = slices.start + first
            yield (slice(start, start + len(part)), rows, columns), logits

    def _as_expected(self, settled: np.ndarray, stack: SliceStack, spacing: Sequence[float]) -> np.ndarray:
        """Logits that end where the structure is to be expected to end, and make it about as large."""
        shown = slice(0, len(settled))
        if self.extent is not None and (settled > 0).any():
            shown = self.extent.likeliest(_slice_logits(settled), self.place[0].start, spacing[0])
            settled[: shown.start] = settled[shown.stop :] = _NOTHING
        if self.size is not None:
            # Of a structure that the scan cuts off, less is to be expected: it may be cut back, and not filled up.
            shifts = _SHIFTS[_SHIFTS <= 0] if self._is_cut_off(stack, shown) else _SHIFTS
            volumes = np.array([np.count_nonzero(settled > -shift) for shift in shifts]) * math.prod(spacing) / 1000
            settled += np.float32(self.size.likeliest(volumes, shifts))
        return settled

    def _is_cut_off(self, stack: SliceStack, shown: slice) -> bool:
        """Whether the scan ends where the structure does not; shown: slices of the box that were kept of it."""
        slices = self.place[0]
        at_start = slices.start + shown.start == 0 and bool(self.inside[0].any())
        return at_start or (slices.start + shown.stop == stack.shape[0] and bool(self.inside[-1].any()))


def _logits(probability: np.ndarray) -> np.ndarray:
    logits: np.ndarray = special.logit(np.clip(probability, _SUREST, 1 - _SUREST))
    return logits


def _slice_logits(logits: np.ndarray) -> np.ndarray:
    """For each slice, the mean of the logits above 0, of what was found there; -inf where there is none."""
    inside = logits > 0
    counts = np.count_nonzero(inside, axis=(1, 2))
    sums = np.sum(logits, axis=(1, 2), where=inside, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)


def soft_tissue(window: Window, array: np.ndarray) -> np.ndarray:
    """Intensities in [-1, 1]: of a CT scan those of soft tissue, since from air to lung, or from one bone to the next,
    no border says anything about an organ; of other scans as `Window.apply`."""
    if window.kind != "ct":
        return window.apply(array)
    lower, upper = _SOFT_TISSUE_HU
    scaled: np.ndarray = (np.clip(array, lower, upper).astype(np.float32) - lower) * np.float32(2 / (upper - lower)) - 1
    return scaled


def _on(grid: WorkingGrid, array: np.ndarray, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Slices of ``array``, converted to float32, on the grid; a few at a time, for the sake of memory."""
    parts = [array[first : first + _AT_ONCE] for first in range(0, len(array), _AT_ONCE)]
    resampled = [grid.to_working(torch.from_numpy(np.ascontiguousarray(convert(part)))).numpy() for part in parts]
    result: np.ndarray = np.concatenate(resampled)
    return result


def _as_float(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)
