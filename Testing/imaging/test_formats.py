"""Files in, files out, and what is said about files that are no good."""

import errno
import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.errors import InputError
from PromptSegLib.imaging import formats
from PromptSegLib.imaging.dicom import list_series
from PromptSegLib.imaging.formats import check_same_grid, read_image, read_label_map, write_image
from PromptSegLib.imaging.volume import Geometry, Volume

SUFFIXES = formats.SUFFIXES
DTYPES = [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]

shapes = st.tuples(*[st.integers(1, 6)] * 3)
spacings = st.tuples(*[st.floats(0.1, 10)] * 3)
# Rounded, since text formats flush the subnormal numbers that hypothesis is fond of.
origins = st.tuples(*[st.floats(-1000, 1000).map(lambda value: round(value, 9))] * 3)


def random_volume(seed: int, shape: tuple[int, int, int] = (3, 4, 5), dtype: type = np.int16) -> Volume:
    array = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    return Volume(array, Geometry(shape, (3.0, 2.0, 1.0), (10.0, -20.0, 30.0)))


def flipped(seed: int) -> np.ndarray:
    """Axes in any order and direction, along the patient's own."""
    rng = np.random.default_rng(seed)
    return np.eye(3)[:, rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)


def oblique(seed: int) -> np.ndarray:
    rotated, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return rotated


def there_and_back(volume: Volume, suffix: str) -> Volume:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        write_image(volume, path)
        expected = {"image.mhd", "image.zraw"} if suffix == ".mhd" else {path.name}
        assert set(os.listdir(folder)) == expected
        return read_image(path)


def same_voxels(a: Volume, b: Volume) -> bool:
    return a.array.dtype == b.array.dtype and np.array_equal(a.array, b.array)


def failure(function, *arguments, **keywords) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as caught:
        function(*arguments, **keywords)
    return str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(seed=st.integers(0, 2**32 - 1), shape=shapes, spacing=spacings, origin=origins, dtype=st.sampled_from(DTYPES))
@settings(max_examples=25, deadline=None)
def test_axis_aligned_grids_return_exactly(
    suffix: str, seed: int, shape: tuple[int, int, int], spacing: tuple, origin: tuple, dtype: type
) -> None:
    if suffix.startswith(".nii"):
        # NIfTI keeps geometry in single precision, so only such numbers can return.
        spacing, origin = np.float32(spacing), np.float32(origin)  # type: ignore[assignment]
    array = random_volume(seed, shape, dtype).array
    volume = Volume(array, Geometry(shape, spacing, origin, flipped(seed)))  # type: ignore[arg-type]
    returned = there_and_back(volume, suffix)
    assert same_voxels(returned, volume)
    if suffix == ".nrrd":
        # NRRD stores spacing times direction, and ITK takes them apart again to the last digit but one.
        assert np.allclose(returned.geometry.affine, volume.geometry.affine, rtol=1e-14, atol=1e-14)
    else:
        assert returned.geometry == volume.geometry


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(seed=st.integers(0, 2**32 - 1), shape=shapes, spacing=spacings, origin=origins)
@settings(max_examples=25, deadline=None)
def test_oblique_grids_return(
    suffix: str, seed: int, shape: tuple[int, int, int], spacing: tuple, origin: tuple
) -> None:
    volume = Volume(random_volume(seed, shape).array, Geometry(shape, spacing, origin, oblique(seed)))  # type: ignore[arg-type]
    returned = there_and_back(volume, suffix)
    assert same_voxels(returned, volume)
    assert returned.geometry.shape == shape
    # MetaImage keeps all digits. NRRD stores spacing times direction, NIfTI single precision.
    if suffix in (".mha", ".mhd"):
        assert returned.geometry == volume.geometry
    tolerance = 1e-6 if suffix.startswith(".nii") else 1e-14
    assert np.allclose(returned.geometry.spacing, spacing, rtol=tolerance, atol=0)
    assert np.allclose(returned.geometry.origin, origin, rtol=tolerance, atol=tolerance)
    assert np.allclose(returned.geometry.direction, volume.geometry.direction, rtol=0, atol=tolerance)
    assert returned.geometry.same_grid(volume.geometry)


