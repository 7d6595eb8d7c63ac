"""Which center a scan comes from, by statistics that need no label (`PromptSegLib.imaging.scan_statistics`).

A center has few scans, so how much its scans differ among themselves is mostly known beforehand: for geometry it is a
guess that gives way to what the scans show (Student's t), for texture and intensities it was measured on CT scans that
share their voxel spacing (OpenKBP, training part), with the correlations between the statistics. Scans of another
spacing are compared as far as texture and intensities do not follow from the spacing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from PromptSegLib.tokens.records import printable

GEOMETRY = {"row_spacing": 0.02, "slice_spacing": 0.03, "matrix": 0.05, "outside": 5.0, "outside_noise": 0.3}
"""What usually is the same in all scans of a center, and the standard deviation that is granted to it."""

_ANY_GEOMETRY = {"row_spacing": 0.25, "slice_spacing": 0.25, "matrix": 0.35, "outside": 50.0, "outside_noise": 1.0}
"""The same where a center uses several scanners or protocols."""

_MIXED = 3.0
"""Standard deviations of spacing or matrix, in those of `GEOMETRY`, from which on a center is seen to do so."""

USUAL_SPREAD = {
    "noise": 0.291,
    "roughness": 0.089,
    "halo": 0.05,
    "grain": 0.072,
    "slice_grain": 0.122,
    "edge": 0.043,
    "air": 28.66,
    "soft": 6.243,
    "bright": 5.252,
    "bone": 192.122,
    "metal": 0.964,
    # Of scans that are no CT, by assumption: there were none to measure it on.
    "level": 0.3,
    "low": 0.1,
    "high": 0.2,
    "brightest": 0.5,
}
"""Standard deviation of the other statistics between patients of one center."""

_CORRELATION = (
    (),
    (0.26,),
    (0.03, 0.15),
    (0.51, 0.26, -0.14),
    (-0.50, -0.40, -0.19, -0.49),
    (-0.69, -0.57, 0.02, -0.46, 0.45),
    (-0.06, -0.12, -0.21, -0.01, 0.26, 0.12),
    (0.30, -0.09, -0.02, 0.10, -0.10, -0.11, -0.02),
    (0.09, -0.11, -0.14, -0.10, 0.23, -0.01, 0.11, 0.04),
    (0.39, 0.60, -0.21, 0.27, -0.47, -0.55, -0.13, -0.06, -0.03),
    (0.10, 0.19, 0.12, 0.07, -0.16, -0.18, -0.02, -0.05, 0.07, 0.37),
)
"""Below its diagonal, of the first eleven of `USUAL_SPREAD`."""

_SLOPES = {
    spacing: dict(zip(USUAL_SPREAD, slopes, strict=False))
    for spacing, slopes in {
        "row_spacing": (-0.095, 0.202, 0.055, -0.107, -0.029, -0.070, 124.4, 2.316, 28.65, -776.1, -2.865),
        "slice_spacing": (-0.214, 0.048, -0.088, -0.004, 0.480, -0.019, -17.44, -24.49, -2.593, -35.40, -0.432),
    }.items()
}
"""How the first eleven of `USUAL_SPREAD` change with the logarithm of a spacing: least squares over the training part's
170 scans."""

_MOST_BY_SPACING = 0.3
"""Of the logarithm, to either side: farther, these scans say nothing."""

_CORRELATION_SHARE = 0.9
_SCANS_FOR_GEOMETRY, _SCANS_FOR_SPREAD = 2, 20
"""How many scans what is known beforehand counts for."""

STRANGE = 32.0
"""Squared distance from which on a scan is said to be like none of a center's."""

_MOST_STATISTICS = 64
_LARGEST = 1e6


