"""Prompt-able shifted-window attention (arXiv 2211.09233; windows after arXiv 2103.14030).

Prompts are extra keys and values in every window; they are never queries, so none are computed. Maps are channels-last:
``(batch, *spatial, channels)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from PromptSegLib.networks.device import full_precision
from PromptSegLib.networks.window_attention import PromptKeys, window_attention
from PromptSegLib.networks.windows import Rearrange, WindowPlan, window_plan

POSITION_CHANNELS = 32
"""Width of the learned position embeddings; scores are scaled by its inverse square root."""


@dataclass(frozen=True)
class BlockPrompt:
    """Prompts of one block for ``N`` classes.

    tokens: (N, 2, T, channels), one set per attention layer; scores: (N, 2, T, heads), added to the attention logits.
    """

    tokens: Tensor
    scores: Tensor

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        return self.tokens[:, index], self.scores[:, index]


class RelativePositionBias(nn.Module):
    """Content-content bias: per axis an embedding of the distance, weighed per head; summed over three axes, over 3.

    A 2-D window is a 3-D one of depth 1, as in the paper: its depth term is the same for every pair and balances
    content against prompts.
    """

    def __init__(self, heads: int, window: tuple[int, ...]) -> None:
        super().__init__()
        axes = (*window, *(1,) * (3 - len(window)))
        self.embeddings = nn.ParameterList(
            nn.init.xavier_uniform_(torch.empty(2 * size - 1, POSITION_CHANNELS)) for size in axes
        )
        self.weights = nn.ParameterList(nn.init.xavier_uniform_(torch.empty(heads, POSITION_CHANNELS)) for _ in axes)
        self._cache: dict[tuple[int, ...], tuple[int, Tensor]] = {}

    def forward(self, window: tuple[int, ...]) -> Tensor:
        """Bias (heads, L, L) for the L voxels of a window not larger than the learned one."""
        trainable = any(p.requires_grad for p in self.parameters())
        version = sum(p._version for p in self.parameters())
        cached = self._cache.get(window)
        if not trainable and cached and cached[0] == version and cached[1].device == self.weights[0].device:
            return cached[1]
        bias = self._bias(window)
        if not trainable and not bias.is_inference():
            self._cache[window] = (version, bias.detach())
        return bias

    # In the precision of the weights: it is kept, also for calls that compute in another one than this.
    @full_precision()
    def _bias(self, window: tuple[int, ...]) -> Tensor:
        axes = (*window, *(1,) * (3 - len(window)))
        total: Tensor | None = None
        for axis, (size, embedding, weight) in enumerate(zip(axes, self.embeddings, self.weights, strict=True)):
            position = torch.arange(size, device=weight.device)
            distance = position[None, :] - position[:, None] + (len(embedding) - 1) // 2
            scores = (weight @ embedding.T)[:, distance]
            shape = [len(scores), 1, 1, 1, 1, 1, 1]
            shape[1 + axis] = shape[4 + axis] = size
            scores = scores.reshape(shape)
            total = scores if total is None else total + scores
        assert total is not None
        length = prod(axes)
        return cast(Tensor, (total / (3 * POSITION_CHANNELS**0.5)).reshape(len(total), length, length))


class PromptAttentionLayer(nn.Module):
    """Pre-norm window attention with prompts as extra keys and values, then one linear layer; both residual."""

    def __init__(self, channels: int, heads: int, window: tuple[int, ...], shifted: bool) -> None:
        super().__init__()
        self.heads, self.window, self.shifted = heads, window, shifted
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = nn.Linear(channels, channels)
        self.position = RelativePositionBias(heads, window)

    def forward(self, x: Tensor, prompt: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Map (M, *spatial, C) -> same. ``prompt``: tokens (N, T, C) and scores (N, T, heads); M = N * R images, those
        of class n at rows n * R to (n + 1) * R."""
        size, channels = tuple(x.shape[1:-1]), x.shape[-1]
        classes = 1 if prompt is None else len(prompt[0])
        repeats = len(x) // classes
        plan = window_plan(size, self.window, self.shifted, classes, repeats, x.device)

        rows = Rearrange.apply(x.reshape(-1, channels), plan.index, plan.inverse, None)
        attended = self.out(self._attend(rows, plan, repeats, prompt))
        rows = rows + attended
        rows = rows + self.mlp(self.mlp_norm(rows))
        return cast(Tensor, Rearrange.apply(rows, plan.inverse, plan.index, plan.padding)).reshape(x.shape)

    def _attend(self, rows: Tensor, plan: WindowPlan, repeats: int, prompt: tuple[Tensor, Tensor] | None) -> Tensor:
        channels = rows.shape[-1]
        qkv = self.qkv(self.norm(rows)).reshape(-1, prod(plan.window), 3, self.heads, channels // self.heads)
        groups = [(windows * repeats, mask) for windows, mask in plan.groups]
        prompts = None if prompt is None else self._prompt_keys(*prompt)
        return window_attention(qkv, self.position(plan.window), groups, prompts).reshape(-1, channels)

    def _prompt_keys(self, tokens: Tensor, scores: Tensor) -> PromptKeys:
        """tokens: (N, T, C), scores: (N, T, H)."""
        projected = F.linear(self.norm(tokens), self.qkv.weight[tokens.shape[-1] :])
        return PromptKeys(projected.unflatten(-1, (2, self.heads, -1)), scores)


class ShiftedWindowBlock(nn.Module):
    """A window and a shifted-window attention layer (the paper's prompt-able SIA block)."""

    def __init__(self, channels: int, heads: int, window: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PromptAttentionLayer(channels, heads, window, shifted) for shifted in (False, True))

    def forward(self, x: Tensor, prompt: BlockPrompt | None = None) -> Tensor:
        """Map (M, C, *spatial), channels-last in memory -> same."""
        x = x.movedim(1, -1)
        for number, layer in enumerate(self.layers):
            x = layer(x, None if prompt is None else prompt.layer(number))
        return x.movedim(-1, 1)
