"""How features come along in pre-training: ``python -m Testing.benchmarks.pretraining NAME-step400.safetensors …``.

Each backbone that ``promptseg pretrain --keep-every`` kept gets a linear probe on classes that it never saw as labels:
learned from wholly drawn scans and found in other patients, and learned from a few slices and found on the others of
the same scan. Only training scans are looked at, so that a step may be chosen by it.

Beside the DSC stands the average precision of the probe's logits over all voxels of the slices that were not drawn.
On other patients, the balanced probe's threshold lets in so much else that the DSC stays near 0 while features grow
better; the average precision needs no threshold. Every voxel of the scan that is mistaken for the organ still counts,
whereas the area under the ROC curve is close to 1 for any probe where the organ is a few voxels among millions. A
probe that guesses gets the organ's share of the voxels.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from PromptSegLib.errors import InputError
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import TuningOptions
from PromptSegLib.networks.catalog import BackboneInfo, read_info
from PromptSegLib.networks.device import find_device, keep_freed_memory
from PromptSegLib.networks.weights import find_backbone, load_backbone
from Testing.benchmarks import command, in_scan
from Testing.benchmarks.across import Scan, draw
from Testing.benchmarks.data import Case, data_folder, scans
from Testing.benchmarks.methods.linear_probe import LINEAR_PROBE
from Testing.benchmarks.methods.method import Setup, as_drawn
from Testing.benchmarks.methods.working import Slicewise
from Testing.benchmarks.plots import Curve, plot_pretraining
from Testing.benchmarks.results import Rows, require_same_settings, write_csv
from Testing.benchmarks.scoring import average_precision
from Testing.benchmarks.tables import cell
from Testing.benchmarks.variants import new_classes
from Testing.support import dsc

SLICES = 5
"""Drawn in the scan."""

SMOOTHED = 50
"""Steps over which each loss is averaged."""

ACROSS, IN_SCAN = "on other patients", "in the drawn scan"
HEADER = ("step", "backbone", "where", "DSC", "DSC spread", "AP", "AP spread", "n")


@dataclass(frozen=True)
class Probe:
    """A linear probe, once. backbone: its file and fingerprint; where: ACROSS or IN_SCAN; source: the scan in which
    the organ was found; drawn: scans or slices; dsc, ap: of what was not drawn."""

    backbone: str
    step: int
    where: str
    source: str
    organ: str
    drawn: int
    dsc: float
    ap: float

    @property
    def key(self) -> tuple[str, int, str, str, str, int]:
        return (self.backbone, self.step, self.where, self.source, self.organ, self.drawn)


def main(
    backbones: Annotated[list[str], typer.Argument(help="Files, or names; also the one that training went on from.")],
    losses: Annotated[Path | None, typer.Option(help="NAME.losses.csv of the run.")] = None,
    organs: Annotated[str, typer.Option(help="Only these organs.")] = "",
    source_scans: Annotated[int, typer.Option("--scans", min=1, help="Drawn scans to learn from.")] = 1,
    others: Annotated[int, typer.Option(min=1, help="Other training patients to find organs in.")] = 3,
    device: Annotated[str, typer.Option(help="For networks.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="Folder of CSV files; a run goes on from what is there.")] = None,
    plot_folder: Annotated[Path | None, typer.Option("--plots", help="Folder for the picture.")] = None,
) -> None:
    console = Console(width=None if Console().is_terminal else 200)
    if data_folder() is None:
        console.print("PROMPTSEG_DATA is not set: scans are generated, and the figures are no claim about real ones.")
    history = {} if losses is None else smoothed(losses)
    infos = in_order([read_info(find_backbone(name)) for name in backbones])
    new = new_classes(infos.values(), set(command.words(organs)))
    if out is not None:
        settings = {"data": "real" if data_folder() else "generated", "organs": new, "scans": source_scans}
        require_same_settings(out, settings)
    rows = Rows(Probe, None if out is None else out / "probes.csv")
    keep_freed_memory()
    patients = list(scans("train", source_scans + others, organs=new))
    sources, targets = patients[:source_scans], patients[source_scans:]
    found = list[Probe]()
    for step, info in infos.items():
        network = load_backbone(info.path, find_device(device))
        name = f"{info.path.stem} {network.fingerprint()[:12]}"
        probing = Probing(name, step, Setup(network, TuningOptions()), rows)
        for organ, label in new.items():
            found += probing.across(sources, targets, organ, label)
            for source, image, labels in targets:
                found += probing.in_scan(Case(source, organ, image, labels.array == label))
    report(found, console, out)
    if plot_folder is not None:
        plot_pretraining(plot_folder / "pretraining.png", history, curves(found))


def in_order(infos: Sequence[BackboneInfo]) -> dict[int, BackboneInfo]:
    """By step: 0 for the backbone that another's training went on from, the last one for a whole run.

    Raises:
        InputError: if two have the same.
    """
    starts = {info.card.get("went on from") for info in infos}
    result: dict[int, BackboneInfo] = {}
    for info in infos:
        try:
            step = 0 if info.name in starts else int(info.card.get("step") or info.card["schedule"]["steps"])
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{info.path} does not say of which step it is: leave it out") from None
        if step in result:
            raise InputError(f"{result[step].path} and {info.path} are both of step {step}: leave one out")
        result[step] = info
    return dict(sorted(result.items()))


@dataclass(frozen=True)
class Probing:
    """The probes of one backbone. rows: those that there are already; the others are added."""

    backbone: str
    step: int
    setup: Setup
    rows: Rows[Probe]

    def across(self, sources: Sequence[Scan], others: Sequence[Scan], organ: str, label: int) -> Iterator[Probe]:
        """Learned from all of ``sources``, one of each of the others."""
        learned: Slicewise | None = None
        for source, image, labels in others:
            row = self.rows.get((self.backbone, self.step, ACROSS, source, organ, len(sources)))
            if row is None:
                if learned is None:
                    drawings = [DrawnScan(scan, draw(drawn, label, sparse=False)) for _, scan, drawn in sources]
                    learned = LINEAR_PROBE.learn(drawings, self.setup)
                logits, truth = learned.logits(image), labels.array == label
                row = self._add(ACROSS, source, organ, len(sources), logits, as_drawn(logits > 0, None), truth)
            yield row

    def in_scan(self, case: Case) -> Iterator[Probe]:
        """Learned from `SLICES` slices; none if fewer show the structure."""
        row = self.rows.get((self.backbone, self.step, IN_SCAN, case.source, case.organ, SLICES))
        if row is None:
            drawn = in_scan.draw(case, SLICES)
            if drawn is None:
                return
            scan, truth, slices = drawn
            logits = LINEAR_PROBE.learn([scan], self.setup).logits(scan.image)
            found = as_drawn(logits > 0, scan.annotation)
            undrawn = (np.delete(array, slices, axis=0) for array in (logits, found, truth))
            row = self._add(IN_SCAN, case.source, case.organ, SLICES, *undrawn)
        yield row

    def _add(
        self, where: str, source: str, organ: str, drawn: int, logits: np.ndarray, found: np.ndarray, truth: np.ndarray
    ) -> Probe:
        precision = average_precision(logits, truth)
        row = Probe(self.backbone, self.step, where, source, organ, drawn, dsc(found, truth), precision)
        self.rows.add(row)
        print(f"{row.backbone} {where}, {source} {organ}: DSC {row.dsc:.3f}, AP {row.ap:.3f}", file=sys.stderr)
        return row


def curves(rows: Iterable[Probe]) -> dict[str, dict[str, Curve]]:
    """By what is measured, by where and by step: of each patient, the mean over organs."""
    groups: dict[tuple[str, int], dict[str, list[Probe]]] = {}
    for row in rows:
        groups.setdefault((row.where, row.step), {}).setdefault(row.source, []).append(row)
    result: dict[str, dict[str, Curve]] = {}
    values: dict[str, Callable[[Probe], float]] = {"DSC": lambda r: r.dsc, "average precision": lambda r: r.ap}
    for measure, value in values.items():
        for (where, step), patients in groups.items():
            means = [float(np.mean([value(row) for row in group])) for group in patients.values()]
            result.setdefault(measure, {}).setdefault(where, {})[step] = means
    return result


def report(rows: Sequence[Probe], console: Console, out: Path | None) -> None:
    """Print the table and write pretraining.csv: means over organs, then mean and standard deviation over patients."""
    found = curves(rows)
    table = Table("step", "backbone", "where", "DSC", "AP", "n", title="Linear probe on new classes along pre-training")
    lines: list[Sequence[object]] = []
    for step, backbone, where in dict.fromkeys((row.step, row.backbone, row.where) for row in rows):
        dscs, precisions = (of_measure[where][step] for of_measure in found.values())
        table.add_row(str(step), backbone, where, cell(dscs), cell(precisions), str(len(dscs)))
        numbers = (function(values) for values in (dscs, precisions) for function in (np.mean, np.std))
        lines.append([step, backbone, where, *(round(float(number), 4) for number in numbers), len(dscs)])
    console.print(table)
    if out is not None:
        write_csv(out / "pretraining.csv", lines, HEADER)


def smoothed(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and values of each loss in NAME.losses.csv, each the mean over the last `SMOOTHED` steps that had it.

    Raises:
        InputError: if it is no such file.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        result = {}
        for name in (key for key in rows[0] if key != "step"):
            pairs = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
            steps, values = (np.array(column) for column in zip(*pairs, strict=True))
            sums = np.append(0.0, np.cumsum(values))
            first, last = np.searchsorted(steps, steps - SMOOTHED, side="right"), np.arange(1, len(steps) + 1)
            result[name] = (steps, (sums[last] - sums[first]) / (last - first))
    except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no losses ({error}): give the NAME.losses.csv of a run") from error
    return result


if __name__ == "__main__":
    command.run(main)