@dataclass(frozen=True)
class Profile:
    """What the scans of one center are like: mean and standard deviation of each statistic, and of how many scans."""

    scans: int
    mean: Mapping[str, float]
    spread: Mapping[str, float]

    @classmethod
    def of(cls, statistics: Sequence[Mapping[str, float]]) -> Profile:
        """The profile of some scans, of which each has the same statistics; ValueError if there is none."""
        if not statistics:
            raise ValueError("a profile needs a scan")
        count = len(statistics)
        mean = {name: sum(s[name] for s in statistics) / count for name in statistics[0]}
        spread = {name: math.sqrt(sum((s[name] - m) ** 2 for s in statistics) / count) for name, m in mean.items()}
        return cls(count, {k: round(v, 4) for k, v in mean.items()}, {k: round(v, 4) for k, v in spread.items()})

    def merged(self, other: Profile) -> Profile:
        """The profile of the scans of both; of statistics that both know."""
        total = self.scans + other.scans
        share = self.scans / total
        names = [name for name in self.mean if name in other.mean]
        mean = {name: share * self.mean[name] + (1 - share) * other.mean[name] for name in names}
        spread = {
            name: math.sqrt(
                share * (self.spread[name] ** 2 + (self.mean[name] - mean[name]) ** 2)
                + (1 - share) * (other.spread[name] ** 2 + (other.mean[name] - mean[name]) ** 2)
            )
            for name in names
        }
        return Profile(total, {k: round(v, 4) for k, v in mean.items()}, {k: round(v, 4) for k, v in spread.items()})

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"scans": self.scans, "mean": dict(self.mean), "spread": dict(self.spread)}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Profile:
        """From a file's description; ValueError, TypeError or KeyError if it is damaged."""
        mean, spread = ({printable(k): float(v) for k, v in data[part].items()} for part in ("mean", "spread"))
        if mean.keys() != spread.keys() or not 0 < len(mean) <= _MOST_STATISTICS:
            raise ValueError("a profile's statistics do not fit each other")
        # Not a number compares as False.
        if not all(abs(v) <= _LARGEST for v in (*mean.values(), *spread.values())) or min(spread.values()) < 0:
            raise ValueError("a profile's statistics are not finite")
        scans = int(data["scans"])
        if scans < 1:
            raise ValueError("a profile of no scan")
        return cls(scans, mean, spread)

    @property
    def mixes_geometries(self) -> bool:
        """Whether its scans are of several spacings or sizes."""
        return any(
            self.spread.get(name, 0.0) > _MIXED * GEOMETRY[name] for name in ("row_spacing", "slice_spacing", "matrix")
        )

    def distance(self, statistics: Mapping[str, float], any_geometry: bool = False) -> tuple[float, float]:
        """How far a scan is from the center's: squared distance in standard deviations of the center's next scan, and
        the logarithm of its density up to a constant. Infinite where CT meets another kind of scan. any_geometry:
        whether centers may use scanners and protocols that they have not shown yet."""
        if self.mean.keys() != statistics.keys():
            return math.inf, -math.inf
        squared, density = 0.0, 0.0
        usual = _ANY_GEOMETRY if any_geometry else GEOMETRY
        for name in (name for name in GEOMETRY if name in self.mean):
            deviation = self._deviation(name, usual[name], _SCANS_FOR_GEOMETRY)
            freedom = _SCANS_FOR_GEOMETRY + self.scans - 1
            z = (statistics[name] - self.mean[name]) / deviation
            squared += (freedom + 1) * math.log1p(z * z / freedom)
            density -= math.log(deviation)
        names = [name for name in USUAL_SPREAD if name in self.mean]
        deviations = np.array([self._deviation(name, USUAL_SPREAD[name], _SCANS_FOR_SPREAD) for name in names])
        expected = [self.mean[name] + self._by_spacing(name, statistics) for name in names]
        z = (np.array([statistics[name] for name in names]) - expected) / deviations
        squared += float(z @ np.linalg.solve(_correlation(names), z))
        return squared, density - float(np.log(deviations).sum()) - squared / 2

    def _by_spacing(self, name: str, statistics: Mapping[str, float]) -> float:
        """What the spacing of a scan adds to the mean of a statistic."""
        added = 0.0
        for spacing, slopes in _SLOPES.items():
            difference = statistics.get(spacing, 0.0) - self.mean.get(spacing, 0.0)
            added += slopes.get(name, 0.0) * max(-_MOST_BY_SPACING, min(_MOST_BY_SPACING, difference))
        return added

    def _deviation(self, name: str, usual: float, scans: int) -> float:
        """Standard deviation of the next scan of this center, beyond what its spacing explains."""
        explained = sum((slopes.get(name, 0.0) * self.spread.get(k, 0.0)) ** 2 for k, slopes in _SLOPES.items())
        own = max(0.0, self.spread[name] ** 2 - explained)
        variance = (scans * usual**2 + self.scans * own) / (scans + self.scans)
        return math.sqrt(variance * (1 + 1 / self.scans))


@dataclass(frozen=True)
class Recognition:
    """Which center a scan is most like.

    Attributes:
        center: None for the base.
        probability: that it is this one; where it is like no known one, that it is none of them.
        is_known: whether it is like the scans of any center (or of the base) at all; if not, the base is used.
        nearest: of the centers, None for the base, where it is like none of them.
    """

    center: str | None
    probability: float
    is_known: bool
    nearest: str | None = None

    def sentence(self) -> str:
        """What is said of it, in one line."""
        percent = f"{min(99, round(100 * self.probability))} %"
        if self.is_known:
            name = "the scans that the token was learned from" if self.center is None else f"center '{self.center}'"
            return f"the scan is like {name} ({percent})"
        nearest = "" if self.nearest is None else f", not even of '{self.nearest}', which is nearest"
        return f"the scan is like no known center ({percent}){nearest}: the token is used without a center"


def recognize(statistics: Mapping[str, float], profiles: Mapping[str | None, Profile]) -> Recognition:
    """The most likely of some centers, unless the scan is strange to all of them; None stands for the base.

    Each is equally likely beforehand, and so is another one, of whose scans a typical one is `STRANGE` away. Where one
    of them uses several scanners or protocols, geometry says little of all: the others may not have shown theirs yet.
    """
    mixed = any(profile.mixes_geometries for profile in profiles.values())
    found = {name: profile.distance(statistics, mixed) for name, profile in profiles.items()}
    known = {name: density for name, (squared, density) in found.items() if squared < STRANGE}
    if not found or all(squared == math.inf for squared, _ in found.values()):
        return Recognition(None, 1.0, False)
    nearest = max(found, key=lambda name: found[name][1])
    squared, density = found[nearest]
    other = density + (squared - STRANGE) / 2
    highest = max(other, density)
    total = math.exp(other - highest) + sum(math.exp(d - highest) for _, d in found.values())
    if not known:
        return Recognition(None, math.exp(other - highest) / total, False, nearest)
    center = max(known, key=lambda name: known[name])
    return Recognition(center, math.exp(known[center] - highest) / total, True)


def _correlation(names: Sequence[str]) -> np.ndarray:
    """Between these statistics; those that it was not measured of stand for themselves."""
    size = len(_CORRELATION)
    measured = np.eye(size)
    for row, values in enumerate(_CORRELATION):
        measured[row, :row] = measured[:row, row] = _CORRELATION_SHARE * np.array(values)
    whole = np.eye(len(USUAL_SPREAD))
    whole[:size, :size] = measured
    rows = [list(USUAL_SPREAD).index(name) for name in names]
    return whole[np.ix_(rows, rows)]
