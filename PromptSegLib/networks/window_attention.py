"""Attention within windows, over their own keys and those of a class's prompts, laid out for a CPU or left to torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_CHUNK_ELEMENTS = 800_000
"""Attention weights at a time: few enough to stay in the cache."""

_NARROW_HEAD = 8
"""Up to this many channels per head, `_ChunkedAttention` was measured to be faster than the fused kernel."""

_LOG2_E = 1 / math.log(2)

_SAFE_EXPONENT = 86.0
"""Powers of two up to this one, summed over a window, stay well inside of the range of single precision."""

Groups = Sequence[tuple[int, Tensor | None]]
"""Runs of windows of one class: how many, and what of them must not see each other, bool (L, L), if anything."""


@dataclass(frozen=True)
class PromptKeys:
    """Prompts of N classes as every window of theirs sees them.

    keys_values: (N, T, 2, H, d); scores: (N, T, H), added to the attention logits.
    """

    keys_values: Tensor
    scores: Tensor


def window_attention(qkv: Tensor, bias: Tensor, groups: Groups, prompts: PromptKeys | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v within each window, over its own keys and its class's prompts.

    qkv: (W, L, 3, H, d) of W windows, which are those of ``groups`` for one class after the other; bias: (H, L, L).
    Returns (W, L, H, d).
    """
    trained = torch.is_grad_enabled() and (bias.requires_grad or (prompts is not None and prompts.scores.requires_grad))
    narrow = qkv.shape[-1] <= _NARROW_HEAD
    if qkv.device.type == "cpu" and qkv.dtype in (torch.float32, torch.float64) and (trained or narrow):
        pair = (None, None) if prompts is None else (prompts.keys_values, prompts.scores)
        return cast(Tensor, _ChunkedAttention.apply(qkv, bias, *pair, groups))
    return _fused_attention(qkv, bias, groups, prompts)


def _fused_attention(qkv: Tensor, bias: Tensor, groups: Groups, prompts: PromptKeys | None) -> Tensor:
    """One of torch's kernels for each group of each class, with a bias that is broadcast, never copied per window."""
    biases = _full_bias(bias, groups, prompts).to(qkv.dtype)
    keys_values = [None] if prompts is None else prompts.keys_values.permute(0, 2, 3, 1, 4).unbind()
    # Split and unbound at once, not a slice each: the gradient of a slice is a zero-filled copy of the whole.
    parts = iter(qkv.split([windows for _ in keys_values for windows, _ in groups]))
    masks = iter(biases.flatten(0, 1).unbind())
    results = []
    for of_class in keys_values:
        prompt_key, prompt_value = (None, None) if of_class is None else of_class.unbind()
        for _ in groups:
            query, key, value = next(parts).permute(2, 0, 3, 1, 4).unbind()
            if prompt_key is not None and prompt_value is not None:
                key = torch.cat([key, prompt_key.expand(len(key), -1, -1, -1)], dim=2)
                value = torch.cat([value, prompt_value.expand(len(value), -1, -1, -1)], dim=2)
            mask = next(masks)[None]
            results.append(F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2))
    return results[0] if len(results) == 1 else torch.cat(results)


def _full_bias(bias: Tensor, groups: Groups, prompts: PromptKeys | None) -> Tensor:
    """What is added to the logits of each class and group, (N, G, H, L, L + T)."""
    masked = torch.stack([bias if mask is None else bias.masked_fill(mask, float("-inf")) for _, mask in groups])[None]
    if prompts is None:
        return masked
    scores = prompts.scores.transpose(1, 2)[:, None, :, None].to(masked.dtype)
    shape = (len(scores), *masked.shape[1:4], -1)
    return torch.cat([masked.expand(*shape), scores.expand(*shape)], dim=-1)