@given(seed=st.integers(0, 2**32 - 1), shape=shapes, spacing=spacings, origin=origins)
@settings(max_examples=25, deadline=None)
def test_geometry_is_that_of_simpleitk(seed: int, shape: tuple[int, int, int], spacing: tuple, origin: tuple) -> None:
    image = sitk.GetImageFromArray(np.zeros(shape, np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(oblique(seed).ravel().tolist())
    volume = formats._to_volume(image)
    index = [n - 1 for n in shape]
    assert np.allclose(volume.geometry.affine @ [*index, 1], [*image.TransformIndexToPhysicalPoint(index[::-1]), 1])
    returned = formats._to_image(volume)
    assert returned.GetSpacing() == image.GetSpacing()
    assert returned.GetOrigin() == image.GetOrigin()
    assert returned.GetDirection() == image.GetDirection()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_results_on_the_grid_of_a_file_lie_on_it_again(tmp_path: Path, suffix: str) -> None:
    """A label map that is written for an oblique image and read again has the geometry that the image was read with."""
    volume = Volume(random_volume(1).array, Geometry((3, 4, 5), (3.0, 0.7, 0.7), (1.1, 2.2, 3.3), oblique(7)))  # type: ignore[arg-type]
    write_image(volume, tmp_path / f"image{suffix}")
    image = read_image(tmp_path / f"image{suffix}")
    write_image(image.with_array(image.array > 100), tmp_path / f"labels{suffix}")
    labels = read_label_map(tmp_path / f"labels{suffix}")
    check_same_grid(image, labels, "image", "labels")
    assert np.allclose(labels.geometry.affine, image.geometry.affine, rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_dimensional_images_become_one_slice(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.int16).reshape(3, 4))
    image.SetSpacing((0.5, 2.0))
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(image, str(path))
    volume = read_image(path)
    assert volume.array.shape == (1, 3, 4)
    assert volume.geometry.spacing == (1, 2, 0.5)
    assert np.array_equal(volume.array[0], sitk.GetArrayFromImage(image))
    write_image(volume, path)
    assert read_image(path).geometry == volume.geometry


def test_masks_and_half_precision_are_stored(tmp_path: Path) -> None:
    volume = random_volume(0)
    write_image(volume.with_array(volume.array > 100), tmp_path / "mask.nii.gz")
    assert read_label_map(tmp_path / "mask.nii.gz").array.dtype == np.uint8
    write_image(volume.with_array(volume.array.astype(np.float16)), tmp_path / "half.nrrd")
    assert np.array_equal(read_image(tmp_path / "half.nrrd").array, volume.array)


def test_views_are_stored_as_they_look(tmp_path: Path) -> None:
    volume = random_volume(0)
    write_image(volume.with_array(volume.array[:, ::-1, ::-1]), tmp_path / "view.mha")
    assert np.array_equal(read_image(tmp_path / "view.mha").array, volume.array[:, ::-1, ::-1])


def test_single_time_point_is_an_image(tmp_path: Path) -> None:
    one = sitk.GetImageFromArray(np.ones((3, 4, 5), np.int16))
    sitk.WriteImage(sitk.JoinSeries([one]), str(tmp_path / "one.mha"))
    assert read_image(tmp_path / "one.mha").array.shape == (3, 4, 5)


def test_writing_replaces_and_compresses(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    path.write_bytes(b"what was there before")
    write_image(Volume(np.zeros((10, 64, 64), np.int16), Geometry((10, 64, 64), (1.0, 1.0, 1.0))), path)
    assert path.stat().st_size < 5000
    assert read_image(path).array.shape == (10, 64, 64)


# Label maps and grids


def test_label_maps_are_whole_numbers(tmp_path: Path) -> None:
    volume = random_volume(0, dtype=np.float32)
    path = tmp_path / "labels.nii.gz"
    write_image(volume, path)
    labels = read_label_map(path)
    assert labels.array.dtype.kind == "i"
    assert np.array_equal(labels.array, volume.array)
    write_image(random_volume(0, dtype=np.int16), path)
    assert read_label_map(path).array.dtype == np.int16

    write_image(volume.with_array(volume.array + np.float32(0.5)), path)
    message = failure(read_label_map, path)
    assert str(path) in message and "whole numbers" in message and "\n" not in message


@pytest.mark.parametrize(
    "geometry, says",
    [
        (Geometry((3, 4, 6), (3.0, 2.0, 1.0)), "its shape is (3, 4, 6) instead of (3, 4, 5)"),
        (Geometry((3, 4, 5), (2.5, 2.0, 1.0)), "its spacing is (2.5, 2, 1) mm instead of (3, 2, 1) mm"),
        (Geometry((3, 4, 5), (3.0, 2.0, 1.0), direction=((0, 0, -1), (0, -1, 0), (1, 0, 0))), "its axes point along"),
        (Geometry((3, 4, 5), (3.0, 2.0, 1.0), (5.0, 0.0, 0.0)), "its first voxel is at (5, 0, 0) mm"),
    ],
)
def test_grids_that_differ(geometry: Geometry, says: str) -> None:
    image = Volume(np.zeros((3, 4, 5)), Geometry((3, 4, 5), (3.0, 2.0, 1.0)))
    check_same_grid(image, image, "scan.nii", "labels.nii")
    message = failure(check_same_grid, image, Volume(np.zeros(geometry.shape), geometry), "scan.nii", "labels.nii")
    assert says in message and "scan.nii" in message and "labels.nii" in message and "\n" not in message


# Files that are no good


def _write(path: Path, array: np.ndarray, **keywords: bool) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array, **keywords), str(path))


def _not_finite(path: Path, value: float) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 2, 3] = value
    _write(path, array)


