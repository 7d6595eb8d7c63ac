"""What every backbone offers, so that tuning, inference and tokens need not know which one they work with."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from PromptSegLib.networks.attention import BlockPrompt
from PromptSegLib.networks.presets import Preset

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
    def prompting_variants(self) -> tuple[str, ...]:
        """Names of what can be steered, as `prompt_shapes` takes them."""
        ...

    @property
    def default_prompting(self) -> str:
        """The variant that a class is tuned with for other scans, or from a single slice, unless another is asked
        for."""
        ...

    @property
    def in_scan_prompting(self) -> str:
        """The variant that it is tuned with, likewise, where the rest of the drawn scan is to be found."""
        ...

    @property
    def device(self) -> torch.device: ...

    @property
    def embedding_channels(self) -> int: ...

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels of each map of `decode_levels`."""
        ...

    def prompt_shapes(self, variant: str) -> dict[str, tuple[int, ...]]:
        """Shape of each deep prompt of one class, by name; InputError for an unknown variant."""
        ...

    def encode(self, image: Tensor, prompts: Prompts | None = None, *, paired: bool = False) -> Features:
        """Image (R, 1, *spatial) in [-1, 1] -> features."""
        ...

    def decode(self, features: Features, prompts: Prompts | None = None) -> Tensor:
        """Features -> embedding (N * R, embedding_channels, *spatial), spatial of the finest map."""
        ...

    def decode_levels(self, features: Features, prompts: Prompts | None = None) -> tuple[Tensor, ...]:
        """The embedding, and the other maps (N * R, C, *spatial) that a head can look at: those of coarser levels of
        the decoder, finer before coarser, then the features themselves; none in families whose heads do not look."""
        ...

    def prompt_inputs(self, image: Tensor) -> dict[str, list[Tensor]]:
        """What the attention layers of each block see of an image (1, 1, *spatial) without prompts: per layer a map
        (1, *spatial of the block, C)."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 over all parameters and buffers."""
        ...


class BackboneModule(nn.Module, ABC):
    """A `Backbone` as a module that can be pre-trained, saved and moved: what all families share.

    A subclass sets ``preset`` and defines the methods that are abstract here, as the protocol says.
    """

    preset: Preset

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    @property
    def preset_name(self) -> str:
        return self.preset.name

    @property
    def prompting_variants(self) -> tuple[str, ...]:
        return self.preset.prompting_variants

    @property
    def default_prompting(self) -> str:
        return self.preset.default_prompting

    @property
    def in_scan_prompting(self) -> str:
        return self.preset.in_scan_prompting

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    @abstractmethod
    def embedding_channels(self) -> int: ...

    @property
    def level_channels(self) -> tuple[int, ...]:
        return (self.embedding_channels,)

    @abstractmethod
    def prompt_shapes(self, variant: str) -> dict[str, tuple[int, ...]]: ...

    @abstractmethod
    def encode(self, image: Tensor, prompts: Prompts | None = None, *, paired: bool = False) -> Features: ...

    @abstractmethod
    def decode(self, features: Features, prompts: Prompts | None = None) -> Tensor: ...

    def decode_levels(self, features: Features, prompts: Prompts | None = None) -> tuple[Tensor, ...]:
        return (self.decode(features, prompts),)

    @abstractmethod
    def prompt_inputs(self, image: Tensor) -> dict[str, list[Tensor]]: ...

    def fingerprint(self) -> str:
        return fingerprint(self)


def freeze(network: BackboneModule) -> BackboneModule:
    """Eval mode and no gradients: neither a parameter nor a running statistic changes from here on."""
    return network.eval().requires_grad_(False)


def class_count(prompts: Prompts | None) -> int:
    """How many classes' prompts these are; without any, the network works as for one class."""
    return 1 if not prompts else len(next(iter(prompts.values())))


def fingerprint(module: nn.Module) -> str:
    """SHA-256 (hexadecimal) over names, shapes, types and values of all parameters and buffers, in sorted order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def direction_channels(backbone: Backbone) -> tuple[int, ...]:
    """Channels of each map that a head has a direction of: none where the embedding is all that it can look at."""
    return backbone.level_channels if len(backbone.level_channels) > 1 else ()


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
