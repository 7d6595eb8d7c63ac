"""The search for one class on a scan: where it is looked for, what was found, and what is known besides."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from PromptSegLib.imaging.outline import body_axis, heights_mm, outline
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.components import keep_pieces
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.evidence import DrawingEvidence
from PromptSegLib.inference.extent import Extent
from PromptSegLib.inference.fitting import Template
from PromptSegLib.inference.found import Found, likelihood, most_apart_mm
from PromptSegLib.inference.merging import MergedClasses
from PromptSegLib.inference.neighborhood import MARGIN_MM, SHAPED_MARGIN_MM, Neighborhood
from PromptSegLib.inference.predictor import NO_BODY
from PromptSegLib.inference.reach import Reach
from PromptSegLib.inference.sight import Sight
from PromptSegLib.tokens.class_token import ClassToken
from PromptSegLib.tokens.shape import Shape

FAR = 2.0
"""Heights in the body against which this much speaks, as a logit, are looked at last: two standard deviations beyond
those at which the structure was drawn."""

CRUMBS = 0.1
"""Where nothing was drawn, a slice with no more than this share of what the fullest one shows may be the last."""

SUFFICIENT = 0.2
"""Share of the size to be expected from which on a structure counts as found."""


class Search:
    """One class on the scan that is segmented.

    A class that was drawn here is settled around its drawing, and whatever lies elsewhere is entered at once; of one
    that was not, or was drawn only to correct what is found, all is kept until it can be said which of it is meant.

    Args:
        token: of the class.
        number: of the class; one less than its label.
        one_piece: whether only one piece of it is wanted.
        image: the scan.
        sight: how the token sees it.
        drawn: what was drawn on it, of any class.
        check: called often, and may raise to end it.

    Attributes:
        is_drawn: whether any of the class was drawn here.
        reach: what of the scan has to be looked at.
    """

    def __init__(
        self,
        token: ClassToken,
        number: int,
        one_piece: bool,
        image: Volume,
        sight: Sight,
        drawn: Drawn | None,
        check: Callable[[], None] = lambda: None,
    ):
        self._check = check
        self._token, self._number, self._one_piece = token, number, one_piece
        self._image, self._sight, self._drawn = image, sight, drawn
        self._around = None if drawn is None else Neighborhood.of(drawn, number + 1, sight.stack)
        self.is_drawn = self._around is not None
        self._corrects = corrects(drawn, token, number, one_piece)
        self._evidence = self._said_by_drawing()
        self._found = Found() if self._around is None or self._corrects else None
        self._chosen: Neighborhood | None = None
        self._against = None if self._found is None else self._unlikely()
        self.reach = self._reach()

    @property
    def goes_by_place(self) -> bool:
        """Whether it asks for the middle of the body, see `choose`."""
        return self._found is not None and self._token.place is not None

    @property
    def is_missed(self) -> bool:
        """Whether less was found than there should be, where the structure is to be expected."""
        if self._found is None or self._token.size is None:
            return False
        ml = self._found.voxels * math.prod(self._sight.stack.spacing) / 1000
        return ml < SUFFICIENT * self._token.size.ml

    def take(self, part: slice, logits: np.ndarray, merged: MergedClasses) -> None:
        """What the network says (n, rows, columns), calibrated, of the slices ``part``."""
        stack = self._sight.stack
        if self._evidence is not None:
            told = self._evidence.beside(logits, part)
            if not self._corrects:
                logits = told
            elif self._around is not None:
                # In case that what is found turns out to be another structure.
                self._around.take(told, part, NO_BODY)
        if self._against is not None:
            logits = logits - self._against[part]
        self.reach.saw(part, logits)
        # A random walk decides nearly everything: what was in doubt before is what a drawing would settle.
        merged.doubt(stack, self._number, part, logits)
        if self._found is not None:
            self._found.add(part, logits)
            return
        if self._around is not None:
            logits = self._around.take(logits, part, NO_BODY)
        merged.enter(stack, self._number, (part,), logits)

    def choose(self, middles: np.ndarray | None, merged: MergedClasses) -> None:
        """All was looked at: say which of what was found is the structure, and enter what lies elsewhere.

        middles: of the body in each slice of the stack, see `body_middles`; None if no class asks for them.
        """
        if self._found is None:
            return
        found, self._found = self._found, None
        stack, painted = self._sight.stack, self._painted() if self._corrects else None
        likely = likelihood(self._token.place, middles, self._against, stack)
        around = found.neighborhood(
            stack,
            one_piece=self._one_piece,
            likelihood=likely,
            painted=painted,
            beside_mm=most_apart_mm(self._shapes, stack.axes(self._image.geometry)),
            margin_mm=SHAPED_MARGIN_MM if self._shapes else MARGIN_MM,
        )
        if around is None:
            return
        if not self._one_piece:
            for place, logits in found.outside(around.place):
                merged.enter(stack, self._number, place, logits)
        if painted is not None and self._drawn is not None:
            if np.count_nonzero(painted[around.place]) < np.count_nonzero(painted) / 2:
                # It was drawn elsewhere: what was found is another structure.
                return
            around.correct(self._drawn, self._number + 1, stack)
        if self._one_piece or self._token.pieces == "many":
            around.size = self._token.size
        around.extent, around.template = self._extent(), self._template()
        self._around = self._chosen = around

    def settle(self, merged: MergedClasses) -> None:
        """Enter what a random walk makes of the surroundings of the drawing, or of what was chosen."""
        if self._around is None:
            return
        source = self._sight.stack.view(self._image.array)
        for place, logits in self._around.settle(source, self._sight.stack, self._sight.window, self._check):
            merged.enter(self._sight.stack, self._number, place, logits)
        # Other classes may take long, and this is large.
        self._around = self._evidence = None
        if self._chosen is not None:
            self._chosen = replace(self._chosen, known=None, logits=self._chosen.logits[:0].copy(), painted=None)

    def keep_one_piece(self, labels: np.ndarray) -> None:
        """Of a class of one piece, take all others out of the label map of the scan; the drawing is in there."""
        if not self._one_piece:
            return
        painted = None if self._drawn is None else self._drawn.labels.array == self._number + 1
        chosen = None if self._chosen is None else self._chosen.on_scan(self._sight.stack, self._image.array.shape)
        keep_pieces(labels, self._number + 1, painted, chosen)

    def _said_by_drawing(self) -> DrawingEvidence | None:
        """None where nothing of the class was drawn."""
        if self._around is None or self._drawn is None:
            return None
        return DrawingEvidence(
            self._image,
            self._sight.stack,
            self._sight.window,
            self._drawn,
            self._number + 1,
            self._around.place,
            shape_alone=self._corrects,
            check=self._check,
        )

    @property
    def _shapes(self) -> tuple[Shape, ...]:
        return _usable_shapes(self._token, self._one_piece)

    def _painted(self) -> np.ndarray | None:
        """bool, voxels of the stack that were drawn of the class."""
        return None if self._drawn is None else self._sight.stack.view(self._drawn.labels.array) == self._number + 1

    @property
    def _is_across_body(self) -> bool:
        return self._sight.stack.axis == body_axis(self._image)

    def _unlikely(self) -> np.ndarray | None:
        """What speaks against each voxel of the stack by its height in the body, as a logit; None for nothing."""
        height, image = self._token.height, self._image
        if height is None:
            return None
        against = height.unlikeliness(outline(image, self._sight.window.kind), heights_mm(image)).astype(np.float32)
        beside = tuple(axis for axis in range(3) if axis != body_axis(image))
        return self._sight.stack.view(np.broadcast_to(np.expand_dims(against, beside), image.array.shape))

    def _reach(self) -> Reach:
        """Of one that is one piece, the surroundings of its drawing, or the heights at which it should lie; where it is
        only corrected, both."""
        needed, crumbs = None, 0.0
        drawn = None if self._around is None else self._around.place[0]
        if self._one_piece and drawn is not None and not self._corrects:
            needed = drawn
        # Without a size, nobody could say whether it was found there.
        elif self._one_piece and self._against is not None and self._token.size is not None and self._is_across_body:
            near = np.flatnonzero(self._against[:, 0, 0] < FAR).tolist()
            if near and drawn is not None:
                near = [min(near[0], drawn.start), max(near[-1], drawn.stop - 1)]
            needed, crumbs = (slice(near[0], near[-1] + 1) if near else None), CRUMBS
        return Reach(self._sight.stack.shape[0], needed, crumbs)

    def _extent(self) -> Extent | None:
        """What is known of the ends of a structure of one piece, on slices that lie across the body."""
        if not self._one_piece or self._token.height is None or not self._is_across_body:
            return None
        return Extent.of(self._token.height, outline(self._image, self._sight.window.kind), heights_mm(self._image))

    def _template(self) -> Template | None:
        return Template(self._shapes, self._sight.stack.axes(self._image.geometry)) if self._shapes else None


def corrects(drawn: Drawn | None, token: ClassToken, number: int, one_piece: bool) -> bool:
    """Whether the drawing only corrects what is found with a token that knows the structure's shape."""
    return drawn is not None and number + 1 in drawn.corrects and bool(_usable_shapes(token, one_piece))


def _usable_shapes(token: ClassToken, one_piece: bool) -> tuple[Shape, ...]:
    """What a structure of one piece looks like in other scans."""
    return token.shapes if one_piece else ()
