"""How often `segment --center auto` is right: ``python -m Testing.benchmarks.recognition``.

Centers are made from held-out patients by what differs between scanners: a soft and a sharp kernel, noise, a lower
dose, a shift and a scale of the calibration, contrast agent, metal, a cone beam. A token of one such center and of the
unchanged scans, a few scans of each, is shown other patients of both; a token of the unchanged scans alone is shown the
changed ones. Where scans of several voxel spacings are there, the spacings are centers, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from PromptSegLib.imaging.formats import read_image
from PromptSegLib.imaging.phantom import make_phantom
from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.tokens.recognition import Profile, Recognition, recognize
from Testing.benchmarks import command
from Testing.benchmarks.data import data_folder, openkbp_index
from Testing.benchmarks.simulated_centers import CHANGES, UNCHANGED, changed

Statistics = dict[str, float]


def held_out_scans(most: int) -> Iterator[tuple[str, Volume]]:
    """(spacing, scan) of patients on whom nothing about recognition was chosen; phantoms without a data folder."""
    folder = data_folder()
    if folder is None:
        for seed in range(200, 200 + most):
            yield "generated", make_phantom(seed, shape=(24, 96, 96), spacing=(6.0, 3.7, 3.7)).image
        return
    rows = [row for row in openkbp_index(folder) if row["split"] == "validation"]
    for row in rows[:most]:
        spacing = f"{row['dx']} x {row['dx']} x {row['dz']} mm"
        yield spacing, read_image(folder / "openkbp" / row["split"] / row["pt"] / "ct.nii.gz")


def shares(found: list[Recognition], center: str | None) -> tuple[float, float, float]:
    """How many were taken for this center, for another one, and for none that is known."""
    none = sum(not r.is_known for r in found)
    right = sum(r.is_known and r.center == center for r in found)
    return right / len(found), (len(found) - right - none) / len(found), none / len(found)


def main(
    most: Annotated[int, typer.Option(help="Patients at most.")] = 33,
    scans: Annotated[int, typer.Option(min=1, help="Scans that a center is known by.")] = 3,
    repeats: Annotated[int, typer.Option(min=1, help="Draws of these scans.")] = 20,
) -> None:
    console = Console(width=160)
    patients: list[dict[str, Statistics]] = []
    spacings: dict[str, list[int]] = defaultdict(list)
    for number, (spacing, scan) in enumerate(held_out_scans(most)):
        spacings[spacing].append(number)
        patients.append({n: scan_statistics(changed(scan, change, number)) for n, change in CHANGES.items()})
    for spacing, group in spacings.items():
        if len(group) >= 2 * scans + 2:
            console.print(changes_table(f"{spacing}, {len(group)} patients", patients, group, scans, repeats))
    if len(spacings) > 1:
        everyone = list(range(len(patients)))
        console.print(
            changes_table(f"all spacings mixed, {len(patients)} patients", patients, everyone, scans, repeats)
        )
        console.print(spacings_table(patients, spacings, scans, repeats))


def changes_table(
    title: str, patients: list[dict[str, Statistics]], group: list[int], scans: int, repeats: int
) -> Table:
    """Each change as the only center beside the unchanged scans; and as one that nobody knows."""
    rng = np.random.default_rng(0)
    table = Table("change", "right", "wrong", "like none", "if unknown: like none", title=title)
    for name in CHANGES:
        if name == UNCHANGED:
            continue
        known, unknown = [], []
        for _ in range(repeats):
            order = rng.permutation(group)
            base, center, rest = order[:scans], order[scans : 2 * scans], order[2 * scans :]
            profiles: dict[str | None, Profile] = {None: Profile.of([patients[i][UNCHANGED] for i in base])}
            unknown += [recognize(patients[i][name], profiles) for i in rest]
            profiles[name] = Profile.of([patients[i][name] for i in center])
            known.append(shares([recognize(patients[i][UNCHANGED], profiles) for i in rest], None))
            known.append(shares([recognize(patients[i][name], profiles) for i in rest], name))
        row = (*np.mean(known, axis=0), shares(unknown, name)[2])
        table.add_row(name, *(f"{value:.3f}" for value in row))
    return table


def spacings_table(
    patients: list[dict[str, Statistics]], spacings: dict[str, list[int]], scans: int, repeats: int
) -> Table:
    """Each spacing of enough patients as a center; the others as ones that nobody knows."""
    rng = np.random.default_rng(0)
    centers = {name: group for name, group in spacings.items() if len(group) > scans}
    found: dict[str, list[Recognition]] = defaultdict(list)
    for _ in range(repeats):
        orders = {name: rng.permutation(group) for name, group in centers.items()}
        profiles: dict[str | None, Profile] = {
            name: Profile.of([patients[i][UNCHANGED] for i in order[:scans]]) for name, order in orders.items()
        }
        for name, order in orders.items():
            found[name] += [recognize(patients[i][UNCHANGED], profiles) for i in order[scans:]]
        strangers = [i for name, group in spacings.items() if name not in centers for i in group]
        found["any other"] += [recognize(patients[i][UNCHANGED], profiles) for i in strangers]
    table = Table("spacing", "right", "wrong", "like none", title="voxel spacings as centers")
    for name, recognitions in found.items():
        if recognitions:
            right, wrong, none = shares(recognitions, name)
            table.add_row(name, *(f"{value:.3f}" for value in (right, wrong, none)))
    return table


if __name__ == "__main__":
    command.run(main)
