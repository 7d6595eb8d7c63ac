"""Scans and what was drawn on them, from files: what a structure is learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN, Annotation, painted_labels
from PromptSegLib.imaging.crossing import crossing_slices
from PromptSegLib.imaging.formats import check_same_grid, read_image, read_label_map
from PromptSegLib.imaging.volume import Volume, slice_stack, stack_of_plane

if TYPE_CHECKING:
    from PromptSegLib.learning.drawing import DrawnScan


class DrawnFiles(Protocol):
    """Files to learn a structure from. label: its value in the label maps, None for the only one there is."""

    @property
    def images(self) -> Sequence[Path]: ...
    @property
    def drawings(self) -> Sequence[Path]: ...
    @property
    def label(self) -> int | None: ...
    @property
    def scribbles(self) -> bool: ...
    @property
    def complete(self) -> bool: ...
    @property
    def series(self) -> str | None: ...


def read_drawn_scans(
    files: DrawnFiles, plane: str | None = None, notice: Callable[[str], None] = lambda sentence: None
) -> list[DrawnScan]:
    """The scans and what was drawn of a structure on them.

    Args:
        plane: that complete drawings are taken as drawn on, since they fit any; by default, for all of them,
            the one that the first scan was acquired in.
        notice: called with a sentence for each drawing of which slices do not count.

    Raises:
        InputError: if they do not fit each other, a scan is given twice, or nothing can be learned from a drawing.
    """
    from PromptSegLib.learning.drawing import DrawnScan

    if len(files.images) != len(files.drawings):
        raise InputError(
            f"{len(files.images)} images but {len(files.drawings)} drawings: "
            "give one --labels per --image, in the same order"
        )
    seen: set[Path] = set()
    for path in files.images:
        if path.resolve() in seen:
            raise InputError(f"{path} is given twice: give each scan once, with all that is drawn on it in one file")
        seen.add(path.resolve())
    scans, label = list[DrawnScan](), files.label
    for image_path, labels_path in zip(files.images, files.drawings, strict=True):
        image, label_map = read_image(image_path, files.series), read_label_map(labels_path)
        check_same_grid(image, label_map, image_path, labels_path)
        here = _only_label(label_map, labels_path) if files.label is None else files.label
        label = here if label is None else label
        if here != label:
            raise InputError(
                f"{files.drawings[0]} holds label {label} and {labels_path} label {here}: "
                "say with --label which one to learn"
            )
        annotation = Annotation.from_label_map(
            label_map,
            label,
            scribbles=files.scribbles,
            complete=files.complete,
            axis=stack_of_plane(image, plane).axis if files.complete and plane is not None else None,
            source=str(labels_path),
        )
        if not (files.scribbles or files.complete):
            annotation = on_one_plane(annotation, str(labels_path), notice)
        plane = plane or slice_stack(image, annotation.axis).plane
        scans.append(DrawnScan(image, annotation))
    return scans


def on_one_plane(annotation: Annotation, source: str, notice: Callable[[str], None]) -> Annotation:
    """A drawing of whole slices without those on other planes, of which every slice that they cross has a row alone.

    A drawing that says itself what is unknown stays as it is.

    Args:
        source: what to call the drawing, such as its file.
        notice: called with a sentence where there are slices that do not count.

    Raises:
        InputError: if no slice is left.
    """
    labels, axis = annotation.label_map, annotation.axis
    found = None if (labels == UNKNOWN).any() else crossing_slices(labels == annotation.label, axis)
    if found is None:
        return annotation
    planes = [slice_stack(annotation.geometry, other).plane for other in found[0]]
    drawn = annotation.drawn - found[1]
    if not drawn:
        raise InputError(f"{source} was drawn on {' and '.join(planes)} slices: draw all of them on one plane")
    plane = slice_stack(annotation.geometry, axis).plane
    notice(
        f"{source} was drawn on {' and '.join([plane, *planes])} slices, and only the {plane} ones count: "
        "draw all of them on one plane"
    )
    kept = labels.copy()
    slices = np.moveaxis(kept, axis, 0)
    for index in found[1]:
        slices[index][slices[index] == annotation.label] = 0
    return Annotation.from_label_map(Volume(kept, annotation.geometry), annotation.label, axis=axis, source=source)


def _only_label(label_map: Volume, path: Path) -> int:
    found = painted_labels(label_map.array)
    if not found:
        raise InputError(f"there is nothing painted in {path}: draw the structure on at least one slice")
    if len(found) > 1:
        raise InputError(f"{path} holds the labels {', '.join(map(str, found))}: say with --label which one to learn")
    return found[0]
