"""Prompt-able shifted-window attention (arXiv 2211.09233; windows after arXiv 2103.14030).

Prompts are extra keys and values in every window; they are never queries, so none are computed. Maps are channels-last:
``(batch, *spatial, channels)``. Windows that share the same mask go through one fused attention call with a bias that
is broadcast, never copied per window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from PromptSegLib.networks.device import full_precision

POSITION_CHANNELS = 32
"""Width of the learned position embeddings; scores are scaled by its inverse square root."""

_CHUNK_ELEMENTS = 800_000
"""Attention weights at a time: few enough to stay in the cache."""

_NARROW_HEAD = 8
"""Up to this many channels per head, `_ChunkedAttention` was measured to be faster than the fused kernel."""

_LOG2_E = 1 / math.log(2)

_SAFE_EXPONENT = 86.0
"""Powers of two up to this one, summed over a window, stay well inside of the range of single precision."""


@dataclass(frozen=True)
class BlockPrompt:
    """Prompts of one block for ``N`` classes.

    tokens: (N, 2, T, channels), one set per attention layer; scores: (N, 2, T, heads), added to the attention logits.
    """

    tokens: Tensor
    scores: Tensor

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        return self.tokens[:, index], self.scores[:, index]


@dataclass(frozen=True)
class WindowPlan:
    """How the voxels of a batch of maps are sorted into windows.

    index: (N, P, R, L) flat, row of the (N * R * voxels, channels) map for each window voxel (padding repeats row 0);
    inverse: the row in window order of each map voxel; groups: (number of windows, mask (L, L) or None), in order.
    """

    window: tuple[int, ...]
    windows: int
    index: Tensor
    inverse: Tensor
    padding: Tensor | None
    groups: tuple[tuple[int, Tensor | None], ...]


# Kept for later calls: were it made in inference mode, tuning could not use it.
@lru_cache(maxsize=256)
@torch.inference_mode(False)
def window_plan(
    size: tuple[int, ...], window: tuple[int, ...], shifted: bool, classes: int, repeats: int, device: torch.device
) -> WindowPlan:
    """Plan for maps of spatial ``size``; a window larger than the map shrinks to it and is not shifted."""
    window = tuple(min(w, s) for w, s in zip(window, size, strict=True))
    shift = tuple(w // 2 if shifted and s > w else 0 for w, s in zip(window, size, strict=True))
    counts = tuple(-(-s // w) for w, s in zip(window, size, strict=True))
    padded = tuple(c * w for c, w in zip(counts, window, strict=True))

    voxel = np.full(padded, -1, dtype=np.int64)
    voxel[tuple(slice(0, s) for s in size)] = np.arange(prod(size)).reshape(size)
    region = np.zeros(padded, dtype=np.int64)
    for axis, (s, w, p) in enumerate(zip(shift, window, padded, strict=True)):
        bands = np.zeros(p, dtype=np.int64)
        if s:
            bands[p - w : p - s] = 1
            bands[p - s :] = 2
        region = region * 3 + np.expand_dims(bands, tuple(a for a in range(len(padded)) if a != axis))
    # Regions are numbered after the roll, voxels before it.
    voxel = np.roll(voxel, tuple(-s for s in shift), tuple(range(len(shift))))
    region[voxel < 0] = -1

    def partition(array: np.ndarray) -> np.ndarray:
        split = array.reshape([n for pair in zip(counts, window, strict=True) for n in pair])
        axes = [2 * i for i in range(len(window))] + [2 * i + 1 for i in range(len(window))]
        return split.transpose(axes).reshape(prod(counts), prod(window))

    voxel, region = partition(voxel), partition(region)
    blocked = region[:, :, None] != region[:, None, :]
    patterns, pattern = np.unique(blocked.reshape(len(blocked), -1), axis=0, return_inverse=True)
    pattern = pattern.reshape(-1)
    order = np.argsort(pattern, kind="stable")
    voxel = voxel[order]
    groups: list[tuple[int, Tensor | None]] = []
    sizes = np.bincount(pattern, minlength=len(patterns))
    for number, flat in enumerate(patterns):
        mask = torch.from_numpy(flat.reshape(blocked.shape[1:])).to(device) if flat.any() else None
        groups.append((int(sizes[number]), mask))

    voxels, length = prod(size), prod(window)
    image = np.arange(classes * repeats).reshape(classes, 1, repeats, 1) * voxels
    index = np.where(voxel[None, :, None, :] < 0, 0, image + np.maximum(voxel, 0)[None, :, None, :]).reshape(-1)
    real = np.broadcast_to(voxel[None, :, None, :] >= 0, (classes, len(voxel), repeats, length)).reshape(-1)
    inverse = np.empty(classes * repeats * voxels, dtype=np.int64)
    inverse[index[real]] = np.flatnonzero(real)
    return WindowPlan(
        window=window,
        windows=len(voxel),
        index=torch.from_numpy(index).to(device),
        inverse=torch.from_numpy(inverse).to(device),
        padding=None if real.all() else torch.from_numpy(np.flatnonzero(~real)).to(device),
        groups=tuple(groups),
    )


class _Rearrange(torch.autograd.Function):
    """Rows by index, whose gradient is the rows by the inverse index: a scatter-add is many times slower on a CPU."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor, dropped: Tensor | None) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.dropped = dropped
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inverse,) = ctx.saved_tensors
        result = gradient.index_select(0, inverse)
        if ctx.dropped is not None:
            result[ctx.dropped] = 0
        return result, None, None, None


