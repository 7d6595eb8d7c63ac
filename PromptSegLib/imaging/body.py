"""Where the body is in each slice: what a structure's place is measured from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from PromptSegLib.imaging.volume import SliceStack
from PromptSegLib.imaging.window import AIR, Window

_STEP_MM = 4.0
_REACH_MM = 10.0
_FEWEST_PIXELS = 20
CUT_OFF = 0.3
"""A slice whose edge lies in the body to this share does not show where the body ends."""

_TAIL = 0.02
"""Share of the body beyond either end that does not count: arms of the couch, a catheter."""


def body_middles(image: np.ndarray, stack: SliceStack, window: Window) -> np.ndarray:
    """The middle of the body in each slice of a stack, along the rows' and the columns' axis.

    image: (slices, rows, columns) as stored.

    Returns:
        float (slices of the stack, 2) in mm from the first row and column; not a number where there is no body, or the
        scan cuts it off on that side, there and on the slices around.
    """
    planes, coarse_mm = coarse_planes(image, stack)
    middles = np.array([_middle(window.apply(plane) > AIR, coarse_mm) for plane in planes])
    reach = max(1, round(_REACH_MM / stack.spacing[0]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered")
        around = [np.nanmedian(middles[max(0, i - reach) : i + reach + 1], axis=0) for i in range(len(middles))]
    return np.array(around)


def coarse_planes(image: np.ndarray, stack: SliceStack) -> tuple[np.ndarray, list[float]]:
    """A stack (slices, rows, columns) with a pixel about each 4 mm, sharing memory, and mm between rows and columns.

    image: (slices, rows, columns) as stored.
    """
    steps = [max(1, round(_STEP_MM / mm)) for mm in stack.spacing[1:]]
    coarse_mm = [step * mm for step, mm in zip(steps, stack.spacing[1:], strict=True)]
    return stack.view(image)[:, :: steps[0], :: steps[1]], coarse_mm


def _middle(body: np.ndarray, spacing: Sequence[float]) -> tuple[float, float]:
    if np.count_nonzero(body) < _FEWEST_PIXELS:
        return np.nan, np.nan
    found = []
    for axis, mm in enumerate(spacing):
        along = body.sum(axis=1 - axis)
        ends = np.searchsorted(np.cumsum(along) / along.sum(), (_TAIL, 1 - _TAIL))
        cut_off = max(along[0], along[-1]) >= CUT_OFF * body.shape[1 - axis]
        found.append(np.nan if cut_off else float(ends.mean()) * mm)
    return found[0], found[1]
