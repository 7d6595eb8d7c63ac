"""Several views of one place in a scan, and where each of their pixels lies: what student and teacher see.

The views of a sample share a frame: (row, column, slice) in pixels of the working spacing around a common center. So a
pixel of one view has a known counterpart in another, whatever was cropped, mirrored, turned or scaled in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import (
    Compose,
    Identity,
    OneOf,
    RandAdjustContrast,
    RandBiasField,
    RandCoarseDropout,
    RandCoarseShuffle,
    RandHistogramShift,
    RandStdShiftIntensity,
    Transform,
)
from torch import Tensor

from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.volume import SliceStack, slice_stack
from PromptSegLib.learning.augmentation import augment
from PromptSegLib.learning.pretraining.samples import ORGAN_SHARE, SPACING_RANGE_MM, ScanSampler, random_axis
from PromptSegLib.learning.pretraining.scans import Scan, ScanCache
from PromptSegLib.networks.presets import Preset

SLICE_STEP = 2.0
"""Slices of a block lie this many pixels apart (arXiv 2211.09233: 1.25 x 1.25 x 2.5 mm), so that a step across slices
counts double."""

_LARGEST_EXTENT = 1.25
"""Views are at most this much larger than the slices of the scan: beyond them is nothing but air."""

_POOL: dict[int, Any] = {2: F.avg_pool2d, 3: F.avg_pool3d}
_CENTER_SHARE = 0.1
_EDGE_MULTIPLE = 8


@dataclass(frozen=True)
class ViewSizes:
    """Sizes in pixels, (rows, columns) or (rows, columns, slices); students from large to small."""

    students: tuple[tuple[int, ...], ...]
    teacher: tuple[int, ...]

    @classmethod
    def of(cls, preset: Preset) -> ViewSizes:
        """The paper's: edges of 224 and 160 for the students and 256 for the teacher, in proportion to the patch."""

        def scaled(part: float) -> tuple[int, ...]:
            plane = (_EDGE_MULTIPLE * round(edge * part / _EDGE_MULTIPLE) for edge in preset.patch[:2])
            return (*plane, *preset.patch[2:])

        return cls((preset.patch, scaled(160 / 224)), scaled(256 / 224))


@dataclass(frozen=True)
class Ranges:
    """How far a view is changed. turn: radians; scale, shear: differences from 1 and 0; chance: that it is at all."""

    turn: float
    scale: float
    shear: float
    chance: float
    mirror: float = 0.0


STUDENT_RANGES = Ranges(turn=0.4, scale=0.25, shear=0.025, chance=0.8)
TEACHER_RANGES = Ranges(turn=0.4, scale=0.1, shear=0.025, chance=0.5)
"""The paper's. Neither mirrors: a network that may not tell left from right cannot tell one kidney from the other."""


@dataclass(frozen=True)
class Placement:
    """Where the pixels of B views lie in the frames of their samples.

    size: of the views in pixels; matrix: (B, 3, 3) from a step in the view to a step in the frame; center: (B, 3), of
    the view, in the frame.
    """

    size: tuple[int, ...]
    matrix: Tensor
    center: Tensor

    def positions(self, shape: Sequence[int] | None = None) -> Tensor:
        """Positions (B, 3, *shape) of pixel centers; ``shape``, if given, divides the views into other pixels."""
        counts = self.size if shape is None else shape
        axes = [(torch.arange(n) + 0.5) * (edge / n) - edge / 2 for edge, n in zip(self.size, counts, strict=True)]
        steps = torch.stack(torch.meshgrid(*axes, *[torch.zeros(1)] * (3 - len(axes)), indexing="ij"))
        placed = torch.einsum("bij,j...->bi...", self.matrix, steps) + self.center[:, :, None, None, None]
        return placed if len(self.size) == 3 else placed[..., 0]


@dataclass(frozen=True)
class Views:
    """B views of one size: images (B, 1, *size) in [-1, 1], and where they lie."""

    images: Tensor
    placement: Placement


@dataclass(frozen=True)
class ViewBatch:
    """Views of B samples: one entry of ``students``, ``targets`` and ``known`` per size.

    targets: (B, *size) in [0, 1], of the one base class that is active in each sample; known: bool (B, *size), where
    they say anything: nowhere if it was not drawn in the scan; classes: (B,), which one that is.
    """

    students: tuple[Views, ...]
    targets: tuple[Tensor, ...]
    known: tuple[Tensor, ...]
    teacher: Views
    classes: Tensor