class _ChunkedAttention(torch.autograd.Function):
    """Attention for many small windows on a CPU, a few windows at a time, so that their weights never leave the cache.

    Fused kernels are made for long sequences and wide heads; with heads 4 or 8 wide they spend their time on the
    softmax. Here the exponentials are taken in place, and an extra row of ones in the values sums them up. The
    backward pass works them out again rather than reading them from memory. A bias or score that needs a gradient,
    which turns torch's fused kernel off, costs next to nothing.

    Inside, voxels and not channels are last: a product whose last axis is only 4 or 8 wide takes up to seven times as
    long. Powers are those of two, which take a third of the time.

    Shapes as in `biased_attention`.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scores: Tensor | None) -> Tensor:
        scale = query.shape[-1] ** -0.5
        query, key, value = (t.transpose(2, 3) for t in (query, key, value))
        query, key = (query * (scale * _LOG2_E)).contiguous(), key.contiguous()
        value = torch.cat([value, value.new_ones(()).expand(*value.shape[:2], 1, value.shape[3])], dim=2).contiguous()
        full = (_with_scores(bias, scores) * _LOG2_E).contiguous()
        stable = _needs_shift(query, key, full)
        sums = query.new_empty(*value.shape[:3], query.shape[3])
        for part, weights in _exponentials(query, key, full, stable):
            torch.bmm(value[part].flatten(0, 1), weights.transpose(1, 2), out=sums[part].flatten(0, 1))
        inverse = sums[:, :, -1:].reciprocal()
        result = sums[:, :, :-1] * inverse
        ctx.save_for_backward(query, key, value, full, result, inverse)
        ctx.stable, ctx.scale = stable, scale
        return result.transpose(2, 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, full, result, inverse = ctx.saved_tensors
        needs_bias, needs_scores = ctx.needs_input_grad[3:]
        # In the first layer that a prompt steers, only the prompt's keys and values need a gradient, not the queries.
        needs_input = any(ctx.needs_input_grad[:3])
        # The last row meets the values' ones: one product gives dP - rowsum(P * dP), all over the row's sum.
        extended = query.new_empty(*result.shape[:2], result.shape[2] + 1, result.shape[3])
        scaled = torch.mul(gradient.transpose(2, 3), inverse, out=extended[:, :, :-1])
        extended[:, :, -1] = -(scaled * result).sum(2)
        d_query, d_key = torch.empty_like(query), torch.empty_like(key)
        d_value = torch.empty_like(key)
        length = full.shape[1]
        d_full = torch.zeros_like(full) if needs_bias else None
        d_scores = torch.zeros(len(full), full.shape[2] - length, dtype=full.dtype) if needs_scores else None
        buffer = torch.empty(0, dtype=query.dtype)
        for part, weights in _exponentials(query, key, full, ctx.stable):
            if buffer.shape != weights.shape:
                buffer = torch.empty_like(weights)
            q, k, v, g = (t[part].flatten(0, 1) for t in (query, key, value, extended))
            torch.bmm(g.transpose(1, 2), v, out=buffer).mul_(weights)
            by_window = buffer.view(-1, *full.shape)
            if d_full is not None:
                d_full += by_window.sum(0)
            if d_scores is not None:
                d_scores += by_window[..., length:].sum((0, 2))
            if needs_input:
                torch.bmm(g[:, :-1], weights, out=d_value[part].flatten(0, 1))
                torch.bmm(k, buffer.transpose(1, 2), out=d_query[part].flatten(0, 1))
                torch.bmm(q, buffer, out=d_key[part].flatten(0, 1))
        d_bias = None if d_full is None else d_full[..., :length]
        if not needs_input:
            return None, None, None, d_bias, d_scores
        d_query, d_key = d_query.mul_(ctx.scale), d_key.div_(_LOG2_E)
        return *(t.transpose(2, 3) for t in (d_query, d_key, d_value)), d_bias, d_scores


def _with_scores(bias: Tensor, scores: Tensor | None) -> Tensor:
    """Bias (H, L, L) and scores (H, T) of the prompts as one bias (H, L, L + T)."""
    if scores is None:
        return bias
    return torch.cat([bias, scores[:, None].expand(-1, bias.shape[1], -1)], dim=2)


def _needs_shift(query: Tensor, key: Tensor, bias: Tensor) -> bool:
    """Whether an exponential could leave the range of the type unless each row's maximum is taken off first."""
    finite = bias.masked_fill(bias.isneginf(), 0).abs().max()
    bound = query.square().sum(2).max().sqrt() * key.square().sum(2).max().sqrt() + finite
    return not bool(bound < _SAFE_EXPONENT)


