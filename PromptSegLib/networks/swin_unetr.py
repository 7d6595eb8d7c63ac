"""Swin UNETR (arXiv 2201.01266) in 2-D as a prompt-able backbone: MONAI's network, whose windows take prompts.

Each window of a block sees the same prompts beside its own pixels. Prompts that a block carries on are the mean of what
its windows made of them; where a stage ends and pixels are merged, they end too (arXiv 2203.12119).
"""

from __future__ import annotations

from math import prod
from typing import Any, cast

import torch
import torch.nn.functional as F
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import (
    compute_mask,
    get_window_size,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn

from PromptSegLib.networks.backbone import Prompts
from PromptSegLib.networks.presets import SwinUNETRPreset
from PromptSegLib.networks.transformer import PromptedTransformer, own_prompts


class PromptedSwinUNETR(PromptedTransformer):
    """See the module's docstring."""

    preset: SwinUNETRPreset

    def __init__(self, preset: SwinUNETRPreset, name: str = "untrained"):
        super().__init__(name)
        self.preset = preset
        self.net: Any = SwinUNETR(
            in_channels=1,
            out_channels=preset.embedding_channels,
            depths=preset.depths,
            num_heads=preset.heads,
            window_size=preset.window,
            feature_size=preset.features,
            norm_name="batch",
            spatial_dims=2,
        )

    @property
    def multiple(self) -> int:
        return int(self.net.patch_size**5)

    def stages(self) -> list[Any]:
        vit = self.net.swinViT
        return [layers[0] for layers in (vit.layers1, vit.layers2, vit.layers3, vit.layers4)]

    def blocks(self) -> list[tuple[nn.Module, int]]:
        return [(block, block.dim) for stage in self.stages() for block in stage.blocks]

    def encode_padded(self, image: Tensor, prompts: Prompts | None, images: int) -> list[Tensor]:
        net, number = self.net, 0
        x = net.swinViT.patch_embed(image)
        hidden = [x]
        for stage in self.stages():
            x = x.permute(0, 2, 3, 1)
            mask = _mask(stage, x)
            carried: Tensor | None = None
            for block in stage.blocks:
                x, own = own_prompts(x, prompts, number, images)
                carried = carried if own is None else own
                if carried is None:
                    x = block(x, mask)
                else:
                    x, carried = prompted_block(block, x, mask, carried)
                number += 1
            x = stage.downsample(x).permute(0, 3, 1, 2)
            hidden.append(x)
        first, second, third, fourth, last = (net.swinViT.proj_out(x, net.normalize) for x in hidden)
        return [
            net.encoder1(image),
            net.encoder2(first),
            net.encoder3(second),
            net.encoder4(third),
            fourth,
            net.encoder10(last),
        ]

    def decode_maps(self, maps: tuple[Tensor, ...]) -> Tensor:
        net = self.net
        *skips, x = maps
        decoders = (net.decoder5, net.decoder4, net.decoder3, net.decoder2, net.decoder1)
        for decoder, skip in zip(decoders, reversed(skips), strict=True):
            x = decoder(x, skip)
        return cast(Tensor, net.out(x))


def _mask(stage: Any, x: Tensor) -> Tensor:
    """What the shifted windows of a stage, a BasicLayer, hide (windows, L, L); x: (M, h, w, C)."""
    size = tuple(x.shape[1:3])
    window, shift = get_window_size(size, stage.window_size, stage.shift_size)
    padded = [n + -n % w for n, w in zip(size, window, strict=True)]
    return cast(Tensor, compute_mask(padded, window, shift, x.device))


def prompted_block(block: Any, x: Tensor, mask: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """A SwinTransformerBlock on a map (M, h, w, C), with prompts (M, T, C) in every window; what becomes of both."""
    size, channels = tuple(x.shape[1:3]), x.shape[3]
    window, shift = get_window_size(size, block.window_size, block.shift_size)
    rows, columns = (-n % w for n, w in zip(size, window, strict=True))
    y = F.pad(block.norm1(x), (0, 0, 0, columns, 0, rows))
    padded = (len(x), *y.shape[1:3])
    y = torch.roll(y, [-s for s in shift], (1, 2))
    windows = window_partition(y, window)
    per_image = len(windows) // len(x)
    seen = torch.cat([windows, block.norm1(prompts).repeat_interleave(per_image, 0)], 1)
    attended = prompted_attention(block.attn, seen, mask if any(shift) else None, prod(window))
    pixels, tokens = attended.split([prod(window), prompts.shape[1]], 1)
    y = window_reverse(pixels.reshape(-1, *window, channels), window, padded)
    y = torch.roll(y, shift, (1, 2))[:, : size[0], : size[1]]
    x, prompts = x + y, prompts + tokens.unflatten(0, (-1, per_image)).mean(1)
    return x + block.forward_part2(x), prompts + block.forward_part2(prompts)


def prompted_attention(attention: Any, x: Tensor, mask: Tensor | None, pixels: int) -> Tensor:
    """A WindowAttention in windows (W, L + T, C), whose last T tokens are prompts, which no mask hides and no position
    bias moves. pixels: L."""
    length = x.shape[1]
    qkv = attention.qkv(x).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    query, key, value = qkv
    index = attention.relative_position_index[:pixels, :pixels]
    bias = attention.relative_position_bias_table[index].permute(2, 0, 1)[None]
    if mask is not None:
        bias = bias + mask[:, None]
    bias = F.pad(bias, (0, length - pixels, 0, length - pixels))
    scores = (query * attention.scale) @ key.transpose(-2, -1)
    scores = (scores.unflatten(0, (-1, len(bias))) + bias).flatten(0, 1)
    attended = (scores.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
    return cast(Tensor, attention.proj(attended))