@dataclass(frozen=True)
class _Sample:
    """A place in a scan: center (image, row, column) in the stack and mm per pixel; label: None where none is known."""

    scan: Scan
    stack: SliceStack
    center: np.ndarray
    spacing: float
    label: int | None

    def image(self, placement: Placement, number: int) -> Tensor:
        """View ``number`` of a placement, (*size)."""
        return render(self.stack.view(self.scan.image), *self._voxels(placement, number), placement.size, fill=-1.0)

    def target(self, placement: Placement, number: int) -> tuple[Tensor, Tensor]:
        """The same of the label, and where that is known; both all 0 where it was not drawn."""
        if self.label is None or self.scan.labels is None:
            return torch.zeros(placement.size), torch.zeros(placement.size, dtype=torch.bool)
        labels, voxels = self.stack.view(self.scan.labels), self._voxels(placement, number)
        mask, unknown = (render(labels, *voxels, placement.size, fill=0.0, label=n) for n in (self.label, UNKNOWN))
        return mask, unknown == 0

    def _voxels(self, placement: Placement, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Matrix (3, 3) from a step in the view to one in the stack, and the view's center (3,) there."""
        per_pixel = self.spacing / np.array(self.stack.spacing)
        matrix, center = (part[number].double().numpy()[[2, 0, 1]] for part in (placement.matrix, placement.center))
        return matrix * per_pixel[:, None], self.center + center * per_pixel


class ViewSampler(ScanSampler):
    """Draws places in prepared scans and the student's and the teacher's views of them.

    labels: the base classes' numbers in the label maps, in their order; unlabelled: whether scans that show none of
    them serve as well.
    """

    def __init__(self, scans: ScanCache, labels: list[int], sizes: ViewSizes, *, unlabelled: bool = True):
        super().__init__(scans, labels)
        self.sizes, self.unlabelled = sizes, unlabelled
        self.shown: dict[int, list[int]] = {}
        self.student_contrast = student_contrast(sizes.teacher[0])
        self.teacher_contrast = teacher_contrast()

    def index(self, number: int) -> None:
        super().index(number)
        organs = self.scans[number].organs
        self.shown[number] = [position for position, label in enumerate(self.labels) if label in organs]

    def draw(self, rng: np.random.Generator, count: int) -> ViewBatch:
        """``count`` samples, each of a random scan and with a random one of its base classes active."""
        samples, classes = [], []
        candidates = [number for number, shown in self.shown.items() if self.unlabelled or shown]
        for _ in range(count):
            number = candidates[rng.integers(len(candidates))]
            shown = self.shown[number]
            position = int(rng.choice(shown or np.arange(max(1, len(self.labels)))))
            classes.append(position)
            samples.append(self._sample(rng, number, self.labels[position] if shown else None))
        students, targets, known = [], [], []
        for size in self.sizes.students:
            views = self._views(rng, samples, size, STUDENT_RANGES, self.student_contrast)
            students.append(views)
            pairs = [sample.target(views.placement, number) for number, sample in enumerate(samples)]
            targets.append(torch.stack([target for target, _ in pairs]))
            known.append(torch.stack([where for _, where in pairs]))
        return ViewBatch(
            tuple(students),
            tuple(targets),
            tuple(known),
            self._views(rng, samples, self.sizes.teacher, TEACHER_RANGES, self.teacher_contrast),
            torch.tensor(classes),
        )

    def _sample(self, rng: np.random.Generator, number: int, label: int | None) -> _Sample:
        scan = self.scans[number]
        stack = slice_stack(scan.geometry, random_axis(rng))
        voxels = scan.organs[label] if label is not None and rng.random() < ORGAN_SHARE else scan.body
        slice_, row, column = voxels[rng.integers(len(voxels))]
        edge = self.sizes.teacher[0]
        extent = max(n * s for n, s in zip(stack.shape[1:], stack.spacing[1:], strict=True))
        finest, coarsest = SPACING_RANGE_MM
        coarsest = max(finest, min(coarsest, _LARGEST_EXTENT * extent / edge))
        spacing = float(np.exp(rng.uniform(np.log(finest), np.log(coarsest))))
        away = np.array([0.0, *rng.uniform(-_CENTER_SHARE, _CENTER_SHARE, 2) * edge * spacing])
        center = np.array(stack.locate((int(slice_), int(row), int(column)))) + away / np.array(stack.spacing)
        return _Sample(scan, stack, center, spacing, label)

    def _views(
        self, rng: np.random.Generator, samples: list[_Sample], size: tuple[int, ...], ranges: Ranges, contrast: Compose
    ) -> Views:
        placement = random_placement(rng, len(samples), size, self.sizes.teacher, ranges)
        images = torch.stack([sample.image(placement, number) for number, sample in enumerate(samples)])
        return Views(augment(contrast, images[:, None], int(rng.integers(2**31))), placement)


def random_placement(
    rng: np.random.Generator, count: int, size: tuple[int, ...], field: tuple[int, ...], ranges: Ranges
) -> Placement:
    """``count`` views of ``size``, cropped at random from a field of the size ``field`` that was changed as a whole."""
    matrices, centers = [], []
    for _ in range(count):
        matrix = np.diag([1.0, 1.0, SLICE_STEP])
        if rng.random() < ranges.chance:
            angle = rng.uniform(-ranges.turn, ranges.turn)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            shear = np.array([[1.0, rng.uniform(-ranges.shear, ranges.shear)], [0.0, 1.0]])
            matrix[:2, :2] = turn @ shear @ np.diag(1 + rng.uniform(-ranges.scale, ranges.scale, 2))
        if rng.random() < ranges.mirror:
            matrix[:, 1] *= -1
        slack = np.array([f - s for f, s in zip(field[:2], size[:2], strict=True)]) / 2
        matrices.append(matrix)
        centers.append(matrix @ np.array([*rng.uniform(-slack, slack), 0.0]))
    return Placement(size, torch.tensor(np.array(matrices)).float(), torch.tensor(np.array(centers)).float())


def render(
    stack: np.ndarray,
    matrix: np.ndarray,
    center: np.ndarray,
    size: tuple[int, ...],
    *,
    fill: float,
    label: int | None = None,
) -> Tensor:
    """Linear values (*size) of a stack (images, rows, columns) in a view, averaged first where the view is coarser.

    matrix: (3, 3), from a step along (row, column, slice) of the view to one along the axes of the stack; center: (3,),
    voxel of the view's center. A view of one slice lies in one image. fill: value outside of the stack. label: of a
    label map, the one to render as a mask.
    """
    if len(size) == 2:
        image = int(np.clip(round(center[0]), 0, len(stack) - 1))
        stack, matrix, center = stack[image], matrix[1:, :2], center[1:]
    reductions = [round(step) if step >= 1.5 else 1 for step in np.linalg.norm(matrix, axis=1)]
    half = np.abs(matrix) @ np.array(size) / 2
    box = []
    for middle, reach, reduction, length in zip(center, half, reductions, stack.shape, strict=True):
        start = int(np.clip(np.floor(middle - reach) - reduction, 0, length - 1))
        box.append(slice(start, int(np.clip(np.ceil(middle + reach) + reduction, start + 1, length))))
    block = np.ascontiguousarray(stack[tuple(box)])
    # As a difference to what lies outside, so that padding with zeros means just that.
    source = torch.from_numpy((block if label is None else block == label).astype(np.float32) - np.float32(fill))
    source = F.pad(
        source, [n for r, edge in zip(reductions[::-1], block.shape[::-1], strict=True) for n in (0, -edge % r)]
    )
    # In the coordinates of grid_sample, -1 and 1 are the outer edges of the view and of the block, and axes reversed.
    shape, corner = np.array(source.shape), np.array([side.start for side in box])
    turned = matrix * np.array(size) / shape[:, None]
    moved = (2 * (center - corner) + 1) / shape - 1
    theta = torch.from_numpy(np.column_stack([turned[::-1, ::-1], moved[::-1]])).float()
    if max(reductions) > 1:
        source = _POOL[source.dim()](source[None], reductions)[0]
    grid = F.affine_grid(theta[None], [1, 1, *size], align_corners=False)
    sampled = F.grid_sample(source[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled[0, 0] + fill


def student_contrast(edge: int) -> Compose:
    """The paper's changes of contrast, and regions that are masked, kept alone or shuffled; ``edge`` of the teacher."""

    def part(pixels: int) -> int:
        return max(1, round(edge * pixels / 256))

    masked = OneOf(
        [
            Identity(),
            RandCoarseDropout(holes=1, max_holes=3, spatial_size=part(5), max_spatial_size=part(20), prob=1.0),
            RandCoarseDropout(holes=6, spatial_size=part(48), max_spatial_size=part(96), dropout_holes=False, prob=1.0),
            RandCoarseShuffle(holes=1, max_holes=3, spatial_size=part(5), max_spatial_size=part(20), prob=1.0),
        ],
        weights=(0.7, 0.1, 0.1, 0.1),
    )
    return Compose([masked, *_contrast(0.25, (8, 12))])


def teacher_contrast() -> Compose:
    """The teacher sees everything, and its contrast changes less."""
    return Compose(_contrast(0.1, 12))


def _contrast(shift: float, control_points: int | tuple[int, int]) -> list[Transform]:
    return [
        RandBiasField(prob=0.1),
        RandStdShiftIntensity(prob=0.1, factors=(0.0, shift)),
        RandAdjustContrast(prob=0.1),
        RandHistogramShift(prob=0.1, num_control_points=control_points),
    ]
