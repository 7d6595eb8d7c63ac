"""What tells scanners and protocols apart in a scan that nobody has labelled: geometry, intensities, noise, sharpness.

Nothing of it tells patients apart: each number is a property of the whole scan.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, minimum_filter, uniform_filter

from PromptSegLib.imaging.volume import Volume
from PromptSegLib.imaging.window import window_for

_SLICES = 24
_MOST_PIXELS = 256
_SMALLEST = 6
"""Pixels along an edge without which there is no texture."""

_BODY_HU = -500.0
_SOFT_HU = (-40.0, 180.0)
_AIR_HU = 150.0
_METAL_HU = 2500.0
_BIN_HU, _SMOOTH_BINS = 2.0, 4.0
_LAPLACIAN_SHARE = 6.0
"""Of Immerkaer's mask: the standard deviation of white noise grows by this factor under it."""

_MEDIAN_TO_DEVIATION = 0.6745
"""Median of the absolute value of a normal variable of standard deviation one."""


def scan_statistics(scan: Volume) -> dict[str, float]:
    """Statistics of a scan by name; CT and other scans have different ones, each kind always the same.

    ``row_spacing`` and ``slice_spacing`` are logarithms of mm, ``matrix`` is the logarithm of the pixels along an edge
    (so both together say the field of view). ``outside`` is the value around the body, ``outside_noise`` the logarithm
    of its spread. Texture is told by medians, in which edges do not count: ``noise`` is the logarithm of the standard
    deviation of white noise (J. Immerkaer, Fast noise variance estimation, 1996); ``roughness`` is the same in relation
    to how much neighbors differ; ``grain`` and ``slice_grain`` are how much more pixels two apart, and those of
    neighboring slices, differ than neighbors. Of the strongest edges, ``edge`` says how wide they are, and ``halo``
    how far they overshoot, as sharp kernels make them.

    Of CT, in HU: ``air`` is the value of the air that is stored, ``soft`` the peak of soft tissue, ``bright`` how far
    above it the brightest soft tissue is, as contrast agent makes it, ``bone`` a high percentile; ``metal`` is the
    logarithm of the share above 2500 HU. Of other scans, ``level`` is the logarithm of the body's median intensity,
    and quartiles ``low`` and ``high`` and the 99th percentile ``brightest`` are relative to it.

    At most 24 slices of the stored stack are looked at, of at most 256 x 256 pixels in the middle, so it costs a
    fraction of a second whatever the size of the scan.
    """
    window = window_for(scan.array)
    is_ct = window.kind == "ct"
    threshold = _BODY_HU if is_ct else window.lower + 0.1 * (window.upper - window.lower)
    images = _sample(scan.array, threshold)
    body = images > threshold
    inside, outside = images[body], images[~body]
    if inside.size == 0:
        inside = images.ravel()
    slices, rows, columns = scan.geometry.spacing
    pixels = scan.geometry.shape[1] * scan.geometry.shape[2]
    statistics = {
        "row_spacing": 0.5 * float(np.log(rows * columns)),
        "slice_spacing": float(np.log(slices)),
        "matrix": 0.5 * float(np.log(pixels)),
        "outside": float(np.median(outside)) if outside.size else float(images.min()),
        "outside_noise": float(np.log1p(_deviation(outside))) if outside.size else 0.0,
        **_texture(images, body),
    }
    if is_ct:
        even = _even(images, body)
        soft = _peak(even, *_SOFT_HU)
        air = outside[(outside > outside.min()) & (outside < outside.min() + _AIR_HU)] if outside.size else outside
        return statistics | {
            "air": float(np.median(air)) if air.size else float(images.min()),
            "soft": soft,
            "bright": float(np.percentile(even, 95)) - soft,
            "bone": float(np.percentile(inside, 98)),
            "metal": float(np.log((inside > _METAL_HU).mean() + 1e-4)),
        }
    low, middle, high, brightest = np.percentile(inside, [25, 50, 75, 99])
    scale = max(abs(float(middle)), 1e-6)
    return statistics | {
        "level": float(np.log(scale)),
        "low": float(low) / scale,
        "high": float(high) / scale,
        "brightest": float(brightest) / scale,
    }


