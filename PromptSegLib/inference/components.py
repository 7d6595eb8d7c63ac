"""Which pieces of a result to keep, where the structure was one piece when it was drawn."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk


def keep_pieces(labels: np.ndarray, label: int, drawn: np.ndarray | None, chosen: np.ndarray | None = None) -> None:
    """Remove, in place, the pieces of ``label`` that touch nothing drawn, or without a drawing all but one.

    labels: (slices, rows, columns); drawn: bool, same shape, voxels that the user drew; chosen: bool, same shape: the
    one piece to be kept is that with most of these voxels, or without any, the largest.
    """
    box = _bounding_box(labels, label)
    if box is None:
        return
    part = labels[box]
    image = sitk.GetImageFromArray((part == label).astype(np.uint8))
    pieces = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if drawn is not None and drawn[box].any():
        keep = np.zeros(len(sizes), dtype=bool)
        keep[np.unique(pieces[drawn[box]])] = True
    else:
        if chosen is not None and chosen[box].any():
            sizes = np.bincount(pieces[chosen[box]], minlength=len(sizes))
            sizes[0] = 0
        keep = sizes == sizes.max()
    part[(pieces > 0) & ~keep[pieces]] = 0


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
