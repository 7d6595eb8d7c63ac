"""Which pieces of a result to keep, where the structure was one piece when it was drawn."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from PromptSegLib.imaging.volume import bounding_box


def keep_pieces(labels: np.ndarray, label: int, drawn: np.ndarray | None, chosen: np.ndarray | None = None) -> None:
    """Remove, in place, the pieces of ``label`` that touch nothing drawn and are not chosen; without either, all but
    the largest.

    labels: (slices, rows, columns); drawn: bool, same shape, voxels that the user drew; chosen: bool, same shape: of
    each of its own pieces, the piece that has most of its voxels is chosen.
    """
    box = _bounding_box(labels, label, chosen)
    if box is None:
        return
    part = labels[box]
    pieces = _numbered(part == label)
    count = int(pieces.max()) + 1
    keep = np.zeros(count, dtype=bool)
    if drawn is not None:
        keep[np.unique(pieces[drawn[box]])] = True
    if chosen is not None and chosen.any():
        own = _numbered(chosen[box])
        for number in range(1, int(own.max()) + 1):
            keep |= _largest(pieces[own == number], count)
    if not keep[1:].any():
        keep |= _largest(pieces, count)
    part[(pieces > 0) & ~keep[pieces]] = 0


def _bounding_box(labels: np.ndarray, label: int, chosen: np.ndarray | None) -> tuple[slice, ...] | None:
    """The smallest box around the label and what was chosen, looked for slice by slice for the sake of memory."""
    flat = np.zeros(labels.shape[1:], dtype=bool)
    slices = []
    for index, plane in enumerate(labels):
        mask = plane == label if chosen is None else (plane == label) | chosen[index]
        if mask.any():
            slices.append(index)
            flat |= mask
    if not slices:
        return None
    _, rows, columns = bounding_box(flat[None])
    return slice(slices[0], slices[-1] + 1), rows, columns


def _numbered(mask: np.ndarray) -> np.ndarray:
    """1, 2, … in the pieces of a mask."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    pieces: np.ndarray = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))
    return pieces


def _largest(pieces: np.ndarray, count: int) -> np.ndarray:
    """bool, of so many numbers of pieces, the one that occurs most but for 0; none where only 0 does."""
    sizes = np.bincount(pieces.ravel(), minlength=count)
    sizes[0] = 0
    largest: np.ndarray = (sizes == sizes.max()) & (sizes > 0)
    return largest
