"""What the phantom is drawn with: warped coordinates, distances to simple shapes, and blending them into an image.

Coordinates are a reference patient's millimeters: x to the left, y to posterior, z to superior, (0, 0, 0) in the middle
of the abdominal cavity, whose half-axes are `CAVITY`. The patient's girth and a smooth deformation are applied to the
coordinates, so every structure moves with its neighbors. A structure is an approximate signed distance in mm, negative
inside, and is blended in over one voxel: that is the partial volume effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from PromptSegLib.imaging.volume import Geometry

Array = np.ndarray
Box = tuple[slice, slice, slice]

# Half-axes in mm of the reference patient's abdominal cavity, left-right and front-back, and how square its outline is.
CAVITY = (128.0, 88.0)
_SQUARENESS = 2.35

# No displacement is longer, so a structure's bounding box plus this margin holds all of its voxels.
_WARP_MM = 10.0

WHOLE: Box = (slice(None), slice(None), slice(None))


class Canvas:
    """The image under way.

    Attributes:
        rng: draws the anatomy; what it draws must not depend on the grid.
        hu: (slices, rows, columns) float32, before the scanner's blur and noise.
        labels: the same grid, uint8.
        x, y, z: coordinates of every voxel in the reference patient, mm.
        scanner_x, scanner_y: (1, columns) and (rows, 1), position in the scanner, mm, neither scaled nor deformed.
        wall: distance in mm outward from the surface of the abdominal cavity.
        wobble, ripple, grain: random fields, about N(0, 1), of 26 mm, 11 mm and 1.6 mm scale.
    """

    def __init__(self, geometry: Geometry, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._grid_rng = np.random.default_rng((seed, 1))
        self._spacing = geometry.spacing
        self.hu = np.full(geometry.shape, -1000.0, np.float32)
        self.labels = np.zeros(geometry.shape, np.uint8)
        girth = self.rng.uniform((0.90, 0.88), (1.08, 1.12))
        depth, height, width = (
            (np.arange(n, dtype=np.float32) - 0.5 * (n - 1)) * np.float32(step)
            for n, step in zip(geometry.shape, geometry.spacing, strict=True)
        )
        self.scanner_y, self.scanner_x = height[:, None], width[None, :]
        # The body lies a little in front of the middle of the scanner, because the table is below it.
        self._axes = (depth, (height + 6) / np.float32(girth[1]), width / np.float32(girth[0]))
        self._lean = float(self.rng.uniform(-0.04, 0.04))
        z, y, x = np.meshgrid(*self._axes, indexing="ij", sparse=True)
        limit = _WARP_MM
        shift = [np.clip(5 * self._noise(scale), -limit, limit) for scale in (100.0, 100.0, 80.0)]
        self.x, self.y, self.z = x + np.float32(self._lean) * z + shift[0], y + shift[1], z + shift[2]
        self.wobble = self._noise(26.0)
        self.ripple = self._noise(11.0)
        white = self._grid_rng.standard_normal(geometry.shape, dtype=np.float32)
        grain = ndimage.gaussian_filter(white, [1.6 / step for step in self._spacing])
        self.grain = grain / (grain.std() + np.float32(1e-6))
        self.wall = self._wall_distance()

    def _noise(self, scale_mm: float) -> Array:
        """A smooth random field over the grid, about N(0, 1), from cubic B-splines on knots `scale_mm` apart."""
        # The knots cover a fixed region, not the grid, so that the anatomy is the same on every grid.
        knots = int(np.ceil(600 / scale_mm)) + 4
        field = self.rng.standard_normal((knots, knots, knots), dtype=np.float32)
        for axis in self._axes:
            place = np.clip(axis / scale_mm + 0.5 * knots, 2, knots - 3)
            t = np.abs(place[:, None] - np.arange(knots))
            weights = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0)).astype(np.float32)
            # Contracts the first axis and appends the new one, so three turns bring back (z, y, x).
            field = np.tensordot(field, weights, (0, 1))
        # The squares of a cubic B-spline's weights add up to 0.479 on average.
        return np.ascontiguousarray(field / np.float32(0.479**1.5))

    def _wall_distance(self) -> Array:
        """First-order distance in mm from the superellipse |x/a|^p + |y/b|^p = 1."""
        p = _SQUARENESS
        # The small offset keeps the powers finite on the body's axis.
        u, v = np.abs(self.x) / CAVITY[0] + 1e-3, np.abs(self.y) / CAVITY[1] + 1e-3
        rho = (u**p + v**p) ** (1 / p)
        slope = np.hypot((u / rho) ** (p - 1) / CAVITY[0], (v / rho) ** (p - 1) / CAVITY[1])
        distance: Array = (rho - 1) / slope
        return distance

    def vary(self, place: Sequence[float] | Array, by: float) -> Array:
        """A point (x, y, z) moved at random by about `by` mm in each direction."""
        shift = self.rng.normal(0, by, 3).clip(-2 * by, 2 * by)
        moved: Array = (np.asarray(place) + shift).astype(np.float32)
        return moved

    def box(self, low: Array, high: Array) -> Box:
        """The part of the grid in which a structure between two corners (x, y, z) in mm can lie."""
        bounds = []
        for axis, k in zip(self._axes, (2, 1, 0), strict=True):
            margin = _WARP_MM + (abs(self._lean) * np.abs(self._axes[0]).max() if k == 0 else 0)
            start, stop = np.searchsorted(axis, (low[k] - margin, high[k] + margin))
            bounds.append(slice(int(start), int(stop)))
        return bounds[0], bounds[1], bounds[2]

    def ellipsoid(
        self, center: Sequence[float] | Array, radii: Sequence[float] | Array, lean: float = 0.0, box: Box | None = None
    ) -> tuple[Box, Array]:
        """Distance to an ellipsoid.

        Args:
            center: (x, y, z) in mm.
            radii: half-axes in mm in the same order.
            lean: mm to the left per mm upward.
            box: where to compute it; by default where the ellipsoid can lie, with 14 mm around it.

        Returns:
            The box, and the distance in mm on it.
        """
        if box is None:
            reach = np.asarray(radii) + np.array((abs(lean) * radii[2] + 14, 14, 14))
            box = self.box(np.asarray(center) - reach, np.asarray(center) + reach)
        z = self.z[box] - center[2]
        unit = (
            (self.x[box] - center[0] - lean * z) / radii[0],
            (self.y[box] - center[1]) / radii[1],
            z / radii[2],
        )
        squares = [u * u for u in unit]
        k0 = np.sqrt(squares[0] + squares[1] + squares[2])
        k1 = np.sqrt(squares[0] / radii[0] ** 2 + squares[1] / radii[1] ** 2 + squares[2] / radii[2] ** 2)
        # First order, from I. Quilez, "Ellipsoid SDF".
        return box, (k0 * (k0 - 1) / (k1 + 1e-6)).astype(np.float32)

    def tube(self, points: Array, radii: Array, margin: float = 4.0) -> tuple[Box, Array]:
        """Distance to a bent tube.

        Args:
            points: (n, 3), its center line as (x, y, z) in mm.
            radii: (n,) mm.
            margin: mm around the tube in which the distance is wanted; beyond, it is 1000.

        Returns:
            The box that holds the tube, and the distance in mm on it.
        """
        pad = radii.max() + margin
        box = self.box(points.min(0) - pad, points.max(0) + pad)
        distance = np.full(self.x[box].shape, 1e3, np.float32)
        for a, b, start, end in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
            part = self.box(np.minimum(a, b) - pad, np.maximum(a, b) + pad)
            d = (self.x[part] - a[0], self.y[part] - a[1], self.z[part] - a[2])
            along = b - a
            t = np.clip((d[0] * along[0] + d[1] * along[1] + d[2] * along[2]) / max(float(along @ along), 1e-6), 0, 1)
            squared = (d[0] - t * along[0]) ** 2 + (d[1] - t * along[1]) ** 2 + (d[2] - t * along[2]) ** 2
            near = distance[tuple(slice(p.start - q.start, p.stop - q.start) for p, q in zip(part, box, strict=True))]
            np.minimum(near, np.sqrt(squared) - (start + t * (end - start)), out=near)
        return box, distance

    def paint(self, label: int | None, box: Box, distance: Array, value: Array | float, texture: float = 4.0) -> None:
        """Blend a structure in.

        Args:
            label: its number, or None to leave the labels as they are.
            box: where `distance` lies in the grid.
            distance: mm, negative inside.
            value: HU.
            texture: standard deviation in HU of the tissue itself, without the scanner's noise.
        """
        opacity = np.clip(0.5 - distance / np.float32(self._spacing[2]), 0, 1)
        tissue = value + texture * (0.6 * self.grain[box] + 0.6 * self.ripple[box])
        self.hu[box] += opacity * (tissue - self.hu[box])
        if label is not None:
            self.labels[box][opacity > 0.5] = label

    def scan(self) -> Array:
        """What the scanner makes of it: blur, and noise that is correlated in the plane; int16, HU."""
        blurred = ndimage.gaussian_filter(self.hu, (0.35, 1.0 / self._spacing[1], 1.0 / self._spacing[2]))
        white = self._grid_rng.standard_normal(self.hu.shape, dtype=np.float32)
        noise = ndimage.gaussian_filter(white, (0, 0.65, 0.65)) - 0.6 * ndimage.gaussian_filter(white, (0, 1.8, 1.8))
        # Fewer photons get through the middle of a body.
        sigma = 9 * np.exp(np.clip(-self.wall, -40, 60) / 130)
        noise *= sigma / (noise.std() + 1e-6)
        scanned: Array = np.clip(np.rint(blurred + noise), -1024, 3071).astype(np.int16)
        return scanned


def wander(rng: np.random.Generator, start: Array, heading: Array, steps: int, step: float, turn: float) -> Array:
    """A random curve (steps + 1, 3) of (x, y, z) in mm, with a joint every `step` mm."""
    points = [np.asarray(start, np.float32)]
    for _ in range(steps):
        heading = heading + turn * rng.standard_normal(3)
        heading = heading / np.linalg.norm(heading)
        points.append(points[-1] + step * heading.astype(np.float32))
    return np.array(points, np.float32)


def vessel_tree(
    rng: np.random.Generator, root: Array, heading: Array, radius: float, depth: int
) -> Iterator[tuple[Array, Array]]:
    """Branches (points, radii) of a tree that forks `depth` times."""
    points = wander(rng, root, heading, 3, 5.0 + 1.8 * radius, 0.22)
    end = 0.72 * radius
    yield points, np.linspace(radius, end, len(points))
    if depth:
        ahead = points[-1] - points[-2]
        for _ in range(2):
            turn = rng.normal(0, 0.65, 3)
            yield from vessel_tree(rng, points[-1], ahead / np.linalg.norm(ahead) + turn, end, depth - 1)
