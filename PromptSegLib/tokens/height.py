"""At which height in the body a structure lies: it tells look-alikes apart that lie above or below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from PromptSegLib.imaging.outline import LONGEST_MM, QUANTITIES, STEP_MM, Outline

REACH_MM = 100.0
"""How much of the body below and above the structure is compared."""

DEVIATION_MM = 20.0
"""How far beyond the heights at which it was drawn a structure may lie in another body, standard deviation: ends that
one training patient foretells for another are off by 12 mm in the median, and by 25 to 47 mm in one of six."""

MOST = 4.0
"""What speaks against a height at the most, as a logit: what is clearly seen elsewhere is found there all the same."""

_DEVIATIONS = np.array([0.25, 0.25, 0.5, 0.8])
"""Of the outline's quantities between patients, at the same height."""

_MOST_SQUARED = 9.0
_UNSEEN = 0.3
"""What is added to the cost of an alignment, for the share that the scan does not show."""

_LEAST_SHOWN = 10
"""Samples of a scan below which it shows too little of the body to say where it lies in it."""

_LEAST_COMMON = 0.6
"""Share of what either shows."""

_SHARPNESS = 0.2
"""Cost by which an alignment counts 1 / e as much. With the best alone, or 0.1, a scan that begins at the structure
may speak against all of it."""

_WORST = 1.2
"""Cost beyond which two bodies are not alike anywhere: another part of the body, or an animal."""

_MOST_SAMPLES = 240
"""In a token, of all levels together."""

_LARGEST = 20.0
_SHORTEST_MM = 1.0
"""Less is no length, but a single slice."""


@dataclass(frozen=True)
class Level:
    """The heights of a structure in one scan, in mm from where ``outline`` begins; None for an end that the scan did
    not show. outline: of the body around it, logarithms as in `Outline`, rounded to a tenth: more would tell more of
    the patient than is needed to find a height."""

    low_mm: float | None
    high_mm: float | None
    outline: tuple[tuple[float | None, ...], ...]

    @classmethod
    def of(cls, body: Outline, low_mm: float | None, high_mm: float | None) -> Level | None:
        """None where neither end or nothing of the body around is known, or there is too much of it for a token.

        low_mm, high_mm: on the scale of the outline.
        """
        known = [end for end in (low_mm, high_mm) if end is not None]
        if not known:
            return None
        around = (body.heights_mm >= min(known) - REACH_MM) & (body.heights_mm <= max(known) + REACH_MM)
        values = body.values[around]
        if not np.isfinite(values).any() or len(values) > _MOST_SAMPLES or np.nanmax(np.abs(values)) > _LARGEST:
            return None
        start = float(body.heights_mm[around][0])
        return cls(
            None if low_mm is None else round(low_mm - start, 1),
            None if high_mm is None else round(high_mm - start, 1),
            tuple(tuple(_rounded(value) for value in row) for row in values.tolist()),
        )

    @property
    def length_mm(self) -> float | None:
        """Between the ends, give or take a slice; None unless both are known, and apart."""
        if self.low_mm is None or self.high_mm is None or self.high_mm - self.low_mm < _SHORTEST_MM:
            return None
        return self.high_mm - self.low_mm

    def likelihood(self, body: Outline, heights_mm: np.ndarray, deviation_mm: float) -> np.ndarray | None:
        """How likely (0 to 1) the structure lies at these heights of another body; None if the two do not match, or
        the scan shows too little of it.

        The bodies are laid beside each other in all ways. Each of them says where the structure is, and counts the
        more, the better it fits: where a scan shows too little to tell them apart, much is likely.
        """
        own = np.array([[math.nan if v is None else v for v in row] for row in self.outline])
        shifts, costs = _alignments(own, body.values)
        if not len(costs) or costs.min() > _WORST:
            return None
        weights = np.exp((costs.min() - costs) / _SHARPNESS)
        starts = (body.start_mm + shifts * STEP_MM)[:, None]
        beyond = np.zeros((len(shifts), len(heights_mm)))
        if self.low_mm is not None:
            beyond = np.maximum(beyond, starts + self.low_mm - heights_mm)
        if self.high_mm is not None:
            beyond = np.maximum(beyond, heights_mm - starts - self.high_mm)
        likely: np.ndarray = weights @ np.exp(-((beyond / deviation_mm) ** 2) / 2) / weights.sum()
        return likely


