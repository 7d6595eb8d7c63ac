"""A folder of scans, prepared once and kept memory-mapped."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.dicom import list_series
from PromptSegLib.imaging.formats import SUFFIXES, check_same_grid, read_image, read_label_map
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.imaging.window import window_for

IMAGE_NAME = "ct.nii.gz"
"""How the images are called in a folder whose subfolders hold a scan each."""

REGION_SIZES_MM = (22.0, 40.0)
"""Edge of the supervoxels that stand in for anatomy where nothing is labelled: about a gland, about an organ."""

_AIR = -0.75

_PREPARATION = 2
"""Of what is kept of a scan; another number when that changes, so that scans prepared before are prepared anew."""


@dataclass(frozen=True)
class Scan:
    """One prepared scan, all arrays (slices, rows, columns), memory-mapped.

    image: fp16 in [-1, 1]; labels: the narrowest unsigned integers that hold them, or None where the scan has none;
    regions: per size in REGION_SIZES_MM, uint16 supervoxels, 0 in air; organs: labels that occur, but for UNKNOWN, each
    with a sample of its voxels (V, 3).
    """

    name: str
    geometry: Geometry
    image: np.ndarray
    labels: np.ndarray | None
    regions: tuple[np.ndarray, ...]
    organs: dict[int, np.ndarray]
    body: np.ndarray


def find_scans(
    data: Path, image_name: str | None, labels_name: str, labels: Path | None = None
) -> list[tuple[Path, Path | None]]:
    """Image and label-map paths of every scan below ``data``; a scan without a label map still serves.

    image_name: of the images; None takes those of the name IMAGE_NAME, or if there are none, every image file and every
    folder of DICOM slices. labels_name: of the label maps. labels: where they are if not beside their images: below it,
    a label map has the path that its image has below ``data``, with any ending, or the image's folder and
    ``labels_name``.
    """
    for folder, option in ((data, "--data"), (labels, "--labels")):
        if folder is not None and not folder.is_dir():
            raise InputError(f"the {option.removeprefix('--')} folder {folder} does not exist: check {option}")
    images = sorted(path for path in _files(data) if path.match(image_name or IMAGE_NAME))
    if not images and image_name is None:
        images = _all_images(data, labels_name, labels)
    if not images:
        what = "image file and no folder of DICOM slices" if image_name is None else f"file named {image_name}"
        raise InputError(f"no {what} below {data}: name the scans' files with --image-name")
    if labels is None:
        beside = [image.parent / labels_name for image in images]
        return [(i, found if found.is_file() else None) for i, found in zip(images, beside, strict=True)]
    pairs = [(image, _label_map(image.relative_to(data), labels_name, labels)) for image in images]
    if not any(found for _, found in pairs):
        raise InputError(f"no label map below {labels} is called as an image below {data} is: check --labels")
    return pairs


def _all_images(data: Path, labels_name: str, labels: Path | None) -> list[Path]:
    images: list[Path] = []
    others: dict[Path, list[Path]] = {}
    for path in sorted(_files(data)):
        below_labels = labels is not None and path.parent.resolve().is_relative_to(labels.resolve())
        if path.name == labels_name or below_labels:
            continue
        if path.name.lower().endswith(SUFFIXES):
            images.append(path)
        else:
            others.setdefault(path.parent, []).append(path)
    dicom = (folder for folder, files in others.items() if any(map(_is_dicom, files)))
    return sorted(images + [folder for folder in dicom if _holds_series(folder)])


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, also below links to folders; each folder once, wherever links lead."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (path for name in names if (path := Path(parent, name)).is_file())


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _holds_series(folder: Path) -> bool:
    """Whether any of the DICOM files in a folder is an image, not a directory of a disk or a radiotherapy plan."""
    try:
        list_series(folder)
    except InputError:
        return False
    return True


def _label_map(image: Path, labels_name: str, labels: Path) -> Path | None:
    """Of an image, whose path is relative."""
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if image.name.lower().endswith(s)), "")
    stem = image.name[: len(image.name) - len(suffix)]
    # nnU-Net numbers the channels of an image in its name.
    names = [stem + ending for stem in (stem, stem.removesuffix("_0000")) for ending in SUFFIXES]
    if image.parent.name:
        names.append(labels_name)
    return next((path for name in names if (path := labels / image.parent / name).is_file()), None)


class ScanCache:
    """Prepares scans on first use and opens them memory-mapped afterwards."""

    def __init__(self, pairs: Sequence[tuple[Path, Path | None]], folder: Path):
        self.pairs, self.folder = list(pairs), folder
        folder.mkdir(parents=True, exist_ok=True)
        self._open: dict[int, Scan] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> Scan:
        if number not in self._open:
            self._open[number] = self._load(*self.pairs[number])
        return self._open[number]

    def _load(self, image_path: Path, labels_path: Path | None) -> Scan:
        stamps = [f"{p.resolve()}:{p.stat().st_mtime_ns}" for p in (image_path, labels_path) if p is not None]
        key = hashlib.sha256(f"{stamps}{REGION_SIZES_MM}{_PREPARATION}".encode()).hexdigest()[:20]
        target = self.folder / key
        if not target.is_dir():
            self._prepare(_read(image_path), image_path, labels_path, target)
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in target.glob("*.npy")}
        organs = {int(n.removeprefix("organ")): np.asarray(a) for n, a in arrays.items() if n.startswith("organ")}
        regions = tuple(arrays[f"regions{i}"] for i in range(len(REGION_SIZES_MM)))
        grid = arrays["geometry"].astype(float).tolist()
        geometry = Geometry(arrays["image"].shape, spacing=grid[0], direction=grid[1:])
        return Scan(
            f"{image_path.parent.name}",
            geometry,
            arrays["image"],
            arrays.get("labels"),
            regions,
            organs,
            arrays["body"],
        )

    def _prepare(self, image: Volume, image_path: Path, labels_path: Path | None, target: Path) -> None:
        values = window_for(image.array).apply(image.array)
        arrays: dict[str, np.ndarray] = {"image": values.astype(np.float16)}
        arrays["geometry"] = np.array([image.geometry.spacing, *image.geometry.direction])
        rng = np.random.default_rng(0)
        for number, size in enumerate(REGION_SIZES_MM):
            arrays[f"regions{number}"] = supervoxels(values, image.geometry.spacing, size)
        arrays["body"] = _some_voxels(arrays["regions0"] > 0, rng)
        if labels_path is not None:
            label_map = read_label_map(labels_path)
            check_same_grid(image, label_map, image_path, labels_path)
            labels = np.unique(label_map.array).tolist()
            if labels[0] < 0:
                raise InputError(f"{labels_path} holds the label {labels[0]}: make it positive, or 0 for background")
            arrays["labels"] = label_map.array.astype(np.min_scalar_type(labels[-1]))
            for label in labels:
                if label not in (0, UNKNOWN):
                    arrays[f"organ{label}"] = _some_voxels(arrays["labels"] == label, rng)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as folder:
            temporary = Path(folder) / target.name
            temporary.mkdir()
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            try:
                os.replace(temporary, target)
            except OSError:
                # Another process was faster, with the same arrays.
                if not target.is_dir():
                    raise


def _read(path: Path) -> Volume:
    if path.is_dir() and len(series := list_series(path)) > 1:
        raise InputError(f"{path} holds {len(series)} DICOM series: give each a folder of its own")
    return read_image(path)


def _some_voxels(mask: np.ndarray, rng: np.random.Generator, count: int = 4000) -> np.ndarray:
    voxels = np.argwhere(mask).astype(np.int16)
    return voxels if len(voxels) <= count else voxels[rng.choice(len(voxels), count, replace=False)]


def supervoxels(values: np.ndarray, spacing: Sequence[float], size_mm: float) -> np.ndarray:
    """SLIC supervoxels of about ``size_mm`` inside the body: uint16 (slices, rows, columns), 0 in air."""
    body = values > _AIR
    result = np.zeros(values.shape, dtype=np.uint16)
    if not body.any():
        return result
    box = tuple(
        slice(int(np.flatnonzero(line)[0]), int(np.flatnonzero(line)[-1]) + 1)
        for line in (body.any(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3))
    )
    slic = sitk.SLICImageFilter()
    shape = body[box].shape
    grid = [int(np.clip(round(size_mm / s), 2, max(2, n // 2))) for s, n in zip(spacing, shape, strict=True)]
    slic.SetSuperGridSize(grid[::-1])
    slic.SetSpatialProximityWeight(1.0)
    slic.SetMaximumNumberOfIterations(3)
    slic.SetEnforceConnectivity(False)
    slic.SetInitializationPerturbation(False)
    found = sitk.GetArrayFromImage(slic.Execute(sitk.GetImageFromArray(np.ascontiguousarray(values[box]) * 10)))
    # More supervoxels than uint16 holds would only be told apart modulo 65535, never confused with air.
    result[box] = np.where(body[box], found % 65535 + 1, 0)
    return result
