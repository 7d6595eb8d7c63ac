"""Which scans pre-training finds in a folder, and which label maps belong to them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.learning.pretraining.scans import ScanCache, find_scans
from Testing.support import scan

OAR = "oar.nii.gz"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """An image and its label map."""
    image, truth = scan()
    paths = tmp_path / "image.nii.gz", tmp_path / "labels.nii.gz"
    write_image(image, paths[0])
    write_image(image.with_array(truth.astype(np.uint8)), paths[1])
    return paths


def put(source: Path, *targets: Path) -> None:
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_subfolders_with_known_names(files: tuple[Path, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(files[0], data / "a" / "ct.nii.gz", data / "b" / "ct.nii.gz", data / "b" / "mr.nii.gz")
    put(files[1], data / "a" / OAR)
    assert find_scans(data, None, OAR) == [
        (data / "a" / "ct.nii.gz", data / "a" / OAR),
        (data / "b" / "ct.nii.gz", None),
    ]
    assert find_scans(data, "mr.nii.gz", OAR) == [(data / "b" / "mr.nii.gz", None)]
    with pytest.raises(InputError, match=r"no file named pet\.nii\.gz"):
        find_scans(data, "pet.nii.gz", OAR)


def test_links_to_folders_are_followed_once(files: tuple[Path, Path], tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    put(files[0], elsewhere / "a" / "ct.nii.gz")
    put(files[1], elsewhere / "a" / OAR)
    data.mkdir()
    (data / "linked").symlink_to(elsewhere / "a")
    (data / "twice").symlink_to(elsewhere / "a")
    (elsewhere / "a" / "back").symlink_to(data)
    assert find_scans(data, None, OAR) == [(data / "linked" / "ct.nii.gz", data / "linked" / OAR)]
    cache = tmp_path / "cache"
    ScanCache(find_scans(data, None, OAR), cache)[0]
    ScanCache(find_scans(elsewhere / "a", None, OAR), cache)[0]
    assert len(list(cache.iterdir())) == 1


def test_labels_of_any_size(files: tuple[Path, Path], tmp_path: Path) -> None:
    """Also where no voxel is background; 255 is unknown, and no structure."""
    image, truth = scan()
    labels = np.where(truth, 1034, 1)
    labels[0] = 255
    for expected, array in ((np.uint16, labels), (np.uint8, labels % 256)):
        write_image(image.with_array(array.astype(np.int16)), files[1])
        prepared = ScanCache([files], tmp_path / f"{expected}")[0]
        assert prepared.labels is not None and prepared.labels.dtype == expected
        assert np.array_equal(prepared.labels, array) and set(prepared.organs) == set(np.unique(array)) - {255}
    write_image(image.with_array(-truth.astype(np.int16)), files[1])
    with pytest.raises(InputError, match=r"labels.nii.gz holds the label -1: make it positive"):
        ScanCache([files], tmp_path / "negative")[0]


def test_any_files_with_labels_in_a_folder_of_their_own(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, labels = tmp_path / "data", tmp_path / "data" / "labels"
    images = [data / name for name in ("a.nrrd", "b_0000.nii.gz", "c.mha", "deep/d.nii", "deep/e/ct.nii")]
    put(files[0], *images, data / "notes.txt")
    maps = [labels / name for name in ("a.nii.gz", "b.nii.gz", "deep/d.nrrd", "deep/e/oar.nii.gz")]
    put(files[1], *maps, data / "deep" / OAR)
    assert find_scans(data, None, OAR, labels) == [
        (images[0], maps[0]),
        (images[1], maps[1]),
        (images[2], None),
        (images[3], maps[2]),
        (images[4], maps[3]),
    ]
    monkeypatch.chdir(tmp_path)
    assert [tmp_path / image for image, _ in find_scans(Path("data"), None, OAR, labels)] == images
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no label map below"):
        find_scans(data, None, OAR, tmp_path / "empty")
    with pytest.raises(InputError, match=r"labels folder .* does not exist"):
        find_scans(data, None, OAR, tmp_path / "missing")
    with pytest.raises(InputError, match="no image file and no folder of DICOM slices"):
        find_scans(tmp_path / "empty", None, OAR)


def test_folders_of_dicom_slices(tmp_path: Path) -> None:
    data, labels = tmp_path / "data", tmp_path / "labels"
    image, truth = scan(shape=(4, 32, 32))
    write_slices(data / "p1" / "series", image.array, "1.2.3.1")
    write_slices(data / "p2", image.array, "1.2.3.2")
    data.joinpath("DICOMDIR").write_bytes(bytes(128) + b"DICM and no image")
    labels.joinpath("p1").mkdir(parents=True)
    geometry = ScanCache([(data / "p2", None)], tmp_path / "cache")[0].geometry
    write_image(type(image)(truth.astype(np.uint8), geometry), labels / "p1" / "series.nii.gz")
    pairs = find_scans(data, None, OAR, labels)
    assert pairs == [(data / "p1" / "series", labels / "p1" / "series.nii.gz"), (data / "p2", None)]
    scans = ScanCache(pairs, tmp_path / "cache")
    assert scans[0].image.shape == (4, 32, 32) and set(scans[0].organs) == {1} and scans[1].labels is None
    write_slices(data / "p2", image.array, "1.2.3.4")
    with pytest.raises(InputError, match="p2 holds 2 DICOM series: give each a folder of its own"):
        ScanCache(find_scans(data, None, OAR), tmp_path / "new")[1]


def write_slices(folder: Path, values: np.ndarray, series: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, plane in enumerate(values):
        image = sitk.GetImageFromArray(plane[None].astype(np.int16))
        image.SetSpacing((2.0, 2.0, 3.0))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{number + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.3",
            "0020|000e": series,
            "0020|0032": f"0\\0\\{3 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}.{number}.dcm"))
        writer.Execute(image)
