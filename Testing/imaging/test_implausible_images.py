"""Images that are well formed, and that nothing can be done with."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import read_image, read_label_map, write_image
from PromptSegLib.imaging.volume import Geometry, Volume


def written(path: Path, spacing: tuple[float, float, float], array: np.ndarray | None = None) -> Path:
    array = np.zeros((24, 64, 64), np.int16) if array is None else array
    write_image(Volume(array, Geometry(array.shape, spacing)), path)
    return path


@pytest.mark.parametrize(
    ("spacing", "width"), [((200, 200, 200), "13"), ((500, 4, 4), "12"), ((1e6, 1e6, 1e6), "64,000")]
)
def test_a_scan_larger_than_any_patient_is_refused(
    tmp_path: Path, spacing: tuple[float, float, float], width: str
) -> None:
    """It would be brought to millimeters, which takes forever or all memory."""
    path = written(tmp_path / "scan.nii.gz", spacing)
    with pytest.raises(InputError, match=f"scan.nii.gz would be {width} m wide: check its spacing"):
        read_image(path)


def test_a_scan_of_the_whole_body_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "scan.nii.gz", (2500 / 24, 10, 10))
    assert read_image(path).array.shape == (24, 64, 64)


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii", "scan.nrrd"])
def test_numbers_beyond_single_precision_are_refused(tmp_path: Path, name: str) -> None:
    """They would be infinite as soon as one computes."""
    array = np.zeros((4, 8, 8))
    array[2, 3, 4] = np.finfo(np.float32).max
    path = written(tmp_path / name, (3, 1, 1), array)
    assert read_image(path).array.max() == array.max()
    for value in (1e39, -1e39):
        array[2, 3, 4] = value
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
        with pytest.raises(InputError, match=r"not finite numbers .* replace them first"):
            read_image(path)


def test_a_label_that_fits_no_integer_is_refused(tmp_path: Path) -> None:
    """It was taken for another one, or for none."""
    array = np.zeros((4, 8, 8))
    array[2, 3, 4] = 2**31 - 1
    assert read_label_map(written(tmp_path / "labels.nrrd", (3, 1, 1), array)).array.max() == 2**31 - 1
    for value in (3e9, -3e9):
        array[2, 3, 4] = value
        with pytest.raises(InputError, match="holds labels beyond 2147483647: give its structures smaller numbers"):
            read_label_map(written(tmp_path / "labels.nrrd", (3, 1, 1), array))


@pytest.mark.parametrize("ending", [".NII.GZ", ".Nii", ".MHA", ".Nrrd"])
def test_endings_in_capitals_are_refused_before_anything_is_written(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InputError, match=f"scan{ending} cannot be written: give it one of the endings .nii, "):
        written(tmp_path / f"scan{ending}", (3, 1, 1))
    assert list(tmp_path.iterdir()) == []
