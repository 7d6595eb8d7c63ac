"""The shape of a structure, made small enough for a token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from PromptSegLib.imaging.volume import Geometry, bounding_box
from PromptSegLib.tokens.class_token import PLANES
from PromptSegLib.tokens.shape import FINEST_MM, LARGEST, LARGEST_MM, MOST_SHAPES, MOST_VOXELS, UNIT_MM, Shape

_GRIDS = ((MOST_VOXELS // 4, 0.9), (MOST_VOXELS, 0.7))
"""Voxels of a grid at the most, and the share of the structure that must show on it: of a bow, the coarser one may show
pearls; of a vessel, the finer one, too."""


def shape_of(mask: np.ndarray, geometry: Geometry) -> Shape | None:
    """Of a structure that lies wholly in the scan; None if there is none, or a token's grid could not show it.

    mask: bool, on the grid of the scan's array or a box of it.
    """
    if not mask.any():
        return None
    structure = mask[bounding_box(mask)]
    shapes = (_shape_of(structure, geometry, *grid) for grid in _GRIDS)
    return next((shape for shape in shapes if shape is not None), None)


def _shape_of(mask: np.ndarray, geometry: Geometry, most_voxels: int, least_shown: float) -> Shape | None:
    """mask: of the box around the structure."""
    sides_mm = np.array(mask.shape) * geometry.spacing
    grid_mm = max(FINEST_MM, float(np.prod(sides_mm) / most_voxels) ** (1 / 3))
    # A mask that is finer than half of the grid takes memory and changes nothing.
    steps = [max(1, int(grid_mm / 2 / mm)) for mm in geometry.spacing]
    inside = np.pad(mask[tuple(slice(None, None, step) for step in steps)], 1)
    spacing = np.array(geometry.spacing) * steps
    if not inside.any():
        return None
    voxels = np.argwhere(inside)
    middle = voxels.mean(axis=0)
    # From mm along the array's axes to mm towards superior, posterior and left; its inverse is its transpose.
    turned = np.array(geometry.direction)[::-1]
    places_mm = (voxels - middle) * spacing @ turned.T
    grid_mm, counts = _grid(np.abs(places_mm).max(axis=0), grid_mm, most_voxels)
    if grid_mm > LARGEST_MM:
        return None
    offsets_mm = np.stack(np.meshgrid(*((np.arange(n) - n // 2) * grid_mm for n in counts), indexing="ij"), axis=-1)
    distances = _sampled(_signed_distances(inside, spacing), offsets_mm @ turned / spacing + middle, spacing)
    small = np.clip(np.round(distances / UNIT_MM), -LARGEST, LARGEST).astype(np.int8)
    shown = ndimage.map_coordinates(small.astype(np.float32), (places_mm / grid_mm + counts // 2).T, order=1) > 0
    return Shape(small, grid_mm) if shown.mean() >= least_shown else None


def is_in_pieces(shape: Shape, plane: str) -> bool:
    """Whether the shape shows several pieces on a slice of this plane, as a bow does."""
    # The plane across superior, the one across posterior, and the one across left.
    slices = np.moveaxis(shape.distances > 0, PLANES.index(plane), 0)
    return any(ndimage.label(inside)[1] > 1 for inside in slices)


def some_shapes(volumes_ml: Sequence[float], shape: Callable[[int], Shape | None]) -> tuple[Shape, ...]:
    """Of structures of these volumes, or of some whose sizes differ; shape: makes that of the one at this position."""
    made = (shape(number) for number in spread(volumes_ml))
    return tuple(each for each in made if each is not None)


def spread(volumes_ml: Sequence[float], most: int = MOST_SHAPES) -> list[int]:
    """Positions of at most so many structures, spread evenly by their size."""
    order = np.argsort(volumes_ml, kind="stable")
    chosen = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)
    return sorted(int(order[i]) for i in chosen)


def _grid(reach_mm: np.ndarray, spacing_mm: float, most_voxels: int) -> tuple[float, np.ndarray]:
    """Spacing, at least this one, and odd numbers of voxels of a grid that reaches beyond this far from its middle."""
    while True:
        spacing_mm = round(spacing_mm, 3)
        counts = 2 * (np.ceil(reach_mm / spacing_mm).astype(int) + 1) + 1
        if np.prod(counts) <= most_voxels:
            return spacing_mm, counts
        spacing_mm *= 1.02


def _signed_distances(inside: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """mm to the surface, which runs halfway between the centers of voxels inside and outside; above 0 inside."""
    surface = np.zeros([2 * n - 1 for n in inside.shape], dtype=bool)
    for axis in range(3):
        between = tuple(slice(1, None, 2) if other == axis else slice(None, None, 2) for other in range(3))
        surface[between] = np.diff(inside, axis=axis)
    at_centers = ndimage.distance_transform_edt(~surface, sampling=spacing / 2)[::2, ::2, ::2]
    distances: np.ndarray = np.where(inside, at_centers, -at_centers)
    return distances


def _sampled(distances: np.ndarray, at: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Distances at these places (…, 3) of the array; where they are beyond it, less by how far they are."""
    within = np.clip(at, 0, np.array(distances.shape) - 1)
    beyond = np.sqrt(np.square((at - within) * spacing).sum(axis=-1))
    sampled: np.ndarray = ndimage.map_coordinates(distances, np.moveaxis(within, -1, 0), order=1) - beyond
    return sampled
