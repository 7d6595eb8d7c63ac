"""What the commands do, from files to files; the demo does the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN, Annotation
from PromptSegLib.imaging.files import require_folder
from PromptSegLib.imaging.formats import SUFFIXES, check_same_grid, read_image, read_label_map, write_image
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.tokens.class_token import SUFFIX, ClassToken, Terminology, checked_name, load_token

if TYPE_CHECKING:
    from PromptSegLib.inference.drawn import Drawn
    from PromptSegLib.learning.tuning import TuningOptions, TuningProgress


@dataclass(frozen=True)
class TuneJob:
    """Paths and words of a `tune`; see the command's options."""

    images: Sequence[Path]
    drawings: Sequence[Path]
    label: int
    name: str
    out: Path
    scribbles: bool = False
    complete: bool = False
    series: str | None = None
    color: tuple[int, int, int] = (230, 159, 0)
    terminology: Terminology | None = None
    backbone: str | None = None
    device: str = "auto"


def tune_files(
    job: TuneJob,
    options: TuningOptions,
    report: Callable[[TuningProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ClassToken:
    """Learn a class from files and write its token. All that can be wrong is found before the long work begins."""
    if len(job.images) != len(job.drawings):
        raise InputError(
            f"{len(job.images)} images but {len(job.drawings)} drawings: "
            "give one --labels per --image, in the same order"
        )
    if job.out.suffix != SUFFIX:
        raise InputError(f"a class token's file must end in {SUFFIX}: write {job.out.stem}{SUFFIX}, not {job.out.name}")
    require_folder(job.out)
    name = checked_name(job.name)
    drawn: list[tuple[Volume, Annotation]] = []
    for image_path, labels_path in zip(job.images, job.drawings, strict=True):
        image, label_map = read_image(image_path, job.series), read_label_map(labels_path)
        check_same_grid(image, label_map, image_path, labels_path)
        annotation = Annotation.from_label_map(
            label_map, job.label, scribbles=job.scribbles, complete=job.complete, source=str(labels_path)
        )
        drawn.append((image, annotation))

    from PromptSegLib.learning.drawing import DrawnScan
    from PromptSegLib.learning.tuning import tune
    from PromptSegLib.networks.weights import load_network

    token = tune(
        [DrawnScan(image, annotation) for image, annotation in drawn],
        name,
        load_network(job.backbone, job.device),
        options,
        color=job.color,
        terminology=job.terminology,
        report=report,
        cancelled=cancelled,
    )
    token.save(job.out)
    return token


@dataclass(frozen=True)
class SegmentJob:
    """Paths of a `segment`; see the command's options."""

    image: Path
    tokens: Sequence[Path]
    out: Path
    drawn: Path | None = None
    probabilities: Path | None = None
    scribbles: bool = False
    all_pieces: bool = False
    series: str | None = None
    backbone: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class SegmentedClass:
    label: int
    name: str
    ml: float
    probabilities: str | None


def segment_files(
    job: SegmentJob,
    report: Callable[[float], None] = lambda fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[SegmentedClass]:
    """Segment a file and write the label map, and the probability maps where a folder for them is given."""
    require_folder(job.out)
    if not job.out.name.endswith(SUFFIXES):
        raise InputError(f"{job.out.name} has no known image suffix: end it in one of {', '.join(SUFFIXES)}")
    if job.probabilities is not None and not job.probabilities.is_dir():
        raise InputError(f"the folder {job.probabilities} does not exist: create it for the probability maps")
    tokens = [load_token(path) for path in job.tokens]
    image = read_image(job.image, job.series)
    drawn = None if job.drawn is None else _read_drawn(image, job, job.drawn, len(tokens))

    from PromptSegLib.inference.segmenter import Segmenter
    from PromptSegLib.networks.weights import load_network

    names = {token.backbone.name for token in tokens}
    network = load_network(job.backbone or (names.pop() if len(names) == 1 else None), job.device)
    segmenter = Segmenter(network, tokens, all_pieces=job.all_pieces)
    result = segmenter.segment(
        image, drawn, probabilities=job.probabilities is not None, report=report, cancelled=cancelled
    )
    write_image(result.labels, job.out)
    counts = np.bincount(result.labels.array.ravel(), minlength=len(tokens) + 1)
    classes = []
    for number, token in enumerate(tokens, start=1):
        target = None
        if job.probabilities is not None:
            target = job.probabilities / f"{number}_{_file_name(token.name)}.nii.gz"
            write_image(result.probabilities[number - 1], target)
        ml = float(counts[number]) * image.geometry.voxel_volume_mm3 / 1000
        classes.append(SegmentedClass(number, token.name, round(ml, 2), None if target is None else str(target)))
    return classes


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def _read_drawn(image: Volume, job: SegmentJob, path: Path, classes: int) -> Drawn:
    from PromptSegLib.inference.drawn import Drawn

    label_map = read_label_map(path)
    check_same_grid(image, label_map, job.image, path)
    found = {int(value) for plane in label_map.array for value in np.unique(plane)} - {0, UNKNOWN}
    if not found:
        raise InputError(f"there is nothing painted in {path}: leave --drawn away or give the drawing")
    strange = [label for label in sorted(found) if not 1 <= label <= classes]
    if strange:
        raise InputError(
            f"{path} holds label {strange[-1]}, but there are {classes} tokens: label n belongs to token n"
        )
    slices: dict[int, tuple[int, frozenset[int]]] = {}
    for label in sorted(found) if not job.scribbles else ():
        annotation = Annotation.from_label_map(label_map, label, source=str(path))
        slices[label] = (annotation.axis, annotation.drawn)
    return Drawn(label_map, slices)