def _cut_off(path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 1000, (5, 20, 20)).astype(np.int16)
    _write(path, array)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _sheared(path: Path) -> None:
    _write(path, np.zeros((3, 4, 5), np.int16))
    text = path.read_bytes().replace(b"(1,0,0) (0,1,0) (0,0,1)", b"(1,0,0) (1,1,0) (0,0,1)")
    path.write_bytes(text)


MAKE_BAD = {
    "missing.nii.gz": (lambda path: None, "does not exist"),
    "text.nii.gz": (lambda path: path.write_text("hello"), "cannot be read as an image"),
    "notes.txt": (lambda path: path.write_text("hello"), "cannot be read as an image"),
    "empty.nii": (lambda path: path.write_bytes(b""), "cannot be read as an image"),
    "empty_folder": (lambda path: path.mkdir(), "holds no DICOM image"),
    "nan.nii.gz": (lambda path: _not_finite(path, np.nan), "not finite"),
    "nan.nii": (lambda path: _not_finite(path, np.nan), "not finite"),
    "infinite.nii": (lambda path: _not_finite(path, np.inf), "not finite"),
    "infinite.nrrd": (lambda path: _not_finite(path, np.inf), "not finite"),
    "minus_infinite.mha": (lambda path: _not_finite(path, -np.inf), "not finite"),
    "time.nii.gz": (lambda path: _write(path, np.zeros((2, 3, 4, 5), np.int16), isVector=False), "has 4 dimensions"),
    "color.png": (lambda path: _write(path, np.zeros((4, 5, 3), np.uint8), isVector=True), "several numbers per voxel"),
    "field.nii.gz": (
        lambda path: _write(path, np.zeros((3, 4, 5, 3), np.float32), isVector=True),
        "several numbers per voxel",
    ),
    "complex.mha": (lambda path: _write(path, np.zeros((3, 4, 5), np.complex64)), "several numbers per voxel"),
    "cut_off.nii": (_cut_off, "incomplete"),
    "cut_off.nii.gz": (_cut_off, "incomplete"),
    "cut_off.nrrd": (_cut_off, "cannot be read as an image"),
    "cut_off.mha": (_cut_off, "cannot be read as an image"),
    "sheared.nrrd": (_sheared, "right angles"),
}


@pytest.mark.parametrize("name", MAKE_BAD)
def test_bad_files_get_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    make, says = MAKE_BAD[name]
    make(path)
    message = failure(read_image, path)
    assert says in message
    assert str(path) in message
    assert "\n" not in message


def test_bytes_after_the_voxels_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    write_image(random_volume(0), path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"more"))
    assert same_voxels(read_image(path), random_volume(0))


def test_files_have_no_series(tmp_path: Path) -> None:
    path = tmp_path / "image.nrrd"
    write_image(random_volume(0), path)
    message = failure(read_image, path, series="1")
    assert str(path) in message and "\n" not in message


