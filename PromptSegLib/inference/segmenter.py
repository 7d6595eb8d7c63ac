"""Segmenting a scan with class tokens: what the network finds, with all that is known besides, made one label map."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy import special

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.body import body_middles
from PromptSegLib.imaging.interpolation import DrawnShape
from PromptSegLib.imaging.outline import body_axis, heights_mm, outline
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.components import keep_pieces
from PromptSegLib.inference.drawn import Drawn, fuse, keep_drawn
from PromptSegLib.inference.extent import Extent
from PromptSegLib.inference.fitting import Template
from PromptSegLib.inference.found import Found, likelihood
from PromptSegLib.inference.merging import MergedClasses
from PromptSegLib.inference.neighborhood import MARGIN_MM, SHAPED_MARGIN_MM, Neighborhood
from PromptSegLib.inference.predictor import NO_BODY, Predictor
from PromptSegLib.inference.reach import Reach, visits
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.inference.sight import Sight
from PromptSegLib.networks.backbone import Backbone
from PromptSegLib.tokens.class_token import ClassToken
from PromptSegLib.tokens.shape import Shape

FAR = 2.0
"""Heights in the body against which this much speaks, as a logit, are looked at last: two standard deviations beyond
those at which the structure was drawn."""

CRUMBS = 0.1
"""Where nothing was drawn, a slice with no more than this share of what the fullest one shows may be the last."""

SUFFICIENT = 0.2
"""Share of the size to be expected from which on a structure counts as found."""


@dataclass(frozen=True)
class Segmentation:
    """labels: uint8 on the scan's grid, 1, 2, … in the order of the tokens; probabilities: float32 each, if wanted;
    confidences: per token, the mean probability of the voxels found, 0 where there are none; doubts: per token and
    slice of its stack, how many pixels are undecided, 0 on slices where the class was not looked for."""

    labels: Volume
    probabilities: tuple[Volume, ...] = ()
    confidences: tuple[float, ...] = ()
    doubts: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class _Group(Sight):
    """Tokens that see the scan in the same way. numbers: their positions among all tokens."""

    numbers: list[int] = field(default_factory=list)


class Segmenter:
    """Tokens ready to segment scans; they are checked against the backbone once, here.

    Args:
        all_pieces: keep every piece found, also of structures that were one piece when drawn.
        kept: features of the one scan that will be segmented, from earlier calls; they are added to.
        fingerprint: of the backbone, where it is known already.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokens: Sequence[ClassToken],
        *,
        all_pieces: bool = False,
        kept: ScanFeatures | None = None,
        fingerprint: str | None = None,
    ):
        if not tokens:
            raise InputError("there is no class token to segment with: give at least one")
        if len(tokens) >= UNKNOWN:
            raise InputError(f"{len(tokens)} classes are more than the {UNKNOWN - 1} that one label map holds")
        self.tokens, self.all_pieces = list(tokens), all_pieces
        self._predictor = Predictor(backbone, tokens, kept, fingerprint)

    def segment(
        self,
        image: Volume,
        drawn: Drawn | None = None,
        *,
        probabilities: bool = False,
        report: Callable[[float], None] = lambda fraction: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Segmentation:
        """Label every voxel of a scan.

        Args:
            drawn: what the user drew on this very scan; the shape between drawn slices then helps the network.
            probabilities: also return each class's calibrated probability, as the network alone gave it.
            report: called with the fraction done.
            cancelled: asked between blocks of slices; InterruptedError once it is true.
        """
        kept = [np.zeros(image.array.shape, dtype=np.float32) for _ in self.tokens] if probabilities else []
        merged = MergedClasses(image.array.shape, len(self.tokens))

        def check() -> None:
            if cancelled():
                raise InterruptedError("segmenting was cancelled")

        chosen: dict[int, Callable[[], np.ndarray]] = {}
        groups = self._groups(image)
        total = sum(group.stack.shape[0] for group in groups)
        done = 0
        for group in groups:
            maps = [group.stack.view(array) for array in kept]
            corrected = self._corrected(group, drawn)
            shapes, neighborhoods = self._shapes(group, drawn), self._neighborhoods(group, drawn)
            undrawn = {n: Found() for n in group.numbers if n not in neighborhoods or n in corrected}
            unlikely = {number: self._unlikely(number, image, group, check) for number in undrawn}
            reaches = {
                number: self._reach(number, image, group, neighborhoods.get(number), unlikely.get(number))
                for number in group.numbers
            }
            looked_at = set[int]()
            for start, numbers, counts in self._visits(reaches, undrawn, group, everywhere=probabilities):
                block = group.block(image, start, self._predictor.device)
                part = block.part
                for number, logit in zip(numbers, self._predictor.block(block, group, numbers, check), strict=True):
                    if maps:
                        maps[number][part] = special.expit(logit)
                    if not counts:
                        reaches[number].saw(part, logit)
                        continue
                    shape_between, against = shapes.get(number), unlikely.get(number)
                    fused = logit if shape_between is None else fuse(logit, shape_between, part)
                    if number not in corrected:
                        logit = fused
                    elif number in neighborhoods:
                        # In case that what is found turns out to be another structure.
                        neighborhoods[number].take(fused, part, NO_BODY)
                    if against is not None:
                        logit = logit - against[part]
                    reaches[number].saw(part, logit)
                    # A random walk decides nearly everything: what was in doubt before is what a drawing would settle.
                    merged.doubt(group.stack, number, part, logit)
                    if number in undrawn:
                        undrawn[number].add(part, logit)
                    else:
                        logit = neighborhoods[number].take(logit, part, NO_BODY)
                        merged.enter(group.stack, number, (part,), logit)
                looked_at.update(range(part.start, part.stop))
                report((done + len(looked_at)) / total)
            done += group.stack.shape[0]
            if len(looked_at) < group.stack.shape[0]:
                report(done / total)
            # Once for all classes of the group: it looks at the whole scan.
            placed = any(self.tokens[number].place is not None for number in undrawn)
            middles = body_middles(image.array, group.stack, group.window) if placed else None
            for number, found in undrawn.items():
                painted = None
                if drawn is not None and number in corrected:
                    painted = group.stack.view(drawn.labels.array) == number + 1
                neighborhood = self._around(found, number, middles, unlikely[number], painted, group, merged)
                if neighborhood is not None and painted is not None and drawn is not None:
                    if np.count_nonzero(painted[neighborhood.place]) < np.count_nonzero(painted) / 2:
                        # It was drawn elsewhere: what was found is another structure.
                        continue
                    neighborhood.correct(drawn, number + 1, group.stack)
                if neighborhood is not None:
                    neighborhood.extent = self._extent(number, image, group)
                    neighborhood.template = self._template(number, image, group)
                    neighborhoods[number] = neighborhood
                    chosen[number] = partial(neighborhood.on_scan, group.stack, image.array.shape)
            source = group.stack.view(image.array)
            for number, neighborhood in neighborhoods.items():
                for place, logit in neighborhood.settle(source, group.stack, group.window, check):
                    merged.enter(group.stack, number, place, logit)
        if drawn is not None:
            keep_drawn(merged.labels, drawn)
        for number in filter(self._is_one_piece, range(len(self.tokens))):
            check()
            painted = None if drawn is None else drawn.labels.array == number + 1
            found_voxels = chosen[number]() if number in chosen else None
            keep_pieces(merged.labels, number + 1, painted, found_voxels)
        return Segmentation(
            image.with_array(merged.labels),
            tuple(image.with_array(array) for array in kept),
            merged.confidences(),
            tuple(merged.doubts),
        )

    def drawn_shape(self, image: Volume, drawn: Drawn | None) -> DrawnShape | None:
        """What `preview` wants of a drawing of the first token's class: worth keeping, since it takes a while."""
        (group, *_) = self._groups(image)
        return self._shapes(group, drawn).get(group.numbers[0])

    def preview(self, image: Volume, index: int, shape: DrawnShape | None = None) -> dict[int, np.ndarray]:
        """What the first token finds on slice ``index`` of its stack and on those that are seen together with it.

        It is for scans that were drawn on: where in the body the structure is to be expected does not count.

        Args:
            shape: of the drawing on this scan, see `drawn_shape`.

        Returns:
            By index on the array axis, bool planes in array orientation. Pieces are not sorted out yet.
        """
        (group, *_) = self._groups(image)
        number = group.numbers[0]
        seen = self._predictor.around(image, group, index, number)
        if seen is None:
            return {}
        logit, part = seen
        if shape is not None:
            logit = fuse(logit, shape, part)
        planes = np.moveaxis(group.stack.restore(logit > 0), group.stack.axis, 0)
        return {part.start + row: plane for row, plane in enumerate(planes)}

    def _around(
        self,
        found: Found,
        number: int,
        middles: np.ndarray | None,
        against: np.ndarray | None,
        painted: np.ndarray | None,
        group: _Group,
        merged: MergedClasses,
    ) -> Neighborhood | None:
        """The surroundings of what was found of a class that was not drawn, or only to correct what was found; what
        lies elsewhere is entered already."""
        token = self.tokens[number]
        one_piece = self._is_one_piece(number)
        likely = likelihood(token.place, middles, against, group.stack, painted)
        margin_mm = SHAPED_MARGIN_MM if self._shapes_of(number) else MARGIN_MM
        neighborhood = found.neighborhood(group.stack, one_piece=one_piece, likelihood=likely, margin_mm=margin_mm)
        if neighborhood is not None and (one_piece or token.pieces == "many"):
            neighborhood.size = token.size
        if neighborhood is not None and not one_piece:
            for place, logit in found.outside(neighborhood.place):
                merged.enter(group.stack, number, place, logit)
        return neighborhood

    def _is_one_piece(self, number: int) -> bool:
        """Whether only one piece of a class is wanted."""
        return not self.all_pieces and self.tokens[number].pieces == "one"

    def _extent(self, number: int, image: Volume, group: _Group) -> Extent | None:
        """What is known of the ends of a structure of one piece, on slices that lie across the body."""
        token = self.tokens[number]
        if not self._is_one_piece(number) or token.height is None or group.stack.axis != body_axis(image):
            return None
        return Extent.of(token.height, outline(image, group.window.kind), heights_mm(image))

    def _shapes_of(self, number: int) -> tuple[Shape, ...]:
        """What a structure of one piece looks like in other scans."""
        return self.tokens[number].shapes if self._is_one_piece(number) else ()

    def _template(self, number: int, image: Volume, group: _Group) -> Template | None:
        shapes = self._shapes_of(number)
        return Template(shapes, group.stack.axes(image.geometry)) if shapes else None

    def _unlikely(self, number: int, image: Volume, group: _Group, check: Callable[[], None]) -> np.ndarray | None:
        """What speaks against each voxel of the stack by its height in the body, as a logit; None for nothing."""
        check()
        height = self.tokens[number].height
        if height is None:
            return None
        against = height.unlikeliness(outline(image, group.window.kind), heights_mm(image)).astype(np.float32)
        beside = tuple(axis for axis in range(3) if axis != body_axis(image))
        return group.stack.view(np.broadcast_to(np.expand_dims(against, beside), image.array.shape))

    def _reach(
        self,
        number: int,
        image: Volume,
        group: _Group,
        neighborhood: Neighborhood | None,
        against: np.ndarray | None,
    ) -> Reach:
        """What of the scan has to be looked at for a class: of one that is one piece, the surroundings of its drawing,
        or else the heights at which it is to be expected."""
        needed, crumbs, token = None, 0.0, self.tokens[number]
        if self._is_one_piece(number):
            if neighborhood is not None:
                needed = neighborhood.place[0]
            # Without a size, nobody could say whether it was found there.
            elif against is not None and token.size is not None and group.stack.axis == body_axis(image):
                near = np.flatnonzero(against[:, 0, 0] < FAR)
                needed, crumbs = (slice(int(near[0]), int(near[-1]) + 1) if len(near) else None), CRUMBS
        return Reach(group.stack.shape[0], needed, crumbs)

    def _visits(
        self, reaches: Mapping[int, Reach], undrawn: Mapping[int, Found], group: _Group, *, everywhere: bool
    ) -> Iterator[tuple[int, list[int], bool]]:
        """As `visits`, and whether what is found there counts: after the slices that are worth a look come the rest of
        the scan for classes that were not found where they were to be expected, and at last, for the sake of the
        probabilities alone, ``everywhere`` else."""
        length = group.stack.shape[0]
        for visit in visits(reaches, length):
            yield *visit, True
        for number, found in undrawn.items():
            size = self.tokens[number].size
            if size is not None and found.voxels * math.prod(group.stack.spacing) / 1000 < SUFFICIENT * size.ml:
                reaches[number].extend()
        for visit in visits(reaches, length):
            yield *visit, True
        if everywhere:
            for reach in reaches.values():
                reach.extend()
            for visit in visits(reaches, length):
                yield *visit, False

    def _corrected(self, group: _Group, drawn: Drawn | None) -> set[int]:
        """Classes of which a drawing only corrects what is found with a token that knows the structure's shape."""
        if drawn is None:
            return set()
        return {n for n in group.numbers if n + 1 in drawn.corrects and self._shapes_of(n)}

    @staticmethod
    def _shapes(group: _Group, drawn: Drawn | None) -> dict[int, DrawnShape | None]:
        return {} if drawn is None else {n: drawn.shape(n + 1, group.stack) for n in group.numbers}

    @staticmethod
    def _neighborhoods(group: _Group, drawn: Drawn | None) -> dict[int, Neighborhood]:
        if drawn is None:
            return {}
        found = {number: Neighborhood.of(drawn, number + 1, group.stack) for number in group.numbers}
        return {number: neighborhood for number, neighborhood in found.items() if neighborhood is not None}

    def _groups(self, image: Volume) -> list[_Group]:
        groups: dict[tuple[str, float, str], _Group] = {}
        for number, token in enumerate(self.tokens):
            key = (token.plane, token.spacing_mm, token.window.kind)
            if key not in groups:
                groups[key] = _Group.of(image, *key)
            groups[key].numbers.append(number)
        return list(groups.values())
