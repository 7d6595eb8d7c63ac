"""A folder of scans, prepared once and kept memory-mapped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import check_same_grid, read_image, read_label_map
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.imaging.window import window_for

REGION_SIZES_MM = (22.0, 40.0)
"""Edge of the supervoxels that stand in for anatomy where nothing is labelled: about a gland, about an organ."""

_AIR = -0.75


@dataclass(frozen=True)
class Scan:
    """One prepared scan, all arrays (slices, rows, columns), memory-mapped.

    image: fp16 in [-1, 1]; labels: uint8, or None where the scan has none; regions: per size in REGION_SIZES_MM, uint16
    supervoxels, 0 in air; organs: labels that occur, each with a sample of its voxels (V, 3).
    """

    name: str
    geometry: Geometry
    image: np.ndarray
    labels: np.ndarray | None
    regions: tuple[np.ndarray, ...]
    organs: dict[int, np.ndarray]
    body: np.ndarray


def find_scans(data: Path, image_name: str, labels_name: str | None) -> list[tuple[Path, Path | None]]:
    """Image and label-map paths of every scan below ``data``; a scan without a label map still serves."""
    if not data.is_dir():
        raise InputError(f"the data folder {data} does not exist: check --data")
    images = sorted(data.rglob(image_name))
    if not images:
        raise InputError(f"no file named {image_name} below {data}: name the scans' files with --image-name")
    pairs = []
    for image in images:
        labels = image.parent / labels_name if labels_name else None
        pairs.append((image, labels if labels is not None and labels.is_file() else None))
    return pairs


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
        stamps = [f"{p}:{p.stat().st_mtime_ns}" for p in (image_path, labels_path) if p is not None]
        key = hashlib.sha256(f"{stamps}{REGION_SIZES_MM}".encode()).hexdigest()[:20]
        target = self.folder / key
        image = read_image(image_path) if not target.is_dir() else None
        if image is not None:
            self._prepare(image, image_path, labels_path, target)
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
            arrays["labels"] = label_map.array.astype(np.uint8)
            for label in np.unique(arrays["labels"])[1:]:
                arrays[f"organ{label}"] = _some_voxels(arrays["labels"] == label, rng)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.mkdir(exist_ok=True)
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        os.replace(temporary, target)


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
