import time

import numpy as np
import pytest
from scipy import ndimage

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.phantom import LABELS, Phantom, make_phantom

COARSE = {"shape": (32, 72, 72), "spacing": (8.0, 4.8, 4.8)}


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom()


def mask_of(phantom: Phantom, name: str) -> np.ndarray:
    return phantom.labels.array == LABELS[name]


def center_of(phantom: Phantom, name: str) -> np.ndarray:
    """LPS mm."""
    index = np.append(np.argwhere(mask_of(phantom, name)).mean(axis=0), 1.0)
    return (phantom.labels.geometry.affine @ index)[:3]


def test_types_and_grid(phantom: Phantom) -> None:
    assert phantom.image.array.dtype == np.int16
    assert phantom.labels.array.dtype == np.uint8
    assert phantom.image.geometry == phantom.labels.geometry
    assert phantom.image.geometry.shape == (64, 192, 192)
    assert phantom.image.geometry.spacing == (4.0, 1.8, 1.8)
    corners = np.array([(0, 0, 0, 1), (63, 191, 191, 1)]) @ phantom.image.geometry.affine.T
    np.testing.assert_allclose(corners[0, :3], -corners[1, :3])


def test_same_seed_same_voxels() -> None:
    first, second = make_phantom(7, **COARSE), make_phantom(7, **COARSE)
    np.testing.assert_array_equal(first.image.array, second.image.array)
    np.testing.assert_array_equal(first.labels.array, second.labels.array)


def test_seeds_differ_in_anatomy() -> None:
    livers = [make_phantom(seed, **COARSE).labels.array == LABELS["liver"] for seed in range(4)]
    for i, a in enumerate(livers):
        for b in livers[:i]:
            overlap = 2 * (a & b).sum() / (a.sum() + b.sum())
            assert 0.4 < overlap < 0.93
    kidneys = [center_of(make_phantom(seed, **COARSE), "left kidney") for seed in range(4)]
    assert np.ptp(kidneys, axis=0).max() > 5


@pytest.mark.parametrize("seed", range(5))
def test_every_structure_is_there(seed: int) -> None:
    phantom = make_phantom(seed, (43, 115, 115), (6.0, 3.0, 3.0))
    assert set(np.unique(phantom.labels.array)) == set(LABELS.values())


def test_sides_of_the_patient(phantom: Phantom) -> None:
    assert center_of(phantom, "liver")[0] < -20
    assert center_of(phantom, "spleen")[0] > 50
    assert center_of(phantom, "left kidney")[0] > 30
    assert center_of(phantom, "right kidney")[0] < -30
    assert center_of(phantom, "aorta")[0] > center_of(phantom, "vena cava")[0]
    assert center_of(phantom, "spine")[1] > center_of(phantom, "aorta")[1] > center_of(phantom, "stomach")[1]
    assert center_of(phantom, "lungs")[2] > center_of(phantom, "liver")[2] > center_of(phantom, "bowel")[2]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("background", -1024, -900),
        ("subcutaneous fat", -115, -75),
        ("visceral fat", -115, -75),
        ("muscle", 35, 65),
        ("lungs", -900, -700),
        ("liver", 80, 130),
        ("liver lesion", 35, 100),
        ("gallbladder", -5, 30),
        ("spleen", 100, 130),
        ("left kidney", 110, 180),
        ("aorta", 160, 220),
        ("spine", 150, 350),
        ("gas", -1024, -800),
    ],
)
def test_hounsfield_units(phantom: Phantom, name: str, low: float, high: float) -> None:
    assert low < np.median(phantom.image.array[mask_of(phantom, name)]) < high


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("liver", 800, 2400),
        ("spleen", 60, 400),
        ("left kidney", 70, 280),
        ("right kidney", 70, 280),
        ("aorta", 25, 120),
    ],
)
def test_volumes_in_ml(phantom: Phantom, name: str, low: float, high: float) -> None:
    assert low < mask_of(phantom, name).sum() * phantom.labels.geometry.voxel_volume_mm3 / 1000 < high


def test_lesion_lies_in_the_liver(phantom: Phantom) -> None:
    lesion = mask_of(phantom, "liver lesion")
    around = ndimage.binary_dilation(lesion, iterations=2) & ~lesion
    assert mask_of(phantom, "liver")[around].mean() > 0.8


def test_noise_is_correlated_in_the_plane(phantom: Phantom) -> None:
    inside = ndimage.binary_erosion(mask_of(phantom, "spleen"), iterations=3)
    image = phantom.image.array.astype(float)
    values = image - image[inside].mean()
    right = np.roll(values, -1, axis=2)
    assert 5 < values[inside].std() < 30
    assert 0.3 < np.corrcoef(values[inside], right[inside])[0, 1] < 0.95


def test_anatomy_does_not_depend_on_the_grid(phantom: Phantom) -> None:
    """Slices 1, 3, … 61 of the default grid lie 2 mm below those of 31 slices of 8 mm."""
    coarse = make_phantom(0, (31, 192, 192), (8.0, 1.8, 1.8))
    both = (phantom.labels.array[1:63:2] == LABELS["liver"], coarse.labels.array == LABELS["liver"])
    dice = 2 * (both[0] & both[1]).sum() / (both[0].sum() + both[1].sum())
    assert dice > 0.93


def test_small_field_of_view() -> None:
    phantom = make_phantom(2, (1, 5, 7), (5.0, 2.0, 2.0))
    assert phantom.image.array.shape == (1, 5, 7)


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"shape": (0, 8, 8)}, {"spacing": (1.0, 0.0, 1.0)}, {"spacing": (1.0, -1.0, 1.0)}]
)
def test_wrong_arguments(wrong: dict) -> None:
    with pytest.raises(InputError):
        make_phantom(**wrong)


def test_default_shape_is_quick() -> None:
    start = time.process_time()
    make_phantom(3)
    assert time.process_time() - start < 6
