"""A made-up abdominal CT with its label map: the data for demonstrations and tests, free of patients and licenses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.phantom_canvas import WHOLE, Array, Box, Canvas, vessel_tree, wander
from PromptSegLib.imaging.volume import Geometry, Volume

LABELS: dict[str, int] = {
    "background": 0,
    "subcutaneous fat": 1,
    "muscle": 2,
    "visceral fat": 3,
    "lungs": 4,
    "liver": 5,
    "liver lesion": 6,
    "gallbladder": 7,
    "spleen": 8,
    "left kidney": 9,
    "right kidney": 10,
    "stomach": 11,
    "bowel": 12,
    "gas": 13,
    "pancreas": 14,
    "aorta": 15,
    "vena cava": 16,
    "spine": 17,
    "spinal canal": 18,
    "ribs": 19,
    "heart": 20,
    "skin": 21,
    "mesenteric vessels": 22,
}


@dataclass(frozen=True)
class Phantom:
    """A made-up scan.

    Attributes:
        image: (slices, rows, columns) int16, HU.
        labels: the same grid, uint8, numbered as in `LABELS`.
    """

    image: Volume
    labels: Volume


def make_phantom(
    seed: int = 0,
    shape: tuple[int, int, int] = (64, 192, 192),
    spacing: tuple[float, float, float] = (4.0, 1.8, 1.8),
) -> Phantom:
    """Draw the abdomen of patient number `seed`.

    The anatomy does not depend on the grid: a smaller field of view crops it, a coarser grid samples it. Texture and
    noise do depend on it. The grid is axial LPS with its center at LPS (0, 0, 0): slices run to superior, rows to
    posterior, columns to the patient's left, so that the liver is at low column indices.

    Args:
        seed: which patient; the same seed, shape and spacing give the same voxels.
        shape: voxels along (slices, rows, columns).
        spacing: mm in the same order.

    Raises:
        InputError: if a shape or a spacing is not positive.
    """
    origin = tuple(-0.5 * (n - 1) * step for n, step in zip(shape[::-1], spacing[::-1], strict=True))
    geometry = Geometry(shape, spacing, (origin[0], origin[1], origin[2]))
    if seed < 0:
        raise InputError(f"A phantom's seed must not be negative, but it is {seed}.")
    canvas = Canvas(geometry, seed)
    _draw_body(canvas)
    _draw_chest(canvas)
    _draw_bowel(canvas)
    _draw_upper_organs(canvas)
    _draw_kidneys(canvas)
    _draw_great_vessels(canvas)
    _draw_spine(canvas)
    _draw_ribs(canvas)
    _draw_table(canvas)
    return Phantom(Volume(canvas.scan(), geometry), Volume(canvas.labels, geometry))


def _draw_body(c: Canvas) -> None:
    """Skin, subcutaneous fat, the muscular wall with its fat planes, and fat inside."""
    rng, wall = c.rng, c.wall
    angle = np.arctan2(c.x, -c.y)  # 0 in front, +-pi at the back
    fat = rng.uniform(7, 26)
    front = rng.uniform(0.9, 1.5)
    fat_mm = fat * (0.75 + 0.25 * front * np.cos(angle)) + 4 + 1.5 * c.wobble
    muscle_mm = rng.uniform(11, 15) - 3.0 * np.exp(-((c.x / 9) ** 2)) * (c.y < 0) + 1.2 * c.wobble
    back = c.y > 0
    # The muscles beside the spine, and the furrow between them.
    muscle_mm += 10 * np.exp(-((c.x / 62) ** 4)) * back
    outside = wall - muscle_mm - fat_mm + 6 * np.exp(-((c.x / 14) ** 2)) * back
    c.paint(LABELS["skin"], WHOLE, outside, 20.0, 15)
    c.paint(LABELS["subcutaneous fat"], WHOLE, outside + 2.2, -104.0, 5)
    # Fibrous strands.
    strands = np.abs(c.ripple + 0.3 * c.grain)
    c.hu += np.where((outside < -4) & (strands < 0.07), 28, 0).astype(np.float32)
    c.paint(LABELS["muscle"], WHOLE, wall - muscle_mm, 56.0, 7)
    # Three flat muscles at the flank, one layer of fat between each two.
    flank = np.exp(-((np.abs(angle) - 1.7) ** 2) / 0.35)
    for depth in (0.36, 0.68):
        plane = np.abs(wall - muscle_mm * depth - 0.8 * c.ripple) - 0.9 * flank
        c.paint(None, WHOLE, plane, -60.0, 4)
    c.paint(LABELS["visceral fat"], WHOLE, wall, -105.0, 6)
    for side in (-1, 1):
        lean = rng.uniform(0.9, 1.2)
        columns = ((33, 92, 33, 22), (62, 80, 19, 15))
        for x, y, width, depth in columns:
            box, d = c.ellipsoid((side * x, y, 0), (width * lean, depth * lean, 600))
            c.paint(LABELS["muscle"], box, np.maximum(d + c.ripple[box], outside[box] + 6), 58.0, 12)
        psoas = np.array([(side * (18 + 14 * t), 52 - 8 * t, 40 - 180 * t) for t in np.linspace(0, 1, 6)])
        box, d = c.tube(psoas, np.linspace(6, 24 * lean, 6), 8)
        c.paint(LABELS["muscle"], box, d + 1.2 * c.ripple[box], 60.0, 8)


def _dome(c: Canvas, box: Box) -> Array:
    """Height in mm of the diaphragm: low along the wall, above all behind, and a little lower on the left."""
    recess = (52 + 0.28 * c.y[box]) * np.exp(np.minimum(c.wall[box], 0) / 13)
    height: Array = 92 - recess - 0.05 * c.x[box] + 3 * c.wobble[box]
    return height


def _draw_chest(c: Canvas) -> None:
    """The bases of the lungs and the heart."""
    lungs = np.maximum(_dome(c, WHOLE) - c.z, c.wall + 2)
    box, mediastinum = c.ellipsoid((5, 42, 125), (34, 40, 120))
    lungs[box] = np.maximum(lungs[box], -mediastinum)
    branches = np.abs(c.ripple) < 0.09
    value = -850 + 60 * c.wobble + np.where(branches & (c.grain > 0.4), 560, 0)
    c.paint(LABELS["lungs"], WHOLE, lungs, value, 25)
    center = c.vary((28, -30, 142), 5)
    for label, grow, hu in ((None, 4, -95.0), (LABELS["heart"], 0, 95.0)):
        box, d = c.ellipsoid(center, (58 + grow, 44 + grow, 46 + grow))
        c.paint(label, box, np.maximum(d, c.wall[box] + 3), hu, 5)
    for offset, size in ((-20, 19), (18, 22)):
        box, d = c.ellipsoid(center + np.array((offset, 6, 0)), (size, size * 1.2, 30))
        c.paint(LABELS["heart"], box, d, 165.0, 5)


def _draw_gut(c: Canvas, label: int, box: Box, d: Array, content: float, wall_mm: float, gas_above: float) -> None:
    """A hollow organ: fat around it, its wall, what is in it, and gas on top of that.

    Args:
        gas_above: y in mm; gas rises to the front, so the lumen in front of it is filled with gas.
    """
    d = np.maximum(d + 1.2 * c.ripple[box], c.wall[box] + 4)
    c.paint(LABELS["visceral fat"], box, d - 2.2, -100.0)
    c.paint(label, box, d, 88.0, 6)
    c.paint(label, box, d + wall_mm, content, 6)
    c.paint(LABELS["gas"], box, np.maximum(d + wall_mm, c.y[box] - gas_above), -960.0, 8)


def _draw_bowel(c: Canvas) -> None:
    """Mesenteric vessels, loops of small bowel, and the colon as a frame around them."""
    rng = c.rng
    for _ in range(16):
        root = c.vary((0, 15, -30), 8)
        heading = rng.normal((0, -0.6, -0.4), (0.9, 0.5, 0.7))
        points = wander(rng, root, heading, 5, 15, 0.35)
        box, d = c.tube(points, np.linspace(2.4, 1.1, len(points)))
        c.paint(LABELS["mesenteric vessels"], box, np.maximum(d, c.wall[box] + 3), 135.0)
    places = list(product((-70, -42, -14, 14, 42, 70), (-64, -40, -14), (-125, -98, -71, -44, -17)))
    for i in rng.permutation(len(places)):
        if rng.random() < 0.12:
            continue
        points = wander(rng, c.vary(places[i], 8), rng.normal(0, 1, 3) * (1, 0.6, 0.5), 4, 11, 0.6)
        radius = rng.uniform(8, 13)
        box, d = c.tube(points, np.full(len(points), radius, np.float32), 8)
        gas = points[:, 1].min() - rng.uniform(-2, radius) if rng.random() < 0.25 else -500.0
        _draw_gut(c, LABELS["bowel"], box, d, rng.uniform(12, 60), rng.uniform(2.0, 3.2), gas)
    frame = [(-100, 22, -125), (-103, 14, -80), (-98, 2, -38), (-80, -32, -20), (-45, -62, -28), (0, -68, -36)]
    frame += [(45, -62, -22), (82, -38, 8), (104, 2, 22), (107, 22, -20), (105, 26, -70), (98, 22, -125)]
    points = np.array([c.vary(p, 5) for p in frame])
    radii = rng.uniform(14, 21, len(points)).astype(np.float32)
    t = np.linspace(0, len(points) - 1, 45)
    points = np.stack([ndimage.map_coordinates(points[:, k], [t], order=3, mode="nearest") for k in range(3)], 1)
    # Haustra: the colon narrows every few centimeters.
    radii = np.interp(t, np.arange(len(radii)), radii) * (1 + 0.12 * np.sin(2.6 * np.arange(45)))
    box, d = c.tube(points, radii, 8)
    stool = 25 + 45 * c.wobble[box] - np.where(c.grain[box] + c.ripple[box] > 1.1, 320, 0)
    d = np.maximum(d + 1.5 * c.ripple[box], c.wall[box] + 4)
    c.paint(LABELS["visceral fat"], box, d - 2.5, -100.0)
    c.paint(LABELS["bowel"], box, d, 82.0)
    c.paint(LABELS["bowel"], box, d + 2.4, stool, 25)
    level = c.wobble[box] * 9 + (c.y[box] + 54) * 0.5
    c.paint(LABELS["gas"], box, np.maximum(d + 3.0, level), -940.0, 8)


def _draw_upper_organs(c: Canvas) -> None:
    """Stomach, spleen, pancreas, liver with vessels, lesion and gallbladder."""
    rng = c.rng
    under = _dome(c, WHOLE)

    def inside(box: Box, d: Array, gap: float) -> Array:
        clipped: Array = np.maximum(np.maximum(d, c.wall[box] + gap), c.z[box] - under[box] + gap)
        return clipped

    size = rng.uniform(0.85, 1.2)
    body = np.array([c.vary(p, 4) for p in ((62, 10, 78), (66, -18, 52), (56, -42, 26), (28, -54, 8), (-2, -48, 4))])
    box, d = c.tube(body, np.array([26, 30, 26, 19, 12]) * size, 8)
    _draw_gut(c, LABELS["stomach"], box, inside(box, d, 5), rng.uniform(5, 45), 4.0, rng.uniform(-62, -32))

    pancreas = [(-36, -2, -4), (-20, -8, 6), (2, -12, 14), (28, -4, 22), (56, 12, 32), (74, 24, 38)]
    radii = np.array([13, 11, 8.5, 9, 9, 7]) * rng.uniform(0.85, 1.1)
    box, d = c.tube(np.array([c.vary(p, 3) for p in pancreas]), radii)
    c.paint(LABELS["pancreas"], box, d + 2.2 * c.ripple[box], 92.0, 12)

    size = rng.uniform(0.85, 1.25)
    center = c.vary((98, 32, 48), 4)
    box, d = c.ellipsoid(center, (30 * size, 44 * size, 48 * size))
    _, hilum = c.ellipsoid(center + np.array((-38, -14, -6)), (30, 42, 60), box=box)
    d = inside(box, np.maximum(d + 1.5 * c.wobble[box], -hilum), 4)
    c.paint(None, box, d - 1.5, -95.0)
    c.paint(LABELS["spleen"], box, d, 122.0, 5)
    _draw_liver(c, inside)


def _draw_liver(c: Canvas, inside: Callable[[Box, Array, float], Array]) -> None:
    """Two lobes, portal and hepatic veins, a lesion of odd shape and the gallbladder."""
    rng = c.rng
    size = rng.uniform(0.88, 1.12)
    right = c.vary((-72, 2, 34), 4)
    box = c.box(np.array((-150, -110, -90)), np.array((95, 110, 130)))
    _, d = c.ellipsoid(right, np.array((66, 80, 84)) * size, lean=0.12, box=box)
    _, left = c.ellipsoid(c.vary((4, -46, 54), 5), np.array((72, 36, 38)) * size, lean=-0.1, box=box)
    # A smooth union: the lobes flow into each other.
    h = np.clip(0.5 + (left - d) / 36, 0, 1)
    d = left + (d - left) * h - 18 * h * (1 - h)
    _, porta = c.ellipsoid((-18, 6, 12), (26, 34, 34), box=box)
    _, midline = c.ellipsoid((14, 50, 60), (46, 58, 120), box=box)
    d = inside(box, np.maximum(np.maximum(d + 2.5 * c.wobble[box], -porta), -midline), 4)
    c.paint(LABELS["visceral fat"], box, np.maximum(d - 1.5, -d - 1), -95.0)
    parenchyma = rng.uniform(92, 118)
    c.paint(LABELS["liver"], box, d, parenchyma, 5)

    veins = (
        ((-24, -2, 22), (-1, -0.1, 0.3), 6.5),
        ((-26, -6, 24), (0.4, -1, 0.6), 4.5),
        ((-12, 30, 82), (-1, -0.4, -0.6), 6.0),
    )
    for root, heading, radius in veins:
        for points, radii in vessel_tree(rng, c.vary(root, 3), np.array(heading), radius, 4):
            part, t = c.tube(points, radii, 2)
            c.paint(None, part, np.where(c.labels[part] == LABELS["liver"], t, 1e3), parenchyma + 62, 3)

    seat = c.vary(right + np.array((-8, -14, 4)), 9)
    lobes = np.array([c.vary(seat, 8) for _ in range(4)])
    part, t = c.tube(lobes, rng.uniform(8, 15, 4), 8)
    t = np.maximum(t + 3.0 * c.ripple[part] + 1.5 * c.wobble[part], inside(part, t, 7))
    c.paint(LABELS["liver lesion"], part, t, 84.0, 8)
    c.paint(LABELS["liver lesion"], part, t + 4, rng.uniform(38, 58), 9)

    bladder = np.array([(-40, -42, 12), (-46, -52, -6), (-50, -58, -22)]) + c.vary((0, 0, 0), 4)
    part, t = c.tube(bladder, np.array((6, 12, 15)) * rng.uniform(0.8, 1.2), 6)
    t = np.maximum(t, c.wall[part] + 4)
    c.paint(LABELS["gallbladder"], part, t - 1.2, 60.0)
    c.paint(LABELS["gallbladder"], part, t, 8.0, 3)


def _draw_kidneys(c: Canvas) -> None:
    """Kidneys in perirenal fat: cortex, pyramids, and a sinus with fat and the pelvis toward the spine."""
    for side, name, height in ((1, "left kidney", 4), (-1, "right kidney", -26)):
        size = c.rng.uniform(0.86, 1.12)
        center = c.vary((side * 66, 42, height), 4)
        radii = np.array((27, 27, 56)) * size
        # The upper poles lean to the spine.
        box, d = c.ellipsoid(center, radii, lean=-0.22 * side)
        d = np.maximum(d + 1.3 * c.wobble[box] + 0.8 * c.ripple[box], c.wall[box] + 3)
        _, sinus = c.ellipsoid(center - np.array((side * 19, 5, 0)) * size, np.array((20, 9, 27)) * size, box=box)
        sinus = sinus + 2.0 * c.ripple[box]
        c.paint(LABELS["visceral fat"], box, np.maximum(d - 9, c.wall[box] + 1), -102.0)
        # Gerota's fascia.
        c.paint(None, box, np.maximum(np.abs(d - 10) - 0.5, c.wall[box] + 2), -20.0)
        kidney = np.maximum(d, -sinus)
        cortex = c.rng.uniform(165, 195)
        c.paint(LABELS[name], box, kidney, cortex, 5)
        around = np.arctan2(c.z[box] - center[2], side * (c.x[box] - center[0]))
        columns = 3.0 * np.cos(9 * around)
        c.paint(None, box, np.maximum(d + 8 + columns, 1.5 - sinus), cortex - 75, 6)
        pelvis = np.array([center - (side * 6, 4, 0), center - (side * 26, 6, 6), center - (side * 34, 2, 40)])
        part, t = c.tube(pelvis, np.array((6.5, 5, 2.2)) * size)
        c.paint(None, part, t, 14.0, 3)


def _draw_great_vessels(c: Canvas) -> None:
    """Aorta with calcified plaques, vena cava, renal vessels, and the crura of the diaphragm beside them."""
    rng = c.rng
    heights = np.linspace(150, -140, 12)
    fork = np.clip((-heights - 95) / 45, 0, 1)
    wind = 4 * np.sin(heights / 45 + rng.uniform(0, 6))
    radius = rng.uniform(8.5, 11.5)
    for side in (-1, 1):
        crus = np.array([(side * 14 + 3, 24 + 0.02 * z, z) for z in np.linspace(90, -20, 6)])
        box, d = c.tube(crus, np.linspace(6.5, 3, 6))
        c.paint(LABELS["muscle"], box, d, 60.0, 6)
        renal = np.array([(4, 26, 2), (side * 30, 30, -2), (side * 48, 38, -4)])
        for shift, size, hu in ((0, 3.0, 175.0), (-6, 4.5, 160.0)):
            box, d = c.tube(renal + np.array((0, shift, 0)), np.full(3, size))
            c.paint(LABELS["mesenteric vessels"], box, d, hu, 3)
    for side in (-1, 1):
        path = np.stack([9 + 0.4 * wind + side * 24 * fork, 30 + 4 * fork, heights], 1)
        box, d = c.tube(path, radius * (1 - 0.32 * fork) - 0.01 * (heights < 0) * -heights)
        c.paint(LABELS["aorta"], box, d, 182.0, 3)
        plaque = np.abs(d + 1.2) - 1.0 + 2.2 * (c.ripple[box] < 1.35)
        c.paint(None, box, plaque, 620.0, 60)
        front = 30 + 8 * fork - 0.06 * np.maximum(heights, 0)
        path = np.stack([-18 + 0.3 * wind + side * 20 * fork, front, heights], 1)
        box, d = c.tube(path, (rng.uniform(10, 12.5) + 0.03 * heights) * (1 - 0.3 * fork))
        c.paint(LABELS["vena cava"], box, d, 158.0, 5)
    mesenteric = np.array([(6, 22, 18), (6, 8, 6), (4, 0, -30), (-8, -4, -90)])
    for offset, size, hu in (((0, 0, 0), 3.8, 178.0), ((-14, -3, 0), 5.5, 168.0)):
        box, d = c.tube(mesenteric + np.array(offset), np.linspace(size, 2, 4))
        c.paint(LABELS["mesenteric vessels"], box, d, hu, 3)


def _draw_spine(c: Canvas) -> None:
    """Vertebrae with a cortical shell, discs, the canal with the cord, arches and processes."""
    rng = c.rng
    length = rng.uniform(31, 37)
    size = rng.uniform(0.9, 1.1)
    box = c.box(np.array((-60, 20, -400)), np.array((60, 150, 400)))
    x = c.x[box]
    # Lordosis.
    y = c.y[box] - 58 + 5 * np.cos(c.z[box] / 80)
    u = np.mod(c.z[box] + rng.uniform(0, length), length) - 0.5 * length
    end = 0.5 * length - 3.5
    waist = size * (0.90 + 0.10 * np.minimum(u / end, 1) ** 2)
    # The back of a vertebral body is flat.
    body = np.maximum(np.hypot(x / 1.3, np.where(y > 0, 0.75 * y, y)) - 17 * waist, y - 14 * size) + 0.5 * c.ripple[box]
    vertebra = np.maximum(body, np.abs(u) - end)
    spine = LABELS["spine"]
    c.paint(spine, box, body, 88.0, 6)
    canal_y = y - 24 * size
    arch = np.hypot(x, canal_y)
    bone = np.maximum(np.abs(arch - 12.5 * size) - 3.2, np.abs(u + 2) - 9)
    bone = np.minimum(bone, np.hypot(np.abs(x) - 17, canal_y - 7) - 7.5 + 1.5 * np.abs(c.ripple[box]))
    spinous = np.maximum(np.maximum(np.abs(x) - 2.8, np.abs(canal_y - 20) - 9), np.abs(u + 4 + 0.2 * canal_y) - 8)
    wings = np.maximum(np.abs(x) - 42, np.hypot(canal_y + 1 - 0.12 * np.abs(x), u) - 4.5 + 0.04 * np.abs(x))
    wings = np.maximum(wings, 14 - np.abs(x))
    bone = np.minimum(np.minimum(bone, spinous), wings)
    marrow = rng.uniform(130, 210)
    for part, shell in ((bone, 2.6), (vertebra, 1.9)):
        c.paint(spine, box, part, 520.0, 60)
        c.paint(spine, box, part + shell, marrow + 25 * c.grain[box], 25)
    canal = arch - 9.5 * size
    c.paint(LABELS["spinal canal"], box, canal, -15.0, 4)
    c.paint(LABELS["spinal canal"], box, canal + 1.8, 16.0, 3)
    c.paint(LABELS["spinal canal"], box, canal + 4.6, 40.0, 3)


def _draw_ribs(c: Canvas) -> None:
    """Ribs along the wall, falling toward the front."""
    rng = c.rng
    near = np.flatnonzero((np.abs(c.wall - 6) < 11).ravel() & (c.z > -110).ravel())
    x, y, z, wall = (field.ravel()[near] for field in (c.x, c.y, c.z, c.wall))
    # 0 at the spine, 1 at the front.
    round_ = np.abs(np.arctan2(np.abs(x), y + 15)) / np.pi
    nearest = np.full(len(near), 1e3, np.float32)
    gap = rng.uniform(24, 29)
    for side in (-1, 1):
        for k in range(11):
            stop = min(0.30 + 0.13 * k, 0.8) + rng.uniform(-0.03, 0.03)
            height = 8 + gap * k + rng.normal(0, 1.5) - 190 * np.maximum(round_ - 0.1, 0) ** 1.1
            d = (np.hypot((wall - 6) / 3.6, (z - height) / 7.5) - 1) * 3.6
            d = np.maximum(d, 400 * np.maximum(round_ - stop, 0.08 - round_))
            nearest = np.where(x * side > 0, np.minimum(nearest, d), nearest)
    distance = np.full(c.hu.size, 1e3, np.float32)
    distance[near] = nearest
    distance = distance.reshape(c.hu.shape)
    c.paint(LABELS["ribs"], WHOLE, distance, 560.0, 60)
    c.paint(LABELS["ribs"], WHOLE, distance + 2.0, 210.0, 30)


def _draw_table(c: Canvas) -> None:
    """The scanner's table: a bent shell of carbon fiber around foam, with a mattress on it."""
    rows = np.flatnonzero((c.labels > 0).any(axis=(0, 2)))
    if len(rows) == 0:
        return
    x, y = c.scanner_x, c.scanner_y
    below = y - y[rows[-1]] + (x / 42) ** 2
    width = np.abs(x) - 205
    outside = c.labels == 0
    for depth, half, hu in ((5, 5, -870.0), (30, 20, -945.0), (10.5, 1.4, 90.0), (49, 1.4, 90.0)):
        slab = np.maximum(np.abs(below - depth) - half, width)
        c.paint(None, WHOLE, np.where(outside, slab, 1e3).astype(np.float32), hu, 6)
