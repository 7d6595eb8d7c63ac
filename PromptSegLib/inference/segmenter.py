"""Segmenting a scan with class tokens: tile by tile, one encoder pass for all classes that can share it.

Each class is decoded on its own, with the same calls whatever other classes are asked for, so its probability map does
not change by a bit when a class is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from scipy import special
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.volume import SliceStack, Volume, slice_stack
from PromptSegLib.imaging.window import Window, window_for
from PromptSegLib.imaging.working_grid import BLOCK, WorkingGrid, body_box
from PromptSegLib.inference.components import keep_pieces
from PromptSegLib.inference.drawn import Drawn, fuse, keep_drawn
from PromptSegLib.learning.tuning import token_shapes
from PromptSegLib.networks.backbone import Backbone, Features, Prompts
from PromptSegLib.networks.device import autocast, is_out_of_memory, release_memory
from PromptSegLib.networks.head import class_logits
from PromptSegLib.tokens.class_token import ClassToken

WHOLE_PLANE = 320
"""Planes up to this edge in pixels are seen whole; larger ones in overlapping tiles."""

TILE = 256
OVERLAP = 0.25
SLICES_AT_ONCE = 8

NO_BODY = -20.0
"""Logit where there is only air."""


@dataclass(frozen=True)
class Segmentation:
    """labels: uint8 on the scan's grid, 1, 2, … in the order of the tokens; probabilities: float32 each, if wanted."""

    labels: Volume
    probabilities: tuple[Volume, ...] = ()


@dataclass
class _Group:
    """Tokens that see the scan in the same way. numbers: their positions among all tokens."""

    stack: SliceStack
    grid: WorkingGrid
    window: Window
    numbers: list[int] = field(default_factory=list)