def _exponentials(query: Tensor, key: Tensor, bias: Tensor, stable: bool) -> Iterator[tuple[slice, Tensor]]:
    """(windows, 2^(q k^T + bias) (windows * H, L, S)) for a few windows at a time; the next turn overwrites them.

    query (W, H, d, L), key (W, H, d, S), bias (H, L, S).
    """
    chunk = min(len(query), max(1, _CHUNK_ELEMENTS // bias.numel()))
    buffer = torch.empty(chunk * len(bias), *bias.shape[1:], dtype=query.dtype)
    for start in range(0, len(query), chunk):
        part = slice(start, min(start + chunk, len(query)))
        q, k = query[part].flatten(0, 1), key[part].flatten(0, 1)
        logits = torch.bmm(q.transpose(1, 2), k, out=buffer[: len(q)])
        logits.view(-1, *bias.shape).add_(bias)
        if stable:
            logits.sub_(logits.amax(-1, keepdim=True))
        yield part, logits.exp2_()


def biased_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scores: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v per window.

    query (W, H, L, d), key and value (W, H, L + T, d) with the prompts' last, bias (H, L, L) of the content, scores
    (H, T) of the prompts, None without prompts.
    """
    trained = torch.is_grad_enabled() and (bias.requires_grad or (scores is not None and scores.requires_grad))
    narrow = query.shape[-1] <= _NARROW_HEAD
    if query.device.type == "cpu" and query.dtype in (torch.float32, torch.float64) and (trained or narrow):
        return cast(Tensor, _ChunkedAttention.apply(query, key, value, bias, scores))
    mask = _with_scores(bias, scores).to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask[None])


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

        rows = _Rearrange.apply(x.reshape(-1, channels), plan.index, plan.inverse, None)
        attended = self.out(self._attend(rows, plan, classes, repeats, prompt))
        rows = rows + attended
        rows = rows + self.mlp(self.mlp_norm(rows))
        return cast(Tensor, _Rearrange.apply(rows, plan.inverse, plan.index, plan.padding)).reshape(x.shape)

    def _attend(
        self, rows: Tensor, plan: WindowPlan, classes: int, repeats: int, prompt: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        channels, heads = rows.shape[-1], self.heads
        length = prod(plan.window)
        qkv = self.qkv(self.norm(rows)).reshape(-1, length, 3, heads, channels // heads)
        position = self.position(plan.window)
        biases = [position if m is None else position.masked_fill(m, float("-inf")) for _, m in plan.groups]
        # One split, not a slice per group: the gradient of a slice is a zero-filled copy of the whole.
        parts = iter(qkv.split([windows * repeats for _ in range(classes) for windows, _ in plan.groups]))
        results = []
        for number in range(classes):
            scores = None
            if prompt is not None:
                prompt_key, prompt_value, scores = self._prompt_keys(prompt, number)
            for bias in biases:
                query, key, value = next(parts).permute(2, 0, 3, 1, 4)
                if prompt is not None:
                    key = torch.cat([key, prompt_key.expand(len(key), -1, -1, -1)], dim=2)
                    value = torch.cat([value, prompt_value.expand(len(value), -1, -1, -1)], dim=2)
                results.append(biased_attention(query, key, value, bias, scores).transpose(1, 2).reshape(-1, channels))
        return results[0] if len(results) == 1 else torch.cat(results)

    def _prompt_keys(self, prompt: tuple[Tensor, Tensor], number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values (1, H, T, d) of class ``number``'s tokens, and their scores (H, T)."""
        tokens, scores = prompt[0][number], prompt[1][number]
        channels = tokens.shape[-1]
        projected = F.linear(self.norm(tokens), self.qkv.weight[channels:])
        key, value = projected.reshape(1, len(tokens), 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return key, value, scores.T


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
