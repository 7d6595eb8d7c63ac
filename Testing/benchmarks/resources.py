"""Seconds and peak memory of the commands on large scans, each command a process of its own."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from PromptSegLib.apps.demo import draw_slices
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.imaging.phantom import LABELS, make_phantom
from PromptSegLib.imaging.volume import Volume
from Testing.benchmarks.plots import plot_bars
from Testing.benchmarks.results import write_csv

SIZES = (((150, 256, 256), (3.0, 1.5, 1.5), 90, 60, 3.0), ((300, 512, 512), (1.5, 0.8, 0.8), None, None, 4.0))
"""Shape, spacing in mm, and what is asked for: seconds to tune, seconds to segment, GB."""

ORGAN = "left kidney"


def main() -> None:
    report(Console())


def report(console: Console, out: Path | None = None, plot_folder: Path | None = None) -> None:
    """Run all commands, print a table; out, plot_folder: where to write resources.csv and resources.png."""
    found: dict[str, tuple[float, float]] = {}
    table = Table(
        "scan", "command", "seconds", "asked for", "peak GB", "asked for", title="Large scans, 5 drawn slices"
    )
    for shape, spacing, tune_limit, segment_limit, memory_limit in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            scan, drawing = _write_case(Path(folder), shape, spacing)
            token, found_path = (str(Path(folder, name)) for name in ("t.promptseg", "found.nii.gz"))
            commands = {
                "tune": ["--image", scan, "--labels", drawing, "--label", "1", "--name", ORGAN, "--out", token],
                "segment": ["--image", scan, "--tokens", token, "--drawn", drawing, "--out", found_path],
            }
            for (name, arguments), limit in zip(commands.items(), (tune_limit, segment_limit), strict=True):
                seconds, gigabytes = _run([name, *arguments])
                wanted = "" if limit is None else f"at most {limit}"
                size = "x".join(map(str, shape[::-1]))
                found[f"{size}, {name}"] = (seconds, gigabytes)
                table.add_row(size, name, f"{seconds:.0f}", wanted, f"{gigabytes:.2f}", f"under {memory_limit:.0f}")
    console.print(table)
    if out is not None:
        write_csv(out / "resources.csv", [(n, *v) for n, v in found.items()], ["what", "seconds", "peak_gigabytes"])
    if plot_folder is not None:
        panels = {
            label: {name: [(label, values[column])] for name, values in found.items()}
            for column, label in enumerate(("seconds", "peak GB"))
        }
        plot_bars(plot_folder / "resources.png", "Large scans, 5 drawn slices", panels)


def _write_case(folder: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[str, str]:
    """A scan of this size, of which the phantom is rendered on a grid half as fine and repeated."""
    coarse = tuple(2 * s for s in spacing)
    phantom = make_phantom(0, (shape[0] // 2, shape[1] // 2, shape[2] // 2), (coarse[0], coarse[1], coarse[2]))
    geometry = phantom.image.geometry

    def enlarged(array: np.ndarray) -> np.ndarray:
        for axis in range(3):
            array = array.repeat(2, axis)
        return array

    fine = replace(geometry, shape=shape, spacing=spacing)
    truth = enlarged(phantom.labels.array == LABELS[ORGAN])
    drawing, _ = draw_slices(truth, 5)
    scan_path, drawing_path = folder / "scan.nii.gz", folder / "drawing.nii.gz"
    write_image(Volume(enlarged(phantom.image.array), fine), scan_path)
    write_image(Volume(drawing, fine), drawing_path)
    return str(scan_path), str(drawing_path)


def _run(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak resident gigabytes of one command."""
    started = time.monotonic()
    command = [sys.executable, "-m", "PromptSegLib.apps.cli", *arguments, "--json"]
    process = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"promptseg {arguments[0]} failed")
    kilobytes = usage.ru_maxrss if sys.platform != "darwin" else usage.ru_maxrss / 1024
    return time.monotonic() - started, kilobytes / 1e6


if __name__ == "__main__":
    main()
