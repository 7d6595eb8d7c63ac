"""Segmenting a scan with class tokens: what the network finds, with all that is known besides, made one label map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.body import body_middles
from PromptSegLib.imaging.interpolation import DrawnShape
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.drawn import Drawn, fuse, keep_drawn
from PromptSegLib.inference.merging import MergedClasses
from PromptSegLib.inference.predictor import Predictor
from PromptSegLib.inference.reach import visits
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.inference.search import Search, corrects
from PromptSegLib.inference.sight import Sight
from PromptSegLib.networks.backbone import Backbone
from PromptSegLib.tokens.class_token import ClassToken


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

        searches: list[Search] = []
        groups = self._groups(image)
        total = sum(group.stack.shape[0] for group in groups)
        done = 0
        for group in groups:
            maps = [group.stack.view(array) for array in kept]
            own: dict[int, Search] = {}
            for number in group.numbers:
                check()
                one_piece = self._is_one_piece(number)
                own[number] = Search(self.tokens[number], number, one_piece, image, group, drawn, check)
            looked_at = set[int]()
            for start, numbers, counts in _visits(own, group.stack.shape[0], everywhere=probabilities):
                block = group.block(image, start, self._predictor.device)
                for number, logit in zip(numbers, self._predictor.block(block, group, numbers, check), strict=True):
                    if maps:
                        maps[number][block.part] = special.expit(logit)
                    if counts:
                        own[number].take(block.part, logit, merged)
                    else:
                        own[number].reach.saw(block.part, logit)
                looked_at.update(range(block.part.start, block.part.stop))
                report((done + len(looked_at)) / total)
            done += group.stack.shape[0]
            if len(looked_at) < group.stack.shape[0]:
                report(done / total)
            # Once for all classes of the group: it looks at the whole scan.
            by_place = any(search.goes_by_place for search in own.values())
            middles = body_middles(image.array, group.stack, group.window) if by_place else None
            for search in own.values():
                search.choose(middles, merged)
            # Where two are equally sure, the one that was drawn comes first.
            for search in sorted(own.values(), key=lambda search: not search.is_drawn):
                search.settle(merged)
            searches += own.values()
        if drawn is not None:
            keep_drawn(merged.labels, drawn)
        for search in searches:
            check()
            search.keep_one_piece(merged.labels)
        return Segmentation(
            image.with_array(merged.labels),
            tuple(image.with_array(array) for array in kept),
            merged.confidences(),
            tuple(merged.doubts),
        )

    def drawn_shape(self, image: Volume, drawn: Drawn | None) -> DrawnShape | None:
        """What `preview` wants of a drawing of the first token's class: worth keeping, since it takes a while.

        None also where a few slices only correct what is found: they say little of what lies between them.
        """
        (group, *_) = self._groups(image)
        number = group.numbers[0]
        if drawn is None or corrects(drawn, self.tokens[number], number, self._is_one_piece(number)):
            return None
        return drawn.shape(number + 1, group.stack)

    def preview(self, image: Volume, index: int, shape: DrawnShape | None = None) -> dict[int, np.ndarray]:
        """What the first token finds on slice ``index`` of its stack and on those that are seen together with it.

        It is for scans that were drawn on: where in the body the structure is to be expected does not count. Neither
        does what lies around the drawing, which takes about a second to learn.

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

    def _is_one_piece(self, number: int) -> bool:
        """Whether only one piece of a class is wanted."""
        return not self.all_pieces and self.tokens[number].pieces == "one"

    def _groups(self, image: Volume) -> list[_Group]:
        groups: dict[tuple[str, float, str], _Group] = {}
        for number, token in enumerate(self.tokens):
            key = (token.plane, token.spacing_mm, token.window.kind)
            if key not in groups:
                groups[key] = _Group.of(image, *key)
            groups[key].numbers.append(number)
        return list(groups.values())


def _visits(searches: Mapping[int, Search], length: int, *, everywhere: bool) -> Iterator[tuple[int, list[int], bool]]:
    """As `visits` of a stack of so many slices, and whether what is found there counts.

    After the slices that are worth a look come the rest of the scan for classes that were not found where they were to
    be expected, and at last, for the sake of the probabilities alone, ``everywhere`` else.
    """
    reaches = {number: search.reach for number, search in searches.items()}
    for visit in visits(reaches, length):
        yield *visit, True
    for search in searches.values():
        if search.is_missed:
            search.reach.extend()
    for visit in visits(reaches, length):
        yield *visit, True
    if everywhere:
        for reach in reaches.values():
            reach.extend()
        for visit in visits(reaches, length):
            yield *visit, False
