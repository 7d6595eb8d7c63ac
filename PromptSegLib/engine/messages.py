"""What a session is told and what it answers: plain values that travel between processes.

Planes are 2-D arrays in array orientation: plane ``i`` of an array is ``np.moveaxis(array, axis, 0)[i]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from PromptSegLib.tokens.recognition import Recognition

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class SliceDrawing:
    """What is drawn of one class on the scan; what is on no plane is unknown.

    axis: array axis (0 slices, 1 rows, 2 columns) that was drawn across; planes: by index on that axis, 1 is the
    structure, 0 background, 255 unknown. A plane of zeros says that the structure does not show there.
    """

    axis: int
    planes: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class ClassInfo:
    """What a class is called. color: red, green, blue, 0 to 255; terminology: scheme, code, meaning."""

    name: str
    color: tuple[int, int, int] = (230, 159, 0)
    terminology: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    stage: "encoding", while the backbone looks at the drawn slices, "training" or "segmenting"; fraction: 0 to 1 of the
    whole job; key: the class that is worked on, if it is one.
    """

    stage: str
    fraction: float
    seconds_left: float | None = None
    key: str | None = None
    step: int = 0
    loss: float | None = None
    held_out_dsc: float | None = None


@dataclass(frozen=True, eq=False)
class Preview:
    """What would be found now on a few slices, while a class is trained: bool planes by index on ``axis``."""

    key: str
    axis: int
    planes: Mapping[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class SegmentedClass:
    """What was found of one class.

    box: the part of the scan that holds it, empty where nothing was found; mask: bool, of the box's shape;
    confidence: mean probability of the voxels found, 0 where there are none; ml: their volume; recognition: of the
    center that the scan is of, None for a token without centers; token: its file's content, where the result told it
    something that the drawing did not; axis: array axis that the token's slices lie across.
    """

    key: str
    box: Box
    mask: np.ndarray
    confidence: float = 0.0
    ml: float = 0.0
    recognition: Recognition | None = None
    token: bytes | None = None
    axis: int = 0


@dataclass(frozen=True)
class Suggestion:
    """The slice to draw next: index on the array axis ``axis``, and why in a few words."""

    key: str
    axis: int
    index: int
    reason: str


@dataclass(frozen=True)
class TuneResult:
    """Token files' contents by key; of a cancelled training, the best so far."""

    tokens: Mapping[str, bytes]
    cancelled: bool = False
