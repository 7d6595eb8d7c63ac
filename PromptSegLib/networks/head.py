"""From embeddings to a class's logits: cosine similarity with its foreground and background tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.networks.backbone import Prompts

HEAD_TOKENS = 16
AGGREGATION_TEMPERATURE = 0.1
INITIAL_SCALE = 20.0


def head_shapes(channels: int) -> dict[str, tuple[int, ...]]:
    """Shape of each number of a class's head, by name; log_scale and offset turn a difference of similarities into a
    logit."""
    return {
        "head.foreground": (HEAD_TOKENS, channels),
        "head.background": (HEAD_TOKENS, channels),
        "head.log_scale": (1,),
        "head.offset": (1,),
    }


def similarity(embedding: Tensor, tokens: Tensor) -> Tensor:
    """Similarity in [0, 1] of each embedding (N, C, V), of unit length, with the nearest of the tokens (N, K, C).

    The tokens are weighed by a softmax of their own detached similarities, so that each gets a gradient and one that
    lies far away does not spoil the mean (arXiv 2211.09233).
    """
    similarities = (F.normalize(tokens, dim=-1) @ embedding + 1) / 2
    weights = torch.softmax(similarities.detach() / AGGREGATION_TEMPERATURE, dim=1)
    return (weights * similarities).sum(1)


def class_logits(embedding: Tensor, prompts: Prompts, size: tuple[int, ...]) -> Tensor:
    """Logits (N * R, *size) of N classes for embeddings (N * R, C, *spatial), class-major.

    The embedding is brought to the image's size before it is compared, not after: the comparison is not linear, so
    edges come out sharper than those of an enlarged similarity map.
    """
    mode = "bilinear" if len(size) == 2 else "trilinear"
    classes = len(prompts["head.foreground"])
    embedding = F.interpolate(embedding.float(), size=size, mode=mode, align_corners=False)
    embedding = F.normalize(embedding, dim=1).flatten(2)
    repeats = len(embedding) // classes

    def nearest(tokens: Tensor) -> Tensor:
        return similarity(embedding, tokens.repeat_interleave(repeats, 0))

    difference = nearest(prompts["head.foreground"]) - nearest(prompts["head.background"])
    scale, offset = (prompts[name].repeat_interleave(repeats, 0) for name in ("head.log_scale", "head.offset"))
    return (scale.exp() * difference + offset).reshape(-1, *size)
