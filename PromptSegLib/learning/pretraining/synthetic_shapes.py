"""Shapes that synthetic anatomy is made of, as masks on a grid of 2-D (rows, columns) or 3-D (rows, columns, slices).

Lengths are pixels of the plane; a slice is ``grid.spacing[2]`` of them thick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from PromptSegLib.imaging.volume import slice_stack
from PromptSegLib.learning.pretraining.scans import Scan, ScanCache

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]
Vector = NDArray[np.float64]
Box = tuple[slice, ...]

_MIN_OUTLINE_PIXELS = 12
_OUTLINE_ATTEMPTS = 8
_OUTLINE_SMOOTHING = 0.8


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], scale: Sequence[float]) -> Field:
    """A random field, N(0, 1) at each point of a grid of ``shape``: cubic B-splines, knots ``scale`` points apart."""
    axes = [_spline_weights(rng, n, s) for n, s in zip(shape, scale, strict=True)]
    field = rng.standard_normal([weights.shape[1] for weights in axes], dtype=np.float32)
    for weights in axes:
        # Contracts the first axis and appends the new one, so that as many turns as there are axes restore their order.
        field = np.tensordot(field, weights, (0, 1))
    return np.ascontiguousarray(field)


def _spline_weights(rng: np.random.Generator, length: int, scale: float) -> Field:
    """(length, knots), rows of unit norm, the knots at a random offset."""
    knots = int(np.ceil(length / scale)) + 4
    place = np.arange(length, dtype=np.float32)[:, None] / np.float32(scale) + np.float32(1 + rng.random())
    distance = np.abs(place - np.arange(knots, dtype=np.float32))
    square, rest = distance * distance, np.maximum(2 - distance, 0)
    weights = np.where(distance < 1, 2 / 3 - square + square * distance / 2, rest * rest * rest / 6)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return weights


@dataclass(frozen=True)
class Grid:
    """Where the pixels lie in a body that a smooth random deformation has bent.

    Attributes:
        spacing: pixels of the plane per step along each axis.
        places: one array of the grid's shape per axis.
        wobble, ripple: random fields, about N(0, 1) within +-3, as wide as an organ and as a fold of it.
        reach: no place is farther than this from where it lay before the deformation.
    """

    spacing: tuple[float, ...]
    places: tuple[Field, ...]
    wobble: Field
    ripple: Field
    reach: float

    @classmethod
    def bent(cls, rng: np.random.Generator, shape: Sequence[int], slice_spacing: float = 1.0) -> Grid:
        spacing, extent = (1.0, 1.0, slice_spacing)[: len(shape)], shape[0]

        def noise(scale: float) -> Field:
            return smooth_noise(rng, shape, [scale / s for s in spacing]).clip(-3, 3)

        axes = [np.arange(n, dtype=np.float32) * np.float32(s) for n, s in zip(shape, spacing, strict=True)]
        bend = np.float32(rng.uniform(0.005, 0.03) * extent)
        places = tuple(p + bend * noise(0.35 * extent) for p in np.meshgrid(*axes, indexing="ij", sparse=True))
        return cls(spacing, places, noise(0.14 * extent), noise(0.05 * extent), 3 * float(bend))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.wobble.shape

    @property
    def extent(self) -> Vector:
        """Edges of the grid in pixels of the plane."""
        return np.multiply(self.shape, self.spacing)

    def around(self, low: Vector, high: Vector) -> tuple[Box, Grid]:
        """The part of the grid in which a structure between two corners can lie."""
        ends = zip(low - self.reach, high + self.reach, self.spacing, self.shape, strict=True)
        box = tuple(slice(int(np.clip(a // s, 0, n)), int(np.clip(b // s + 2, 0, n))) for a, b, s, n in ends)
        return box, replace(
            self, places=tuple(p[box] for p in self.places), wobble=self.wobble[box], ripple=self.ripple[box]
        )

    def turned(self, center: Vector, angle: float) -> list[Field]:
        """Places relative to ``center`` along axes that are turned in the plane by ``angle``."""
        row, column = self.places[0] - np.float32(center[0]), self.places[1] - np.float32(center[1])
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        depth = [p - np.float32(c) for p, c in zip(self.places[2:], center[2:], strict=True)]
        return [cos * row + sin * column, cos * column - sin * row, *depth]


@dataclass(frozen=True)
class Blob:
    """A rounded box: ``squareness`` 2 is an ellipsoid. wobble, ripple: how far its surface is moved, in its radius."""

    center: Vector
    radii: Vector
    angle: float
    squareness: float
    wobble: float
    ripple: float

    def mask(self, grid: Grid) -> Mask:
        reach = 1.5 * np.linalg.norm(self.radii[:2])
        box, part = grid.around(self.center - reach, self.center + reach)
        power = np.float32(self.squareness)
        places = part.turned(self.center, self.angle)
        sums = sum(np.abs(p / np.float32(r)) ** power for p, r in zip(places, self.radii, strict=True))
        surface = (1 + self.wobble * part.wobble + self.ripple * part.ripple).clip(0.2, 1.5)
        return _whole(grid, box, sums < surface**power)


@dataclass(frozen=True)
class Outline:
    """A structure that was drawn in a real scan, or its body. inside: float32 in [0, 1], cropped to the structure;
    size: its edges, in any unit."""

    inside: Field
    size: Vector

    def mask(self, grid: Grid, center: Vector, radius: float, angle: float, mirrored: bool = False) -> Mask:
        """Placed with its longest edge twice ``radius``, left and right exchanged if ``mirrored``."""
        reach = 1.5 * radius
        box, part = grid.around(center - reach, center + reach)
        places = part.turned(center, angle)
        if mirrored:
            places[1] = -places[1]
        scale = self.size.max() / (2 * radius)
        steps = self.size / self.inside.shape
        middle = (np.array(self.inside.shape) - 1) / 2
        indices = [p * np.float32(scale / t) + np.float32(m) for p, t, m in zip(places, steps, middle, strict=True)]
        sampled = ndimage.map_coordinates(self.inside, np.stack(indices), order=1, mode="constant")
        return _whole(grid, box, sampled > 0.5)


class Outlines:
    """Bodies and base classes of prepared scans. labels: the base classes' numbers; other labels stay unseen, so that
    a class that is kept for testing is not met here."""

    def __init__(self, scans: ScanCache, labels: Sequence[int]):
        self.scans, self.labels = scans, list(labels)

    def body(self, rng: np.random.Generator, dimensions: int) -> Outline | None:
        """A body, whole in the plane; None if chance found none."""
        scan = self.scans[int(rng.integers(len(self.scans)))]
        return _cut(rng, scan, scan.regions[0], scan.body, dimensions)

    def organ(self, rng: np.random.Generator, dimensions: int) -> Outline | None:
        """A base class in a random scan; None if there are none, or chance found none."""
        for _ in range(_OUTLINE_ATTEMPTS if self.labels else 0):
            scan = self.scans[int(rng.integers(len(self.scans)))]
            drawn = [label for label in self.labels if label in scan.organs]
            if scan.labels is not None and drawn:
                label = int(rng.choice(drawn))
                return _cut(rng, scan, scan.labels, scan.organs[label], dimensions, label)
        return None


def _cut(
    rng: np.random.Generator,
    scan: Scan,
    array: np.ndarray,
    voxels: np.ndarray,
    dimensions: int,
    label: int | None = None,
) -> Outline | None:
    """A slice through one of ``voxels``, or all of it in 3-D; where ``array`` is ``label``, or anything but 0."""
    axis = int(rng.choice(3, p=(0.6, 0.2, 0.2))) if dimensions == 2 else 0
    stack = slice_stack(scan.geometry, axis)
    voxel = voxels[rng.integers(len(voxels))]
    found = stack.view(array)
    spacing = np.array(stack.spacing)
    if dimensions == 2:
        found, spacing = found[stack.locate((int(voxel[0]), int(voxel[1]), int(voxel[2])))[0]], spacing[1:]
    else:
        found, spacing = np.moveaxis(found, 0, -1), np.roll(spacing, -1)
    mask = found == label if label is not None else found > 0
    if mask.sum() < _MIN_OUTLINE_PIXELS:
        return None
    if label is None:
        # Airways and gas are no part of an outline.
        mask = ndimage.binary_fill_holes(largest_piece(mask))
    mask = np.pad(mask[bounding_box(mask)], 2)
    # Smooth, since voxels would show as stairs where the outline is enlarged.
    inside = ndimage.gaussian_filter(mask.astype(np.float32), _OUTLINE_SMOOTHING)
    return Outline(inside, np.array(mask.shape) * spacing)


def _whole(grid: Grid, box: Box, part: Mask) -> Mask:
    mask = np.zeros(grid.shape, bool)
    mask[box] = part
    return mask


def bounding_box(mask: Mask, margin: int = 0) -> Box:
    """The box of what is set, ``margin`` larger where the grid allows it."""
    box = []
    for axis, length in enumerate(mask.shape):
        set_at = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(max(int(set_at[0]) - margin, 0), min(int(set_at[-1]) + 1 + margin, length)))
    return tuple(box)


def depth_below(mask: Mask, spacing: Sequence[float]) -> Field:
    """How deep each pixel lies below the mask's surface, 0 outside; the grid's border is no surface."""
    depth = np.zeros(mask.shape, np.float32)
    box = bounding_box(mask, margin=1)
    depth[box] = ndimage.distance_transform_edt(mask[box], sampling=spacing)
    return depth


def tube_mask(grid: Grid, points: Vector, radii: Vector) -> Mask:
    """A bent tube. points: (n, dimensions), its center line; radii: (n,)."""
    mask = np.zeros(grid.shape, bool)
    for a, b, start, end in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        reach = max(start, end)
        box, part = grid.around(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
        along = (b - a).astype(np.float32)
        offsets = [p - np.float32(c) for p, c in zip(part.places, a, strict=True)]
        t = sum(o * c for o, c in zip(offsets, along, strict=True)) / max(float(along @ along), 1e-6)
        t = np.clip(t, 0, 1)
        squares = sum((o - t * c) ** 2 for o, c in zip(offsets, along, strict=True))
        mask[box] |= squares < (start + t * (end - start)) ** 2
    return mask


def wander(rng: np.random.Generator, start: Vector, heading: Vector, steps: int, step: float, turn: float) -> Vector:
    """A random curve (steps + 1, dimensions) with a joint every ``step`` pixels."""
    points = [start]
    for _ in range(steps):
        heading = heading + turn * rng.standard_normal(len(heading))
        heading = heading / np.linalg.norm(heading)
        points.append(points[-1] + step * heading)
    return np.array(points)


def largest_piece(mask: Mask) -> Mask:
    """Only the largest of the pieces that do not touch, not even at a corner."""
    if not mask.any():
        return mask
    box = bounding_box(mask)
    pieces, count = ndimage.label(mask[box], np.ones((3,) * mask.ndim))
    if count == 1:
        return mask
    largest = np.zeros_like(mask)
    largest[box] = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    return largest
