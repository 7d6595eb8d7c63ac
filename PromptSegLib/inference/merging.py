"""Many classes in one label map: each voxel goes to the class that is surest of it."""

from __future__ import annotations

import numpy as np
from scipy import special

from PromptSegLib.imaging.volume import SliceStack

UNDECIDED = 1.5
"""Logits closer to zero than this (probabilities of 0.18 to 0.82) leave a pixel undecided."""


class MergedClasses:
    """The label map as far as classes were entered.

    labels: uint8, class number plus 1 where a class is more likely than not; doubts: per class and slice of its stack,
    how many pixels were undecided when they were looked at.

    Args:
        shape: of the scan's array.
        classes: how many there are.
    """

    def __init__(self, shape: tuple[int, ...], classes: int):
        self.labels = np.zeros(shape, dtype=np.uint8)
        self.doubts = [np.zeros(0) for _ in range(classes)]
        self._surest = np.zeros(shape, dtype=np.float16)

    def doubt(self, stack: SliceStack, number: int, part: slice, logits: np.ndarray) -> None:
        """Note the undecided pixels of a class on the slices ``part`` of its stack; logits: (slices, rows, columns)."""
        if not len(self.doubts[number]):
            self.doubts[number] = np.zeros(stack.shape[0])
        self.doubts[number][part] = np.count_nonzero(abs(logits) < UNDECIDED, axis=(1, 2))

    def enter(self, stack: SliceStack, number: int, place: tuple[slice, ...], logits: np.ndarray) -> None:
        """Give a class the voxels of ``place`` in its stack that no other one was surer of.

        logits: calibrated, (slices, rows, columns) of ``place``.
        """
        labels, surest = stack.view(self.labels), stack.view(self._surest)
        probability = special.expit(logits).astype(surest.dtype)
        # In half precision, a probability just above one half is one half.
        better = (logits > 0) & (probability > surest[place])
        labels[place][better] = number + 1
        surest[place][better] = probability[better]

    def confidences(self) -> tuple[float, ...]:
        """Per class, the mean probability of its voxels, 0 where it has none."""
        count = len(self.doubts)
        sums, voxels = np.zeros(count + 1), np.zeros(count + 1)
        for plane, weights in zip(self.labels, self._surest, strict=True):
            # What was only drawn, nobody was sure of.
            inside = (plane != 0) & (weights > 0)
            if inside.any():
                found = plane[inside]
                voxels += np.bincount(found, minlength=count + 1)
                sums += np.bincount(found, weights[inside].astype(np.float64), minlength=count + 1)
        return tuple(float(mean) for mean in (sums / np.maximum(voxels, 1))[1:])
