"""The main job on a generated scan: three slices of a kidney drawn, its token learned, the rest segmented."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from PromptSegLib.apps.console import errors, output, progress_bar
from PromptSegLib.apps.jobs import SegmentJob, TuneJob, segment_files, tune_files
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import require_writable
from PromptSegLib.imaging.formats import read_image, read_label_map, write_image
from PromptSegLib.imaging.phantom import LABELS, make_phantom
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.tokens.class_token import Terminology

if TYPE_CHECKING:
    from PromptSegLib.learning.tuning import TuningProgress

ORGAN = "left kidney"
DRAWN_SLICES = 3
MARGIN = 3


def run_demo(out: Path, seed: int = 0) -> float:
    """Write scan, drawing, token, segmentation and picture into ``out``; returns the DSC on the undrawn slices.

    Raises:
        InputError: if ``out`` cannot be written to, or holds files under these names that no former demo wrote.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: choose a folder for the results with --out")
    if not out.is_dir():
        require_writable(out)
        out.mkdir()
    token_path = out / "left_kidney.promptseg"
    require_writable(token_path)
    started = time.monotonic()
    phantom = make_phantom(seed)
    truth = phantom.labels.array == LABELS[ORGAN]
    drawing, slices = draw_slices(truth, DRAWN_SLICES)
    paths = {name: out / f"{name}.nii.gz" for name in ("scan", "truth", "drawing", "segmentation")}
    picture_path = out / "demo.png"
    _require_own([*paths.values(), token_path, picture_path], paths["scan"], phantom.image)
    write_image(phantom.image, paths["scan"])
    write_image(phantom.labels.with_array(truth.astype(np.uint8)), paths["truth"])
    write_image(phantom.labels.with_array(drawing), paths["drawing"])
    output.print(f"Drawn: {ORGAN} on slices {', '.join(map(str, slices))} of {truth.shape[0]} ({paths['drawing']})")

    from PromptSegLib.learning.tuning import TuningOptions

    history: list[TuningProgress] = []
    job = TuneJob(
        [paths["scan"]],
        [paths["drawing"]],
        label=1,
        name="Left kidney",
        out=token_path,
        color=(86, 180, 233),
        terminology=Terminology("SCT", "18639004", "Left kidney"),
    )
    with progress_bar("Learning", False) as show:

        def report(progress: TuningProgress) -> None:
            history.append(progress)
            show(progress.step / progress.steps, f"loss {progress.loss:.3f}")

        token = tune_files(job, TuningOptions(seconds=60), report)
    output.print(f"Learned in {token.training.seconds:.0f} s: {token_path}, {token_path.stat().st_size / 1000:.0f} kB")

    with progress_bar("Segmenting", False) as show:
        segment_files(
            SegmentJob(paths["scan"], [token_path], paths["segmentation"], drawn=paths["drawing"]),
            lambda fraction: show(fraction, ""),
        )
    found = read_label_map(paths["segmentation"]).array == 1
    dsc = undrawn_dsc(found, truth, slices)
    output.print(f"Segmented: {paths['segmentation']}; DSC on the undrawn slices {dsc:.3f}")
    _picture(picture_path, read_image(paths["scan"]), truth, found, slices, history, dsc)
    output.print(f"Done in {time.monotonic() - started:.0f} s")
    return dsc


def _require_own(results: Sequence[Path], scan_path: Path, scan: Volume) -> None:
    """InputError if files of these names are there that no former demo wrote: it began with this very scan."""
    there = [path for path in results if path.exists()]
    if not there:
        return
    try:
        former = read_image(scan_path)
    except InputError:
        former = None
    if former is None or not (former.geometry.same_grid(scan.geometry) and np.array_equal(former.array, scan.array)):
        raise InputError(
            f"{there[0]} is not of a former demo and would be written over: choose another folder with --out"
        )


def draw_slices(truth: np.ndarray, count: int) -> tuple[np.ndarray, list[int]]:
    """Label map uint8 with ``count`` slices of a structure, evenly over its extent, and which slices these are."""
    extent = np.flatnonzero(truth.any(axis=(1, 2)))
    slices = [int(extent[round(q * (len(extent) - 1))]) for q in np.linspace(0, 1, count + 2)[1:-1]]
    drawing = np.zeros(truth.shape, dtype=np.uint8)
    drawing[slices] = truth[slices]
    return drawing, slices


def undrawn_dsc(found: np.ndarray, truth: np.ndarray, drawn: list[int], margin: int = MARGIN) -> float:
    """DSC over the slices of the structure, and ``margin`` beyond either end, that were not drawn."""
    extent = np.flatnonzero(truth.any(axis=(1, 2)))
    first, last = max(0, extent[0] - margin), min(len(truth), extent[-1] + margin + 1)
    slices = [z for z in range(first, last) if z not in drawn]
    overlap = np.count_nonzero(found[slices] & truth[slices])
    total = int(np.count_nonzero(found[slices])) + int(np.count_nonzero(truth[slices]))
    return 2 * overlap / max(1, total)


def _picture(
    path: Path,
    image: Volume,
    truth: np.ndarray,
    found: np.ndarray,
    slices: list[int],
    history: Sequence[TuningProgress],
    dsc: float,
) -> None:
    try:
        from PromptSegLib.apps.picture import montage
    except ImportError:
        errors.print("No picture: it needs matplotlib; install it with: pip install 'promptseg[demo]'", markup=False)
        return
    montage(path, image, truth, found, slices, history, dsc)
    output.print(f"Picture: {path}")
