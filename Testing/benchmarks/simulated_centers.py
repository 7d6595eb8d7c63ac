"""Scans as another center would have made them: what differs between scanners and protocols, put into a scan."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from PromptSegLib.imaging.volume import Volume

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Of HU (slices, rows, columns), float32, inside the body."""

UNCHANGED = "unchanged"

_FILLINGS = 6
_DENSE_HU = 1200.0
_BODY_HU, _SCATTER_HU = -500.0, 150.0
_STREAKS, _STREAK_HU, _STREAK_PIXELS = 8, 600.0, 12.0


def _metal(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fillings in the densest bone, with bright and dark streaks that fade with the distance."""
    dense = np.argwhere(hu > min(_DENSE_HU, float(np.percentile(hu, 99.9))))
    result = hu.copy()
    if len(dense) == 0:
        return result
    rows, columns = np.ogrid[: hu.shape[1], : hu.shape[2]]
    for index, row, column in rng.choice(dense, _FILLINGS):
        distance, angle = np.hypot(rows - row, columns - column), np.arctan2(rows - row, columns - column)
        streaks = _STREAK_HU * np.cos(_STREAKS * angle + rng.uniform(0, 2 * np.pi))
        for plane in result[max(0, index - 1) : index + 2]:
            plane += streaks * np.exp(-distance / _STREAK_PIXELS)
            plane[distance < 1.5] = 3095
    return result


def _cone_beam(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As the cone-beam CT of a treatment machine: soft, noisy, and, for its scatter, the darker the deeper."""
    depth = gaussian_filter((hu > _BODY_HU).astype(np.float32), (0, 20, 20))
    noise = gaussian_filter(rng.normal(0, 80, hu.shape), (0, 0.7, 0.7))
    return gaussian_filter(hu, (0, 0.5, 0.5)) - _SCATTER_HU * depth + noise


CHANGES: dict[str, Change] = {
    UNCHANGED: lambda hu, rng: hu,
    "soft kernel": lambda hu, rng: gaussian_filter(hu, (0, 0.6, 0.6)),
    "sharp kernel": lambda hu, rng: hu + 0.8 * (hu - gaussian_filter(hu, (0, 1, 1))),
    "noise": lambda hu, rng: hu + rng.normal(0, 25, hu.shape),
    "low dose": lambda hu, rng: hu + gaussian_filter(rng.normal(0, 60, hu.shape), (0, 0.7, 0.7)),
    "shift": lambda hu, rng: hu + 30,
    "scale": lambda hu, rng: 1.05 * (hu + 1000) - 1000,
    "contrast": lambda hu, rng: np.where((hu > 0) & (hu < 150), 1.6 * hu, hu),
    "metal": _metal,
    "cone beam": _cone_beam,
}


def changed(scan: Volume, change: Change, seed: int) -> Volume:
    """A scan as another center would have made it; what is stored as air stays as it is."""
    values = change(scan.array.astype(np.float32), np.random.default_rng(seed))
    body = scan.array > scan.array.min() + 10
    return scan.with_array(np.where(body, np.clip(np.rint(values), -1000, 3095), scan.array).astype(np.int16))
