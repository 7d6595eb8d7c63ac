"""PUNet, the prompt-able UNet of *Prompt Tuning for Parameter-efficient Medical Image Segmentation*, arXiv 2211.09233.

A residual convolution halves the plane; five encoder and four decoder levels each join a convolution with a prompt-able
shifted-window block. The result is an embedding per pixel that the similarity head compares with a class's tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from PromptSegLib.networks.attention import BlockPrompt, ShiftedWindowBlock
from PromptSegLib.networks.backbone import BackboneModule, Features, Prompts, class_count
from PromptSegLib.networks.presets import PUNetPreset

_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, Any] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
_INTERPOLATION = {2: "bilinear", 3: "trilinear"}


def _padding(kernel: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(k // 2 for k in kernel)


def _affine(norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel that a batch norm in eval mode applies."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


class ConvNorm(nn.Module):
    """Convolution, then batch norm; in eval mode the norm is folded into the weights."""

    def __init__(self, dimensions: int, channels_in: int, channels_out: int, kernel: tuple[int, ...], stride: int):
        super().__init__()
        strides = (stride, stride, 1)[:dimensions]
        self.conv = _CONV[dimensions](channels_in, channels_out, kernel, strides, _padding(kernel), bias=False)
        self.norm = _NORM[dimensions](channels_out)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return cast(Tensor, self.norm(self.conv(x)))
        scale, shift = _affine(self.norm)
        weight = self.conv.weight * scale.reshape(-1, *(1,) * (x.dim() - 1))
        return cast(Tensor, self.conv._conv_forward(x, weight, shift))


class NormProjection(nn.Module):
    """Batch norm, then a strided 1x1 convolution (the residual path); in eval mode the norm is folded in."""

    def __init__(self, dimensions: int, channels_in: int, channels_out: int, stride: tuple[int, ...]):
        super().__init__()
        self.norm = _NORM[dimensions](channels_in)
        self.conv = _CONV[dimensions](channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return cast(Tensor, self.conv(self.norm(x)))
        scale, shift = _affine(self.norm)
        weight = self.conv.weight * scale.reshape(1, -1, *(1,) * (x.dim() - 2))
        assert self.conv.bias is not None
        bias = self.conv.bias + self.conv.weight.flatten(1) @ shift
        return cast(Tensor, self.conv._conv_forward(x, weight, bias))


class Stem(nn.Module):
    """Residual convolution block that halves the plane: 1 -> channels."""

    def __init__(self, preset: PUNetPreset):
        super().__init__()
        kernel, channels, dims = preset.kernel(0), preset.channels[0], preset.dimensions
        self.first = ConvNorm(dims, 1, channels, kernel, 2)
        self.second = ConvNorm(dims, channels, channels, kernel, 1)
        self.residual = ConvNorm(dims, 1, channels, (1,) * dims, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.second(F.leaky_relu(self.first(x))) + self.residual(x))


class EncoderLevel(nn.Module):
    def __init__(self, preset: PUNetPreset, level: int):
        super().__init__()
        channels_in, channels_out = preset.channels[max(level - 1, 0)], preset.channels[level]
        kernel, stride, dims = preset.kernel(level), preset.stride(level), preset.dimensions
        self.norm = _NORM[dims](channels_in)
        self.conv = _CONV[dims](channels_in, channels_out, kernel, stride, _padding(kernel))
        self.block = ShiftedWindowBlock(channels_out, preset.heads, preset.window)
        self.residual = NormProjection(dims, channels_in, channels_out, stride)

    def forward(self, x: Tensor, prompt: BlockPrompt | None) -> Tensor:
        y = self.conv(F.leaky_relu(self.norm(x)))
        return cast(Tensor, self.block(y, prompt) + self.residual(x))


class DecoderLevel(nn.Module):
    """Upsampling, a convolution over what comes from below and from the skip, a prompt-able block.

    The convolution is linear in its two halves, and the norm works per channel. So the skip's half, which no prompt of
    the decoder changes, is worked out once per image (`from_skip`), and only the other one per class and step.
    """

    def __init__(self, preset: PUNetPreset, level: int):
        super().__init__()
        below = len(preset.channels) - 1 - level
        channels_in, channels_out = preset.channels[below], preset.channels[below - 1]
        kernel, dims = preset.kernel(below), preset.dimensions
        self.scale, self.mode = tuple(float(s) for s in preset.stride(below)), _INTERPOLATION[dims]
        self.channels_below = channels_in
        self.norm = _NORM[dims](channels_in + channels_out)
        self.conv = _CONV[dims](channels_in + channels_out, channels_out, kernel, 1, _padding(kernel))
        self.block = ShiftedWindowBlock(channels_out, preset.heads, preset.window)

    def from_below(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        """Half of the convolution: of the level below, brought to the spatial ``size`` of this one."""
        x = F.interpolate(x, scale_factor=self.scale, mode=self.mode, align_corners=False)
        for axis, length in enumerate(size, start=2):
            x = x.narrow(axis, 0, length)
        return self._half(x, slice(0, self.channels_below), None)

    def from_skip(self, skip: Tensor) -> Tensor:
        """The other half, of the encoder's map; the bias is added here."""
        if self.training:
            self.norm.num_batches_tracked.add_(1)
        return self._half(skip, slice(self.channels_below, None), self.conv.bias)

    def _half(self, x: Tensor, channels: slice, bias: Tensor | None) -> Tensor:
        norm = self.norm
        x = F.batch_norm(
            x,
            norm.running_mean[channels],
            norm.running_var[channels],
            norm.weight[channels],
            norm.bias[channels],
            self.training,
            norm.momentum,
            norm.eps,
        )
        return cast(Tensor, self.conv._conv_forward(F.leaky_relu(x), self.conv.weight[:, channels], bias))


