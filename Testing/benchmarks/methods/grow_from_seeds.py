"""Slicer's "Grow from seeds", with the seeds that a user would paint."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from Testing.benchmarks.methods.method import Method, as_drawn, learn_nothing, require_drawn, told_ends

MARGIN_MM = 2.0
"""Between the drawn structure and the background that is painted around it."""


def seeds(annotation: Annotation) -> np.ndarray:
    """uint8 (slices, rows, columns): 1 where the structure is drawn, 2 where a drawn slice is surely background.

    Without more, the structure would grow to the ends of the scan: so the first and the last slice are background, too,
    unless the structure is drawn there. Methods that need no such seeds are not told where the structure ends, unless
    their name says so.
    """
    painted = np.zeros(annotation.label_map.shape, dtype=np.uint8)
    planes = np.moveaxis(painted, annotation.axis, 0)
    spacing = np.delete(np.asarray(annotation.geometry.spacing), annotation.axis)
    for index in told_ends(annotation).drawn:
        structure = annotation.foreground(index)
        planes[index] = 2
        if structure.any():
            planes[index][ndimage.distance_transform_edt(~structure, sampling=spacing) <= MARGIN_MM] = 0
            planes[index][structure] = 1
    return painted


def _grow(learned: None, image: Volume, annotation: Annotation | None) -> np.ndarray:
    import slicer

    annotation = require_drawn(annotation)
    grow = slicer.vtkImageGrowCutSegment()
    grow.SetIntensityVolume(_as_vtk(image.array, image))
    grow.SetSeedLabelVolume(_as_vtk(seeds(annotation), image))
    grow.SetDistancePenalty(0.0)
    grow.Update()
    from vtk.util.numpy_support import vtk_to_numpy

    grown = vtk_to_numpy(grow.GetOutput().GetPointData().GetScalars()).reshape(image.array.shape)
    return as_drawn(grown == 1, annotation)


def _as_vtk(array: np.ndarray, image: Volume) -> object:
    """vtkImageData with a copy of an array (slices, rows, columns) on the image's grid, as if it were axis-aligned."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    data = vtk.vtkImageData()
    data.SetDimensions(array.shape[::-1])
    data.SetSpacing(image.geometry.spacing[::-1])
    data.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True))
    return data


GROW_FROM_SEEDS = Method(
    "grow-from-seeds", "grow from seeds", learn_nothing, _grow, seeded=False, packages=("slicer-core",)
)
