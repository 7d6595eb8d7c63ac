"""Methods that look at the drawn outlines alone, not at the image."""

from __future__ import annotations

import numpy as np

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.interpolation import interpolate_shape
from PromptSegLib.imaging.volume import Volume, slice_stack
from Testing.benchmarks.methods.method import Method, as_drawn, learn_nothing, require_drawn


def _interpolate(learned: None, image: Volume, annotation: Annotation | None) -> np.ndarray:
    """Shape-based, shrinking beyond the ends. A slice that was drawn empty ends the structure (see `as_drawn`)."""
    annotation = require_drawn(annotation)
    stack = slice_stack(annotation.geometry, annotation.axis)
    labels = stack.view(annotation.label_map)
    masks = {index: labels[index] == annotation.label for index in annotation.drawn}
    masks = {index: mask for index, mask in masks.items() if mask.any()}
    distances = interpolate_shape(masks, stack.shape, stack.spacing, extrapolate=True)
    return as_drawn(stack.restore(distances > 0), annotation)


def _interpolate_itk(learned: None, image: Volume, annotation: Annotation | None) -> np.ndarray:
    """What Slicer's "Fill between slices" calls; there is nothing beyond the first and the last drawn slice."""
    import itk

    annotation = require_drawn(annotation)
    labels = (annotation.label_map == annotation.label).astype(np.uint8)
    # ITK counts axes from the fastest one on.
    axis = labels.ndim - 1 - annotation.axis
    filled = itk.morphological_contour_interpolator(itk.image_view_from_array(labels), axis=axis, label=1)
    return as_drawn(itk.array_from_image(filled) == 1, annotation)


INTERPOLATION = Method("interpolation", "shape-based interpolation", learn_nothing, _interpolate, seeded=False)
ITK = Method(
    "itk",
    "ITK contour interpolation",
    learn_nothing,
    _interpolate_itk,
    seeded=False,
    packages=("itk-morphologicalcontourinterpolation",),
)
