"""Prompts from the drawing itself: means of what the frozen network makes of drawn and undrawn pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.networks.backbone import Backbone

INITIAL_PROMPT_SCORE = -2.0
"""Prompts start faint, so that the first step sees nearly the network that the probe was fitted on."""

_MAX_POINTS = 4000
_ITERATIONS = 10


def kmeans(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Centers (clusters, C) of points (V, C), Lloyd's algorithm from points that lie far apart (k-means++).

    With fewer points than clusters, points repeat with a little noise, so that no two centers are equal.
    """
    if len(points) > _MAX_POINTS:
        points = points[torch.randperm(len(points), generator=generator)[:_MAX_POINTS]]
    centers = points[torch.randint(len(points), (1,), generator=generator)]
    for _ in range(clusters - 1):
        distance = torch.cdist(points, centers).amin(1).square() + 1e-12
        centers = torch.cat([centers, points[torch.multinomial(distance, 1, generator=generator)]])
    for _ in range(_ITERATIONS):
        nearest = torch.cdist(points, centers).argmin(1)
        sums = torch.zeros_like(centers).index_add(0, nearest, points)
        counts = torch.bincount(nearest, minlength=clusters)[:, None]
        centers = torch.where(counts > 0, sums / counts.clamp_min(1), centers)
    spread = points.std() if len(points) > 1 else points.abs().mean()
    return centers + 1e-2 * spread * torch.randn(centers.shape, generator=generator)


def deep_prompts(
    backbone: Backbone,
    images: Sequence[Tensor],
    targets: Sequence[Tensor],
    knowns: Sequence[Tensor],
    variant: str,
    generator: torch.Generator,
    check: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """First deep prompts of a class: at each attention layer, half of the tokens are centers of what that layer sees of
    the structure, half of what it sees of the known rest.

    images, targets, knowns: (1, h, w) each, as in WorkingSlice; check: called often, and may raise to end it. The
    prompts are on the CPU, as the generator is.
    """
    shapes = backbone.prompt_shapes(variant)
    blocks = [name.removesuffix(".tokens") for name in shapes if name.endswith(".tokens")]
    if not blocks:
        return {}
    seen = []
    for image in images:
        check()
        seen.append(backbone.prompt_inputs(image[None]))
    prompts: dict[str, Tensor] = {}
    for block in blocks:
        layers = []
        layers_of_block, tokens, _ = shapes[f"{block}.tokens"]
        for number in range(layers_of_block):
            check()
            inside, outside = [], []
            for maps, target, known in zip(seen, targets, knowns, strict=True):
                x = maps[block][number]
                size = (x.shape[1], x.shape[2])
                share = F.adaptive_avg_pool2d(target * known, size)
                known_share = F.adaptive_avg_pool2d(known.float(), size)
                rest = (known_share - share)[0].flatten()
                share = share[0].flatten()
                rows = x.flatten(0, 2)
                inside.append(rows[share >= share.max().clamp(1e-6, 0.5)])
                outside.append(rows[(rest > 0.5) & (share < 0.05)])
            half = tokens // 2
            foreground, background = torch.cat(inside), torch.cat(outside)
            if len(background) == 0:
                background = torch.cat([maps[block][number].flatten(0, 2) for maps in seen])
            layers.append(torch.cat([kmeans(points.cpu(), half, generator) for points in (foreground, background)]))
        prompts[f"{block}.tokens"] = torch.stack(layers)
        if f"{block}.scores" in shapes:
            prompts[f"{block}.scores"] = torch.full(shapes[f"{block}.scores"], INITIAL_PROMPT_SCORE)
    return prompts
