"""Drawings as they are sent, made into what learning and segmenting take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from PromptSegLib.engine.messages import Box, SliceDrawing
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN, Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.drawn import Drawn


def require_fit(drawing: SliceDrawing, image: Volume, name: str) -> None:
    """InputError, which names the class, unless every plane is one of the scan's."""
    expected = tuple(np.delete(image.array.shape, drawing.axis))
    for index, plane in drawing.planes.items():
        if not 0 <= index < image.array.shape[drawing.axis] or plane.shape != expected:
            raise InputError(f"the drawing of '{name}' does not fit the scan: draw on the scan itself")


def is_painted(drawing: SliceDrawing) -> bool:
    """Whether any of its slices shows the structure."""
    return any(bool((plane == 1).any()) for plane in drawing.planes.values())


def share_near(
    drawing: SliceDrawing, box: Box, margins_mm: Sequence[float], spacing: tuple[float, float, float]
) -> float:
    """Which share of what is painted lies in a box of the scan, or no farther from it along any axis than its margin.

    margins_mm, spacing: along the axes of the scan's array (slices, rows, columns), in mm.
    """
    margins = [margin / mm for margin, mm in zip(margins_mm, spacing, strict=True)]
    edges = [(side.start - margin, side.stop - 1 + margin) for side, margin in zip(box, margins, strict=True)]
    (first, last), *others = (edges[drawing.axis], *(edges[k] for k in range(3) if k != drawing.axis))
    painted = near = 0
    for index, plane in drawing.planes.items():
        places = np.argwhere(plane == 1)
        painted += len(places)
        if first <= index <= last:
            lower, upper = np.array(others).T
            near += int(((places >= lower) & (places <= upper)).all(axis=1).sum())
    return near / painted if painted else 0.0


def as_annotation(drawing: SliceDrawing, image: Volume, name: str) -> Annotation:
    """The drawing of one class; name: of the class, for errors."""
    labels = np.full(image.array.shape, UNKNOWN, np.uint8)
    planes = np.moveaxis(labels, drawing.axis, 0)
    for index, plane in drawing.planes.items():
        planes[index] = plane
    # Complete but for what is marked unknown, which is nothing where every slice is drawn.
    return Annotation.from_label_map(
        image.with_array(labels), 1, complete=True, axis=drawing.axis, source=f"the drawing of '{name}'"
    )


def as_guide(drawings: Sequence[SliceDrawing | None], image: Volume) -> Drawn | None:
    """The drawings of classes in one label map, numbered from 1 in their order; None if nothing is drawn."""
    slices: dict[int, tuple[int, frozenset[int]]] = {}
    labels: np.ndarray | None = None
    for number, drawing in enumerate(drawings, start=1):
        if drawing is None:
            continue
        if labels is None:
            labels = np.full(image.array.shape, UNKNOWN, np.uint8)
        planes = np.moveaxis(labels, drawing.axis, 0)
        for index, plane in drawing.planes.items():
            target = planes[index]
            target[(plane == 0) & (target == UNKNOWN)] = 0
            target[plane == 1] = number
        slices[number] = (drawing.axis, frozenset(drawing.planes))
    return None if labels is None else Drawn(image.with_array(labels), slices)
