"""Centers of a class token: what a hospital or a scanner needs beyond the token's own numbers, which stay as they are.

A center is a small difference that is added to some of the token's numbers. So the token itself (its *base*) and every
other center find exactly what they found before, to the bit, whatever centers come or go.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from PromptSegLib.errors import InputError
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.records import Training, checked_name, printable

BASE = "base"
"""Instead of a center's name: the token's own numbers; no center may have this name."""

AUTO = "auto"
"""Instead of a center's name: the center that a scan is most like; no center may have this name."""

_KEY = re.compile(r"center\.(0|[1-9]\d{0,3})\.(.+)")


@dataclass(frozen=True, eq=False)
class Center:
    """One center of a token.

    Attributes:
        name: of the hospital or scanner, as the user wrote it.
        delta: float16 arrays by the name of the number that they are added to; numbers that are not named stay as
            they are in the base, and an empty delta says that the base served this center best.
        training: how the delta came about.
        profile: what the center's scans are like, by which it is recognized.
    """

    name: str
    delta: Mapping[str, np.ndarray]
    training: Training
    profile: Profile

    def applied(self, numbers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The base's numbers with this center's differences, float32."""
        return added(numbers, self.delta)

    def describe(self) -> dict[str, Any]:
        """All but the delta, ready for JSON."""
        return {
            "name": self.name,
            "training": vars(self.training),
            "profile": self.profile.describe(),
        }

    def merged(self, other: Center, name: str) -> Center:
        """One center for two: their mean, weighed by the scans that each was learned from.

        held_out_dsc is gone with it: nothing was measured on the mean.
        """
        ours, theirs = self.training.scans, other.training.scans
        share = ours / (ours + theirs)
        return Center(
            name=name,
            delta=mean_difference([self.delta, other.delta], [share, 1 - share]),
            training=Training(
                scans=ours + theirs,
                slices=self.training.slices + other.training.slices,
                steps=self.training.steps + other.training.steps,
                seconds=round(self.training.seconds + other.training.seconds, 1),
                date=max(self.training.date, other.training.date),
                seed=self.training.seed,
            ),
            profile=self.profile.merged(other.profile),
        )


def added(numbers: Mapping[str, np.ndarray], difference: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Numbers of a token with a difference to them, float32."""
    return {
        name: number + difference[name].astype(np.float32) if name in difference else number
        for name, number in numbers.items()
    }


def mean_difference(
    differences: Sequence[Mapping[str, np.ndarray]], weights: Sequence[float] | None = None
) -> dict[str, np.ndarray]:
    """Float16. All are small steps from the same numbers, so their mean is one, too, and has less of what is each one's
    own. weights: 1 in all; equal ones by default."""
    pairs = list(zip(differences, weights or [1 / len(differences)] * len(differences), strict=True))
    names = sorted({name for each in differences for name in each})
    sums = {
        name: sum(weight * each[name].astype(np.float32) for each, weight in pairs if name in each) for name in names
    }
    return {name: np.asarray(total).astype(np.float16) for name, total in sums.items()}


def find_center(centers: Sequence[Center], name: str, token: str) -> int:
    """Which of the centers has this name, whatever its capitals; token: name of the class, for the message.

    Raises:
        InputError: if none has; the message names those that there are.
    """
    for number, center in enumerate(centers):
        if same_name(center.name, name):
            return number
    known = ", ".join(f"'{center.name}'" for center in centers)
    hint = f"choose one of {known}" if known else "it has none yet; add one with promptseg adapt"
    raise InputError(f"the token '{token}' has no center '{name}': {hint}")


def checked_center_name(name: str, centers: Sequence[Center]) -> str:
    """A name fit for a new center beside these.

    Raises:
        InputError: if it is empty, long, reserved, or another center's.
    """
    name = checked_name(name, "a center")
    for reserved in (BASE, AUTO):
        if same_name(name, reserved):
            raise InputError(f"no center can be called '{name}', which means something else: choose another name")
    for center in centers:
        if same_name(name, center.name):
            raise InputError(
                f"there is a center '{center.name}' already: choose another name, or remove or rename that one first"
            )
    return name


def removed(centers: Sequence[Center], name: str, token: str) -> tuple[Center, ...]:
    """The other centers. InputError if there is none of this name."""
    number = find_center(centers, name, token)
    return (*centers[:number], *centers[number + 1 :])


def renamed(centers: Sequence[Center], name: str, new_name: str, token: str) -> tuple[Center, ...]:
    """The centers, one of them under another name. InputError if there is none, or the new name is not free."""
    number = find_center(centers, name, token)
    others = removed(centers, name, token)
    renamed_center = replace(centers[number], name=checked_center_name(new_name, others))
    return (*centers[:number], renamed_center, *centers[number + 1 :])


def merged(centers: Sequence[Center], name: str, other: str, new_name: str | None, token: str) -> tuple[Center, ...]:
    """The centers, one in place of two; it takes the first one's name unless it gets a new one.

    Raises:
        InputError: if there is none of such a name, both are one, or the new name is not free.
    """
    first, second = find_center(centers, name, token), find_center(centers, other, token)
    if first == second:
        raise InputError(f"the center '{centers[first].name}' cannot be merged with itself: name two centers")
    rest = tuple(center for number, center in enumerate(centers) if number not in (first, second))
    free_name = checked_center_name(new_name if new_name is not None else centers[first].name, rest)
    whole = centers[first].merged(centers[second], free_name)
    return tuple(whole if n == first else center for n, center in enumerate(centers) if n != second)


def numbers_of(centers: Sequence[Center]) -> dict[str, np.ndarray]:
    """Every center's delta under the names that the numbers have in a token's file."""
    return {f"center.{n}.{key}": array for n, center in enumerate(centers) for key, array in center.delta.items()}


def split_numbers(
    stored: Mapping[str, np.ndarray], count: int
) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """The numbers of a file, taken apart: the base's, and each center's delta.

    Raises:
        ValueError: if a delta belongs to no center or to no number of the base, or has another shape or type.
    """
    base: dict[str, np.ndarray] = {}
    deltas: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for key, array in stored.items():
        match = _KEY.fullmatch(key)
        if match is None:
            base[key] = array
        elif int(match[1]) >= count:
            raise ValueError(f"{key!r:.80} belongs to no center")
        else:
            deltas[int(match[1])][match[2]] = array
    for number, delta in enumerate(deltas):
        for key, array in delta.items():
            if key not in base or base[key].shape != array.shape or array.dtype != np.float16:
                raise ValueError(f"the difference of {key!r:.80} in center {number} fits no number of the token")
    return base, deltas


def parse_centers(data: Any, deltas: Sequence[Mapping[str, np.ndarray]]) -> tuple[Center, ...]:
    """Centers from a file's description.

    Raises:
        ValueError, TypeError, KeyError, InputError: if it is damaged.
    """
    centers: list[Center] = []
    for entry, delta in zip(data, deltas, strict=True):
        centers.append(
            Center(
                name=checked_center_name(printable(entry["name"]), centers),
                delta=delta,
                training=Training.parse(entry["training"]),
                profile=Profile.parse(entry["profile"]),
            )
        )
    if any(center.training.scans < 1 for center in centers):
        raise ValueError("a center without a scan")
    return tuple(centers)


def same_name(name: str, other: str) -> bool:
    """Whether two names are one, whatever their capitals."""
    return _folded(name) == _folded(other)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name.strip()).casefold()
