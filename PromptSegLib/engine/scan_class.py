"""One class on one scan: what is drawn of it, its token, and what was found with that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from PromptSegLib.engine.drawings import as_annotation, is_painted, share_near
from PromptSegLib.engine.messages import Box, ClassInfo, SegmentedClass, SliceDrawing
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.found import most_apart_mm
from PromptSegLib.learning.anatomy import FoundStructure, as_found
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.tokens.class_token import ClassToken
from PromptSegLib.tokens.recognition import Profile


@dataclass
class ScanClass:
    """What a session knows of a class."""

    info: ClassInfo
    drawing: SliceDrawing | None = None
    token: ClassToken | None = None
    is_learned_here: bool = False
    """Whether the token was last learned from a drawing on this scan."""
    is_told_by_result: bool = False
    """Whether the token has height, size and shape from what was found with it, since the drawing did not show them."""
    found: tuple[bytes, Box] | None = None
    """Digest of the token that last found something where nothing was drawn, and where."""
    doubt: tuple[int, np.ndarray] | None = None
    """Array axis of the last segmentation's slices, and how many pixels of each it left undecided."""
    ahead: Iterator[bool] = field(default_factory=lambda: iter(()))
    """Yields once per slice that the backbone looked at before anybody asked for it."""

    @property
    def is_painted(self) -> bool:
        """Whether any drawn slice shows it."""
        return self.drawing is not None and is_painted(self.drawing)

    def leave_scan(self) -> None:
        """Drop all but the token."""
        self.drawing = self.doubt = self.found = None
        self.is_learned_here = False
        self.ahead = iter(())

    def drawn_scan(self, image: Volume) -> DrawnScan:
        """What is drawn of it, to learn from."""
        assert self.drawing is not None
        return DrawnScan(image, as_annotation(self.drawing, image, self.info.name))

    def is_elsewhere(self, image: Volume, profile: Profile) -> bool:
        """Whether most of what is drawn lies far from all that a token of other scans found: then it is another
        structure, of which the token knows nothing, whatever it is called. False where that is not known.

        profile: of the scan.
        """
        token, drawing, found = self.token, self.drawing, self.found
        if token is None or drawing is None or found is None or found[0] != _digest(token):
            return False
        if not token.is_of_others(profile):
            return False
        margins_mm = most_apart_mm(token.shapes, np.array(image.geometry.direction))
        return share_near(drawing, found[1], margins_mm, image.geometry.spacing) < 0.5

    def take_result(self, result: SegmentedClass, doubt: np.ndarray, image: Volume) -> bytes | None:
        """Keep what the token found, and tell it what the drawing did not show of the structure.

        Args:
            doubt: how many pixels of each slice across ``result.axis`` are undecided.

        Returns:
            The token file's content if the result changed it.
        """
        self.doubt = (result.axis, doubt)
        if self.token is not None and result.mask.any() and not self.is_painted:
            self.found = _digest(self.token), result.box
        return self._told_by(result, image)

    def _told_by(self, result: SegmentedClass, image: Volume) -> bytes | None:
        """Let the token know height, size and shape of what was found on the scan that it was learned from, if its
        drawing did not show them; returns its file's content if it changed."""
        token, drawing = self.token, self.drawing
        if token is None or drawing is None or not self.is_learned_here or not result.mask.any():
            return None
        if token.size is not None and not self.is_told_by_result:
            return None
        showing = [index for index, plane in drawing.planes.items() if (plane == 1).any()]
        found = FoundStructure(image, result.box, result.mask, result.ml, drawing.axis, showing)
        self.token, self.is_told_by_result = as_found(token, [found]), True
        content = self.token.to_bytes()
        return None if content == token.to_bytes() else content


def _digest(token: ClassToken) -> bytes:
    return hashlib.blake2b(token.to_bytes(), digest_size=9).digest()
