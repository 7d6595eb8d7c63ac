"""Random label maps that are built as bodies are: layers around a cavity, bones, paired organs, walls, vessels.

No organ is any patient's. What they teach is what holds for all of them: that a structure is one thing although its
contrast changes, that its two sides look alike and are not the same, and that place and neighbors tell what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from PromptSegLib.learning.pretraining.synthetic_shapes import (
    Blob,
    Grid,
    Mask,
    Outline,
    Outlines,
    Vector,
    bounding_box,
    depth_below,
    largest_piece,
    tube_mask,
    wander,
)

Kind = Literal["air", "layer", "cavity", "bone", "organ", "wall", "lumen", "lesion", "tube"]

REAL_BODY_SHARE = 0.4
REAL_ORGAN_SHARE = 0.4
_MIN_PIXELS = 16
_MIN_VISIBLE = 0.5


@dataclass(frozen=True)
class LabelEnsemble:
    """A label map of (rows, columns) or (rows, columns, slices).

    Attributes:
        labels: uint8; 0 is the air around the body.
        kinds: what each label is.
        tissues: (labels,) what each label is made of: the two sides of a pair, or all ribs, are of one tissue.
        lumens: label of a lumen to the label of the wall that surrounds it.
    """

    labels: NDArray[np.uint8]
    kinds: tuple[Kind, ...]
    tissues: NDArray[np.int64]
    lumens: dict[int, int]


def draw_anatomy(
    rng: np.random.Generator, shape: Sequence[int], outlines: Outlines | None = None, slice_spacing: float = 1.0
) -> LabelEnsemble:
    """A random body on a grid of 2-D (rows, columns) or 3-D (rows, columns, slices) with slices ``slice_spacing``
    pixels apart. outlines: real bodies and organs to mix in."""
    scene = _Scene(rng, Grid.bent(rng, shape, slice_spacing), outlines)
    scene.draw_body()
    scene.draw_bones()
    scene.draw_organs()
    scene.draw_vessels()
    return LabelEnsemble(scene.labels, tuple(scene.kinds), np.array(scene.tissues), scene.lumens)


class _Scene:
    """The label map under way. Places in the body run from -1 to 1, front to back and side to side."""

    def __init__(self, rng: np.random.Generator, grid: Grid, outlines: Outlines | None):
        self.rng, self.grid, self.outlines = rng, grid, outlines
        self.dimensions = len(grid.shape)
        self.labels = np.zeros(grid.shape, np.uint8)
        self.kinds: list[Kind] = ["air"]
        self.tissues = [0]
        self.lumens: dict[int, int] = {}
        # From a close look at one region to a body that fills half of the picture.
        radius = grid.extent[0] * np.exp(rng.uniform(np.log(0.28), np.log(0.8)))
        self.radii = np.full(self.dimensions, radius)
        self.radii[0] *= rng.uniform(0.6, 1.0)
        self.center = grid.extent / 2
        self.center[:2] += rng.uniform(-0.6, 0.6, 2) * np.maximum(self.radii[:2] - 0.25 * grid.extent[:2], 0)
        self.free: Mask = np.ones(grid.shape, bool)
        # Nothing that is thicker lets pixels touch through it, not even corner to corner.
        self.thinnest = 1.05 * float(np.linalg.norm(grid.spacing))

    def add(self, mask: Mask, kind: Kind, tissue: int | None = None) -> int:
        """Paint a structure; without a ``tissue`` it is of a new one. Returns its label."""
        label = len(self.kinds)
        self.kinds.append(kind)
        self.tissues.append(max(self.tissues) + 1 if tissue is None else tissue)
        self.labels[mask] = label
        self.free &= ~mask
        return label

    def place(self, front_to_back: float, side: float) -> Vector:
        middle = np.array([front_to_back, side, self.rng.uniform(-1, 1)])[: self.dimensions]
        reach = np.append(self.radii[:2], self.grid.extent[2:] / 2)
        placed: Vector = self.center + middle * reach
        return placed

    def draw_body(self) -> None:
        """Its outline, layers along it such as skin, fat and muscle, and the cavity that they enclose."""
        rng, outline = self.rng, None
        if self.outlines is not None and rng.random() < REAL_BODY_SHARE:
            outline = self.outlines.body(rng, self.dimensions)
        if outline is not None:
            body = outline.mask(self.grid, self.center, float(self.radii.max()), rng.uniform(-0.2, 0.2))
        else:
            # Endless along the slices: a patch shows a part of a trunk or a head.
            radii = np.append(self.radii[:2], self.grid.extent[2:] * 10)
            body = Blob(self.center, radii, rng.uniform(-0.2, 0.2), rng.uniform(2, 3.2), 0.05, 0.01).mask(self.grid)
        if body.sum() < _MIN_PIXELS:
            body = np.ones(self.grid.shape, bool)
        self.free &= body
        depth = depth_below(body, self.grid.spacing)
        depth += (1.5 * self.grid.wobble + 0.4 * self.grid.ripple) * (depth > 1.5 * self.thinnest)
        lower = 0.0
        for _ in range(rng.integers(0, 4)):
            thickness = max(self.thinnest, 0.16 * self.radii[0] * np.exp(rng.uniform(-2.5, 0)))
            layer = body & (depth <= lower + thickness) & self.free
            lower += thickness
            if layer.sum() >= _MIN_PIXELS and lower < 0.5 * self.radii[0]:
                self.add(layer, "layer")
        rest = self.free.copy()
        self.cavity = self.add(rest, "cavity")
        self.free = rest

    def draw_bones(self) -> None:
        """A spine behind the middle, marrow or a canal within, and a row of ribs along the wall."""
        rng, bone = self.rng, None
        if rng.random() < 0.6:
            center, radius = self.place(rng.uniform(0.3, 0.75), rng.normal(0, 0.03)), rng.uniform(0.1, 0.24)
            blob = self.blob(center, radius * self.radii[0], stretch=1.4)
            found = self.add_visible(blob.mask(self.grid), "bone", None, hollow=rng.random() < 0.6)
            bone = None if found is None else self.tissues[found]
        if rng.random() < 0.5:
            count, start = int(rng.integers(5, 15)), rng.uniform(0, 2 * np.pi)
            depth, radius = rng.uniform(0.7, 0.92), rng.uniform(0.03, 0.08) * self.radii[0]
            for angle in start + np.arange(count) * 2 * np.pi / count:
                center = self.place(-depth * np.cos(angle), depth * np.sin(angle))
                radii = np.array([1.0, rng.uniform(1, 3), 3.0])[: self.dimensions] * max(radius, 1.2)
                mask = Blob(center, radii, -angle, 2.5, 0.1, 0.05).mask(self.grid)
                found = self.add_visible(mask, "bone", bone)
                bone = self.tissues[found] if bone is None and found is not None else bone

    def draw_organs(self) -> None:
        """Organs of all sizes, made up or real, some of them in pairs, hollow, or with a lesion."""
        rng = self.rng
        for _ in range(rng.integers(8, 30)):
            side, paired = rng.uniform(-0.8, 0.8), rng.random() < 0.3
            outline = None
            if self.outlines is not None and rng.random() < REAL_ORGAN_SHARE:
                outline = self.outlines.organ(rng, self.dimensions)
            height, radius = rng.uniform(-0.8, 0.7), np.exp(rng.uniform(np.log(0.05), np.log(0.5))) * self.radii[0]
            angle, hollow, tissue = rng.uniform(-np.pi, np.pi), rng.random() < 0.3, self.known_tissue()
            blob = self.blob(self.place(height, side), radius)
            for mirrored in (False, True)[: 1 + paired]:
                center = self.place(height + rng.normal(0, 0.04), -side if mirrored else side)
                turn = (-1 if mirrored else 1) * angle + rng.normal(0, 0.1)
                mask = self.organ(blob, outline, center, max(radius, 2.5), turn, mirrored)
                found = self.add_visible(mask, "organ", tissue, hollow)
                tissue = tissue if found is None else self.tissues[found]

    def organ(
        self, blob: Blob, outline: Outline | None, center: Vector, radius: float, angle: float, mirrored: bool
    ) -> Mask:
        if outline is not None:
            return outline.mask(self.grid, center, radius, 0.3 * angle, mirrored)
        mask = replace(blob, center=center, angle=angle).mask(self.grid)
        if blob.squareness < 2.3:
            # A hilum: the side where vessels enter is hollowed out.
            offset = np.zeros(self.dimensions)
            offset[:2] = 0.9 * radius * np.array([np.cos(angle), np.sin(angle)])
            mask &= ~replace(blob, center=center + offset, radii=blob.radii * 0.6).mask(self.grid)
        return mask

    def blob(self, center: Vector, radius: float, stretch: float = 2.5) -> Blob:
        rng = self.rng
        radii = max(radius, 2.5) * np.exp(rng.uniform(-1, 1, self.dimensions) * np.log(stretch) / 2)
        return Blob(center, radii, rng.uniform(-np.pi, np.pi), rng.uniform(1.8, 3.5), rng.uniform(0, 0.2), 0.05)

    def known_tissue(self) -> int | None:
        """Sometimes what another organ is made of already: a look-alike elsewhere."""
        organs = [tissue for tissue, kind in zip(self.tissues, self.kinds, strict=True) if kind == "organ"]
        return int(self.rng.choice(organs)) if organs and self.rng.random() < 0.3 else None

    def add_visible(self, mask: Mask, kind: Kind, tissue: int | None, hollow: bool = False) -> int | None:
        """Paint what of a structure lies in the cavity and behind nothing else, unless that is too little of it."""
        visible = largest_piece(mask & self.free)
        count = int(visible.sum())
        if count < max(_MIN_PIXELS, _MIN_VISIBLE * int(mask.sum())):
            return None
        label = self.add(visible, kind, tissue)
        if hollow:
            self.add_lumen(visible, label)
        elif kind == "organ" and count > 200 and self.rng.random() < 0.3:
            self.add_lesion(visible)
        return label

    def add_lumen(self, mask: Mask, wall: int) -> None:
        depth = depth_below(mask, self.grid.spacing)
        thickness = max(self.thinnest, self.rng.uniform(0.1, 0.5) * float(depth.max()))
        lumen = depth > thickness
        if lumen.sum() >= _MIN_PIXELS:
            if self.kinds[wall] == "organ":
                self.kinds[wall] = "wall"
            self.lumens[self.add(lumen, "lumen")] = wall

    def add_lesion(self, organ: Mask) -> None:
        pixels = np.argwhere(organ)
        center = pixels[self.rng.integers(len(pixels))] * np.array(self.grid.spacing)
        edge = max(s.stop - s.start for s in bounding_box(organ))
        lesion = largest_piece(self.blob(center, edge * self.rng.uniform(0.06, 0.2)).mask(self.grid) & organ)
        if lesion.sum() >= _MIN_PIXELS:
            self.add(lesion, "lesion")

    def draw_vessels(self) -> None:
        """Tubes over all else within the body; no tube cuts another one."""
        rng, inside = self.rng, self.labels > 0
        tissues: list[int] = []
        for _ in range(rng.integers(0, 7)):
            radius = float(np.exp(rng.uniform(np.log(1.2), np.log(max(1.4, 0.07 * self.radii[0])))))
            step, count = 2.5 * radius + 0.04 * self.radii[0], int(rng.integers(3, 10))
            heading = rng.standard_normal(self.dimensions)
            points = wander(rng, self.place(*rng.uniform(-0.7, 0.7, 2)), heading, count, step, rng.uniform(0.1, 0.5))
            tube = tube_mask(self.grid, points, np.linspace(radius, rng.uniform(0.5, 1) * radius, len(points)))
            tube = largest_piece(tube & inside)
            if tube.sum() >= _MIN_PIXELS:
                tissue = int(rng.choice(tissues)) if tissues and rng.random() < 0.5 else None
                label = self.add(tube, "tube", tissue)
                tissues.append(self.tissues[label])
                inside &= ~tube
