"""The sizes of all backbones by name, and which prompts their families take. No torch: Slicer's window reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from PromptSegLib.errors import InputError


@dataclass(frozen=True)
class Preset:
    """Sizes of a backbone. patch: (rows, columns) or (rows, columns, slices) in pixels, which it is made for."""

    family: ClassVar[str]
    prompting_variants: ClassVar[tuple[str, ...]]
    """Which blocks have deep prompts; the head has tokens in all variants."""
    default_prompting: ClassVar[str]
    """What a class is tuned with for other scans, or from a single slice, unless another variant is asked for."""
    in_scan_prompting: ClassVar[str]
    """What it is tuned with, likewise, where the rest of the drawn scan is to be found."""
    widest_prompting: ClassVar[str]
    """The variant that holds the prompts of all others: base classes have them."""

    name: str
    patch: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        return len(self.patch)

    def check_prompting(self, variant: str) -> None:
        """InputError unless networks of this family have this variant."""
        if variant not in self.prompting_variants:
            fitting = ", ".join(self.prompting_variants)
            raise InputError(f"a {self.family} has no prompting '{variant}': choose one of {fitting}")


@dataclass(frozen=True)
class PUNetPreset(Preset):
    """Sizes of a PUNet. window: (rows, columns) or (rows, columns, slices), in pixels."""

    family = "PUNet"
    prompting_variants = ("start", "end", "encoder", "decoder", "full")
    default_prompting, in_scan_prompting = "decoder", "end"
    widest_prompting = "full"

    window: tuple[int, ...]
    channels: tuple[int, ...] = (32, 64, 128, 256, 384)
    heads: int = 8
    prompt_tokens: int = 16

    def kernel(self, level: int) -> tuple[int, ...]:
        """Convolution kernel of a level: 3 in the plane, and across slices while the patch is 3 or more deep there."""
        depth = self.patch[2] / 2**level if self.dimensions == 3 else None
        return (3, 3) if depth is None else (3, 3, 3 if depth >= 3 else 1)

    def stride(self, level: int) -> tuple[int, ...]:
        """Stride into a level: 2 in the plane, and across slices while more than one is left there."""
        plane = 1 if level == 0 else 2
        if self.dimensions == 2:
            return (plane, plane)
        return (plane, plane, 2 if level and self.patch[2] / 2**level > 1 else 1)


@dataclass(frozen=True)
class TransformerPreset(Preset):
    """Sizes that MONAI's transformers share.

    features: channels of the finest convolutions; embedding_channels: of the result; prompt_tokens: before a block.
    """

    prompting_variants = ("shallow", "deep")
    default_prompting = in_scan_prompting = widest_prompting = "deep"

    features: int
    embedding_channels: int = 32
    prompt_tokens: int = 16


@dataclass(frozen=True)
class UNETRPreset(TransformerPreset):
    """Sizes of a UNETR. Its 12 blocks and its patches of 16 pixels are MONAI's."""

    family = "UNETR"

    hidden: int = 192
    mlp: int = 768
    heads: int = 6


@dataclass(frozen=True)
class SwinUNETRPreset(TransformerPreset):
    """Sizes of a Swin UNETR. depths, heads: blocks and attention heads of each of the four stages; features: a multiple
    of 12."""

    family = "Swin UNETR"

    window: int = 8
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        PUNetPreset("paper-2d", (224, 224), (8, 8)),
        PUNetPreset("paper-3d-flat", (112, 112, 4), (6, 6, 2)),
        PUNetPreset("paper-3d-aniso", (56, 56, 8), (4, 4, 4)),
        PUNetPreset("paper-3d-large", (112, 112, 8), (6, 6, 4)),
        UNETRPreset("unetr-2d", (224, 224), features=16),
        SwinUNETRPreset("swin-unetr-2d", (224, 224), features=24),
    )
}


def find_preset(name: str) -> Preset:
    if name not in PRESETS:
        raise InputError(f"there is no preset '{name}': choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
