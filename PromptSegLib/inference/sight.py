"""How tokens of one plane, working spacing and window see the slices of a scan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.imaging.volume import SliceStack, Volume, stack_of_plane
from PromptSegLib.imaging.window import KIND_NAMES, Window, kind_of, window_for
from PromptSegLib.imaging.working_grid import BLOCK, Box, WorkingGrid, body_box
from PromptSegLib.tokens.class_token import ClassToken

if TYPE_CHECKING:
    from typing_extensions import Self

BLOCK_SLICES = 8
"""Slices that are seen in one box around the body."""


@dataclass(frozen=True)
class SeenBlock:
    """Slices seen in one box around the body.

    part: of the stack; box: None where there is only air; tiles: (n, 1, h, w) on the backbone's device.
    """

    part: slice
    box: Box | None
    tiles: Tensor


@dataclass(frozen=True)
class Sight:
    """A stack of slices, the grid that each of them is brought to, and the window of intensities."""

    stack: SliceStack
    grid: WorkingGrid
    window: Window

    @classmethod
    def of(cls, image: Volume, plane: str, spacing_mm: float, kind: str) -> Self:
        """plane, spacing_mm, and the kind of window, as in a `ClassToken`."""
        stack = stack_of_plane(image, plane)
        grid = WorkingGrid((stack.shape[1], stack.shape[2]), stack.spacing[1:], spacing_mm)
        return cls(stack, grid, window_for(image.array, kind))

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for sights that see a scan in the same way."""
        return (self.stack.plane, self.grid, self.window)

    def block(self, image: Volume, start: int, device: torch.device) -> SeenBlock:
        """The block that begins with slice ``start``: always of the same slices, whatever memory allows, since those
        of one are seen in one box."""
        source = self.stack.view(image.array)
        part = slice(start, min(start + BLOCK_SLICES, len(source)))
        windowed = torch.from_numpy(np.ascontiguousarray(self.window.apply(source[part])))
        images = self.grid.to_working(windowed)
        box = body_box(images, BLOCK)
        tiles = images[:, None] if box is None else box.cut(images, -1.0)[:, None].to(device)
        return SeenBlock(part, box, tiles)


def kind_warnings(tokens: Iterable[ClassToken], image: Volume) -> list[str]:
    """A sentence for each token that was learned on scans of another kind than this one."""
    kind = kind_of(image.array)
    return [
        f"'{token.name}' was learned on {KIND_NAMES[token.window.kind]}, and this does not look like such a scan: "
        "look closely at what is found"
        for token in tokens
        if token.window.kind != kind
    ]
