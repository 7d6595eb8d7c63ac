"""What lies around each point of a scan, near and far and on all sides: soft tissue, bone and air."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from PromptSegLib.imaging.volume import SliceStack, Vector, Volume
from PromptSegLib.imaging.window import Window

CELL_MM = 5.0
"""About the edge of the cells in which a scan is looked at."""

_NEAREST_MM, _FARTHEST_MM = 8.0, 90.0
_PROBES = 96
"""Places around a point, at random on all sides, the denser the nearer."""

_BLURS_MM = (0.0, 4.0, 8.0, 16.0, 32.0)
_BLUR_UP_TO_MM = ((20.0, 4.0), (45.0, 8.0), (np.inf, 16.0))
"""How far away a place may lie to be seen with this blur: standard deviation."""

_SOFT_HU, _BONE_HU, _AIR_HU = (-150.0, 250.0), (200.0, 1000.0), -400.0
_SAMPLES_ACROSS_CELL = 3
"""Of finer scans, not all voxels are looked at."""

_ALL, _SOFT, _BRIGHT, _DARK = range(4)

_KEPT: WeakKeyDictionary[Volume, dict[tuple[str, Window], Surroundings]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Of a scan that is seen as a stack of slices.

    first: indices (slice, row, column) of the middle of the first cell; cell: voxels from one cell to the next; maps:
    float32 (slices, rows, columns of cells), and how far from a point each of them is looked up, in cells.
    """

    first: Vector
    cell: tuple[int, int, int]
    maps: tuple[tuple[np.ndarray, Vector], ...]

    @classmethod
    def of(cls, image: Volume, stack: SliceStack, window: Window) -> Surroundings:
        """They are kept as long as the volume is, whose voxels must not change."""
        kept = _KEPT.setdefault(image, {})
        key = (stack.plane, window)
        if key not in kept:
            kept[key] = cls._made(image, stack, window)
        return kept[key]

    @classmethod
    def _made(cls, image: Volume, stack: SliceStack, window: Window) -> Surroundings:
        from scipy import ndimage

        steps, counts = zip(*(_samples(n, mm) for n, mm in zip(stack.shape, stack.spacing, strict=True)), strict=True)
        cell = tuple(step * count for step, count in zip(steps, counts, strict=True))
        first = tuple(step // 2 + step * (count - 1) / 2 for step, count in zip(steps, counts, strict=True))
        channels = _channels(stack.view(image.array), steps, counts, window)
        cell_mm = np.array(cell) * stack.spacing
        blurred: dict[tuple[int, float], np.ndarray] = {}

        def seen(channel: int, blur_mm: float) -> np.ndarray:
            if (channel, blur_mm) not in blurred:
                blurred[channel, blur_mm] = ndimage.gaussian_filter(
                    channels[channel], blur_mm / cell_mm, mode="nearest"
                )
            return blurred[channel, blur_mm]

        here = (0.0, 0.0, 0.0)
        maps = [(seen(_ALL, blur_mm), here) for blur_mm in _BLURS_MM]
        maps += [(seen(_SOFT, blur_mm), here) for blur_mm in _BLURS_MM[:2]]
        for number, probe_mm in enumerate(_probes()):
            blur_mm = next(blur for most, blur in _BLUR_UP_TO_MM if np.linalg.norm(probe_mm) < most)
            away = probe_mm @ stack.axes(image.geometry) / cell_mm
            maps.append((seen((_SOFT, _BRIGHT, _DARK)[number % 3], blur_mm), tuple(away.tolist())))
        return cls(first, cell, tuple(maps))

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis of the stack."""
        shape: tuple[int, ...] = self.maps[0][0].shape
        return shape

    def cells(self, points: np.ndarray) -> np.ndarray:
        """Where points (n, 3), as indices of voxels in the stack, lie among the cells."""
        places: np.ndarray = (points - np.array(self.first)) / self.cell
        return places

    def around(self, cells: np.ndarray) -> np.ndarray:
        """float32 (n, what is told of each): what lies around these places (n, 3) among the cells."""
        from scipy import ndimage

        told = [ndimage.map_coordinates(m, (cells + away).T, order=1, mode="nearest") for m, away in self.maps]
        stacked: np.ndarray = np.stack(told, axis=1)
        return stacked


def _samples(length: int, spacing_mm: float) -> tuple[int, int]:
    """How many voxels lie between two samples along an axis, and how many samples there are in a cell."""
    voxels = min(max(1, round(CELL_MM / spacing_mm)), length)
    step = max(1, voxels // _SAMPLES_ACROSS_CELL)
    return step, voxels // step


def _channels(
    voxels: np.ndarray, steps: tuple[int, ...], counts: tuple[int, ...], window: Window
) -> tuple[np.ndarray, ...]:
    """Means over cells, float32, of all that a scan shows, and of soft tissue, of what is bright and what is dark."""
    starts = [step // 2 for step in steps]
    cells = [
        len(range(start, n, step)) // count
        for start, n, step, count in zip(starts, voxels.shape, steps, counts, strict=True)
    ]
    found: list[list[np.ndarray]] = [[], [], [], []]
    for number in range(cells[0]):
        first = starts[0] + number * steps[0] * counts[0]
        part = voxels[first : first + steps[0] * counts[0] : steps[0], starts[1] :: steps[1], starts[2] :: steps[2]]
        part = part[: counts[0], : cells[1] * counts[1], : cells[2] * counts[2]].astype(np.float32)
        for channel, values in zip(found, _seen(part, window), strict=True):
            shape = (counts[0], cells[1], counts[1], cells[2], counts[2])
            channel.append(values.reshape(shape).mean(axis=(0, 2, 4), dtype=np.float32))
    return tuple(np.stack(channel) for channel in found)


def _seen(part: np.ndarray, window: Window) -> tuple[np.ndarray, ...]:
    if window.kind != "ct":
        values = window.apply(part)
        return values, np.clip(values, -0.8, 0.2), np.clip(values, 0, 1), np.clip(values, -1, -0.5)
    return (
        np.clip(part / 1000, -1, 1),
        _scaled(part, _SOFT_HU),
        _scaled(part, _BONE_HU),
        (part < _AIR_HU).astype(np.float32),
    )


def _scaled(part: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    lower, upper = bounds
    scaled: np.ndarray = (np.clip(part, lower, upper) - lower) * np.float32(2 / (upper - lower)) - 1
    return scaled


def _probes() -> np.ndarray:
    """(_PROBES, 3) in mm along the patient's axes (LPS), always the same."""
    chance = np.random.default_rng(1)
    sides = chance.normal(size=(_PROBES, 3))
    distances = np.exp(chance.uniform(np.log(_NEAREST_MM), np.log(_FARTHEST_MM), (_PROBES, 1)))
    probes: np.ndarray = sides / np.linalg.norm(sides, axis=1, keepdims=True) * distances
    return probes
