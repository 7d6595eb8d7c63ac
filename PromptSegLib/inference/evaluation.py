"""How well a segmentation agrees with a reference: overlap, surface distance and volume, per label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from monai.metrics.utils import get_code_to_measure_table
from scipy import ndimage
from scipy.spatial import KDTree

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.volume import Volume

_Box = tuple[slice, slice, slice]

_FEW_LABELS = np.iinfo(np.uint16).max
"""Up to this largest label, looking through all numbers below it takes no time to speak of."""


@dataclass(frozen=True)
class LabelMetrics:
    """Agreement for one label.

    Where a number has no meaning it is nan, where it is unbounded it is infinite:

    ====================  ===  ============  ====  ================
    empty                 DSC  surface DSC   HD95  volume error
    ====================  ===  ============  ====  ================
    both                  nan  nan           nan   nan
    the prediction        0    0             inf   -100
    the reference         0    0             inf   inf
    ====================  ===  ============  ====  ================

    A structure that is rightly absent is thus left out of a mean instead of counting as a perfect result.

    Attributes:
        label: its number in both maps.
        dsc: Dice similarity coefficient, 2 |P and R| / (|P| + |R|), of voxels.
        surface_dsc: part of both surfaces, by area, that is no farther than the tolerance from the other one.
        hd95_mm: the larger of the two directed distances in mm that 95 % of a surface, by area, do not exceed.
        prediction_ml: volume in ml.
        reference_ml: volume in ml.
        volume_error_percent: 100 (P - R) / R; negative where too little is segmented.
    """

    label: int
    dsc: float
    surface_dsc: float
    hd95_mm: float
    prediction_ml: float
    reference_ml: float
    volume_error_percent: float

    def as_json(self) -> dict[str, int | float | None]:
        """The attributes by name, with None (JSON's null) for nan and for infinite numbers."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def evaluate(
    prediction: Volume, reference: Volume, labels: Sequence[int] | None = None, tolerance_mm: float = 2.0
) -> list[LabelMetrics]:
    """Compare two label maps.

    Surfaces and distances are those of S. Nikolov et al., "Clinically applicable segmentation of head and neck anatomy
    for radiotherapy", J. Med. Internet Res. 2021: surface elements lie between voxels and count by their area in mm²,
    so that a fine spacing along one axis gives no surface more weight. A structure that is cut off by the end of the
    scan has a surface there. The surface DSC is MONAI's `compute_surface_dice(..., use_subvoxels=True)`, without the
    8 GB that it takes for a body of 512 x 512 x 300 voxels; MONAI's HD95 counts boundary voxels instead of area.

    Args:
        prediction: (slices, rows, columns), integers.
        reference: the same grid.
        labels: which labels, in the order of the result; by default all but 0 that either map holds, in rising order.
        tolerance_mm: distance that the surface DSC forgives.

    Raises:
        InputError: if the grids differ, a map does not hold integers, a label is not positive or the tolerance is
            negative or not finite.
    """
    if not prediction.geometry.same_grid(reference.geometry):
        raise InputError(
            f"The prediction's grid {prediction.geometry.shape} is not the reference's {reference.geometry.shape} "
            "(shape, spacing, origin or direction): resample one of them to the other."
        )
    for volume, name in ((prediction, "prediction"), (reference, "reference")):
        if not np.issubdtype(volume.array.dtype, np.integer):
            raise InputError(f"The {name} must be a label map of integers, but it holds {volume.array.dtype}.")
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise InputError(f"The tolerance must be a distance in mm that is not negative, but it is {tolerance_mm}.")
    if labels is not None and any(label < 1 for label in labels):
        raise InputError(f"Labels to evaluate must be positive, but they are {list(labels)}.")

    boxes = (_boxes(prediction.array), _boxes(reference.array))
    if labels is None:
        labels = sorted({*boxes[0], *boxes[1]})
    return [_compare(prediction, reference, int(label), boxes, tolerance_mm) for label in labels]