def _sample(array: NDArray[Any], threshold: float) -> NDArray[np.float32]:
    """Pairs of neighboring slices (2 n, rows, columns), evenly spread over those that show a body."""
    step = max(1, max(array.shape[1:]) // 64)
    shows = (array[:, ::step, ::step] > threshold).mean(axis=(1, 2)) > 0.02
    first = np.flatnonzero(shows[:-1] & shows[1:])
    if len(first) == 0:
        first = np.arange(max(1, len(array) - 1))
    chosen = first[np.linspace(0, len(first) - 1, min(len(first), _SLICES // 2)).round().astype(int)]
    pairs = np.stack([chosen, np.minimum(chosen + 1, len(array) - 1)], axis=1).ravel()
    top, left = (max(0, (n - _MOST_PIXELS) // 2) for n in array.shape[1:])
    return array[pairs, top : top + _MOST_PIXELS, left : left + _MOST_PIXELS].astype(np.float32)


def _texture(images: NDArray[np.float32], body: NDArray[np.bool_]) -> dict[str, float]:
    if min(images.shape[1:]) < _SMALLEST:
        return dict.fromkeys(("noise", "roughness", "halo", "grain", "slice_grain", "edge"), 0.0)
    within = minimum_filter(body, size=(1, 5, 5))
    if not _part(within).any():
        within = np.ones_like(body)
    mask, center = _part(within), _part(images)
    near = np.concatenate([np.abs(_part(images, *step) - center)[mask] for step in ((1, 0), (0, 1))])
    far = np.concatenate([np.abs(_part(images, *step) - center)[mask] for step in ((2, 0), (0, 2))])
    across = np.abs(center[1::2] - center[0::2])[mask[0::2] & mask[1::2]]
    second = images[:, 1:-1] * 2 - images[:, :-2] - images[:, 2:]
    mixed = second[:, :, 1:-1] * 2 - second[:, :, :-2] - second[:, :, 2:]
    noise = np.abs(mixed[:, 1:-1, 1:-1])[mask]
    bend = np.abs(second[:, 1:-1, 2:-2])[mask]
    return {
        "noise": _log(np.median(noise) / (_MEDIAN_TO_DEVIATION * _LAPLACIAN_SHARE)),
        "roughness": _log(np.median(noise)) - _log(np.median(near)),
        "halo": _log(np.percentile(bend, 99)) - _log(np.percentile(near, 99)),
        "grain": _log(np.median(far)) - _log(np.median(near)),
        "slice_grain": _log(np.median(across) if across.size else 0.0) - _log(np.median(near)),
        "edge": _log(np.percentile(far, 99)) - _log(np.percentile(near, 99)),
    }


def _part(images: NDArray[Any], rows: int = 0, columns: int = 0) -> NDArray[Any]:
    """The images without two pixels on each side, or what lies some pixels beside it."""
    height, width = images.shape[1:]
    return images[:, 2 + rows : height - 2 + rows, 2 + columns : width - 2 + columns]


def _even(images: NDArray[np.float32], body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Means of 3 x 3 pixels, where the pixels differ least: tissue without the edges between tissues."""
    mean = uniform_filter(images, size=(1, 3, 3))
    spread = uniform_filter(images * images, size=(1, 3, 3)) - mean * mean
    soft = minimum_filter(body, size=(1, 3, 3)) & (mean > _SOFT_HU[0]) & (mean < _SOFT_HU[1])
    if not soft.any():
        return images.ravel()
    even: NDArray[np.float32] = mean[soft & (spread <= np.percentile(spread[soft], 30))]
    return even


def _log(value: float) -> float:
    return float(np.log(max(float(value), 1e-3)))


def _deviation(values: NDArray[np.float32]) -> float:
    low, high = np.percentile(values, [16, 84])
    return float(high - low) / 2


def _peak(values: NDArray[np.float32], lower: float, upper: float) -> float:
    """The most frequent value in a range, in HU."""
    counts, edges = np.histogram(values, np.arange(lower, upper + _BIN_HU, _BIN_HU))
    best = int(np.argmax(gaussian_filter1d(counts.astype(float), _SMOOTH_BINS, mode="nearest")))
    return float(edges[best] + edges[best + 1]) / 2