def test_warnings_stay_off_the_terminal_and_the_setting_stays(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    for name in ("text.nii.gz", "notes.txt", "empty_folder", "cut_off.nrrd"):
        MAKE_BAD[name][0](tmp_path / name)
        failure(read_image, tmp_path / name)
    assert sitk.ProcessObject.GetGlobalWarningDisplay() == shown
    assert capfd.readouterr().err == ""


# Places that cannot be written to


def test_unwritable_places(tmp_path: Path) -> None:
    volume = random_volume(0)
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "file").write_text("")
    for path, says in [
        (tmp_path / "image.jpg", ".nii.gz"),
        (tmp_path / "image", ".nii.gz"),
        (tmp_path / "missing" / "image.nii", "folder does not exist"),
        (tmp_path / "file" / "image.nii", "folder does not exist"),
        (tmp_path / "folder.nii", "is a folder"),
    ]:
        message = failure(write_image, volume, path)
        assert says in message and str(path) in message and "\n" not in message
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.nii"]


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Simulated, since the superuser, as whom containers run tests, may write everywhere.
    def refuse(*arguments: object, **keywords: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(formats.tempfile, "TemporaryDirectory", refuse)
    message = failure(write_image, random_volume(0), tmp_path / "image.nii")
    assert str(tmp_path / "image.nii") in message and "permission" in message and "\n" not in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes by POSIX means")
def test_write_that_is_cut_off_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    """A limit on file sizes cuts the write off as a full disk does."""
    path = tmp_path / f"image{suffix}"
    write_image(random_volume(0), path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    program = f"""
import resource, signal, sys
import numpy as np
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.imaging.volume import Geometry, Volume
array = np.random.default_rng(0).integers(-1000, 1000, (10, 100, 100)).astype(np.int16)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
try:
    write_image(Volume(array, Geometry(array.shape, (1.0, 1.0, 1.0))), {str(path)!r})
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert str(path) in done.stdout
    assert "could not be written completely" in done.stdout
    assert done.stdout.count("\n") == 1
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise RuntimeError("Exception thrown in SimpleITK WriteImage")

    monkeypatch.setattr(formats.sitk, "WriteImage", fail)
    monkeypatch.setattr(formats.shutil, "disk_usage", lambda path: formats.shutil._ntuple_diskusage(100, 100, 0))
    message = failure(write_image, random_volume(0), tmp_path / "image.nii.gz")
    assert "no space left" in message and str(tmp_path / "image.nii.gz") in message and "\n" not in message
    assert os.listdir(tmp_path) == []


# DICOM


def write_dicom(
    folder: Path,
    *,
    uid: str = "1.2.826.0.1.3680043.2.1125.1",
    number: str = "3",
    description: str = "Thorax",
    shape: tuple[int, int, int] = (4, 6, 8),
    positions: list[tuple[float, float, float]] | None = None,
) -> np.ndarray:
    """A synthetic CT series, its files named in no useful order. Returns its voxels in HU."""
    folder.mkdir(exist_ok=True)
    stored = np.random.default_rng(0).integers(0, 2000, shape).astype(np.int16)
    if positions is None:
        positions = [(-10.0, 20.0, 2.5 * index) for index in range(shape[0])]
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, position in enumerate(positions):
        image = sitk.GetImageFromArray(stored[index : index + 1])
        image.SetSpacing((0.5, 0.75, 2.5))
        tags = {
            "0008|0060": "CT",
            "0008|103e": description,
            "0020|000e": uid,
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0008|0018": f"{uid}.{index + 1}",
            "0020|0011": number,
            "0020|0013": str(index + 1),
            "0020|0032": "\\".join(str(x) for x in position),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{uid[-1]}{(index * 7) % 10}{index}.dcm"))
        # GDCM takes voxels in real units and stores them by the inverse of the rescaling.
        writer.Execute(image)
    return stored


def test_dicom_series_is_sorted_by_position_and_in_hu(tmp_path: Path) -> None:
    hu = write_dicom(tmp_path)
    volume = read_image(tmp_path)
    assert volume.array.dtype.kind == "i"
    assert np.array_equal(volume.array, hu)
    assert volume.geometry.spacing == (2.5, 0.75, 0.5)
    assert volume.geometry.origin == (-10, 20, 0)
    assert volume.geometry.direction == ((0, 0, 1), (0, 1, 0), (1, 0, 0))


def test_dicom_stored_values_are_rescaled(tmp_path: Path) -> None:
    write_dicom(tmp_path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(next(tmp_path.iterdir())))
    reader.ReadImageInformation()
    assert float(reader.GetMetaData("0028|1052")) == -1024


def test_dicom_fractions_are_single_precision(tmp_path: Path) -> None:
    stored = write_dicom(tmp_path) + 1024
    rescale_slope = b"\x28\x00\x53\x10\x02\x00\x00\x00"
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert rescale_slope + b"1 " in content
        path.write_bytes(content.replace(rescale_slope + b"1 ", rescale_slope + b".5"))
    volume = read_image(tmp_path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, stored / 2 - 1024)


def test_single_dicom_slice(tmp_path: Path) -> None:
    hu = write_dicom(tmp_path, shape=(1, 6, 8))
    assert np.array_equal(read_image(tmp_path).array, hu)
    assert np.array_equal(read_image(next(tmp_path.iterdir())).array, hu)


@pytest.mark.parametrize(("stored", "shown"), [(b"H\xfcften", "Hüften"), (b"H\xc3\xbcfte", "Hüfte")])
def test_dicom_descriptions_beyond_ascii(tmp_path: Path, stored: bytes, shown: str) -> None:
    write_dicom(tmp_path, description="Thorax", shape=(1, 6, 8))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes().replace(b"Thorax", stored))
    assert [series.description for series in list_series(tmp_path)] == [shown]


def test_a_series_is_chosen_by_id_number_or_ending(tmp_path: Path) -> None:
    write_dicom(tmp_path, uid="1.2.3.41", number="3", description="Thorax")
    write_dicom(tmp_path, uid="1.2.3.52", number="12", description="Abdomen", shape=(2, 6, 8))
    (tmp_path / "notes.txt").write_text("not a slice")
    found = list_series(tmp_path)
    assert [(item.number, item.description, len(item.files)) for item in found] == [
        ("3", "Thorax", 4),
        ("12", "Abdomen", 2),
    ]
    assert read_image(tmp_path, series="3").array.shape[0] == 4
    assert read_image(tmp_path, series="12").array.shape[0] == 2
    assert read_image(tmp_path, series=found[1].uid).array.shape[0] == 2
    assert read_image(tmp_path, series=found[0].uid[-2:]).array.shape[0] == 4

    for series, says in [(None, "holds 2 DICOM series:"), ("99", "holds no DICOM series called 99:")]:
        first, *listing = failure(read_image, tmp_path, series=series).splitlines()
        assert str(tmp_path) in first and says in first and "--series" in first and "for a label map" in first
        assert len(listing) == 2
        for line, item in zip(listing, found, strict=True):
            assert item.uid in line and item.description in line and f"{len(item.files)} slices" in line


@pytest.mark.parametrize(
    "positions, says",
    [
        ([(0.0, 0.0, z) for z in (0.0, 2.5, 7.5, 10.0)], "missing or double"),
        ([(0.0, 0.0, z) for z in (0.0, 0.0, 2.5, 2.5)], "missing or double"),
        ([(0.0, 0.5 * z, z) for z in (0.0, 2.5, 5.0, 7.5)], "tilted gantry"),
    ],
)
def test_dicom_slices_that_make_no_grid(tmp_path: Path, positions: list[tuple[float, float, float]], says: str) -> None:
    write_dicom(tmp_path, positions=positions)
    message = failure(read_image, tmp_path)
    assert says in message and str(tmp_path) in message and "\n" not in message


def test_dicom_slices_of_different_sizes(tmp_path: Path) -> None:
    write_dicom(tmp_path)
    write_dicom(tmp_path / "other", shape=(1, 5, 5), positions=[(-10.0, 20.0, 10.0)])
    os.replace(next((tmp_path / "other").iterdir()), tmp_path / "localizer.dcm")
    message = failure(read_image, tmp_path)
    assert "differ in size" in message and str(tmp_path) in message and "\n" not in message


def test_series_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in failure(list_series, tmp_path / "file")


def test_real_dicom_series() -> None:
    folder = Path(os.environ.get("PROMPTSEG_DATA", "")) / "totalsegmentator" / "dicom"
    if not folder.is_dir():
        pytest.skip("PROMPTSEG_DATA names no folder with totalsegmentator/dicom in it")
    volume = read_image(folder)
    assert volume.array.shape == (20, 512, 512)
    assert volume.array.dtype == np.int16
    assert volume.array.min() <= -1000
    assert volume.geometry.spacing[0] == pytest.approx(2)
