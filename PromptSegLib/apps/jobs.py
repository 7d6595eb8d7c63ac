"""What the commands do, from files to files; the demo does the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from PromptSegLib.apps.drawn_files import on_one_plane, read_drawn_scans
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN, Annotation, painted_labels
from PromptSegLib.imaging.files import require_apart, require_writable
from PromptSegLib.imaging.formats import SUFFIXES, check_same_grid, read_image, read_label_map, write_image
from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.imaging.volume import Volume, through_plane_axis
from PromptSegLib.tokens.centers import AUTO, BASE, find_center, same_name
from PromptSegLib.tokens.class_token import (
    SUFFIX,
    ClassToken,
    Terminology,
    checked_name,
    knowing_from_others,
    load_token,
)
from PromptSegLib.tokens.recognition import Profile, Recognition

if TYPE_CHECKING:
    from PromptSegLib.inference.drawn import Drawn
    from PromptSegLib.learning.tuning import TuningOptions, TuningProgress

_MOST_BYTES = 200
"""Of a class's name in the name of a file."""


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
    looking: Callable[[float], None] = lambda fraction: None,
    notice: Callable[[str], None] = lambda sentence: None,
) -> ClassToken:
    """Learn a class from files and write its token. All that can be wrong is found before the long work begins.

    looking: called with the fraction done while the rest of a structure is looked for that was drawn in part, for the
    sake of its height, size and shape; notice: with a sentence for each drawing of which slices do not count.
    """
    require_token_path(job.out)
    name = checked_name(job.name)
    scans = read_drawn_scans(job, notice=notice)

    from PromptSegLib.inference.telling import told_by_results
    from PromptSegLib.learning.tuning import tune
    from PromptSegLib.networks.device import is_out_of_memory
    from PromptSegLib.networks.weights import load_network

    network = load_network(job.backbone, job.device)
    token = tune(
        scans,
        name,
        network,
        options,
        color=job.color,
        terminology=job.terminology,
        report=report,
        cancelled=cancelled,
    )
    token.save(job.out)
    try:
        told = told_by_results(token, scans, network, report=looking, cancelled=cancelled)
    except InterruptedError:
        return token
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return token
    if told is not token:
        told.save(job.out)
    return told


def require_token_path(out: Path) -> None:
    """InputError unless a token can be written there."""
    if out.suffix != SUFFIX:
        raise InputError(f"a class token's file must end in {SUFFIX}: write {out.stem}{SUFFIX}, not {out.name}")
    require_writable(out)


@dataclass(frozen=True)
class SegmentJob:
    """Paths of a `segment`; see the command's options."""

    image: Path
    tokens: Sequence[Path]
    out: Path
    center: str | None = None
    drawn: Path | None = None
    probabilities: Path | None = None
    scribbles: bool = False
    all_pieces: bool = False
    series: str | None = None
    backbone: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class SegmentedClass:
    """center: whose numbers found it, None for the token's own; recognition: how that was chosen, if it was."""

    label: int
    name: str
    ml: float
    probabilities: str | None
    center: str | None = None
    recognition: Recognition | None = None


def segment_files(
    job: SegmentJob,
    report: Callable[[float], None] = lambda fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
    notice: Callable[[str], None] = lambda sentence: None,
) -> list[SegmentedClass]:
    """Segment a file and write the label map, and the probability maps where a folder for them is given.

    All that can be wrong is found before the long work begins.

    notice: called with a sentence for each token that is of another kind of scans, and for each label of which drawn
    slices do not count.
    """
    require_writable(job.out)
    if not job.out.name.endswith(SUFFIXES):
        raise InputError(f"{job.out.name} has no known image suffix: end it in one of {', '.join(SUFFIXES)}")
    needed = [job.image, *job.tokens, *([] if job.drawn is None else [job.drawn])]
    require_apart(job.out, needed)
    tokens = [load_token(path) for path in job.tokens]
    maps = _probability_maps(tokens, job.probabilities)
    for path in maps:
        require_writable(path)
        require_apart(path, [*needed, job.out])
    centers = _named_centers(tokens, job.center)
    image = read_image(job.image, job.series)
    by_the_scan = job.center is not None and same_name(job.center, AUTO)
    recognitions = _recognized(tokens, image) if by_the_scan else [None] * len(tokens)
    centers = [c if r is None else r.center for c, r in zip(centers, recognitions, strict=True)]
    tokens = [token.at_center(center) for token, center in zip(tokens, centers, strict=True)]
    drawn = None if job.drawn is None else _read_drawn(image, job, job.drawn, tokens, notice)

    from PromptSegLib.inference.segmenter import Segmenter
    from PromptSegLib.inference.sight import kind_warnings
    from PromptSegLib.networks.weights import load_network

    for sentence in kind_warnings(tokens, image):
        notice(sentence)
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
        at, target = number - 1, None
        if maps:
            target = str(maps[at])
            write_image(result.probabilities[at], maps[at])
        ml = float(counts[number]) * image.geometry.voxel_volume_mm3 / 1000
        classes.append(SegmentedClass(number, token.name, round(ml, 2), target, centers[at], recognitions[at]))
    return classes


