"""PUNet written down plainly, to check the fast one against and to time it against.

Everything is done as it reads in the paper, at its full cost: maps are 5-D, ``(images, channels, rows, columns,
slices)``, also for 2-D patches, which are one slice deep; batch norms are layers of their own; prompts join the content
of every window, and queries are computed for them and thrown away; masks and biases are made anew in every call and
expanded to all windows; every image is seen from the start with every class's prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from PromptSegLib.networks.presets import PUNetPreset
from PromptSegLib.networks.punet import PUNet

Prompts = Mapping[str, Tensor]


class PlainFeatures(NamedTuple):
    """maps: (classes * R, channels, rows, columns, slices) each, finest first; size: that of the images."""

    maps: tuple[Tensor, ...]
    size: tuple[int, ...]
    classes: int


def three(numbers: tuple[int, ...]) -> tuple[int, int, int]:
    """Sizes along rows, columns and slices; a 2-D one is one slice deep."""
    rows, columns, *slices = numbers
    return rows, columns, slices[0] if slices else 1


def deepen(x: Tensor) -> Tensor:
    """(images, channels, rows, columns) -> one slice deep; 5-D stays."""
    return x.unsqueeze(-1) if x.dim() == 4 else x


def convolution(
    channels_in: int, channels_out: int, kernel: tuple[int, ...], stride: tuple[int, ...], bias: bool = True
) -> nn.Conv3d:
    kernel = three(kernel)
    padding = tuple(k // 2 for k in kernel)
    return nn.Conv3d(channels_in, channels_out, kernel, three(stride), padding, bias=bias)


class PlainPosition(nn.Module):
    """One embedding per distance and axis, weighed by each head; the mean over the three axes, times 32^-0.5."""

    def __init__(self, heads: int, window: tuple[int, int, int]) -> None:
        super().__init__()
        self.window = window
        self.embeddings = nn.ParameterList(torch.zeros(2 * size - 1, 32) for size in window)
        self.weights = nn.ParameterList(torch.zeros(heads, 32) for _ in window)

    def forward(self, window: tuple[int, ...]) -> Tensor:
        """(heads, L, L): what query i adds to its score of key j."""
        voxels = torch.tensor(list(product(*(range(size) for size in window))))
        bias = torch.zeros(())
        for axis in range(3):
            from_query_to_key = voxels[None, :, axis] - voxels[:, None, axis]
            embedded = self.embeddings[axis][from_query_to_key + self.window[axis] - 1]
            bias = bias + torch.einsum("ijc,hc->hij", embedded, self.weights[axis])
        return bias / 3 * 32**-0.5


class PlainLayer(nn.Module):
    """Window attention with prompts, then one linear layer; both residual and after a layer norm."""

    def __init__(self, channels: int, heads: int, window: tuple[int, int, int], shifted: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = nn.Linear(channels, channels)
        self.position = PlainPosition(heads, window)

    def forward(self, x: Tensor, tokens: Tensor | None, scores: Tensor | None) -> Tensor:
        """Map (M, C, rows, columns, slices) -> same; tokens (M, T, C) and scores (M, T, heads) of each image."""
        size = tuple(x.shape[2:])
        window = tuple(min(w, s) for w, s in zip(self.window, size, strict=True))
        shift = tuple(w // 2 if self.shifted and s > w else 0 for w, s in zip(window, size, strict=True))
        padding = tuple(-s % w for w, s in zip(window, size, strict=True))

        padded = F.pad(x, (0, padding[2], 0, padding[1], 0, padding[0]))
        rolled = torch.roll(padded, tuple(-s for s in shift), (2, 3, 4))
        content = partition(rolled, window)
        attended = self.attend(content, shift_mask(size, padding, window, shift), window, tokens, scores)
        rolled = rolled + reverse(self.out(attended), window, rolled.shape)
        x = torch.roll(rolled, shift, (2, 3, 4))[:, :, : size[0], : size[1], : size[2]]

        x = x.movedim(1, -1)
        return (x + self.mlp(self.mlp_norm(x))).movedim(-1, 1)

    def attend(
        self, content: Tensor, mask: Tensor, window: tuple[int, ...], tokens: Tensor | None, scores: Tensor | None
    ) -> Tensor:
        """(M, P, L, C) -> same: attention within each of P windows and its prompts. mask: (P, L, L), additive."""
        images, windows, length, channels = content.shape
        bias = self.position(window)[None, None] + mask[None, :, None]
        bias = bias.expand(images, windows, self.heads, length, length)
        joined = content
        if tokens is not None and scores is not None:
            count = tokens.shape[1]
            joined = torch.cat([content, tokens[:, None].expand(-1, windows, -1, -1)], dim=2)
            prompt_bias = scores.transpose(1, 2)[:, None, :, None].expand(-1, windows, -1, length, -1)
            unused = torch.zeros(images, windows, self.heads, count, length + count)
            bias = torch.cat([torch.cat([bias, prompt_bias], dim=4), unused], dim=3)

        shape = (images, windows, joined.shape[2], self.heads, channels // self.heads)
        query, key, value = (part.reshape(shape) for part in self.qkv(self.norm(joined)).chunk(3, dim=-1))
        logits = torch.einsum("mpihd,mpjhd->mphij", query, key) * shape[-1] ** -0.5 + bias
        attended = torch.einsum("mphij,mpjhd->mpihd", logits.softmax(-1), value)
        return attended.reshape(images, windows, -1, channels)[:, :, :length]


def partition(x: Tensor, window: tuple[int, ...]) -> Tensor:
    """(M, C, rows, columns, slices) -> (M, P windows, L voxels, C)."""
    images, channels, rows, columns, slices = x.shape
    a, b, c = window
    split = x.reshape(images, channels, rows // a, a, columns // b, b, slices // c, c)
    return split.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(images, -1, a * b * c, channels)


def reverse(windows: Tensor, window: tuple[int, ...], shape: torch.Size) -> Tensor:
    images, channels, rows, columns, slices = shape
    a, b, c = window
    split = windows.reshape(images, rows // a, columns // b, slices // c, a, b, c, channels)
    return split.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(shape)


def shift_mask(
    size: tuple[int, ...], padding: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]
) -> Tensor:
    """(P, L, L): minus infinity between voxels that the roll brought together from different sides, and between map
    and padding."""
    numbers = torch.zeros(1, 1, *(s + p for s, p in zip(size, padding, strict=True)))
    cuts = [
        (slice(0, -w), slice(-w, -s), slice(-s, None)) if s else (slice(None),)
        for w, s in zip(window, shift, strict=True)
    ]
    for number, (rows, columns, slices) in enumerate(product(*cuts)):
        numbers[:, :, rows, columns, slices] = number
    outside = torch.ones_like(numbers, dtype=torch.bool)
    outside[:, :, : size[0], : size[1], : size[2]] = False
    numbers[torch.roll(outside, tuple(-s for s in shift), (2, 3, 4))] = -1

    regions = partition(numbers, window)[0, :, :, 0]
    apart = regions[:, :, None] != regions[:, None, :]
    return torch.zeros(apart.shape).masked_fill(apart, float("-inf"))


class PlainBlock(nn.Module):
    def __init__(self, channels: int, preset: PUNetPreset) -> None:
        super().__init__()
        window = three(preset.window)
        self.layers = nn.ModuleList(PlainLayer(channels, preset.heads, window, shifted) for shifted in (False, True))

    def forward(self, x: Tensor, prompts: Prompts, name: str) -> Tensor:
        """``prompts``: those of N classes for N * R images, or none for this block."""
        for number, layer in enumerate(self.layers):
            tokens = scores = None
            if f"{name}.tokens" in prompts:
                tokens, scores = prompts[f"{name}.tokens"][:, number], prompts[f"{name}.scores"][:, number]
                repeats = len(x) // len(tokens)
                tokens, scores = tokens.repeat_interleave(repeats, 0), scores.repeat_interleave(repeats, 0)
            x = layer(x, tokens, scores)
        return x


class PlainConvNorm(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = convolution(channels_in, channels_out, kernel, stride, bias=False)
        self.norm = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class PlainNormProjection(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(channels_in)
        self.conv = convolution(channels_in, channels_out, (1, 1, 1), stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x))


class PlainStem(nn.Module):
    def __init__(self, preset: PUNetPreset) -> None:
        super().__init__()
        channels, kernel = preset.channels[0], preset.kernel(0)
        self.first = PlainConvNorm(1, channels, kernel, (2, 2, 1))
        self.second = PlainConvNorm(channels, channels, kernel, (1, 1, 1))
        self.residual = PlainConvNorm(1, channels, (1, 1, 1), (2, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.second(F.leaky_relu(self.first(x))) + self.residual(x))


class PlainEncoderLevel(nn.Module):
    def __init__(self, preset: PUNetPreset, level: int) -> None:
        super().__init__()
        channels_in, channels_out = preset.channels[max(level - 1, 0)], preset.channels[level]
        stride = three(preset.stride(level))
        self.norm = nn.BatchNorm3d(channels_in)
        self.conv = convolution(channels_in, channels_out, preset.kernel(level), stride)
        self.block = PlainBlock(channels_out, preset)
        self.residual = PlainNormProjection(channels_in, channels_out, stride)

    def forward(self, x: Tensor, prompts: Prompts, name: str) -> Tensor:
        y = self.conv(F.leaky_relu(self.norm(x)))
        return self.block(y, prompts, name) + self.residual(x)


class PlainDecoderLevel(nn.Module):
    def __init__(self, preset: PUNetPreset, below: int) -> None:
        super().__init__()
        channels_out = preset.channels[below - 1]
        self.scale = three(preset.stride(below))
        self.norm = nn.BatchNorm3d(preset.channels[below] + channels_out)
        self.conv = convolution(preset.channels[below] + channels_out, channels_out, preset.kernel(below), (1, 1, 1))
        self.block = PlainBlock(channels_out, preset)

    def forward(self, x: Tensor, skip: Tensor, prompts: Prompts, name: str) -> Tensor:
        x = F.interpolate(x, scale_factor=tuple(map(float, self.scale)), mode="trilinear", align_corners=False)
        x = x[:, :, : skip.shape[2], : skip.shape[3], : skip.shape[4]]
        return self.block(self.conv(F.leaky_relu(self.norm(torch.cat([x, skip], dim=1)))), prompts, name)


class PlainPUNet(nn.Module):
    def __init__(self, preset: PUNetPreset) -> None:
        super().__init__()
        levels = range(len(preset.channels))
        self.stem = PlainStem(preset)
        self.encoder = nn.ModuleList(PlainEncoderLevel(preset, level) for level in levels)
        self.decoder = nn.ModuleList(PlainDecoderLevel(preset, below) for below in reversed(levels[1:]))

    @classmethod
    def of(cls, network: PUNet) -> PlainPUNet:
        """The same network: the same weights in the same mode."""
        plain = cls(network.preset)
        kernels = {name for name, tensor in plain.state_dict().items() if tensor.dim() == 5}
        state = {
            name: (deepen(tensor) if name in kernels else tensor).clone()
            for name, tensor in network.state_dict().items()
        }
        plain.load_state_dict(state)
        for name, parameter in network.named_parameters():
            plain.get_parameter(name).requires_grad_(parameter.requires_grad)
        return plain.train(network.training)

    def encode(self, image: Tensor, prompts: Prompts | None = None, paired: bool = False) -> PlainFeatures:
        """Image (R, 1, *spatial) -> features of N * R images; ``paired``: the images already are N * R."""
        prompts = prompts or {}
        classes = count_classes(prompts)
        size = tuple(image.shape[2:])
        x = deepen(image) if paired else deepen(image).repeat(classes, 1, 1, 1, 1)
        x = self.stem(x)
        maps = []
        for number, level in enumerate(self.encoder):
            x = level(x, prompts, f"encoder.{number}")
            maps.append(x)
        return PlainFeatures(tuple(maps), size, classes)

    def decode(self, features: PlainFeatures, prompts: Prompts | None = None) -> Tensor:
        """Features -> embedding (N * R, channels, rows, columns, slices)."""
        prompts = prompts or {}
        maps = features.maps
        if features.classes == 1:
            maps = tuple(m.repeat(count_classes(prompts), 1, 1, 1, 1) for m in maps)
        *skips, x = maps
        for number, level in enumerate(self.decoder):
            x = level(x, skips.pop(), prompts, f"decoder.{number}")
        return x


def count_classes(prompts: Prompts) -> int:
    return len(next(iter(prompts.values()))) if prompts else 1


def plain_logits(embedding: Tensor, prompts: Prompts, size: tuple[int, ...]) -> Tensor:
    """Logits (N * R, *size), one class and one image after the other."""
    enlarged = F.interpolate(embedding, size=three(size), mode="trilinear", align_corners=False)
    classes = len(prompts["head.foreground"])
    repeats = len(enlarged) // classes
    logits = []
    for number, image in enumerate(enlarged):
        of_class = {name: tensor[number // repeats] for name, tensor in prompts.items() if name.startswith("head.")}
        foreground, background = (
            plain_similarity(image, of_class[name]) for name in ("head.foreground", "head.background")
        )
        logits.append(of_class["head.log_scale"].exp() * (foreground - background) + of_class["head.offset"])
    return torch.stack(logits).reshape(-1, *size)


def plain_similarity(image: Tensor, tokens: Tensor) -> Tensor:
    """(rows, columns, slices) for an embedding (C, rows, columns, slices) and tokens (K, C)."""
    cosine = torch.einsum("kc,cxyz->kxyz", F.normalize(tokens, dim=1), F.normalize(image, dim=0))
    similarities = (cosine + 1) / 2
    return (similarities * torch.softmax(similarities.detach() / 0.1, dim=0)).sum(0)
