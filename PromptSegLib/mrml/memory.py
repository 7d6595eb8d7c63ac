"""Which slices of a segment were drawn, once results lie over them.

A state says: when the segment looked like this, this was drawn. Of several states the one that the segment resembles
most holds, so that undo and redo, by whatever button, bring the drawing back too. Slices are told apart by digests of
what is on them; only drawn ones are kept themselves.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.mrml.grids import Region

# Slicer can undo ten steps by default, each of which may be a result and the drawing before it.
_STATES_KEPT = 24

FEWEST_REMADE, REMADE_SHARE = 10, 0.8
"""So many slices of a result, and such a share of them, that were changed since are no corrections by hand."""

_FEW_ACROSS, _TIMES_AS_MANY = 3, 6
"""So many slices at most are taken for corrected across another axis than the token's, and only if so many times as
many would be across its own: a rim or a thin leak that is erased slice by slice lies on few across other axes, too."""

EMPTY = ""
"""The digest of a slice with nothing on it."""


@dataclass(frozen=True)
class State:
    """axis: array axis drawn across; content: digests of the slices that hold the segment; drawn: of the drawn ones;
    beside: where none were, the content along the other axes, by axis, since the user may correct slices across these.
    """

    axis: int
    content: Mapping[int, str]
    drawn: Mapping[int, str]
    beside: Mapping[int, Mapping[int, str]] = field(default_factory=dict)

    def corrected(self, content_along: Callable[[int], Mapping[int, str]]) -> State:
        """As it is, or across another axis where only a few slices were changed, and many across its own."""
        changed = len(self.differing(content_along(self.axis)))
        if not self.beside or changed < _TIMES_AS_MANY:
            return self
        others = [State(axis, content, {}) for axis, content in self.beside.items()]
        few, other = min(((len(o.differing(content_along(o.axis))), o) for o in others), key=lambda pair: pair[0])
        return other if few <= _FEW_ACROSS and changed >= _TIMES_AS_MANY * few else self

    def is_covered(self, content_along: Callable[[int], Mapping[int, str]]) -> bool:
        """Whether there still is something on nearly all of its slices, which is more than a few slices across them."""
        left = self.content.keys() & content_along(self.axis).keys()
        is_solid = all(len(content_along(axis)) >= FEWEST_REMADE for axis in range(3))
        return is_solid and len(left) >= REMADE_SHARE * len(self.content)

    def differing(self, content: Mapping[int, str]) -> list[int]:
        """The slices that are not as they were."""
        return sorted(i for i in {*self.content, *content} if self.content.get(i) != content.get(i))


@dataclass(frozen=True)
class Memory:
    """What is remembered of one segment. planes: the drawn slices, packed, by digest."""

    states: tuple[State, ...] = ()
    planes: Mapping[str, str] | None = None

    @classmethod
    def from_record(cls, record: Any, shape: tuple[int, int, int]) -> Memory:
        """The memory that `to_record` wrote; nothing if the record is damaged or of a scan of another shape."""
        try:
            if tuple(record["shape"]) != shape:
                return cls()
            states = tuple(
                State(
                    int(state["axis"]) % 3,
                    _by_index(state["content"]),
                    _by_index(state["drawn"]),
                    {int(axis) % 3: _by_index(content) for axis, content in state.get("beside", {}).items()},
                )
                for state in record["states"]
            )
            return cls(states, {str(digest): str(packed) for digest, packed in record["planes"].items()})
        except (AttributeError, KeyError, TypeError, ValueError):
            return cls()

    def to_record(self, shape: tuple[int, int, int]) -> dict[str, Any]:
        """Something that JSON can hold. shape: of the scan that was drawn on."""
        states = [
            {
                "axis": state.axis,
                "content": dict(state.content),
                "drawn": dict(state.drawn),
                "beside": {axis: dict(content) for axis, content in state.beside.items()},
            }
            for state in self.states
        ]
        return {"shape": shape, "states": states, "planes": dict(self.planes or {})}

    def with_state(self, state: State, planes: Mapping[int, np.ndarray]) -> Memory:
        """The memory with one more state; planes: its drawn slices by index."""
        states = (*(s for s in self.states if (s.axis, s.content) != (state.axis, state.content)), state)
        states = states[-_STATES_KEPT:]
        packed = {**(self.planes or {}), **{state.drawn[index]: _pack(plane) for index, plane in planes.items()}}
        needed = {digest for kept in states for digest in kept.drawn.values()} - {EMPTY}
        return Memory(states, {digest: packed[digest] for digest in needed if digest in packed})

    def resembling(self, content_along: Callable[[int], Mapping[int, str]]) -> State | None:
        """The state that a segment has departed from least, the latest of several.

        Args:
            content_along: the digests of the segment's slices along an array axis.

        Returns:
            None if no slice is left of any state, nor was the last one changed all over, as by smoothing: then
            everything was erased, and what is there was drawn anew.
        """
        surviving = []
        for state in (state.corrected(content_along) for state in self.states):
            content = content_along(state.axis)
            if any(content.get(index) == digest for index, digest in state.content.items()):
                surviving.append((len(state.differing(content)), state))
        if not surviving:
            return self.states[-1] if self.states and self.states[-1].is_covered(content_along) else None
        least = min(count for count, _ in surviving)
        return next(state for count, state in reversed(surviving) if count == least)

    def plane(self, digest: str, shape: tuple[int, int]) -> np.ndarray | None:
        """A drawn slice: uint8 of the shape given, None if it is damaged or of another shape."""
        plane = np.zeros(shape, np.uint8)
        if digest == EMPTY:
            return plane
        try:
            return _unpacked((self.planes or {})[digest], plane)
        except (KeyError, ValueError, zlib.error):
            return None


def digest_of(plane: np.ndarray) -> str:
    """A text that tells the planes of a `SliceDrawing` apart."""
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not len(rows):
        return EMPTY
    return _digest(plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], int(rows[0]), int(columns[0]))


def content_digests(region: Region, axis: int) -> dict[int, str]:
    """The digests of all slices along an array axis that a region marks something on, by index."""
    stack = np.moveaxis(region.mask, axis, 0)
    row, column = (region.box[other].start for other in range(3) if other != axis)
    digests = {}
    for index in region.occupied[axis]:
        plane = stack[index]
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        part = plane[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        at = region.box[axis].start + int(index)
        digests[at] = _digest(part, row + int(rows[0]), column + int(columns[0]))
    return digests


def _digest(part: np.ndarray, row: int, column: int) -> str:
    hasher = hashlib.blake2b(repr((row, column, part.shape)).encode(), digest_size=9)
    hasher.update(np.packbits(part == 1).tobytes())
    if part.max() > 1:
        hasher.update(np.packbits(part == UNKNOWN).tobytes())
    return base64.b64encode(hasher.digest()).decode()


def _pack(plane: np.ndarray) -> str:
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    if not len(rows):
        return EMPTY
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    part = plane[top:bottom, left:right].astype(np.uint8).tobytes()
    return f"{top},{bottom},{left},{right}," + base64.b64encode(zlib.compress(part)).decode()


def _unpacked(packed: str, plane: np.ndarray) -> np.ndarray | None:
    *edges, data = packed.split(",")
    top, bottom, left, right = (int(edge) for edge in edges)
    if not (0 <= top < bottom <= plane.shape[0] and 0 <= left < right <= plane.shape[1]):
        return None
    size = (bottom - top) * (right - left)
    values = zlib.decompressobj().decompress(base64.b64decode(data), size)
    plane[top:bottom, left:right] = np.frombuffer(values, np.uint8).reshape(bottom - top, right - left)
    return plane


def _by_index(digests: Mapping[str, str]) -> dict[int, str]:
    return {int(index): str(digest) for index, digest in digests.items()}
