"""The centers of the study: groups of real scans by scanner geometry and reconstruction, and simulated ones.

Real scans are grouped by voxel spacing; a group whose texture falls into two, as a softer and a sharper kernel make it,
is divided. Whether groups really differ is told by statistics that did not make them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.cluster.vq import kmeans2
from scipy.stats import mannwhitneyu

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import read_image, read_label_map
from PromptSegLib.imaging.phantom import make_phantom
from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.imaging.volume import Volume
from Testing.benchmarks.data import ORGANS, PHANTOM_CLASSES, data_folder, openkbp_index
from Testing.benchmarks.simulated_centers import CHANGES, UNCHANGED, changed

GEOMETRY = ("row_spacing", "slice_spacing", "matrix")
TEXTURE = ("noise", "roughness", "halo", "grain", "slice_grain", "edge")
_SPACING_WIDTH = 0.04
"""By which logarithms of spacings within a group differ at the most."""

_FEWEST = {"train": 10, "validation": 2}
"""Patients without which a group is no center."""

_COMPARED = 20
"""Scans of a center, and of what it is compared with, that tell whether it differs."""

_LEVEL = 0.01


@dataclass(frozen=True)
class Patient:
    """read: the scan and its label map; organs: that are drawn; part: train or validation."""

    name: str
    part: str
    organs: frozenset[str]
    read: Callable[[], tuple[Volume, Volume]]


@dataclass(frozen=True)
class Center:
    """learning and testing: different patients; change: what simulates the center, by its name in `CHANGES`."""

    name: str
    learning: tuple[Patient, ...]
    testing: tuple[Patient, ...]
    change: str = UNCHANGED

    @property
    def is_simulated(self) -> bool:
        return self.change != UNCHANGED

    def scan(self, patient: Patient) -> tuple[Volume, Volume]:
        """What this center's scanner makes of a patient, and the label map; always the same."""
        image, labels = patient.read()
        if self.is_simulated:
            image = changed(image, CHANGES[self.change], zlib.crc32(patient.name.encode()))
        return image, labels


def all_centers() -> list[Center]:
    """Groups of OpenKBP, one of generated scans without a data folder; then simulated centers of all the patients."""
    folder = data_folder()
    if folder is None:
        patients = _generated()
        real = [_center("generated", patients)]
    else:
        patients, spacings = _listed(folder)
        real = _groups(patients, spacings)
    return [*real, *(_center(name, patients, name) for name in CHANGES if name != UNCHANGED)]


