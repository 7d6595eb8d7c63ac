"""What a class token says of itself besides its numbers, and how that is read from a file from anywhere."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PromptSegLib.errors import InputError

_MAX_NAME = 120


@dataclass(frozen=True)
class Terminology:
    """A coded meaning, such as ("SCT", "64033007", "Kidney")."""

    scheme: str
    code: str
    meaning: str


@dataclass(frozen=True)
class Calibration:
    """From the network's logit to the calibrated one: ``scale * logit + offset`` (Platt 1999)."""

    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Calibration:
        """From a file's description; ValueError if it is not finite."""
        calibration = cls(float(data["scale"]), float(data["offset"]))
        if not (math.isfinite(calibration.scale) and math.isfinite(calibration.offset)):
            raise ValueError("calibration is not finite")
        return calibration


@dataclass(frozen=True)
class BackboneReference:
    """The one backbone that a token works with: name for people, fingerprint (SHA-256) for certainty."""

    name: str
    fingerprint: str
    preset: str


@dataclass(frozen=True)
class Training:
    """How a token came about. date: ISO 8601, day only; held_out_dsc: on the part of the drawing kept aside; of a
    center, on scans that it was not learned from."""

    scans: int
    slices: int
    steps: int
    seconds: float
    date: str
    seed: int
    held_out_dsc: float | None = None

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Training:
        """From a file's description."""
        held_out = data["held_out_dsc"]
        return cls(
            scans=int(data["scans"]),
            slices=int(data["slices"]),
            steps=int(data["steps"]),
            seconds=float(data["seconds"]),
            date=printable(data["date"]),
            seed=int(data["seed"]),
            held_out_dsc=None if held_out is None else float(held_out),
        )


def printable(value: Any) -> str:
    """Text of a file from anywhere, which will be shown: no control characters, which could steer a terminal.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(value, str) or not _is_printable(value):
        raise ValueError(f"{value!r} is no printable text")
    return value


def checked_name(name: str, what: str = "a class") -> str:
    """A name fit for a file and a screen; InputError when it is empty, long or has control characters."""
    name = name.strip()
    if not name or len(name) > _MAX_NAME or not _is_printable(name):
        raise InputError(f"{what} needs a name of 1 to {_MAX_NAME} printable characters: give another name")
    return name


def _is_printable(text: str) -> bool:
    # Unlike str.isprintable, this lets through the joiners and wide spaces that some languages write with.
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)
