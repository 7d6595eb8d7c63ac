"""Draws the icon: a stack of slices with an organ, drawn on the middle one and found on the others.

python -m Testing.extension.icon
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
ICONS = (ROOT / "Resources" / "Icons" / "PromptSeg.png", ROOT / "PromptSeg" / "Resources" / "Icons" / "PromptSeg.png")
SIZE = 128
SUPERSAMPLING = 8

BACKGROUND = (18, 46, 84, 255)
SLICE = (70, 104, 148, 255)
SLICE_EDGE = (205, 221, 240, 255)
FOUND = (86, 190, 245, 255)
DRAWN = (255, 196, 40, 255)
ORGAN_EDGE = (255, 255, 255, 255)

HALF_WIDTH, HALF_DEPTH = 54.0, 21.0
SLICES = ((92.0, 15.0, FOUND), (64.0, 22.0, DRAWN), (36.0, 15.0, FOUND))
"""From the lowest to the highest: height of the center in pixels from the top, radius of the organ, its color."""


def draw() -> Image.Image:
    """RGBA image of SIZE x SIZE pixels."""
    image = Image.new("RGBA", (SIZE * SUPERSAMPLING,) * 2)
    ImageDraw.Draw(image).rounded_rectangle(_scaled(0, 0, SIZE - 0.2, SIZE - 0.2), 24 * SUPERSAMPLING, BACKGROUND)
    pen = ImageDraw.Draw(image)
    for height, radius, color in SLICES:
        corners = ((-HALF_WIDTH, 0), (0, -HALF_DEPTH), (HALF_WIDTH, 0), (0, HALF_DEPTH))
        _outline(pen, [(SIZE / 2 + x, height + y) for x, y in corners], SLICE, SLICE_EDGE, 1.8)
        _outline(pen, [(SIZE / 2 + x, height + y) for x, y in _organ(radius)], color, ORGAN_EDGE, 2.4)
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _organ(radius: float) -> list[tuple[float, float]]:
    """A circle that lies in the slice, in the slice's perspective."""
    angles = (2 * math.pi * step / 180 for step in range(180))
    return [(1.35 * radius * math.cos(angle), 0.52 * radius * math.sin(angle)) for angle in angles]


def _outline(
    pen: ImageDraw.ImageDraw,
    points: list[tuple[float, float]],
    fill: tuple[int, int, int, int],
    edge: tuple[int, int, int, int],
    width: float,
) -> None:
    scaled = [(x * SUPERSAMPLING, y * SUPERSAMPLING) for x, y in points]
    pen.polygon(scaled, fill=fill)
    pen.line([*scaled, scaled[0], scaled[1]], fill=edge, width=round(width * SUPERSAMPLING), joint="curve")


def _scaled(*values: float) -> tuple[float, ...]:
    return tuple(value * SUPERSAMPLING for value in values)


if __name__ == "__main__":
    for path in ICONS:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw().save(path, optimize=True)
