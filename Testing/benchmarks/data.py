"""Scans for the benchmarks: real ones where PROMPTSEG_DATA names a folder with them, else generated ones."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import read_image, read_label_map
from PromptSegLib.imaging.phantom import LABELS, make_phantom
from PromptSegLib.imaging.volume import Volume

NEW_CLASSES = {"LeftParotid": 4, "Esophagus": 5, "Mandible": 7}
"""Organs of OpenKBP whose labels the shipped backbone has never seen."""

TRUNK_CLASSES = {"spleen": 1, "left kidney": 3, "gallbladder": 4, "stomach": 6, "pancreas": 7, "aorta": 52}
"""Organs of TotalSegmentator's example scan. Their outlines are a model's predictions, not drawn by hand."""

PHANTOM_CLASSES = {"left kidney": LABELS["left kidney"], "spleen": LABELS["spleen"]}


@dataclass(frozen=True)
class Case:
    """One structure in one scan. image: HU; truth: bool, same grid; source: name of the scan."""

    source: str
    organ: str
    image: Volume
    truth: np.ndarray


def data_folder() -> Path | None:
    named = os.environ.get("PROMPTSEG_DATA")
    return Path(named) if named else None


def classes() -> dict[str, int]:
    return NEW_CLASSES if data_folder() else PHANTOM_CLASSES


def scans(part: str, count: int, skip: int = 0) -> Iterator[tuple[str, Volume, Volume]]:
    """(name, image, label map) of ``count`` scans that hold all of `classes`, after ``skip`` others; part: of OpenKBP,
    train or validation."""
    folder = data_folder()
    if folder is None:
        for seed in range(skip, skip + count):
            phantom = make_phantom(
                seed + (100 if part == "train" else 0), shape=(40, 128, 128), spacing=(6.0, 2.8, 2.8)
            )
            yield f"phantom {seed}", phantom.image, phantom.labels
        return
    with (folder / "openkbp" / "index.csv").open() as file:
        complete = [
            row["pt"]
            for row in csv.DictReader(file)
            if row["split"] == part and all(float(row[organ]) > 0 for organ in NEW_CLASSES)
        ]
    for name in complete[skip : skip + count]:
        place = folder / "openkbp" / part / name
        yield name, read_image(place / "ct.nii.gz"), read_label_map(place / "oar.nii.gz")


def cases(patients: int, organs: Collection[str] = (), trunk: bool = False) -> Iterator[Case]:
    """The structures of ``patients`` validation scans; organs: only these; trunk: those of the trunk scan as well.

    Raises:
        InputError: if there is no trunk scan.
    """
    for name, image, label_map in scans("validation", patients):
        for organ, label in classes().items():
            if not organs or organ in organs:
                yield Case(name, organ, image, label_map.array == label)
    if trunk:
        folder = data_folder()
        if folder is None:
            raise InputError("the trunk scan lies in totalsegmentator/ of the folder that PROMPTSEG_DATA names: set it")
        image = read_image(folder / "totalsegmentator" / "example_ct.nii.gz")
        labels = read_label_map(folder / "totalsegmentator" / "example_ct_labels.nii.gz").array
        for organ, label in TRUNK_CLASSES.items():
            if not organs or organ in organs:
                yield Case("trunk", organ, image, labels == label)


def around(image: Volume, truth: np.ndarray, margin: int) -> tuple[Volume, np.ndarray]:
    """The slices of a structure and ``margin`` beyond either end, as a volume of their own."""
    extent = np.flatnonzero(truth.any(axis=(1, 2)))
    first, last = max(0, extent[0] - margin), min(len(truth), extent[-1] + margin + 1)
    geometry = image.geometry
    origin = geometry.affine @ [first, 0, 0, 1]
    part = replace(geometry, shape=(last - first, *geometry.shape[1:]), origin=tuple(origin[:3]))
    return Volume(image.array[first:last], part), truth[first:last]
