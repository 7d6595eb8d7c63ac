"""Random views of random slices: what one step of pre-training sees.

Every draw comes from a generator seeded by (seed, step), so that a resumed run sees the same samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.volume import SliceStack, slice_stack
from PromptSegLib.learning.augmentation import augment, intensity_augmentation
from PromptSegLib.learning.pretraining.scans import REGION_SIZES_MM, Scan, ScanCache

SPACING_RANGE_MM = (1.0, 4.0)
AXIAL_SHARE = 0.8
MAX_ROTATION_DEGREES = 15.0
ORGAN_SHARE = 0.75

_REGIONS = 2**16
"""More than the regions of a scan."""


@dataclass(frozen=True)
class LabelledBatch:
    """Class-major. image: (N * R, 1, P, P) in [-1, 1]; target: (N * R, P, P) in [0, 1]; known: bool (N * R, P, P),
    where the target says anything; classes: the N active ones."""

    image: Tensor
    target: Tensor
    known: Tensor
    classes: Tensor


@dataclass(frozen=True)
class PairedBatch:
    """Two views of nearby slices of one scan, or of two patients. images: 2 x (B, 1, P, P); regions: 2 x (B, P, P)
    int64, 0 unknown; a number means the same place of the same patient in both views, or the same base class."""

    images: tuple[Tensor, Tensor]
    regions: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _View:
    """Where a patch lies in a slice: grid (P, P, 2) for grid_sample, and by how much it reduces rows and columns."""

    grid: Tensor
    reductions: tuple[float, float]


class ScanSampler:
    """Draws from prepared scans. labels: the base classes' numbers in the label maps, in their order."""

    def __init__(self, scans: ScanCache, labels: list[int]):
        self.scans, self.labels = scans, labels
        self.holding: dict[int, list[int]] = {}

    def index(self, number: int) -> None:
        """Note which classes scan ``number`` holds: an organ that was not drawn is unknown there, not absent."""
        for position, label in enumerate(self.labels):
            if label in self.scans[number].organs:
                self.holding.setdefault(position, []).append(number)


class SliceSampler(ScanSampler):
    """Draws batches of slices."""

    def __init__(self, scans: ScanCache, labels: list[int]):
        super().__init__(scans, labels)
        self.augmentation = intensity_augmentation()

    def labelled(self, rng: np.random.Generator, count: int, per_class: int, patch: int) -> LabelledBatch:
        """``per_class`` samples of each of ``count`` random base classes, the one class that is active in them."""
        images, targets, known = [], [], []
        classes = rng.choice(sorted(self.holding), count, replace=count > len(self.holding))
        for position in np.repeat(classes, per_class):
            scan = self.scans[int(rng.choice(self.holding[int(position)]))]
            label = self.labels[int(position)]
            voxels = scan.organs[label] if rng.random() < ORGAN_SHARE else scan.body
            voxel = voxels[rng.integers(len(voxels))]
            stack = slice_stack(scan.geometry, random_axis(rng))
            view, number = _random_view(rng, stack, voxel, patch)
            assert scan.labels is not None
            labels = stack.view(scan.labels)[number]
            images.append(_render(stack.view(scan.image)[number], view))
            targets.append(_render(labels == label, view, fill=0.0))
            known.append(_render(labels == UNKNOWN, view, fill=0.0) == 0)
        image = augment(self.augmentation, torch.stack(images)[:, None], int(rng.integers(2**31)))
        return LabelledBatch(image, torch.stack(targets), torch.stack(known), torch.from_numpy(classes))

    def paired(self, rng: np.random.Generator, count: int, patch: int, across: float = 0.0) -> PairedBatch:
        """``count`` pairs of views of slices at most a centimeter apart; a share ``across`` of them, if base classes
        allow, shows one of these in two patients instead."""
        images: tuple[list[Tensor], list[Tensor]] = ([], [])
        regions: tuple[list[Tensor], list[Tensor]] = ([], [])
        shared = [position for position, numbers in self.holding.items() if len(numbers) > 1] if across else []
        for _ in range(count):
            patients = bool(shared) and rng.random() < across
            places = self._same_class(rng, int(rng.choice(shared))) if patients else self._same_scan(rng)
            axis, size = random_axis(rng), int(rng.integers(len(REGION_SIZES_MM)))
            log_spacing = rng.uniform(*np.log(SPACING_RANGE_MM))
            for side, (scan, voxel) in enumerate(places):
                stack = slice_stack(scan.geometry, axis)
                # The second view may be coarser or finer, but must still show much of the same.
                spacing = float(np.exp(log_spacing + (side * rng.uniform(-0.4, 0.4))))
                view, number = _random_view(rng, stack, voxel, patch, spacing)
                if not patients:
                    reach = max(1, round(10 / stack.spacing[0]))
                    number = int(np.clip(number + side * rng.integers(-reach, reach + 1), 0, stack.shape[0] - 1))
                images[side].append(_render(stack.view(scan.image)[number], view))
                found = stack.view(scan.regions[size])[number].astype(np.int64)
                if patients:
                    found = self._told_apart(found, stack, scan, number, side)
                regions[side].append(_render_labels(found, view))
        changed = [augment(self.augmentation, torch.stack(i)[:, None], int(rng.integers(2**31))) for i in images]
        return PairedBatch((changed[0], changed[1]), (torch.stack(regions[0]), torch.stack(regions[1])))

    def _same_scan(self, rng: np.random.Generator) -> list[tuple[Scan, np.ndarray]]:
        """A place in a scan, for either view."""
        scan = self.scans[int(rng.integers(len(self.scans)))]
        return [(scan, scan.body[rng.integers(len(scan.body))])] * 2

    def _same_class(self, rng: np.random.Generator, position: int) -> list[tuple[Scan, np.ndarray]]:
        """A place in a base class, in each of two scans."""
        scans = [self.scans[int(number)] for number in rng.choice(self.holding[position], 2, replace=False)]
        organs = [scan.organs[self.labels[position]] for scan in scans]
        return [(scan, voxels[rng.integers(len(voxels))]) for scan, voxels in zip(scans, organs, strict=True)]

    def _told_apart(self, regions: np.ndarray, stack: SliceStack, scan: Scan, number: int, side: int) -> np.ndarray:
        """Regions (rows, columns) of a slice in which two patients share base classes and nothing else."""
        assert scan.labels is not None
        labels = stack.view(scan.labels)[number]
        apart = np.where((regions > 0) & (labels != UNKNOWN), regions + side * _REGIONS, 0)
        # By their positions: labels may be as large as anything, and single precision renders numbers up to 2^24.
        for position, label in enumerate(self.labels):
            apart[labels == label] = 2 * _REGIONS + position
        return apart


