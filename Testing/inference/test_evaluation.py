import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice, get_mask_edges
from scipy import ndimage
from scipy.spatial.distance import cdist

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.inference.evaluation import evaluate

SPACING = (3.0, 1.0, 2.0)


def volume(array: np.ndarray, spacing: tuple[float, float, float] = SPACING) -> Volume:
    return Volume(array, Geometry(array.shape, spacing))


def cube(start: tuple[int, int, int], size: int = 10, label: int = 1) -> np.ndarray:
    array = np.zeros((20, 30, 30), np.uint8)
    array[tuple(slice(s, s + size) for s in start)] = label
    return array


def blob(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((12, 16, 14))
    return (ndimage.gaussian_filter(noise, 1.5) > 0.05).astype(np.uint8)


def test_perfect() -> None:
    (metrics,) = evaluate(volume(cube((5, 5, 5))), volume(cube((5, 5, 5))))
    assert (metrics.label, metrics.dsc, metrics.surface_dsc, metrics.hd95_mm) == (1, 1.0, 1.0, 0.0)
    assert metrics.prediction_ml == metrics.reference_ml == pytest.approx(6.0)  # 1000 voxels of 6 mm³
    assert metrics.volume_error_percent == 0


@pytest.mark.parametrize(("axis", "distance", "face"), [(0, 6.0, 200), (1, 2.0, 600), (2, 4.0, 300)])
def test_shifted_cube(axis: int, distance: float, face: float) -> None:
    """A cube of 30 x 10 x 20 mm, 2200 mm² in all, moved by two of its ten voxels across the faces of `face` mm².

    Just below the distance moved, 8/10 of the sides still count, and the leading faces do not.
    """
    start = [5, 5, 5]
    start[axis] += 2
    prediction, reference = volume(cube((start[0], start[1], start[2]))), volume(cube((5, 5, 5)))
    (metrics,) = evaluate(prediction, reference, tolerance_mm=distance)
    assert metrics.dsc == pytest.approx(0.8)
    assert metrics.hd95_mm == pytest.approx(distance)
    assert metrics.surface_dsc == 1.0
    assert metrics.volume_error_percent == 0
    (strict,) = evaluate(prediction, reference, tolerance_mm=distance - 0.01)
    # The elements on edges are beveled, which moves a little area between the faces.
    assert 0.8 * (2200 - 2 * face) / 2200 - 0.02 < strict.surface_dsc < 1 - 0.8 * face / 2200


def test_nested_cubes() -> None:
    """A cube of 4 in the middle of one of 10, 1 mm voxels: 3 mm apart at the faces, 3 * sqrt(3) at the corners."""
    prediction, reference = volume(cube((5, 5, 5)), (1, 1, 1)), volume(cube((8, 8, 8), 4), (1, 1, 1))
    (metrics,) = evaluate(prediction, reference)
    assert metrics.dsc == pytest.approx(2 * 64 / (1000 + 64))
    assert metrics.surface_dsc == 0
    assert 3 < metrics.hd95_mm < 3 * math.sqrt(3)
    assert metrics.volume_error_percent == pytest.approx(100 * (1000 - 64) / 64)
    assert evaluate(prediction, reference, tolerance_mm=2.99)[0].surface_dsc == 0
    assert 0 < evaluate(prediction, reference, tolerance_mm=3.0)[0].surface_dsc < 1
    assert evaluate(prediction, reference, tolerance_mm=5.2)[0].surface_dsc == 1


@pytest.mark.parametrize("seed", range(3))
def test_brute_force(seed: int) -> None:
    """Every pair of surface elements, with MONAI's own elements and areas."""
    a, b = blob(seed), blob(seed + 10)
    (metrics,) = evaluate(volume(a), volume(b), tolerance_mm=1.5)
    masks = [torch.from_numpy(m)[None, None] for m in (a, b)]
    with warnings.catch_warnings():
        # MONAI passes an argument of its own that it has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        surface_dsc = compute_surface_dice(*masks, [1.5], include_background=True, spacing=SPACING, use_subvoxels=True)
        edges_a, edges_b, areas_a, areas_b = get_mask_edges(*(m[0, 0].bool() for m in masks), spacing=SPACING)
    assert metrics.surface_dsc == pytest.approx(surface_dsc.item(), abs=1e-6)
    distances = cdist(np.argwhere(edges_a.numpy()) * SPACING, np.argwhere(edges_b.numpy()) * SPACING)
    for nearest, weights in ((distances.min(1), areas_a[edges_a]), (distances.min(0), areas_b[edges_b])):
        covered = weights.numpy()[nearest <= metrics.hd95_mm + 1e-9].sum() / weights.sum().item()
        assert covered >= 0.95 - 1e-6
    below = [
        weights.numpy()[nearest < metrics.hd95_mm - 1e-9].sum() / weights.sum().item()
        for nearest, weights in ((distances.min(1), areas_a[edges_a]), (distances.min(0), areas_b[edges_b]))
    ]
    assert min(below) < 0.95


def test_swapping_the_maps() -> None:
    (one,), (other,) = (evaluate(volume(p), volume(r)) for p, r in ((blob(1), blob(2)), (blob(2), blob(1))))
    assert (one.dsc, one.hd95_mm) == (other.dsc, other.hd95_mm)
    assert one.surface_dsc == pytest.approx(other.surface_dsc)
    assert (one.prediction_ml, one.reference_ml) == (other.reference_ml, other.prediction_ml)


def test_empty() -> None:
    empty, full = volume(np.zeros((20, 30, 30), np.uint8)), volume(cube((5, 5, 5)))
    assert evaluate(empty, empty) == []
    (both,) = evaluate(empty, empty, labels=[1])
    assert all(math.isnan(v) for v in (both.dsc, both.surface_dsc, both.hd95_mm, both.volume_error_percent))
    assert (both.prediction_ml, both.reference_ml) == (0, 0)
    (missed,) = evaluate(empty, full)
    assert (missed.dsc, missed.surface_dsc, missed.hd95_mm, missed.volume_error_percent) == (0, 0, math.inf, -100)
    (invented,) = evaluate(full, empty)
    assert (invented.dsc, invented.surface_dsc, invented.hd95_mm) == (0, 0, math.inf)
    assert invented.volume_error_percent == math.inf
    text = json.dumps([m.as_json() for m in (both, missed, invented)], allow_nan=False)
    assert json.loads(text)[0]["dsc"] is None
    assert json.loads(text)[1]["hd95_mm"] is None
    assert json.loads(text)[1]["dsc"] == 0


def test_labels_are_independent() -> None:
    prediction = np.maximum(cube((2, 2, 2), 5, label=7), cube((10, 15, 15), 6, label=3))
    reference = cube((2, 2, 2), 5, label=7)
    three, seven = evaluate(volume(prediction), volume(reference))
    assert (three.label, three.dsc, seven.label, seven.dsc) == (3, 0, 7, 1)
    assert [m.label for m in evaluate(volume(prediction), volume(reference), labels=[7, 300, 3])] == [7, 300, 3]


def test_at_the_border_of_the_scan() -> None:
    (metrics,) = evaluate(volume(np.ones((4, 5, 6), np.int32)), volume(np.ones((4, 5, 6), np.uint8)))
    assert (metrics.dsc, metrics.surface_dsc, metrics.hd95_mm) == (1, 1, 0)


def test_one_voxel_each() -> None:
    a, b = np.zeros((5, 9, 5), np.uint8), np.zeros((5, 9, 5), np.uint8)
    a[2, 2, 2] = b[2, 6, 2] = 1
    (metrics,) = evaluate(volume(a), volume(b))
    assert metrics.dsc == 0
    assert metrics.hd95_mm == pytest.approx(4.0)


def test_wrong_arguments() -> None:
    array = cube((5, 5, 5))
    good = volume(array)
    moved = Volume(array, Geometry(array.shape, SPACING, origin=(0, 0, 5)))
    for other in (volume(array, (3, 1, 2.5)), volume(array[:10]), moved):
        with pytest.raises(InputError, match="grid"):
            evaluate(other, good)
    with pytest.raises(InputError, match="integers"):
        evaluate(volume(array.astype(np.float32)), good)
    with pytest.raises(InputError, match="positive"):
        evaluate(good, good, labels=[0])
    for tolerance in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="tolerance"):
            evaluate(good, good, tolerance_mm=tolerance)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64])
def test_the_largest_labels_are_measured_like_others(dtype: type) -> None:
    """Without a place in memory for every number below them."""
    largest = int(np.iinfo(np.int32).max)
    small, large = (cube((2, 3, 4)).astype(dtype) * dtype(label) + cube((13, 3, 4), 4) for label in (7, largest))
    for array in (small, large):
        array[0, 0, 0] = 2
    found = [evaluate(volume(a), volume(np.roll(a, 1, axis=1))) for a in (small, large)]
    assert [row.label for row in found[1]] == [1, 2, largest]
    assert [replace(row, label=0) for row in found[1]] == [replace(row, label=0) for row in found[0]]
