"""UNETR (arXiv 2103.10504) in 2-D as a prompt-able backbone: MONAI's network, whose transformer takes prompts."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from monai.networks.nets import UNETR
from torch import Tensor, nn

from PromptSegLib.networks.backbone import Prompts
from PromptSegLib.networks.presets import UNETRPreset
from PromptSegLib.networks.transformer import PromptedTransformer, own_prompts

SKIPPED_FROM = (3, 6, 9)
"""Blocks whose results go to the decoder beside the last one's."""


class PromptedUNETR(PromptedTransformer):
    """Any size of image will do: position embeddings are interpolated to it. Prompts have no position."""

    preset: UNETRPreset

    def __init__(self, preset: UNETRPreset, name: str = "untrained"):
        super().__init__(name)
        self.preset = preset
        self.net: Any = UNETR(
            in_channels=1,
            out_channels=preset.embedding_channels,
            img_size=preset.patch,
            feature_size=preset.features,
            hidden_size=preset.hidden,
            mlp_dim=preset.mlp,
            num_heads=preset.heads,
            norm_name="batch",
            spatial_dims=2,
        )
        for block in self.net.vit.blocks:
            # Never used here, and not the same in all versions of MONAI: files and fingerprints must be.
            block.norm_cross_attn = block.cross_attn = nn.Identity()

    @property
    def multiple(self) -> int:
        return int(self.net.patch_size[0])

    def blocks(self) -> list[tuple[nn.Module, int]]:
        return [(block, self.preset.hidden) for block in self.net.vit.blocks]

    def encode_padded(self, image: Tensor, prompts: Prompts | None, images: int) -> list[Tensor]:
        net = self.net
        x = net.vit.patch_embedding.patch_embeddings(image)
        grid = tuple(x.shape[2:])
        x = (x + self._positions(grid)).flatten(2).transpose(1, 2)
        carried: Tensor | None = None
        kept: list[Tensor] = []
        for number, block in enumerate(net.vit.blocks):
            x, own = own_prompts(x, prompts, number, images)
            carried = carried if own is None else own
            if carried is None:
                x = block(x)
            else:
                x, carried = block(torch.cat([x, carried], 1)).split([x.shape[1], carried.shape[1]], 1)
            kept.append(x)
        skips = [_as_map(kept[number], grid) for number in SKIPPED_FROM]
        up = (net.encoder2, net.encoder3, net.encoder4)
        return [
            net.encoder1(image),
            *(encoder(skip) for encoder, skip in zip(up, skips, strict=True)),
            _as_map(net.vit.norm(x), grid),
        ]

    def decode_maps(self, maps: tuple[Tensor, ...]) -> Tensor:
        net = self.net
        *skips, x = maps
        decoders = (net.decoder5, net.decoder4, net.decoder3, net.decoder2)
        for decoder, skip in zip(decoders, reversed(skips), strict=True):
            x = decoder(x, skip)
        return cast(Tensor, net.out(x))

    def _positions(self, grid: tuple[int, ...]) -> Tensor:
        """Position embeddings (1, C, *grid)."""
        learned: Tensor = self.net.vit.patch_embedding.position_embeddings
        learned = learned.transpose(1, 2).reshape(1, -1, *self.net.feat_size)
        if grid == tuple(self.net.feat_size):
            return learned
        return F.interpolate(learned, size=grid, mode="bicubic", align_corners=False)


def _as_map(tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Tokens (M, h * w, C) as a map (M, C, h, w)."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
