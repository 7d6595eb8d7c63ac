"""What the backbone finds of class tokens in slices of a scan: one encoder pass for all classes that can share it.

Each class with deep prompts is decoded on its own, and those without share one embedding, with the same calls whatever
other classes are asked for: so a class's probability map does not change by a bit when another one is added.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.imaging.volume import Volume
from PromptSegLib.imaging.working_grid import Box
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.inference.sight import BLOCK_SLICES, SeenBlock, Sight
from PromptSegLib.learning.tuning import require_backbone
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


class Predictor:
    """Tokens on their backbone; they are checked against it once, here.

    Args:
        kept: features of the one scan that will be seen, from earlier calls; they are added to.
        fingerprint: of the backbone, where it is known already.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokens: Sequence[ClassToken],
        kept: ScanFeatures | None = None,
        fingerprint: str | None = None,
    ):
        fingerprint = fingerprint or backbone.fingerprint()
        self.device = backbone.device
        self.prompts: list[Prompts] = []
        for token in tokens:
            require_backbone(token, backbone, fingerprint)
            self.prompts.append({k: torch.from_numpy(n.copy())[None].to(self.device) for k, n in token.numbers.items()})
        self.backbone, self.tokens, self.kept = backbone, list(tokens), kept
        self._at_once = _slices_at_once(self.device)

    def block(self, block: SeenBlock, sight: Sight, numbers: list[int], check: Callable[[], None]) -> list[np.ndarray]:
        """Calibrated logits (n, rows, columns) on the stack's own grid, of each of these tokens, all of this sight.

        check: called often, and may raise to end it.
        """
        if block.box is None:
            nothing = np.full((len(block.tiles), *sight.stack.shape[1:]), NO_BODY, dtype=np.float32)
            return [nothing for _ in numbers]
        logits = self._logits(block, sight, numbers, check)
        return self._restore(logits.unbind(1), block.box, sight, numbers)

    def around(self, image: Volume, sight: Sight, index: int, number: int) -> tuple[np.ndarray, slice] | None:
        """As `block`, of the few slices that are seen together with slice ``index``, and which they are; None where
        there is only air."""
        tiles, box, part = _seen_with(image, sight, index, self.device, self._at_once)
        if box is None:
            return None
        logits = self._predict(tiles, [number], sight, part.start)[:, 0]
        (logit,) = self._restore([logits], box, sight, [number])
        return logit, part

    def _restore(self, logits: Sequence[Tensor], box: Box, sight: Sight, numbers: Sequence[int]) -> list[np.ndarray]:
        """Calibrated logits on the stack's own grid from logits (n, h, w) in the box, for each of these tokens."""
        found = []
        for number, logit in zip(numbers, logits, strict=True):
            calibration = self.tokens[number].calibration
            whole = torch.full((len(logit), *sight.grid.size), NO_BODY)
            box.put(calibration.scale * logit + calibration.offset, whole)
            found.append(sight.grid.from_working(whole).numpy())
        return found

    def _logits(self, block: SeenBlock, sight: Sight, numbers: list[int], check: Callable[[], None]) -> Tensor:
        """Logits (n, classes, h, w) of a block; half as many images at once whenever memory runs out."""
        found: list[Tensor] = []
        start = 0
        while start < len(block.tiles):
            check()
            part = block.tiles[start : start + self._at_once]
            try:
                found.append(self._predict(part, numbers, sight, block.part.start + start))
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
        unprompted: tuple[Tensor, ...] | None = None
        for number in numbers:
            prompts = self.prompts[number]
            deep = [name for name in prompts if not name.startswith("head")]
            if any(name.startswith("encoder") for name in deep):
                features = self.backbone.encode(images, prompts)
            else:
                features = shared = self._encode(images, key) if shared is None else shared
            if deep:
                maps = self.backbone.decode_levels(features, prompts)
            else:
                maps = unprompted = self.backbone.decode_levels(features) if unprompted is None else unprompted
            yield class_logits(maps, prompts, features.size)

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
