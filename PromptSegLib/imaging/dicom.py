"""Folders of DICOM slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import require_utf8
from PromptSegLib.imaging.quiet import quiet

_SERIES_NUMBER = "0020|0011"
_SERIES_DESCRIPTION = "0008|103e"
_POSITION = "0020|0032"

# Gaps between slices may differ by this part of their mean: scanners round the coordinates that they write.
_GAP_TOLERANCE = 0.1


@dataclass(frozen=True)
class Series:
    """One DICOM series in a folder.

    Attributes:
        uid: its Series Instance UID.
        number: its Series Number, as shown by a PACS; empty if it has none.
        description: its Series Description; empty if it has none.
        files: its slices, in order of position.
    """

    uid: str
    number: str
    description: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        slices = f"{len(self.files)} slice{'s' if len(self.files) != 1 else ''}"
        return f"{self.number or '-'}: {slices}, {self.description or 'no description'}, id {self.uid or '-'}"


def list_series(folder: str | Path) -> list[Series]:
    """The DICOM series whose slices lie in a folder (not in folders inside it), by number.

    Raises:
        InputError: if there is no such folder, a name is not UTF-8, or none of its files is a DICOM image.
    """
    folder = Path(folder)
    require_utf8(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a folder of DICOM slices")
    found = []
    with quiet():
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
            for file in files:
                require_utf8(Path(file))
            header = sitk.ImageFileReader()
            header.SetFileName(files[0])
            try:
                header.ReadImageInformation()
            except RuntimeError:
                # GDCM also lists DICOM objects that hold no image, such as reports and radiotherapy plans.
                continue
            found.append(Series(uid, _tag(header, _SERIES_NUMBER), _tag(header, _SERIES_DESCRIPTION), tuple(files)))
    if not found:
        raise InputError(f"{folder} holds no DICOM image: give the folder that the slices themselves are in")
    return sorted(found, key=lambda item: (len(item.number), item.number, item.uid))


def read_series(folder: Path, series: Series) -> sitk.Image:
    """The image of a series of several slices.

    Raises:
        InputError: if its slices do not make one image in shades of gray.
    """
    name = f"{folder} (series {series.number or series.uid})"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(series.files)
    reader.MetaDataDictionaryArrayUpdateOn()
    with quiet():
        try:
            image: sitk.Image = reader.Execute()
        except RuntimeError as error:
            raise InputError(
                f"{name} cannot be read as one image: its slices are damaged, or differ in size"
            ) from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{name} holds several numbers per voxel, such as colors: give an image in shades of gray")
    if image.GetDimension() != 3:
        raise InputError(f"{name} has {image.GetDimension()} dimensions: give one three-dimensional image")
    positions = [
        reader.GetMetaData(index, _POSITION)
        for index in range(len(series.files))
        if reader.HasMetaDataKey(index, _POSITION)
    ]
    if len(positions) == len(series.files):
        _check_positions(np.array([[float(x) for x in text.split("\\")] for text in positions]), image, name)
    # GDCM gives float64 where the rescaling to real values has fractions, though the file holds 16 bits.
    if image.GetPixelID() == sitk.sitkFloat64:
        image = sitk.Cast(image, sitk.sitkFloat32)
    return image


def choose_series(folder: Path, wanted: str | None) -> Series:
    """The series of this number or id (its end is enough), or the only one of a folder.

    Raises:
        InputError: if there is none or more than one; the message lists them.
    """
    found = list_series(folder)
    if wanted is None:
        candidates = list(found)
    else:
        by_id = [item for item in found if item.uid == wanted]
        by_number = [item for item in found if item.number == wanted]
        candidates = by_id or by_number or [item for item in found if item.uid.endswith(wanted)]
    if len(candidates) == 1:
        return candidates[0]
    listing = "".join(f"\n  {item}" for item in candidates or found)
    if wanted is None:
        problem = f"{folder} holds {len(found)} DICOM series"
    elif candidates:
        problem = f"{folder} holds {len(candidates)} DICOM series called {wanted}"
    else:
        problem = f"{folder} holds no DICOM series called {wanted}"
    raise InputError(
        f"{problem}: for an image, choose one by its number or id with --series; for a label map, "
        f"give a folder with one series alone{listing}"
    )


def _check_positions(positions: np.ndarray, image: sitk.Image, name: str) -> None:
    """Check that slices lie on a grid, which SimpleITK takes for granted from the first and the last of them.

    Args:
        positions: (slices, 3), LPS mm of the first pixel of each slice.
        image: the image that was made of them.
        name: what to call it.

    Raises:
        InputError: if slices are missing, double, or shifted sideways by a tilted gantry.
    """
    normal = np.array(image.GetDirection()).reshape(3, 3)[:, 2]
    offsets = positions - positions[0]
    along = offsets @ normal
    gaps = np.abs(np.diff(along))
    if np.ptp(gaps) > _GAP_TOLERANCE * gaps.mean() or gaps.mean() == 0:
        raise InputError(
            f"{name} has slices {gaps.min():.2f} to {gaps.max():.2f} mm apart, so some are missing or double:"
            " export the series again, or resample it to even spacing"
        )
    sideways = np.linalg.norm(offsets - along[:, None] * normal, axis=1)
    if sideways.max() > min(image.GetSpacing()[:2]) / 2:
        raise InputError(f"{name} was taken with a tilted gantry, so its slices are shifted: resample it first")


def _tag(header: sitk.ImageFileReader, key: str) -> str:
    if not header.HasMetaDataKey(key):
        return ""
    # SimpleITK takes everything for UTF-8; DICOM's own default beyond ASCII is Latin-1.
    stored: bytes = header.GetMetaData(key).encode("utf-8", "surrogateescape")
    try:
        return stored.decode("utf-8").strip()
    except UnicodeDecodeError:
        return stored.decode("latin-1").strip()
