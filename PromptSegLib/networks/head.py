"""From a backbone's maps to a class's logits.

Cosine similarity of the embedding with the class's foreground and background tokens, and how far all maps lie along the
class's directions: what coarser levels know of a pixel's surroundings is not all in the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from PromptSegLib.networks.backbone import Prompts
from PromptSegLib.networks.device import full_precision
from PromptSegLib.tokens.token_file import DIRECTION

HEAD_TOKENS = 16
AGGREGATION_TEMPERATURE = 0.1
INITIAL_SCALE = 20.0

_SHORTEST = 1e-12
"""Length below which an embedding has no direction."""


def head_shapes(channels: int, levels: Sequence[int] = ()) -> dict[str, tuple[int, ...]]:
    """Shape of each number of a class's head, by name; log_scale and offset turn a difference of similarities into a
    logit.

    channels: of the embedding; levels: channels of each map that has a direction of its own, none for a head that is
    the embedding's alone.
    """
    return {
        "head.foreground": (HEAD_TOKENS, channels),
        "head.background": (HEAD_TOKENS, channels),
        "head.log_scale": (1,),
        "head.offset": (1,),
    } | {direction_name(number): (channels,) for number, channels in enumerate(levels)}


def direction_name(level: int) -> str:
    return f"{DIRECTION}.{level}"


def is_direction(name: str) -> bool:
    return name.startswith(DIRECTION)


class _Similarity(torch.autograd.Function):
    """`similarity`, in few passes over memory: it would else take a quarter of a pre-training step on a CPU.

    With weights w that no gradient passes, the mean of the cosines s = t e / |e| is linear in the tokens t, and its
    gradient with respect to e is (sum of w t - e / |e| times the mean) / |e|: neither the cosines nor a copy of the
    embedding of unit length need be kept.
    """

    @staticmethod
    def forward(ctx: Any, embedding: Tensor, tokens: Tensor) -> Tensor:
        inverse = embedding.square().sum(1).sqrt_().clamp_min_(_SHORTEST).reciprocal_()
        cosines = torch.bmm(tokens.flatten(1, 2), embedding).mul_(inverse[:, None]).unflatten(1, tokens.shape[1:3])
        # A similarity is (cosine + 1) / 2; what all have in common makes no difference to a softmax, and none of these
        # exponentials is large.
        weights = (cosines / (2 * AGGREGATION_TEMPERATURE)).exp_()
        scale = weights.sum(2).reciprocal_()
        mean = cosines.mul_(weights).sum(2).mul_(scale)
        ctx.save_for_backward(embedding, tokens, inverse, weights, scale, mean)
        return cast(Tensor, (mean + 1) / 2)

    @staticmethod
    @once_differentiable
    @full_precision()
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        embedding, tokens, inverse, weights, scale, mean = ctx.saved_tensors
        needs_embedding, needs_tokens = ctx.needs_input_grad
        gradient = gradient * inverse[:, None] / 2
        weighed = (weights * (scale * gradient)[:, :, None]).flatten(1, 2)
        d_embedding = d_tokens = None
        if needs_tokens:
            d_tokens = torch.bmm(weighed, embedding.transpose(1, 2)).view_as(tokens)
        if needs_embedding:
            d_embedding = torch.bmm(tokens.flatten(1, 2).transpose(1, 2), weighed)
            d_embedding.addcmul_(embedding, ((gradient * mean).sum(1) * inverse)[:, None], value=-1)
        return d_embedding, d_tokens


@full_precision()
def similarity(embedding: Tensor, tokens: Tensor) -> Tensor:
    """Similarity (N, S, V) in [0, 1] of each embedding (N, C, V) with the nearest token of each of S sets (N, S, K, C).

    The tokens of a set are weighed by a softmax of their own detached similarities, so that each gets a gradient and
    one that lies far away does not spoil the mean (arXiv 2211.09233).
    """
    return cast(Tensor, _Similarity.apply(embedding, F.normalize(tokens, dim=-1)))


def similarity_logits(embedding: Tensor, prompts: Prompts, size: tuple[int, ...]) -> Tensor:
    """Logits (N * R, *size) of N classes by their tokens alone, for embeddings (N * R, C, *spatial), class-major.

    The embedding is brought to the image's size before it is compared, not after: the comparison is not linear, so
    edges come out sharper than those of an enlarged similarity map.
    """
    embedding = _enlarged(embedding.float(), size).flatten(2)
    of_each = _repeated(prompts, len(embedding))
    tokens = torch.stack([of_each("head.foreground"), of_each("head.background")], dim=1)
    foreground, background = similarity(embedding, tokens).unbind(1)
    logits = of_each("head.log_scale").exp() * (foreground - background) + of_each("head.offset")
    return logits.reshape(-1, *size)


def class_logits(levels: Sequence[Tensor], prompts: Prompts, size: tuple[int, ...]) -> Tensor:
    """Logits (N * R, *size) of N classes, class-major: by their tokens, and along their directions if they have any.

    levels: maps (N * R, C, *spatial) of a backbone's `decode_levels`, the embedding first.
    """
    logits = similarity_logits(levels[0], prompts, size)
    of_each = _repeated(prompts, len(levels[0]))
    for level, x in enumerate(levels):
        if direction_name(level) in prompts:
            logits = logits + _enlarged(along(x, of_each(direction_name(level))), size)[:, 0]
    return logits


def _repeated(prompts: Prompts, results: int) -> Callable[[str], Tensor]:
    """Classes' numbers, one for each of so many results, by name."""
    repeats = results // len(prompts["head.foreground"])
    return lambda name: prompts[name].repeat_interleave(repeats, 0)


@full_precision()
def along(x: Tensor, directions: Tensor) -> Tensor:
    """How far the pixels of maps (M, C, *spatial) lie along directions (M, C): (M, 1, *spatial)."""
    return torch.bmm(directions[:, None], x.float().flatten(2)).reshape(len(x), 1, *x.shape[2:])


def _enlarged(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear" if len(size) == 2 else "trilinear", align_corners=False)
