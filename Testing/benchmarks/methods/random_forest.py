"""A random forest on features of each pixel, as interactive pixel classifiers offer it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning.drawing import DrawnScan
from Testing.benchmarks.methods.method import Method, Setup, as_drawn

SCALES_PX = (1.0, 2.0, 4.0)
TREES = 100
MOST_PIXELS = 50_000
"""Of structure and of background, each, that the forest grows on."""


def features(plane: np.ndarray, index: int, spacing: Sequence[float]) -> np.ndarray:
    """float32 (pixels, features) of one slice (rows, columns): intensity, smoothed at three scales, gradient and
    Laplacian at two, and the position in mm (across slices, rows, columns)."""
    plane = plane.astype(np.float32)
    maps = [plane, *(ndimage.gaussian_filter(plane, scale) for scale in SCALES_PX)]
    for scale in SCALES_PX[:2]:
        maps += [ndimage.gaussian_gradient_magnitude(plane, scale), ndimage.gaussian_laplace(plane, scale)]
    rows, columns = np.indices(plane.shape, dtype=np.float32)
    maps += [np.full_like(plane, index * spacing[0]), rows * np.float32(spacing[1]), columns * np.float32(spacing[2])]
    return np.stack([m.ravel() for m in maps], axis=1)


def _learn(scans: Sequence[DrawnScan], setup: Setup) -> tuple[Any, int]:
    """The forest, and the axis that it looks along."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(setup.seed)
    inside, outside = [], []
    for scan in scans:
        axis = scan.annotation.axis
        spacing = _spacing(scan.image, axis)
        for index in scan.annotation.slices:
            known, structure = scan.annotation.known(index).ravel(), scan.annotation.foreground(index).ravel()
            points = features(np.moveaxis(scan.image.array, axis, 0)[index], index, spacing)
            inside.append(points[known & structure])
            outside.append(points[known & ~structure])
    parts = [rng.permutation(np.concatenate(p))[:MOST_PIXELS] for p in (inside, outside)]
    forest = RandomForestClassifier(
        TREES,
        min_samples_leaf=2,
        class_weight="balanced_subsample",
        n_jobs=torch.get_num_threads(),
        random_state=setup.seed,
    )
    forest.fit(np.concatenate(parts), np.repeat([True, False], [len(p) for p in parts]))
    return forest, scans[0].annotation.axis


def _find(learned: tuple[Any, int], image: Volume, annotation: Annotation | None) -> np.ndarray:
    forest, axis = learned
    mask = np.zeros(image.array.shape, dtype=bool)
    found, planes = np.moveaxis(mask, axis, 0), np.moveaxis(image.array, axis, 0)
    spacing = _spacing(image, axis)
    for index, plane in enumerate(planes):
        found[index] = forest.predict(features(plane, index, spacing)).reshape(plane.shape)
    return as_drawn(mask, annotation)


def _spacing(image: Volume, axis: int) -> list[float]:
    """mm across the slices, then in the plane, in array order."""
    spacing = list(image.geometry.spacing)
    return [spacing.pop(axis), *spacing]


RANDOM_FOREST = Method("random-forest", "random forest", _learn, _find, packages=("scikit-learn",))
