"""Scans for the benchmarks: real ones where PROMPTSEG_DATA names a folder with them, else generated ones."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import read_image, read_label_map
from PromptSegLib.imaging.phantom import LABELS, make_phantom
from PromptSegLib.imaging.volume import Volume

NEW_CLASSES = {"LeftParotid": 4, "Esophagus": 5, "Mandible": 7}
"""Organs of OpenKBP whose labels the shipped backbone has never seen."""

ORGANS = {
    "Brainstem": 1,
    "SpinalCord": 2,
    "RightParotid": 3,
    "LeftParotid": 4,
    "Esophagus": 5,
    "Larynx": 6,
    "Mandible": 7,
}
"""All organs of OpenKBP."""

TRUNK_SCANS = {
    "trunk": (
        "example_ct.nii.gz",
        "example_ct_labels.nii.gz",
        {"spleen": 1, "left kidney": 3, "gallbladder": 4, "stomach": 6, "pancreas": 7, "aorta": 52},
    ),
    "trunk MR": (
        "example_mr_sm.nii.gz",
        "example_seg_mr.nii.gz",
        {"spleen": 1, "left kidney": 3, "gallbladder": 4, "stomach": 6, "pancreas": 7, "aorta": 23},
    ),
}
"""TotalSegmentator's example scans, by name: image, label map and organs. Their outlines are a model's predictions, not
drawn by hand."""

PHANTOM_CLASSES = {"left kidney": LABELS["left kidney"], "spleen": LABELS["spleen"]}


@dataclass(frozen=True)
class Case:
    """One structure in one scan. image: HU; truth: bool, same grid; source: name of the scan."""

    source: str
    organ: str
    image: Volume
    truth: np.ndarray


def data_folder() -> Path | None:
    """The folder of real scans, None where none is named; InputError if there is no such folder."""
    named = os.environ.get("PROMPTSEG_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise InputError(f"there is no folder {named}, which PROMPTSEG_DATA names: correct or unset it")
    return Path(named)


def classes() -> dict[str, int]:
    return NEW_CLASSES if data_folder() else PHANTOM_CLASSES


def all_classes() -> dict[str, int]:
    """Those that a backbone may have seen as labels, too."""
    return ORGANS if data_folder() else PHANTOM_CLASSES


def scans(
    part: str, count: int, skip: int = 0, organs: Collection[str] = tuple(NEW_CLASSES)
) -> Iterator[tuple[str, Volume, Volume]]:
    """(name, image, label map) of ``count`` scans that hold all of these organs, after ``skip`` others; part: of
    OpenKBP, train or validation. Generated scans hold all of theirs."""
    folder = data_folder()
    if folder is None:
        for seed in range(skip, skip + count):
            phantom = make_phantom(
                seed + (100 if part == "train" else 0), shape=(40, 128, 128), spacing=(6.0, 2.8, 2.8)
            )
            yield f"phantom {seed}", phantom.image, phantom.labels
        return
    yield from _read(folder / "openkbp" / part, complete(folder, part, organs)[skip : skip + count])


def random_scans(part: str, count: int, seed: int, organs: Collection[str]) -> Iterator[tuple[str, Volume, Volume]]:
    """As `scans`, but drawn at random: a larger ``count`` holds those of a smaller one."""
    folder = data_folder()
    if folder is None:
        yield from scans(part, count, skip=1000 * seed)
        return
    names = np.random.default_rng(seed).permutation(complete(folder, part, organs))
    yield from _read(folder / "openkbp" / part, names[:count].tolist())


def _read(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, Volume, Volume]]:
    for name in names:
        yield name, read_image(folder / name / "ct.nii.gz"), read_label_map(folder / name / "oar.nii.gz")


def complete(folder: Path, part: str, organs: Collection[str]) -> list[str]:
    """Names of the scans in which all of these organs were drawn."""
    return [
        row["pt"]
        for row in openkbp_index(folder)
        if row["split"] == part and all(float(row[organ]) > 0 for organ in organs)
    ]


def openkbp_index(folder: Path) -> list[dict[str, str]]:
    """A row per patient of OpenKBP in the folder of real scans; InputError if there is no index."""
    path = folder / "openkbp" / "index.csv"
    if not path.is_file():
        raise InputError(f"there is no {path}: OpenKBP's scans must lie in the folder that PROMPTSEG_DATA names")
    with path.open() as file:
        return list(csv.DictReader(file))


def cases(patients: int, organs: Collection[str] = (), trunk: bool = False) -> Iterator[Case]:
    """The structures of ``patients`` validation scans; organs: only these; trunk: those of the trunk scans as well.

    Raises:
        InputError: if there are no trunk scans.
    """
    for name, image, label_map in scans("validation", patients):
        for organ, label in classes().items():
            if not organs or organ in organs:
                yield Case(name, organ, image, label_map.array == label)
    if trunk:
        folder = data_folder()
        if folder is None:
            raise InputError("the trunk scans lie in totalsegmentator/ of the folder that PROMPTSEG_DATA names: set it")
        for name, (image_name, labels_name, organs_of_trunk) in TRUNK_SCANS.items():
            image = read_image(folder / "totalsegmentator" / image_name)
            labels = read_label_map(folder / "totalsegmentator" / labels_name).array
            for organ, label in organs_of_trunk.items():
                if not organs or organ in organs:
                    yield Case(name, organ, image, labels == label)


def around(image: Volume, truth: np.ndarray, margin: int) -> tuple[Volume, np.ndarray]:
    """The slices of a structure and ``margin`` beyond either end, as a volume of their own."""
    extent = np.flatnonzero(truth.any(axis=(1, 2)))
    first, last = max(0, extent[0] - margin), min(len(truth), extent[-1] + margin + 1)
    geometry = image.geometry
    origin = geometry.affine @ [first, 0, 0, 1]
    part = replace(geometry, shape=(last - first, *geometry.shape[1:]), origin=tuple(origin[:3]))
    return Volume(image.array[first:last], part), truth[first:last]