class Segmenter:
    """Tokens ready to segment scans; they are checked against the backbone once, here.

    Args:
        all_pieces: keep every piece found, also of structures that were one piece when drawn.
    """

    def __init__(self, backbone: Backbone, tokens: Sequence[ClassToken], *, all_pieces: bool = False):
        if not tokens:
            raise InputError("there is no class token to segment with: give at least one")
        if len(tokens) >= UNKNOWN:
            raise InputError(f"{len(tokens)} classes are more than the {UNKNOWN - 1} that one label map holds")
        fingerprint = backbone.fingerprint()
        self.device = backbone.device
        self.prompts: list[Prompts] = []
        for token in tokens:
            shapes = token_shapes(backbone, token.prompting)
            token.require_backbone(backbone.name, fingerprint, shapes)
            self.prompts.append({k: torch.from_numpy(n.copy())[None].to(self.device) for k, n in token.numbers.items()})
        self.backbone, self.tokens, self.all_pieces = backbone, list(tokens), all_pieces
        self._at_once = SLICES_AT_ONCE

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
        shape = image.array.shape
        labels = np.zeros(shape, dtype=np.uint8)
        surest = np.full(shape, 0.5, dtype=np.float16)
        kept = [np.zeros(shape, dtype=np.float32) for _ in self.tokens] if probabilities else []
        groups = self._groups(image)
        total = sum(group.stack.shape[0] for group in groups)
        done = 0
        for group in groups:
            label_view, surest_view = group.stack.view(labels), group.stack.view(surest)
            maps = [group.stack.view(array) for array in kept]
            shapes = {} if drawn is None else {n: drawn.shape(n + 1, group.stack) for n in group.numbers}
            for part, found in self._blocks(image, group, cancelled):
                for number, logit in found:
                    if maps:
                        maps[number][part] = _sigmoid(logit)
                    shape_between = shapes.get(number)
                    if shape_between is not None:
                        logit = fuse(logit, shape_between, part)
                    probability = _sigmoid(logit).astype(surest.dtype)
                    better = probability > surest_view[part]
                    label_view[part][better] = number + 1
                    surest_view[part][better] = probability[better]
                done += part.stop - part.start
                report(done / total)
        if drawn is not None:
            keep_drawn(labels, drawn)
        if not self.all_pieces:
            for number, token in enumerate(self.tokens):
                if token.pieces == "one":
                    keep_pieces(labels, number + 1, None if drawn is None else drawn.labels.array == number + 1)
        return Segmentation(image.with_array(labels), tuple(image.with_array(array) for array in kept))

    def _groups(self, image: Volume) -> list[_Group]:
        groups: dict[tuple[str, float, str], _Group] = {}
        for number, token in enumerate(self.tokens):
            key = (token.plane, token.spacing_mm, token.window.kind)
            if key not in groups:
                stack = next(s for s in (slice_stack(image, axis) for axis in range(3)) if s.plane == token.plane)
                grid = WorkingGrid((stack.shape[1], stack.shape[2]), stack.spacing[1:], token.spacing_mm)
                groups[key] = _Group(stack, grid, window_for(image.array, token.window.kind))
            groups[key].numbers.append(number)
        return list(groups.values())

    def _blocks(
        self, image: Volume, group: _Group, cancelled: Callable[[], bool]
    ) -> Iterator[tuple[slice, list[tuple[int, np.ndarray]]]]:
        """(slices, [(token number, calibrated logits (n, rows, columns))]) through the stack.

        Blocks are always of the same slices, whatever memory allows, since the slices of one are seen in one box.
        """
        source = group.stack.view(image.array)
        for start in range(0, len(source), SLICES_AT_ONCE):
            if cancelled():
                raise InterruptedError("segmenting was cancelled")
            part = slice(start, min(start + SLICES_AT_ONCE, len(source)))
            yield part, self._calibrated(source[part], group)

    def _calibrated(self, planes: np.ndarray, group: _Group) -> list[tuple[int, np.ndarray]]:
        windowed = torch.from_numpy(np.ascontiguousarray(group.window.apply(planes)))
        images = group.grid.to_working(windowed)
        box = body_box(images, BLOCK)
        if box is None:
            return [(number, np.full(planes.shape, NO_BODY, dtype=np.float32)) for number in group.numbers]
        tiles = box.cut(images, -1.0)[:, None].to(self.device)
        logits = self._logits(tiles, group.numbers)
        found = []
        for number, logit in zip(group.numbers, logits.unbind(1), strict=True):
            calibration = self.tokens[number].calibration
            whole = torch.full(images.shape, NO_BODY)
            box.put(calibration.scale * logit + calibration.offset, whole)
            found.append((number, group.grid.from_working(whole).numpy()))
        return found

    def _logits(self, tiles: Tensor, numbers: list[int]) -> Tensor:
        """Logits (n, classes, h, w) of images (n, 1, h, w); half as many images at once whenever memory runs out."""
        found: list[Tensor] = []
        start = 0
        while start < len(tiles):
            part = tiles[start : start + self._at_once]
            try:
                found.append(self._predict(part, numbers))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._at_once == 1:
                    raise
                self._at_once //= 2
                release_memory()
                continue
            start += len(part)
        return torch.cat(found)

    def _predict(self, images: Tensor, numbers: list[int]) -> Tensor:
        """As `_logits`, whole planes or overlapping tiles."""

        def predict(part: Tensor) -> Tensor:
            return torch.cat([logits[:, None] for logits in self._decode(part, numbers)], dim=1)

        with torch.no_grad(), autocast(self.device):
            if max(images.shape[-2:]) <= WHOLE_PLANE:
                return predict(images).float().cpu()
            window = tuple(min(TILE, n) for n in images.shape[-2:])
            result = sliding_window_inference(
                images, window, len(images), predict, OVERLAP, mode="gaussian", device="cpu"
            )
            assert isinstance(result, Tensor)
            return result.float()

    def _decode(self, images: Tensor, numbers: list[int]) -> Iterator[Tensor]:
        shared: Features | None = None
        for number in numbers:
            prompts = self.prompts[number]
            if any(name.startswith("encoder") for name in prompts):
                features = self.backbone.encode(images, prompts)
            else:
                shared = shared if shared is not None else self.backbone.encode(images)
                features = shared
            yield class_logits(self.backbone.decode(features, prompts), prompts, features.size)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    result: np.ndarray = special.expit(logits)
    return result
