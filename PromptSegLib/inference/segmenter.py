"""Segmenting a scan with class tokens: tile by tile, one encoder pass for all classes that can share it.

Each class is decoded on its own, with the same calls whatever other classes are asked for, so its probability map does
not change by a bit when a class is added.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from scipy import special
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.body import body_middles
from PromptSegLib.imaging.interpolation import DrawnShape
from PromptSegLib.imaging.outline import body_axis, heights_mm, outline
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.imaging.working_grid import Box
from PromptSegLib.inference.components import keep_pieces
from PromptSegLib.inference.drawn import Drawn, fuse, keep_drawn
from PromptSegLib.inference.found import Found, likelihood
from PromptSegLib.inference.merging import MergedClasses
from PromptSegLib.inference.neighborhood import Neighborhood
from PromptSegLib.inference.reach import Reach, visits
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.inference.sight import BLOCK_SLICES, SeenBlock, Sight
from PromptSegLib.learning.tuning import token_shapes
from PromptSegLib.networks.backbone import Backbone, Features, Prompts
from PromptSegLib.networks.device import autocast, is_out_of_memory, release_memory
from PromptSegLib.networks.head import class_logits
from PromptSegLib.tokens.class_token import ClassToken

WHOLE_PLANE = 320
"""Planes up to this edge in pixels are seen whole; larger ones in overlapping tiles."""

TILE = 256
OVERLAP = 0.25

SLICES_AT_ONCE = 2
"""Slices that go through the network together on the CPU: more are no faster there, and take longer to cancel."""

NO_BODY = -20.0
"""Logit where there is only air."""

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
    slice of its stack, how many pixels are undecided, 0 on slices too far from the drawing to be looked at."""

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
        fingerprint = fingerprint or backbone.fingerprint()
        self.device = backbone.device
        self.prompts: list[Prompts] = []
        for token in tokens:
            # Of another family's token, the backbone knows no shapes: that it is another's is what must be said.
            shapes = token_shapes(backbone, token.prompting) if token.backbone.fingerprint == fingerprint else {}
            token.require_backbone(backbone.name, fingerprint, shapes)
            self.prompts.append({k: torch.from_numpy(n.copy())[None].to(self.device) for k, n in token.numbers.items()})
        self.backbone, self.tokens, self.all_pieces, self.kept = backbone, list(tokens), all_pieces, kept
        self._at_once = _slices_at_once(self.device)

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
            shapes, neighborhoods = self._shapes(group, drawn), self._neighborhoods(group, drawn)
            undrawn = {number: Found() for number in group.numbers if number not in neighborhoods}
            unlikely = {number: self._unlikely(number, image, group, check) for number in undrawn}
            reaches = {
                number: self._reach(number, image, group, neighborhoods.get(number), unlikely.get(number), probabilities)
                for number in group.numbers
            }
            looked_at = set[int]()
            for start, numbers in self._visits(reaches, undrawn, group):
                block = group.block(image, start, self.device)
                part = block.part
                for number, logit in zip(numbers, self._found(block, group, numbers, check), strict=True):
                    if maps:
                        maps[number][part] = special.expit(logit)
                    shape_between = shapes.get(number)
                    if shape_between is not None:
                        logit = fuse(logit, shape_between, part)
                    against = unlikely.get(number)
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
            # Once for all classes of the group: it looks at the whole scan.
            placed = any(self.tokens[number].place is not None for number in undrawn)
            middles = body_middles(image.array, group.stack, group.window) if placed else None
            for number, found in undrawn.items():
                neighborhood = self._around(found, number, middles, unlikely[number], group, merged)
                if neighborhood is not None:
                    neighborhoods[number] = neighborhood
                    chosen[number] = partial(neighborhood.on_scan, group.stack, image.array.shape)
            source = group.stack.view(image.array)
            for number, neighborhood in neighborhoods.items():
                for place, logit in neighborhood.settle(source, group.stack, group.window, check):
                    merged.enter(group.stack, number, place, logit)
        if drawn is not None:
            keep_drawn(merged.labels, drawn)
        if not self.all_pieces:
            for number, token in enumerate(self.tokens):
                check()
                if token.pieces == "one":
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
        tiles, box, part = _seen_with(image, group, index, self.device, self._at_once)
        if box is None:
            return {}
        logits = self._predict(tiles, [number], group, part.start)[:, 0]
        (logit,) = self._restore([logits], box, group, [number])
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
        group: _Group,
        merged: MergedClasses,
    ) -> Neighborhood | None:
        """The surroundings of what was found of a class that was not drawn; what lies elsewhere is entered already."""
        token = self.tokens[number]
        one_piece = token.pieces == "one" and not self.all_pieces
        likely = likelihood(token.place, middles, against, group.stack)
        neighborhood = found.neighborhood(group.stack, one_piece=one_piece, likelihood=likely)
        if neighborhood is not None and (one_piece or token.pieces == "many"):
            neighborhood.size = token.size
        if neighborhood is not None and not one_piece:
            for place, logit in found.outside(neighborhood.place):
                merged.enter(group.stack, number, place, logit)
        return neighborhood

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
        everywhere: bool,
    ) -> Reach:
        """What of the scan has to be looked at for a class: of one that is one piece, the surroundings of its drawing,
        or else the heights at which it is to be expected."""
        needed, crumbs = None, 0.0
        if not everywhere and not self.all_pieces and self.tokens[number].pieces == "one":
            if neighborhood is not None:
                needed = neighborhood.place[0]
            elif against is not None and group.stack.axis == body_axis(image):
                near = np.flatnonzero(against[:, 0, 0] < FAR)
                needed, crumbs = (slice(int(near[0]), int(near[-1]) + 1) if len(near) else None), CRUMBS
        return Reach(group.stack.shape[0], needed, crumbs)

    def _visits(
        self, reaches: Mapping[int, Reach], undrawn: Mapping[int, Found], group: _Group
    ) -> Iterator[tuple[int, list[int]]]:
        """As `visits`; then the rest of the scan for classes that were not found where they were to be expected."""
        yield from visits(reaches, group.stack.shape[0])
        for number, found in undrawn.items():
            size = self.tokens[number].size
            enough_ml = 0.0 if size is None else SUFFICIENT * size.ml
            if found.voxels * math.prod(group.stack.spacing) / 1000 <= enough_ml:
                reaches[number].extend()
        yield from visits(reaches, group.stack.shape[0])

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

    def _found(
        self, block: SeenBlock, group: _Group, numbers: list[int], check: Callable[[], None]
    ) -> list[np.ndarray]:
        """Calibrated logits (n, rows, columns) of a block, for each of these tokens of the group."""
        if block.box is None:
            nothing = np.full((len(block.tiles), *group.stack.shape[1:]), NO_BODY, dtype=np.float32)
            return [nothing for _ in numbers]
        logits = self._logits(block, group, numbers, check)
        return self._restore(logits.unbind(1), block.box, group, numbers)

    def _restore(self, logits: Sequence[Tensor], box: Box, group: _Group, numbers: Sequence[int]) -> list[np.ndarray]:
        """Calibrated logits on the stack's own grid from logits (n, h, w) in the box, for each of these tokens."""
        found = []
        for number, logit in zip(numbers, logits, strict=True):
            calibration = self.tokens[number].calibration
            whole = torch.full((len(logit), *group.grid.size), NO_BODY)
            box.put(calibration.scale * logit + calibration.offset, whole)
            found.append(group.grid.from_working(whole).numpy())
        return found

    def _logits(self, block: SeenBlock, group: _Group, numbers: list[int], check: Callable[[], None]) -> Tensor:
        """Logits (n, classes, h, w) of a block; half as many images at once whenever memory runs out."""
        found: list[Tensor] = []
        start = 0
        while start < len(block.tiles):
            check()
            part = block.tiles[start : start + self._at_once]
            try:
                found.append(self._predict(part, numbers, group, block.part.start + start))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._at_once == 1:
                    raise
                self._at_once //= 2
                release_memory()
                continue
            start += len(part)
        return torch.cat(found)

    def _predict(self, images: Tensor, numbers: list[int], sight: Sight, start: int) -> Tensor:
        """As `_logits`, whole planes or overlapping tiles, of the slices from ``start`` on."""

        def predict(part: Tensor) -> Tensor:
            return torch.cat([logits[:, None] for logits in self._decode(part, numbers, None)], dim=1)

        with torch.no_grad(), autocast(self.device):
            if max(images.shape[-2:]) <= WHOLE_PLANE:
                logits = self._decode(images, numbers, (sight.key, (start, len(images))))
                return torch.cat([found[:, None] for found in logits], dim=1).float().cpu()
            # MONAI takes seconds to import, and most planes are seen whole.
            from monai.inferers import sliding_window_inference

            window = tuple(min(TILE, n) for n in images.shape[-2:])
            result = sliding_window_inference(
                images, window, len(images), predict, OVERLAP, mode="gaussian", device="cpu"
            )
            assert isinstance(result, Tensor)
            return result.float()

    def _decode(self, images: Tensor, numbers: list[int], key: tuple[Hashable, Hashable] | None) -> Iterator[Tensor]:
        shared: Features | None = None
        for number in numbers:
            prompts = self.prompts[number]
            if any(name.startswith("encoder") for name in prompts):
                features = self.backbone.encode(images, prompts)
            else:
                shared = shared if shared is not None else self._encode(images, key)
                features = shared
            yield class_logits(self.backbone.decode(features, prompts), prompts, features.size)

    def _encode(self, images: Tensor, key: tuple[Hashable, Hashable] | None) -> Features:
        if self.kept is None or key is None:
            return self.backbone.encode(images)
        return self.kept.get(*key, lambda: self.backbone.encode(images)).to(self.device)


def encode_ahead(backbone: Backbone, kept: ScanFeatures, image: Volume, sight: Sight, index: int) -> None:
    """Keep the features that `Segmenter.preview` is going to ask for on slice ``index`` with tokens of this sight."""
    tiles, box, part = _seen_with(image, sight, index, backbone.device, _slices_at_once(backbone.device))
    if box is not None and max(tiles.shape[-2:]) <= WHOLE_PLANE:
        with torch.no_grad(), autocast(backbone.device):
            kept.get(sight.key, (part.start, len(tiles)), lambda: backbone.encode(tiles))


def _slices_at_once(device: torch.device) -> int:
    return SLICES_AT_ONCE if device.type == "cpu" else BLOCK_SLICES


def _seen_with(
    image: Volume, sight: Sight, index: int, device: torch.device, at_once: int
) -> tuple[Tensor, Box | None, slice]:
    """The slices that go through the network together with slice ``index``: tiles, their box, and which they are."""
    block = sight.block(image, index - index % BLOCK_SLICES, device)
    first = (index % BLOCK_SLICES) // at_once * at_once
    tiles = block.tiles[first : first + at_once]
    start = block.part.start + first
    return tiles, block.box, slice(start, start + len(tiles))
