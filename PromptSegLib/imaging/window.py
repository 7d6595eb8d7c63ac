"""From stored intensities (HU, or a magnetic resonance scan's arbitrary units) to the [-1, 1] that a backbone sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from PromptSegLib.errors import InputError

SOFT_TISSUE_CENTER_HU = 40.0
SOFT_TISSUE_WIDTH_HU = 150.0

AIR = -0.8
"""Windowed intensity below which there is no body."""

_SAMPLES = 200_000

Kind = Literal["ct", "percentile"]
KIND_NAMES: dict[str, str] = {"ct": "CT scans", "percentile": "scans other than CT"}


@dataclass(frozen=True)
class Window:
    """How intensities are mapped.

    ``ct``: the mean of HU / 1000, clipped to [-1, 1], and tanh((HU - 40) / 150): lung and bone stay apart while fat,
    muscle and glands, 100 HU in a range of 2000, get half of the scale.
    ``percentile``: linear from ``lower`` to ``upper``, clipped, for scans without a physical unit.
    """

    kind: Kind
    lower: float = -1000.0
    upper: float = 1000.0

    def apply(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Array of intensities -> float32 in [-1, 1], same shape."""
        values = array.astype(np.float32)
        if self.kind == "percentile":
            span = max(self.upper - self.lower, 1e-6)
            scaled: NDArray[np.float32] = np.clip((values - self.lower) * np.float32(2 / span) - 1, -1, 1)
            return scaled
        soft = np.tanh((values - SOFT_TISSUE_CENTER_HU) / SOFT_TISSUE_WIDTH_HU)
        np.clip(values, -1000, 1000, out=values)
        result: NDArray[np.float32] = np.float32(0.5) * (values / np.float32(1000) + soft)
        return result

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "lower": self.lower, "upper": self.upper}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Window:
        if data.get("kind") not in ("ct", "percentile"):
            raise InputError(f"unknown intensity window {data.get('kind')!r}: this file is from a newer PromptSeg")
        return cls(data["kind"], float(data["lower"]), float(data["upper"]))


def window_for(array: NDArray[Any], kind: str | None = None) -> Window:
    """The window for a scan of this kind, by default of its own (`kind_of`).

    kind: what a token was trained with; percentiles are taken anew from each scan.
    """
    if (kind or kind_of(array)) == "ct":
        return Window("ct")
    values = _sampled(array)
    inside = values[values > values.min()]
    if inside.size == 0:
        raise InputError("the image has the same value everywhere: there is nothing to segment in it")
    lower, upper = np.percentile(inside, [0.5, 99.5])
    return Window("percentile", float(lower), float(upper))


def kind_of(array: NDArray[Any]) -> Kind:
    """``ct`` where the values can only be HU (air far below zero), else ``percentile``."""
    return "ct" if np.percentile(_sampled(array), 1) < -200 else "percentile"


def _sampled(array: NDArray[Any]) -> NDArray[np.float32]:
    step = max(1, round((array.size / _SAMPLES) ** (1 / 3)))
    return array[::step, ::step, ::step].astype(np.float32)