class _ChunkedAttention(torch.autograd.Function):
    """`window_attention` for many small windows on a CPU, a few windows at a time, so that their weights never leave
    the cache.

    Fused kernels are made for long sequences and wide heads; with heads 4 or 8 wide they spend their time on the
    softmax. Here the exponentials are taken in place, and an extra row of ones in the values sums them up. The
    backward pass works them out again rather than reading them from memory. A bias or score that needs a gradient,
    which turns torch's fused kernel off, costs next to nothing.

    Inside, voxels and not channels are last: a product whose last axis is only 4 or 8 wide takes up to seven times as
    long. Powers are those of two, which take a third of the time. All groups and classes are laid out at once, since
    the deeper levels have few windows of each.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, bias: Tensor, keys_values: Tensor | None, scores: Tensor | None, groups: Groups
    ) -> Tensor:
        windows, length, _, heads, channels = qkv.shape
        prompts = None if keys_values is None or scores is None else PromptKeys(keys_values, scores)
        classes, tokens = (1, 0) if prompts is None else prompts.scores.shape[:2]
        scale = channels**-0.5
        parts = qkv.permute(2, 0, 3, 4, 1)
        query = torch.mul(parts[0], scale * _LOG2_E, out=qkv.new_empty(windows, heads, channels, length))
        key = qkv.new_empty(windows, heads, channels, length + tokens)
        value = qkv.new_empty(windows, heads, channels + 1, length + tokens)
        key[..., :length] = parts[1]
        value[:, :, :-1, :length] = parts[2]
        value[:, :, -1] = 1
        if prompts is not None:
            prompt_keys, prompt_values = prompts.keys_values.permute(2, 0, 3, 4, 1)
            key.unflatten(0, (classes, -1))[..., length:] = prompt_keys[:, None]
            value.unflatten(0, (classes, -1))[..., :-1, length:] = prompt_values[:, None]
        full = _full_bias(bias, groups, prompts).mul_(_LOG2_E)
        shifted = _need_shift(query, key, full)
        sums = query.new_empty(*value.shape[:3], length)
        for part, weights, _ in _exponentials(query, key, full, groups, shifted):
            torch.bmm(value[part].flatten(0, 1), weights.transpose(1, 2), out=sums[part].flatten(0, 1))
        inverse = sums[:, :, -1:].reciprocal()
        result = sums[:, :, :-1] * inverse
        ctx.save_for_backward(query, key, value, full, result, inverse)
        ctx.groups, ctx.shifted, ctx.scale = groups, shifted, scale
        return result.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, full, result, inverse = ctx.saved_tensors
        needs_qkv, needs_bias, needs_prompts, needs_scores, _ = ctx.needs_input_grad
        classes, length, tokens = len(full), query.shape[-1], key.shape[-1] - query.shape[-1]
        # In the first layer that a prompt steers, only the prompt's keys and values need a gradient.
        first = 0 if needs_qkv else length
        # The last row meets the values' ones: one product gives dP - rowsum(P * dP), all over the row's sum.
        extended = query.new_empty(*result.shape[:2], result.shape[2] + 1, length)
        scaled = torch.mul(gradient.permute(0, 2, 3, 1), inverse, out=extended[:, :, :-1])
        extended[:, :, -1] = -(scaled * result).sum(2)
        d_query = torch.empty_like(query) if needs_qkv else None
        d_key, d_value = (query.new_empty(*query.shape[:3], key.shape[3] - first) for _ in range(2))
        d_full = torch.zeros_like(full) if needs_bias else None
        d_scores = full.new_zeros(classes, full.shape[2], tokens) if needs_scores else None
        buffer = torch.empty(0, dtype=query.dtype)
        for part, weights, (number, group) in _exponentials(query, key, full, ctx.groups, ctx.shifted):
            if buffer.shape != weights.shape:
                buffer = torch.empty_like(weights)
            q, k, v, g = (t[part].flatten(0, 1) for t in (query, key, value, extended))
            torch.bmm(g.transpose(1, 2), v, out=buffer).mul_(weights)
            by_window = buffer.view(-1, *full.shape[2:])
            if d_full is not None:
                d_full[number, group] += by_window.sum(0)
            elif d_scores is not None:
                d_scores[number] += by_window[..., length:].sum((0, 2))
            if needs_qkv or needs_prompts:
                torch.bmm(g[:, :-1], weights[..., first:], out=d_value[part].flatten(0, 1))
                torch.bmm(q, buffer[..., first:], out=d_key[part].flatten(0, 1))
            if d_query is not None:
                torch.bmm(k, buffer.transpose(1, 2), out=d_query[part].flatten(0, 1))
        d_key = d_key.div_(_LOG2_E)
        d_qkv = d_prompts = None
        if d_query is not None:
            d_qkv = query.new_empty(len(query), length, 3, *query.shape[1:3])
            for position, part_of in enumerate((d_query.mul_(ctx.scale), d_key[..., :length], d_value[..., :length])):
                d_qkv[:, :, position] = part_of.permute(0, 3, 1, 2)
        if needs_prompts:
            sums = [d[..., length - first :].unflatten(0, (classes, -1)).sum(1) for d in (d_key, d_value)]
            d_prompts = torch.stack(sums, dim=1).permute(0, 4, 1, 2, 3)
        d_bias = None
        if d_full is not None:
            d_bias = d_full[..., :length].sum((0, 1))
            if needs_scores:
                d_scores = d_full[..., length:].sum((1, 3))
        return d_qkv, d_bias, d_prompts, None if d_scores is None else d_scores.transpose(1, 2), None


def _need_shift(query: Tensor, key: Tensor, bias: Tensor) -> list[bool]:
    """For each class, whether an exponential could leave the range of the type unless each row's maximum is taken off
    first. One class's answer must not hang on another's: the results differ in their last digits."""

    def largest(x: Tensor) -> Tensor:
        return x.reshape(len(bias), -1).amax(1)

    finite = largest(bias.masked_fill(bias.isneginf(), 0).abs())
    bound = (largest(query.square().sum(2)) * largest(key.square().sum(2))).sqrt() + finite
    return [not below for below in (bound < _SAFE_EXPONENT).tolist()]


def _exponentials(
    query: Tensor, key: Tensor, bias: Tensor, groups: Groups, shifted: Sequence[bool]
) -> Iterator[tuple[slice, Tensor, tuple[int, int]]]:
    """(windows, 2^(q k^T + bias) (windows * H, L, S), class and group) for a few windows at a time; the next turn
    overwrites the powers.

    query (W, H, d, L), key (W, H, d, S), bias (N, G, H, L, S); shifted: of each class, as in `_need_shift`.
    """
    shape = bias.shape[2:]
    most = max(1, _CHUNK_ELEMENTS // math.prod(shape))
    largest = max(windows for windows, _ in groups)
    buffer = torch.empty(min(largest, most) * shape[0], *shape[1:], dtype=query.dtype)
    start = 0
    for number in range(len(bias)):
        for group, (windows, _) in enumerate(groups):
            end = start + windows
            for first in range(start, end, most):
                part = slice(first, min(first + most, end))
                q, k = query[part].flatten(0, 1), key[part].flatten(0, 1)
                logits = torch.bmm(q.transpose(1, 2), k, out=buffer[: len(q)])
                logits.view(-1, *shape).add_(bias[number, group])
                if shifted[number]:
                    logits.sub_(logits.amax(-1, keepdim=True))
                yield part, logits.exp2_(), (number, group)
            start = end