def random_axis(rng: np.random.Generator) -> int:
    return 0 if rng.random() < AXIAL_SHARE else int(rng.integers(1, 3))


def _random_view(
    rng: np.random.Generator, stack: SliceStack, voxel: np.ndarray, patch: int, spacing: float | None = None
) -> tuple[_View, int]:
    """A patch of random spacing, rotation and offset that shows ``voxel``, and the number of its slice."""
    if spacing is None:
        spacing = float(np.exp(rng.uniform(*np.log(SPACING_RANGE_MM))))
    angle = np.radians(rng.uniform(-MAX_ROTATION_DEGREES, MAX_ROTATION_DEGREES))
    number, row, column = stack.locate((int(voxel[0]), int(voxel[1]), int(voxel[2])))
    _, rows, columns = stack.shape
    _, row_mm, column_mm = stack.spacing
    half = (patch - 1) / 2
    offset = rng.uniform(-0.35, 0.35, 2) * patch * spacing
    ticks = (torch.arange(patch, dtype=torch.float32) - half) * spacing
    dy, dx = torch.meshgrid(ticks, ticks, indexing="ij")
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    y = (row * row_mm + offset[0] + cos * dy - sin * dx) / row_mm
    x = (column * column_mm + offset[1] + sin * dy + cos * dx) / column_mm
    grid = torch.stack([(2 * x + 1) / columns - 1, (2 * y + 1) / rows - 1], dim=-1)
    return _View(grid.float(), (spacing / row_mm, spacing / column_mm)), number


def _render(slice_2d: np.ndarray, view: _View, fill: float = -1.0) -> Tensor:
    """Bilinear values (P, P) of a slice, averaged first where the patch is much coarser than the slice."""
    source = torch.from_numpy(np.ascontiguousarray(slice_2d, dtype=np.float32))[None, None]
    steps = [round(reduction) if reduction >= 1.5 else 1 for reduction in view.reductions]
    if max(steps) > 1:
        size = [max(1, round(n / step)) for n, step in zip(source.shape[-2:], steps, strict=True)]
        source = F.interpolate(source, size=size, mode="area")
    # Outside of the scan is air: sampled as a difference to it, so that zero padding means air.
    sampled = F.grid_sample(source - fill, view.grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled[0, 0] + fill


def _render_labels(slice_2d: np.ndarray, view: _View) -> Tensor:
    source = torch.from_numpy(np.ascontiguousarray(slice_2d).astype(np.float32))[None, None]
    sampled = F.grid_sample(source, view.grid[None], mode="nearest", padding_mode="zeros", align_corners=False)
    return sampled[0, 0].long()