def _boxes(array: np.ndarray) -> dict[int, _Box]:
    """Bounding box of every positive label in an array (slices, rows, columns)."""
    if array.max() <= _FEW_LABELS:
        found = ndimage.find_objects(array)
        return {label: box for label, box in enumerate(found, start=1) if box is not None}
    labels = np.unique(np.concatenate([np.unique(plane) for plane in array]))
    numbered = np.stack([np.searchsorted(labels, plane).astype(np.int32) + 1 for plane in array])
    boxes = zip(labels.tolist(), ndimage.find_objects(numbered), strict=True)
    return {label: box for label, box in boxes if label > 0}


def _compare(
    prediction: Volume,
    reference: Volume,
    label: int,
    boxes: tuple[dict[int, _Box], dict[int, _Box]],
    tolerance_mm: float,
) -> LabelMetrics:
    present = [found[label] for found in boxes if label in found]
    if not present:
        return LabelMetrics(label, math.nan, math.nan, math.nan, 0.0, 0.0, math.nan)
    box = tuple(slice(min(b[k].start for b in present), max(b[k].stop for b in present)) for k in range(3))
    predicted, actual = prediction.array[box] == label, reference.array[box] == label
    in_prediction, in_reference = int(predicted.sum()), int(actual.sum())
    ml = prediction.geometry.voxel_volume_mm3 / 1000
    volumes = (in_prediction * ml, in_reference * ml)
    if in_prediction == 0 or in_reference == 0:
        error = math.inf if in_reference == 0 else -100.0
        return LabelMetrics(label, 0.0, 0.0, math.inf, *volumes, error)

    dsc = 2 * int((predicted & actual).sum()) / (in_prediction + in_reference)
    spacing = prediction.geometry.spacing
    (points_p, areas_p), (points_r, areas_r) = _surface(predicted, spacing), _surface(actual, spacing)
    to_reference, to_prediction = KDTree(points_r).query(points_p)[0], KDTree(points_p).query(points_r)[0]
    near = areas_p[to_reference <= tolerance_mm].sum() + areas_r[to_prediction <= tolerance_mm].sum()
    surface_dsc = float(near / (areas_p.sum() + areas_r.sum()))
    hd95 = max(_percentile(to_reference, areas_p, 0.95), _percentile(to_prediction, areas_r, 0.95))
    error = 100 * (in_prediction - in_reference) / in_reference
    return LabelMetrics(label, dsc, surface_dsc, hd95, *volumes, error)


def _surface(mask: np.ndarray, spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Where a mask's surface is: one element wherever eight neighboring voxels are not all alike.

    Args:
        mask: (slices, rows, columns) bool.
        spacing: mm in the same order.

    Returns:
        Positions (n, 3) in mm, and areas (n,) in mm², both float64.
    """
    area_table, kernel = get_code_to_measure_table(spacing)
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([n + 1 for n in mask.shape], np.uint8)
    # The kernel's weights are the powers of two: a code says which of the eight voxels are inside.
    for (i, j, k), weight in np.ndenumerate(kernel.numpy().reshape(2, 2, 2)):
        codes |= padded[i : i + codes.shape[0], j : j + codes.shape[1], k : k + codes.shape[2]] * np.uint8(weight)
    where = np.nonzero((codes != 0) & (codes != 255))
    return np.stack(where, axis=1) * np.asarray(spacing), area_table.numpy()[codes[where]].astype(np.float64)


def _percentile(distances: np.ndarray, areas: np.ndarray, part: float) -> float:
    """The smallest of the distances (n,) within which at least `part` of the total of the areas (n,) lies."""
    order = np.argsort(distances)
    cumulative = np.cumsum(areas[order])
    index = np.searchsorted(cumulative, part * cumulative[-1])
    return float(distances[order][min(index, len(order) - 1)])