def differences(centers: Sequence[Center]) -> Table:
    """Which statistic tells each center best from all other real scans, and how surely (Mann-Whitney, Bonferroni)."""
    table = Table(
        "center", "to learn", "to test", "differs most in", "here", "elsewhere", "pooled SD", "p", title="Centers"
    )
    everyone = {p.name: p for center in centers if not center.is_simulated for p in center.learning}
    for center in centers:
        # Of a simulated center, half of the patients at most: the others, as they are, are what it is compared with.
        own = center.learning[: len(center.learning) // 2 if center.is_simulated else None][:_COMPARED]
        inside = {p.name for p in (own if center.is_simulated else center.learning)}
        others = [p for p in everyone.values() if p.name not in inside]
        step = max(1, len(others) // _COMPARED)
        here = [scan_statistics(center.scan(p)[0]) for p in own]
        elsewhere = [scan_statistics(p.read()[0]) for p in others[::step][:_COMPARED]]
        row = (center.name, str(len(center.learning)), str(len(center.testing)))
        if not elsewhere:
            table.add_row(*row, "nothing to compare with")
            continue
        names = [n for n in here[0] if center.is_simulated or n not in (*GEOMETRY, *TEXTURE)]
        name, p = _strongest(here, elsewhere, names)
        values, others_values = ([s[name] for s in group] for group in (here, elsewhere))
        table.add_row(
            *row,
            name if p < _LEVEL else f"nothing (at most {name})",
            f"{np.mean(values):.2f}",
            f"{np.mean(others_values):.2f}",
            f"{np.sqrt((np.var(values) + np.var(others_values)) / 2):.2f}",
            f"{p:.1g}",
        )
    return table


def link_pretraining_scans(centers: Sequence[Center], folder: Path) -> list[Path]:
    """For each real center a folder of links to the learning patients' folders of all others.

    Raises:
        InputError: if there is no data folder.
    """
    data = data_folder()
    if data is None:
        raise InputError("generated scans lie in no folder: set PROMPTSEG_DATA to pre-train on real ones")
    everyone = {p.name for center in centers for p in center.learning}
    made = []
    for center in centers:
        if center.is_simulated:
            continue
        made.append(folder / center.name)
        made[-1].mkdir(parents=True, exist_ok=True)
        for name in everyone - {p.name for p in center.learning}:
            link = made[-1] / name
            if not link.is_symlink():
                link.symlink_to((data / "openkbp" / "train" / name).absolute())
    return made


def _strongest(
    here: Sequence[Mapping[str, float]], elsewhere: Sequence[Mapping[str, float]], names: Sequence[str]
) -> tuple[str, float]:
    found = {}
    for name in names:
        values, others = [s[name] for s in here], [s[name] for s in elsewhere]
        found[name] = float(mannwhitneyu(values, others).pvalue) if {*values} != {*others} else 1.0
    best = min(found, key=lambda name: found[name])
    return best, min(1.0, found[best] * len(found))


def _center(name: str, patients: Sequence[Patient], change: str = UNCHANGED) -> Center:
    learning, testing = (tuple(p for p in patients if p.part == part) for part in ("train", "validation"))
    return Center(name, learning, testing, change)


def _groups(patients: Sequence[Patient], spacings: Sequence[tuple[float, float]]) -> list[Center]:
    numbers = fcluster(linkage(np.log(spacings), "complete"), _SPACING_WIDTH, "distance")
    found = []
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number)
        group = [patients[i] for i in members]
        row, depth = np.median([spacings[i] for i in members], axis=0)
        name = f"{row:.1f} x {depth:.1f} mm"
        if not _is_large_enough(group):
            continue
        parts = _by_texture(group)
        if all(_is_large_enough(part) for part in parts):
            found += [_center(f"{name}, {kind}", part) for kind, part in zip(("sharper", "softer"), parts, strict=True)]
        else:
            found.append(_center(name, group))
    return sorted(found, key=lambda center: -len(center.learning))


def _by_texture(group: Sequence[Patient]) -> tuple[list[Patient], list[Patient]]:
    """Patients with narrower and with wider edges, divided by what their scans' texture is like as a whole."""
    statistics = [scan_statistics(p.read()[0]) for p in group]
    values = np.array([[s[name] for name in TEXTURE] for s in statistics])
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-6)
    _, numbers = kmeans2(values, 2, minit="++", seed=0)
    edges = [values[numbers == number, TEXTURE.index("edge")].mean() for number in (0, 1)]
    softer = int(np.argmax(edges))
    return [p for p, n in zip(group, numbers, strict=True) if n != softer], [
        p for p, n in zip(group, numbers, strict=True) if n == softer
    ]


def _is_large_enough(group: Sequence[Patient]) -> bool:
    return all(sum(p.part == part for p in group) >= fewest for part, fewest in _FEWEST.items())


def _listed(folder: Path) -> tuple[list[Patient], list[tuple[float, float]]]:
    rows = openkbp_index(folder)
    patients = [
        Patient(
            row["pt"],
            row["split"],
            frozenset(name for name in ORGANS if float(row[name]) > 0),
            partial(_read, folder / "openkbp" / row["split"] / row["pt"]),
        )
        for row in rows
    ]
    return patients, [(float(row["dx"]), float(row["dz"])) for row in rows]


def _read(folder: Path) -> tuple[Volume, Volume]:
    return read_image(folder / "ct.nii.gz"), read_label_map(folder / "oar.nii.gz")


def _generated() -> list[Patient]:
    def read(seed: int) -> tuple[Volume, Volume]:
        phantom = make_phantom(seed, shape=(40, 128, 128), spacing=(6.0, 2.8, 2.8))
        return phantom.image, phantom.labels

    parts = [("train", seed) for seed in range(100, 150)] + [("validation", seed) for seed in range(8)]
    return [Patient(f"phantom {seed}", part, frozenset(PHANTOM_CLASSES), partial(read, seed)) for part, seed in parts]