class PUNet(BackboneModule):
    """See the module's docstring."""

    preset: PUNetPreset

    def __init__(self, preset: PUNetPreset, name: str = "untrained"):
        super().__init__(name)
        self.preset = preset
        self.stem = Stem(preset)
        self.encoder = nn.ModuleList(EncoderLevel(preset, level) for level in range(len(preset.channels)))
        self.decoder = nn.ModuleList(DecoderLevel(preset, level) for level in range(len(preset.channels) - 1))
        for parameter in self.parameters():
            if parameter.dim() == preset.dimensions + 2:
                parameter.data = parameter.data.contiguous(memory_format=_CHANNELS_LAST[preset.dimensions])

    @property
    def embedding_channels(self) -> int:
        return self.preset.channels[0]

    @property
    def level_channels(self) -> tuple[int, ...]:
        levels = tuple(self.preset.channels[:-1])
        return levels + levels

    def prompted_blocks(self, variant: str) -> list[tuple[str, int]]:
        """(name, channels) of the blocks with deep prompts; ``end`` has none, there only the head is the class's."""
        self.preset.check_prompting(variant)
        channels = self.preset.channels
        encoder = [(f"encoder.{i}", c) for i, c in enumerate(channels)]
        decoder = [(f"decoder.{i}", c) for i, c in enumerate(reversed(channels[:-1]))]
        return {"start": encoder[:1], "end": [], "encoder": encoder, "decoder": decoder, "full": encoder + decoder}[
            variant
        ]

    def prompt_shapes(self, variant: str) -> dict[str, tuple[int, ...]]:
        tokens, heads = self.preset.prompt_tokens, self.preset.heads
        shapes: dict[str, tuple[int, ...]] = {}
        for name, channels in self.prompted_blocks(variant):
            shapes[f"{name}.tokens"] = (2, tokens, channels)
            shapes[f"{name}.scores"] = (2, tokens, heads)
        return shapes

    def encode(self, image: Tensor, prompts: Prompts | None = None, *, paired: bool = False) -> Features:
        x = self.stem(image.contiguous(memory_format=_CHANNELS_LAST[self.preset.dimensions]))
        features = Features((x,), tuple(image.shape[2:]), classes=class_count(prompts) if paired else 1)
        maps: list[Tensor] = []
        for number, level in enumerate(self.encoder):
            prompt = _block_prompt(prompts, f"encoder.{number}")
            features = features.spread(prompt)
            (x,) = features.maps
            x = level(x, prompt)
            features = replace(features, maps=(x,))
            maps.append(x)
        # Kept are not the maps themselves, but all that can be worked out of them before the decoder's first prompt.
        *skips, bottom = maps
        levels = self._decoder_levels()
        halves = [level.from_skip(skip) for level, skip in zip(levels, reversed(skips), strict=True)]
        halves[0] = halves[0] + levels[0].from_below(bottom, tuple(halves[0].shape[2:]))
        return replace(features, maps=tuple(reversed(halves)))

    def decode(self, features: Features, prompts: Prompts | None = None) -> Tensor:
        return self._decoded(features, prompts)[0]

    def decode_levels(self, features: Features, prompts: Prompts | None = None) -> tuple[Tensor, ...]:
        coarser = self._decoded(features, prompts, every=True)
        return (*coarser, *features.for_classes(class_count(prompts)).maps)

    def _decoded(self, features: Features, prompts: Prompts | None, every: bool = False) -> tuple[Tensor, ...]:
        """The finest level's map; if every: those of all levels, finer before coarser."""
        levels = self._decoder_levels()
        found: list[Tensor] = []
        for number, level in enumerate(levels):
            prompt = _block_prompt(prompts, f"decoder.{number}")
            features = features.spread(prompt)
            *finer, x = features.maps
            x = level.block(x, prompt)
            found = [x, *found] if every else [x]
            if finer:
                x = finer[-1] + levels[number + 1].from_below(x, tuple(finer[-1].shape[2:]))
            features = replace(features, maps=(*finer[:-1], x))
        return replace(features, maps=tuple(found)).for_classes(class_count(prompts)).maps

    def _decoder_levels(self) -> list[DecoderLevel]:
        return cast(list[DecoderLevel], list(self.decoder))

    @torch.no_grad()
    def prompt_inputs(self, image: Tensor) -> dict[str, list[Tensor]]:
        inputs: dict[str, list[Tensor]] = {name: [] for name, _ in self.prompted_blocks("full")}

        def keep(name: str, arguments: tuple[Tensor, ...]) -> None:
            inputs[name].append(arguments[0])

        handles = [
            layer.register_forward_pre_hook(lambda _, arguments, name=name: keep(name, arguments))
            for name in inputs
            for layer in self.get_submodule(f"{name}.block.layers").children()
        ]
        try:
            self.decode(self.encode(image))
        finally:
            for handle in handles:
                handle.remove()
        return inputs


def _block_prompt(prompts: Prompts | None, block: str) -> BlockPrompt | None:
    if prompts is None or f"{block}.tokens" not in prompts:
        return None
    return BlockPrompt(prompts[f"{block}.tokens"], prompts[f"{block}.scores"])
