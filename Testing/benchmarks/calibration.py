"""How far probabilities can be taken at their word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

BINS = 15

NEAR_MM = 10.0
"""Farther from the structure, and from all that was taken for it, every method is right and sure of it."""


def near(masks: Sequence[np.ndarray], spacing: tuple[float, float, float]) -> np.ndarray:
    """Where any of the masks, bool (slices, rows, columns), is no farther than `NEAR_MM`; spacing: mm.

    Nowhere if all of them are empty.
    """
    inside = np.logical_or.reduce(masks)
    if not inside.any():
        return inside
    close: np.ndarray = ndimage.distance_transform_edt(~inside, sampling=spacing) <= NEAR_MM
    return close


def brier(probability: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared difference of probabilities from what is true, bool of the same shape (Brier, "Verification of
    forecasts expressed in terms of probability", Monthly Weather Review 78, 1950)."""
    return float(np.mean((probability.astype(np.float64) - truth) ** 2))


def bins_of(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Pixels by their probability of being the structure, in `BINS` bins of equal width.

    Returns:
        float64 (BINS, 3): how many pixels, their mean probability, and the share that is the structure; 0 where none
        are.
    """
    numbers = np.minimum((probability.ravel() * BINS).astype(int), BINS - 1)
    pixels, probabilities, hits = (
        np.bincount(numbers, weights, BINS).astype(np.float64) for weights in (None, probability.ravel(), truth.ravel())
    )
    return np.stack([pixels, probabilities / np.maximum(pixels, 1), hits / np.maximum(pixels, 1)], axis=1)


def pooled(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The bins of all pixels of several parts."""
    counts = np.array([part[:, 0] for part in parts])
    pixels = counts.sum(axis=0)
    means = [sum(part[:, k] * part[:, 0] for part in parts) / np.maximum(pixels, 1) for k in (1, 2)]
    return np.stack([pixels, *means], axis=1)


def calibration_error(bins: np.ndarray) -> float:
    """How far the mean probability of a bin is from the share that is the structure, on average over all pixels:
    the expected calibration error (Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI 2015), of the structure's probability."""
    pixels, probability, share = bins.T
    return float(np.sum(pixels * np.abs(probability - share)) / max(pixels.sum(), 1))
