"""Which pieces of a result to keep, where the structure was one piece when it was drawn."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk


def keep_pieces(labels: np.ndarray, label: int, drawn: np.ndarray | None, chosen: np.ndarray | None = None) -> None:
    """Remove, in place, the pieces of ``label`` that touch nothing drawn and are not the chosen one; without either,
    all but the largest.

    labels: (slices, rows, columns); drawn: bool, same shape, voxels that the user drew; chosen: bool, same shape: of
    the pieces, the chosen one has most of these voxels.
    """
    box = _bounding_box(labels, label)
    if box is None:
        return
    part = labels[box]
    image = sitk.GetImageFromArray((part == label).astype(np.uint8))
    pieces = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))
    keep = np.zeros(int(pieces.max()) + 1, dtype=bool)
    if drawn is not None:
        keep[np.unique(pieces[drawn[box]])] = True
    if chosen is not None:
        keep |= _largest(pieces[chosen[box]], len(keep))
    if not keep[1:].any():
        keep |= _largest(pieces, len(keep))
    part[(pieces > 0) & ~keep[pieces]] = 0


def _largest(pieces: np.ndarray, count: int) -> np.ndarray:
    """bool, of so many numbers of pieces, the one that occurs most but for 0; none where only 0 does."""
    sizes = np.bincount(pieces.ravel(), minlength=count)
    sizes[0] = 0
    largest: np.ndarray = (sizes == sizes.max()) & (sizes > 0)
    return largest


def _bounding_box(labels: np.ndarray, label: int) -> tuple[slice, ...] | None:
    planes = [i for i, plane in enumerate(labels) if (plane == label).any()]
    if not planes:
        return None
    mask = labels[planes[0] : planes[-1] + 1] == label
    rows, columns = (np.flatnonzero(mask.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    return (
        slice(planes[0], planes[-1] + 1),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
