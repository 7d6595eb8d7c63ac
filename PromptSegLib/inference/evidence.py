"""What a drawing says of the rest of its scan, beside the network: by what lies around it, and by its shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np

from PromptSegLib.imaging.volume import SliceStack, Volume
from PromptSegLib.imaging.window import Window
from PromptSegLib.inference.drawn import Drawn, fuse
from PromptSegLib.inference.neighborhood import Place
from PromptSegLib.inference.surrounding_logits import SurroundingLogits


class DrawingEvidence:
    """Of the drawing of one label.

    Args:
        image: the scan; ``stack`` of its slices.
        window: of its intensities, as the network sees them.
        drawn: on it, of any label.
        place: the box around what was drawn with ``label``.
        shape_alone: whether what lies around is left out.
        check: called often, and may raise to end it.
    """

    def __init__(
        self,
        image: Volume,
        stack: SliceStack,
        window: Window,
        drawn: Drawn,
        label: int,
        place: Place,
        *,
        shape_alone: bool = False,
        check: Callable[[], None] = lambda: None,
    ):
        self._shape = drawn.shape(label, stack)
        self._shape_alone = shape_alone
        self._ask = partial(SurroundingLogits.of, image, stack, window, drawn, label, place, check)

    def beside(self, logits: np.ndarray, part: slice) -> np.ndarray:
        """The network's calibrated logits (n, rows, columns) of the slices ``part``, with what the drawing says."""
        if not self._shape_alone and self._surroundings is not None:
            logits = self._surroundings.beside(logits, part)
        return logits if self._shape is None else fuse(logits, self._shape, part)

    @cached_property
    def _surroundings(self) -> SurroundingLogits | None:
        return self._ask()
