"""Reading and writing images: NIfTI, NRRD, MetaImage, and folders of DICOM slices.

Files keep their data type. Spacing, origin and direction go between SimpleITK and `Geometry` unchanged to the last bit.
"""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import require_whole_numbers
from PromptSegLib.imaging.dicom import choose_series, read_series
from PromptSegLib.imaging.files import require_utf8, write_error
from PromptSegLib.imaging.quiet import quiet
from PromptSegLib.imaging.volume import Geometry, Volume

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")

_NIFTI_HEADER_SIZES = (348, 540)
_NIFTI_FLOATS = ("16", "64")
_CHUNK = 1 << 22
_LARGEST = float(np.finfo(np.float32).max)

_WIDEST_MM = 4000
"""Longer than any patient on a table: a scan of that size has its spacing in other units than mm."""


def read_image(path: str | Path, series: str | None = None) -> Volume:
    """Read an image in the data type of its file (of CT in DICOM: HU).

    Args:
        path: an image file, or a folder of DICOM slices. A 2-D image becomes one slice.
        series: which series of the folder: its id, its number, or how its id ends.

    Raises:
        InputError: if it is missing, incomplete or no image, or its name is not UTF-8; if it is not one
            three-dimensional scalar image; if a voxel is NaN, infinite or beyond single precision; if it is more
            than 4 m wide; if a folder holds several series and none is chosen.
    """
    path = Path(path)
    require_utf8(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: check its name")
    if path.is_dir():
        chosen = choose_series(path, series)
        image = _read_file(Path(chosen.files[0])) if len(chosen.files) == 1 else read_series(path, chosen)
    elif series is not None:
        raise InputError(f"{path} is a file, so no series can be chosen in it: give a folder of DICOM slices")
    else:
        image = _read_file(path)
    volume = _to_volume(image)
    widest = max(n * mm for n, mm in zip(volume.geometry.shape, volume.geometry.spacing, strict=True))
    if widest > _WIDEST_MM:
        raise InputError(f"{path} would be {widest / 1000:,.0f} m wide: check its spacing, which must be in mm")
    if volume.array.dtype.kind == "f" and not _is_finite(volume.array):
        raise _not_finite(path)
    return volume


def read_label_map(path: str | Path, series: str | None = None) -> Volume:
    """Read a label map. Whole numbers that were stored as floats become integers; other types stay as they are.

    Args:
        path: as for `read_image`.
        series: as for `read_image`.

    Raises:
        InputError: as `read_image` does, and if a voxel is not a whole number, or is stored as a float and does
            not fit 32 bits.
    """
    volume = read_image(path, series)
    require_whole_numbers(volume.array, str(path))
    if volume.array.dtype.kind == "f":
        largest = np.iinfo(np.int32).max
        if max(-volume.array.min(), volume.array.max()) > largest:
            raise InputError(f"{path} holds labels beyond {largest}: give its structures smaller numbers")
        return volume.with_array(volume.array.astype(np.int32))
    return volume


def write_image(volume: Volume, path: str | Path) -> None:
    """Write a volume, compressed, so that `path` holds either all of it or what it held before.

    A .mhd file consists of two files, which are replaced one after the other.

    Args:
        volume: what to write; bool is stored as uint8 and float16 as float32.
        path: a file with one of `SUFFIXES`, in small letters.

    Raises:
        InputError: if the format is unknown, the name is not UTF-8, or the file cannot be written.
    """
    path = Path(path)
    require_utf8(path)
    # In capitals, ITK writes hardly any of them, nor reads what it wrote.
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path} cannot be written: give it one of the endings {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written, since its folder does not exist: make {path.parent} first")
    if path.is_dir():
        raise InputError(f"{path} cannot be written, since it is a folder: choose another name")
    try:
        # A folder, not a file: both files of a .mhd need their final names, since one refers to the other.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".promptseg-") as temporary:
            _write_complete(volume, Path(temporary) / path.name, path)
            header_last = sorted(Path(temporary).iterdir(), key=lambda file: file.name == path.name)
            for file in header_last:
                os.replace(file, path.parent / file.name)
    except OSError as error:
        raise write_error(path, error) from error


def check_same_grid(image: Volume, labels: Volume, image_path: str | Path, labels_path: str | Path) -> None:
    """Check that a label map lies on the grid of its image.

    Args:
        image: the image.
        labels: the label map.
        image_path: where the image is from, for the error message.
        labels_path: where the label map is from, for the error message.

    Raises:
        InputError: if it does not; the message says what differs.
    """
    a, b = image.geometry, labels.geometry
    if a.same_grid(b):
        return
    if a.shape != b.shape:
        difference = f"its shape is {b.shape} instead of {a.shape}"
    elif not np.allclose(a.spacing, b.spacing, rtol=1e-3):
        difference = f"its spacing is {_numbers(b.spacing)} mm instead of {_numbers(a.spacing)} mm"
    elif not np.allclose(a.direction, b.direction, atol=1e-3):
        difference = f"its axes point along {_axes(b)} instead of {_axes(a)}"
    else:
        difference = f"its first voxel is at {_numbers(b.origin)} mm instead of {_numbers(a.origin)} mm"
    raise InputError(
        f"{labels_path} does not lie on the grid of {image_path}, since {difference}: resample it to the image"
    )


def _read_file(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet():
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise _unreadable(path, error) from error
        size = reader.GetSize()
        if any(n != 1 for n in size[3:]):
            raise InputError(f"{path} has {len(size)} dimensions of size {size}: give one three-dimensional image")
        if reader.GetNumberOfComponents() != 1 or "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
            raise InputError(f"{path} holds several numbers per voxel, such as colors: give an image in shades of gray")
        if len(size) > 3:
            reader.SetExtractSize([*size[:3], *(0 for _ in size[3:])])
        if path.name.lower().endswith((".nii", ".nii.gz")):
            _check_nifti(path, reader)
        try:
            image: sitk.Image = reader.Execute()
        except RuntimeError as error:
            raise _unreadable(path, error) from error
    direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)
    if not np.allclose(direction.T @ direction, np.eye(len(direction)), atol=1e-3):
        raise _not_orthogonal(path)
    return image


def _unreadable(path: Path, error: RuntimeError) -> InputError:
    if "orthonormal" in str(error):
        return _not_orthogonal(path)
    if not os.access(path, os.R_OK):
        return InputError(f"{path} cannot be read, since you may not: ask for the permission")
    return InputError(f"{path} cannot be read as an image: it is damaged, or not in a format that PromptSeg knows")


def _not_orthogonal(path: Path) -> InputError:
    return InputError(f"{path} cannot be read, since its axes are not at right angles: resample it first")


def _check_nifti(path: Path, header: sitk.ImageFileReader) -> None:
    """Check what SimpleITK passes over in silence: it reads missing voxels, NaN and infinity as zeros.

    Raises:
        InputError: if the file ends before its last voxel, or a voxel is not finite.
    """
    offset = int(float(header.GetMetaData("vox_offset")))
    bits = int(header.GetMetaData("bitpix"))
    size = int(np.prod(header.GetSize())) * bits // 8
    is_float = header.GetMetaData("datatype") in _NIFTI_FLOATS
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(-4, os.SEEK_END)
        unpacked_size = int.from_bytes(file.read(), "little")
    # A whole gzip file ends with its unpacked size, which saves unpacking it twice where only that is asked.
    end = offset + size
    whole = unpacked_size == end % 2**32 if compressed else path.stat().st_size >= end
    if whole and not is_float:
        return
    try:
        with gzip.open(path) if compressed else path.open("rb") as stream:
            little_endian = int.from_bytes(stream.read(4), "little") in _NIFTI_HEADER_SIZES
            dtype = np.dtype(f"{'<' if little_endian else '>'}f{bits // 8}") if is_float else np.dtype(np.uint8)
            stream.read(offset - 4)
            while size > 0:
                chunk = stream.read(min(_CHUNK, size))
                if len(chunk) < min(_CHUNK, size):
                    raise EOFError
                size -= len(chunk)
                if is_float and not _is_finite(np.frombuffer(chunk, dtype)):
                    raise _not_finite(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is incomplete, since it ends before its last voxel: copy it again") from error


def _is_finite(array: np.ndarray) -> bool:
    """Whether all voxels are numbers that single precision, in which one computes, can hold."""
    # NaN and infinity survive minimum and maximum, which need no mask of the array's size.
    return bool(array.min() >= -_LARGEST and array.max() <= _LARGEST)


def _not_finite(path: Path) -> InputError:
    return InputError(
        f"{path} holds voxels that are not finite numbers (NaN, infinite, or beyond 3.4e38): replace them first"
    )


def _to_volume(image: sitk.Image) -> Volume:
    array = sitk.GetArrayFromImage(image)
    if image.GetDimension() == 2:
        column, row = image.GetSpacing()
        x, y = image.GetOrigin()
        xx, xy, yx, yy = image.GetDirection()
        direction = ((0.0, xy, xx), (0.0, yy, yx), (1.0, 0.0, 0.0))
        return Volume(array[None], Geometry((1, *array.shape), (1.0, row, column), (x, y, 0.0), direction))
    column, row, between = image.GetSpacing()
    d = image.GetDirection()
    # SimpleITK orders axes (column, row, slice), so each row of its matrix is reversed.
    direction = ((d[2], d[1], d[0]), (d[5], d[4], d[3]), (d[8], d[7], d[6]))
    return Volume(array, Geometry(array.shape, (between, row, column), image.GetOrigin(), direction))


def _to_image(volume: Volume) -> sitk.Image:
    array = volume.array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(volume.geometry.spacing[::-1])
    image.SetOrigin(volume.geometry.origin)
    image.SetDirection([cosine for row in volume.geometry.direction for cosine in row[::-1]])
    return image


def _write_complete(volume: Volume, temporary: Path, path: Path) -> None:
    """Write to `temporary` and read it back, since SimpleITK does not always notice a full disk."""
    image = _to_image(volume)
    with quiet():
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            written = _read_file(temporary)
            complete = np.array_equal(sitk.GetArrayViewFromImage(written), sitk.GetArrayViewFromImage(image))
        except (RuntimeError, InputError):
            complete = False
    if complete:
        return
    if shutil.disk_usage(temporary.parent).free < volume.array.nbytes:
        raise write_error(path, OSError(errno.ENOSPC, "no space left"))
    raise InputError(f"{path} could not be written completely: check the disk, your quota and the data type")


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"


def _axes(geometry: Geometry) -> str:
    return " ".join(_numbers(axis) for axis in np.array(geometry.direction).T)
