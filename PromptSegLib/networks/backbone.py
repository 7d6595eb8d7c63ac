"""What every backbone offers, so that tuning, inference and tokens need not know which one they work with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from PromptSegLib.networks.attention import BlockPrompt

PROMPTING_VARIANTS = ("start", "end", "encoder", "decoder", "full")
"""Which blocks have deep prompts; the head has tokens in all variants."""

Prompts = Mapping[str, Tensor]
"""A class's trained numbers by name, or several classes' stacked on a leading axis N."""


@dataclass(frozen=True)
class Features:
    """What ``encode`` keeps of R images: maps at several resolutions, finest first, and the size of the images.

    maps: (classes * R, C, *spatial) each, class-major; size: spatial size of the images in pixels; classes: 1 while the
    features serve every class, N once they were made for N of them.
    """

    maps: tuple[Tensor, ...]
    size: tuple[int, ...]
    classes: int = 1

    def __len__(self) -> int:
        return len(self.maps[0])

    def __getitem__(self, rows: slice | Tensor) -> Features:
        """Features of some of the images; only while they serve every class."""
        return Features(tuple(m[rows] for m in self.maps), self.size)

    def to(self, target: torch.device | torch.dtype) -> Features:
        return replace(self, maps=tuple(m.to(target) for m in self.maps))

    def for_classes(self, classes: int) -> Features:
        """One copy of shared features per class."""
        if self.classes == classes:
            return self
        return Features(tuple(m.repeat(classes, *(1,) * (m.dim() - 1)) for m in self.maps), self.size, classes)

    def spread(self, prompt: BlockPrompt | None) -> Features:
        """As ``for_classes``, when a block is about to be steered by the prompts of several classes."""
        return self if prompt is None else self.for_classes(len(prompt.tokens))


@runtime_checkable
class Backbone(Protocol):
    """A frozen network steered by prompts.

    ``encode`` and ``decode`` take the prompts of N classes (leading axis N) with R images and give N * R results, class
    n at rows n * R to (n + 1) * R. Images and features are shared by the classes up to the first block that a prompt
    steers. ``paired`` says that the images already are N * R, each to be seen with the prompts of its own class.
    """

    name: str

    @property
    def preset_name(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def embedding_channels(self) -> int: ...

    def prompt_shapes(self, variant: str) -> dict[str, tuple[int, ...]]:
        """Shape of each deep prompt of one class, by name; InputError for an unknown variant."""
        ...

    def encode(self, image: Tensor, prompts: Prompts | None = None, *, paired: bool = False) -> Features:
        """Image (R, 1, *spatial) in [-1, 1] -> features."""
        ...

    def decode(self, features: Features, prompts: Prompts | None = None) -> Tensor:
        """Features -> embedding (N * R, embedding_channels, *spatial), spatial of the finest map."""
        ...

    def prompt_inputs(self, image: Tensor) -> dict[str, list[Tensor]]:
        """What the attention layers of each block see of an image (1, 1, *spatial) without prompts: per layer a map
        (1, *spatial of the block, C)."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 over all parameters and buffers."""
        ...


def fingerprint(module: nn.Module) -> str:
    """SHA-256 (hexadecimal) over names, shapes, types and values of all parameters and buffers, in sorted order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