def _named_centers(tokens: Sequence[ClassToken], name: str | None) -> list[str | None]:
    """What the center is called in each token; None for the token itself. InputError where one has no such center."""
    if name is None or any(same_name(name, reserved) for reserved in (AUTO, BASE)):
        return [None] * len(tokens)
    return [token.centers[find_center(token.centers, name, token.name)].name for token in tokens]


def _recognized(tokens: Sequence[ClassToken], image: Volume) -> list[Recognition | None]:
    statistics = scan_statistics(image)
    return [token.recognize(statistics) for token in tokens]


def _probability_maps(tokens: Sequence[ClassToken], folder: Path | None) -> list[Path]:
    """Files for the maps of these classes; none without a folder."""
    if folder is None:
        return []
    return [folder / f"{number}_{_file_name(token.name)}.nii.gz" for number, token in enumerate(tokens, start=1)]


def _file_name(name: str) -> str:
    """As much of a name as a file's may hold, which systems count in bytes, with room for number and suffix."""
    legible = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    return legible.encode()[:_MOST_BYTES].decode(errors="ignore")


def _read_drawn(
    image: Volume, job: SegmentJob, path: Path, tokens: Sequence[ClassToken], notice: Callable[[str], None]
) -> Drawn:
    from PromptSegLib.inference.drawn import Drawn

    label_map = read_label_map(path)
    check_same_grid(image, label_map, job.image, path)
    found = painted_labels(label_map.array)
    if not found:
        raise InputError(f"there is nothing painted in {path}: leave --drawn away or give the drawing")
    strange = [label for label in found if label < 1 or (label > len(tokens) and not job.scribbles)]
    if strange:
        raise InputError(
            f"{path} holds label {strange[-1]}, but there are {len(tokens)} tokens: label n is what was drawn of token "
            "n's structure, so erase the others, or say with --scribbles that they are strokes on the background"
        )
    corrects = knowing_from_others(tokens, Profile.of([scan_statistics(image)]))
    if found[-1] > len(tokens):
        return Drawn(*_with_background(label_map, len(tokens)), corrects)
    slices: dict[int, tuple[int, frozenset[int]]] = {}
    for label in found if not job.scribbles else ():
        annotation = Annotation.from_label_map(label_map, label, source=str(path))
        named = str(path) if len(tokens) == 1 else f"label {label} of {path}"
        annotation = on_one_plane(annotation, named, notice)
        slices[label] = (annotation.axis, annotation.drawn)
    return Drawn(label_map, slices, corrects)


def _with_background(strokes: Volume, classes: int) -> tuple[Volume, dict[int, tuple[int, frozenset[int]]]]:
    """Strokes on structures and, in labels above theirs, beside them: as a label map of which the rest is unknown, and
    the slices of each label that hold any."""
    painted = (strokes.array != 0) & (strokes.array != UNKNOWN)
    labels = np.where(painted, np.where(strokes.array > classes, 0, strokes.array), UNKNOWN).astype(np.uint8)
    axis = through_plane_axis(strokes.geometry)
    across = painted.any(axis=tuple(other for other in range(3) if other != axis))
    slices = (axis, frozenset(np.flatnonzero(across).tolist()))
    return strokes.with_array(labels), dict.fromkeys(range(1, classes + 1), slices)
