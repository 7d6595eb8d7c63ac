"""Across which axis a structure was drawn."""

from __future__ import annotations

import numpy as np

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.mrml.grids import Region


def drawn_axis(region: Region, geometry: Geometry) -> int:
    """The array axis that a structure was drawn across."""
    # How abruptly areas change does not depend on how wide the gaps are: one empty slice of each is enough.
    # Background around the structure makes the crop as good as the scan.
    kept = [_one_of_each_gap(region.occupied[axis]) for axis in range(3)]
    labels = np.pad(region.mask[np.ix_(*kept)], 1).view(np.uint8)
    slices, rows, columns = labels.shape
    crop = Geometry((slices, rows, columns), geometry.spacing, geometry.origin, geometry.direction)
    return Annotation.from_label_map(Volume(labels, crop), 1).axis


def _one_of_each_gap(occupied: np.ndarray) -> np.ndarray:
    before_gaps = occupied[:-1][np.diff(occupied) > 1]
    return np.sort(np.concatenate([occupied, before_gaps + 1]))
