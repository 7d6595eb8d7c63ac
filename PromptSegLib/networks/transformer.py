"""What prompt-able transformers share, whatever their blocks are: prompts in the input space of frozen blocks.

After *Prompt-Based Tuning of Transformer Models for Multi-Center Medical Image Segmentation of Head and Neck Cancer*,
arXiv 2305.18948. *Shallow* prompts are extra tokens before the first block that later blocks carry on; *deep* prompts
come before every block, where they take the place of what the block before made of its own. Both are one rule here: a
block's own prompts replace those that arrive.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from PromptSegLib.networks.backbone import BackboneModule, Features, Prompts, class_count
from PromptSegLib.networks.presets import TransformerPreset

AIR = -1.0
"""The lowest intensity: images are padded with it."""


class PromptedTransformer(BackboneModule):
    """A transformer that encodes and convolutions that decode; all prompts are the encoder's.

    Its convolutions have batch norms, not the instance norms that MONAI prefers: in eval mode each pixel is normalized
    by frozen numbers, and not by whatever else is in the picture, be it a crop, a tile or a whole slice.
    """

    preset: TransformerPreset

    @property
    def embedding_channels(self) -> int:
        return self.preset.embedding_channels

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Images are padded to multiples of this, in pixels."""

    @abstractmethod
    def blocks(self) -> list[tuple[nn.Module, int]]:
        """The transformer's blocks in their order, each with its channels. The first argument of a block is its map
        (M, h, w, C), or the same as a row of tokens (M, h * w, C), one for each square of ``multiple`` pixels."""

    @abstractmethod
    def encode_padded(self, image: Tensor, prompts: Prompts | None, images: int) -> list[Tensor]:
        """Maps (M, C, h, w), finest first: M is R up to the first block with prompts, N * R from there on.

        image: (R, 1, h, w), or (N * R, 1, h, w) where each is to be seen with its own class's prompts; images: R.
        """

    @abstractmethod
    def decode_maps(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Embedding (M, embedding_channels, h, w) at the padded image's size."""

    def prompt_shapes(self, variant: str) -> dict[str, tuple[int, ...]]:
        self.preset.check_prompting(variant)
        blocks = self.blocks()[:1] if variant == "shallow" else self.blocks()
        return {_tokens_of(n): (1, self.preset.prompt_tokens, channels) for n, (_, channels) in enumerate(blocks)}

    def encode(self, image: Tensor, prompts: Prompts | None = None, *, paired: bool = False) -> Features:
        rows, columns = (-n % self.multiple for n in image.shape[2:])
        padded = F.pad(image, (0, columns, 0, rows), value=AIR)
        images = len(image) // (class_count(prompts) if paired else 1)
        maps = self.encode_padded(padded, prompts, images)
        results = max(len(m) for m in maps)
        return Features(
            tuple(m.repeat(results // len(m), 1, 1, 1) for m in maps), tuple(image.shape[2:]), results // images
        )

    def decode(self, features: Features, prompts: Prompts | None = None) -> Tensor:
        rows, columns = features.size
        embedding = self.decode_maps(features.maps)[..., :rows, :columns]
        return Features((embedding,), features.size, features.classes).for_classes(class_count(prompts)).maps[0]

    @torch.no_grad()
    def prompt_inputs(self, image: Tensor) -> dict[str, list[Tensor]]:
        grid = tuple(-(-n // self.multiple) for n in image.shape[2:])
        inputs: dict[str, list[Tensor]] = {}

        def keep(name: str, x: Tensor) -> None:
            inputs[name] = [x if x.dim() == 4 else x.unflatten(1, grid)]

        handles = [
            block.register_forward_pre_hook(lambda _, arguments, name=f"encoder.{n}": keep(name, arguments[0]))
            for n, (block, _) in enumerate(self.blocks())
        ]
        try:
            self.encode(image)
        finally:
            for handle in handles:
                handle.remove()
        return inputs


def own_prompts(x: Tensor, prompts: Prompts | None, number: int, images: int) -> tuple[Tensor, Tensor | None]:
    """What block ``number`` sees: its map or tokens (M, ...), and its own prompts (M, T, C), None if it has none.

    M is N * ``images`` as soon as a block has prompts of its own.
    """
    tokens = None if prompts is None else prompts.get(_tokens_of(number))
    if tokens is None:
        return x, None
    classes = len(tokens)
    x = x.repeat(classes * images // len(x), *(1,) * (x.dim() - 1))
    return x, tokens[:, 0].repeat_interleave(images, 0)


def _tokens_of(number: int) -> str:
    return f"encoder.{number}.tokens"
