"""What a structure looks like in space, as it was drawn or found in one scan: where it was not drawn, that tells what
belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from PromptSegLib.imaging.volume import bounding_box

MOST_SHAPES = 5
"""In a token."""

MOST_VOXELS = 16_000
"""Of a shape's grid. Coarse, too, since more would tell more of the patient than is needed."""

_PREFIX = "shape."

UNIT_MM = 0.25
LARGEST = 127

FINEST_MM, LARGEST_MM = 1.0, 100.0
"""Spacings of a shape's grid."""

_LEAST_SIDE = 3


@dataclass(frozen=True, eq=False)
class Shape:
    """distances: int8 (towards superior, posterior and left), in UNIT_MM to the structure's surface, above 0 inside, at
    most LARGEST; the middle of the grid is the structure's center of mass. spacing_mm: of the grid."""

    distances: np.ndarray
    spacing_mm: float

    @property
    def distances_mm(self) -> np.ndarray:
        """float32, as ``distances``, in mm."""
        return self.distances.astype(np.float32) * np.float32(UNIT_MM)

    @property
    def sides_mm(self) -> np.ndarray:
        """(3,): of the box around the structure (towards superior, posterior and left)."""
        return np.array([self.spacing_mm * (side.stop - side.start) for side in bounding_box(self.distances > 0)])

    def describe(self) -> dict[str, float]:
        """All but the distances, ready for JSON."""
        return {"spacing_mm": self.spacing_mm}


def numbers_of(shapes: Sequence[Shape]) -> dict[str, np.ndarray]:
    """Every shape's distances under the names that they have in a token's file."""
    return {f"{_PREFIX}{number}": np.ascontiguousarray(shape.distances) for number, shape in enumerate(shapes)}


def split_shapes(stored: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The numbers of a file without those of shapes, and these."""
    shapes = {name: array for name, array in stored.items() if name.startswith(_PREFIX)}
    return {name: array for name, array in stored.items() if name not in shapes}, shapes


def parse_shapes(data: Any, stored: Mapping[str, np.ndarray]) -> tuple[Shape, ...]:
    """Shapes from a file's description and its numbers, see `split_shapes`.

    Raises:
        ValueError, TypeError, KeyError: if they are damaged.
    """
    if not 0 < len(data) <= MOST_SHAPES or set(stored) != {f"{_PREFIX}{number}" for number in range(len(data))}:
        raise ValueError("shapes and their descriptions do not fit")
    shapes = []
    for number, entry in enumerate(data):
        distances, spacing = stored[f"{_PREFIX}{number}"], float(entry["spacing_mm"])
        if distances.dtype != np.int8 or distances.ndim != 3 or distances.size > MOST_VOXELS:
            raise ValueError(f"shape {number} is no small grid of whole numbers")
        if min(distances.shape) < _LEAST_SIDE or not (distances > 0).any() or (distances < -LARGEST).any():
            raise ValueError(f"shape {number} is none")
        # Not a number compares as False.
        if not FINEST_MM <= spacing <= LARGEST_MM:
            raise ValueError(f"shape {number} has a spacing of {spacing} mm")
        shapes.append(Shape(distances, spacing))
    return tuple(shapes)