@dataclass(frozen=True)
class Height:
    """levels: of the structure in some of the scans that it was learned from."""

    levels: tuple[Level, ...]

    @classmethod
    def of(cls, levels: Sequence[Level]) -> Height | None:
        """As many of them as a token has room for; None without any."""
        kept: list[Level] = []
        for level in levels:
            if sum(len(other.outline) for other in (*kept, level)) <= _MOST_SAMPLES:
                kept.append(level)
        return cls(tuple(kept)) if kept else None

    @property
    def lengths_mm(self) -> list[float]:
        """Of the structure, as far as they are known."""
        return [level.length_mm for level in self.levels if level.length_mm is not None]

    def unlikeliness(self, body: Outline, heights_mm: np.ndarray, deviation_mm: float = DEVIATION_MM) -> np.ndarray:
        """How much speaks against these heights on a body, 0 to MOST as a logit; 0 if the bodies do not match.

        deviation_mm: how far beyond the heights at which it was drawn the structure may lie, standard deviation.
        """
        found = [level.likelihood(body, heights_mm, deviation_mm) for level in self.levels]
        likely = [one for one in found if one is not None]
        if not likely:
            return np.zeros(len(heights_mm))
        unlikely: np.ndarray = -np.log(np.maximum(np.mean(likely, axis=0), math.exp(-MOST)))
        return unlikely

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "levels": [
                {"low_mm": level.low_mm, "high_mm": level.high_mm, "outline": [list(row) for row in level.outline]}
                for level in self.levels
            ]
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Height:
        """From a file's description; ValueError, TypeError or KeyError if it is damaged."""
        levels = tuple(_parse_level(level) for level in data["levels"])
        if not levels or sum(len(level.outline) for level in levels) > _MOST_SAMPLES:
            raise ValueError("a height without an outline, or with too long ones")
        return cls(levels)


def _parse_level(data: Mapping[str, Any]) -> Level:
    low, high = (_parse(data[key], LONGEST_MM) for key in ("low_mm", "high_mm"))
    outline = tuple(tuple(_parse(value, _LARGEST) for value in row) for row in data["outline"])
    if not outline or any(len(row) != QUANTITIES for row in outline):
        raise ValueError("an outline without samples, or with odd ones")
    ends = [end for end in (low, high) if end is not None]
    if not ends or ends[0] > ends[-1]:
        raise ValueError("no height, or one upside down")
    return Level(low, high, outline)


def _alignments(own: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shifts (k,) and costs (k,) of all alignments with enough in common: sample i of ``own`` (n, 4) lies at sample
    i + shift of ``other`` (m, 4)."""
    shown = min(np.isfinite(own).any(axis=1).sum(), np.isfinite(other).any(axis=1).sum())
    shifts, costs = [], []
    for shift in range(-len(own) + 1, len(other)):
        first, last = max(0, -shift), min(len(own), len(other) - shift)
        squared = ((own[first:last] - other[first + shift : last + shift]) / _DEVIATIONS) ** 2
        known = np.isfinite(squared)
        common = known.any(axis=1).sum()
        if common >= max(_LEAST_SHOWN, _LEAST_COMMON * shown):
            shifts.append(shift)
            costs.append(np.minimum(squared[known], _MOST_SQUARED).mean() + _UNSEEN * (1 - common / len(own)))
    return np.array(shifts, dtype=int), np.array(costs)


def _rounded(value: float) -> float | None:
    return round(value, 1) if math.isfinite(value) else None


def _parse(value: Any, most: float) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("a height that is no number")
    number = float(value)
    # Not a number compares as False.
    if not abs(number) <= most:
        raise ValueError("a height outside of any body")
    return number
