"""Losses on what is known of a drawing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_GAMMA = 2.0


def known_dice_focal(logits: Tensor, target: Tensor, known: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss plus focal loss (gamma 2) over known pixels only; mean over the images that know any.

    Unlike in MONAI's DiceFocalLoss, pixels outside ``known`` take no part in either sum: what is not known is not
    background.

    logits, target in [0, 1], known in {0, 1}: (B, *spatial). The focal term is averaged over the known pixels.
    """
    logits, target, known = (t.flatten(1) for t in (logits, target, known))
    probability = torch.sigmoid(logits)
    overlap = (probability * target * known).sum(1)
    total = ((probability + target) * known).sum(1)
    dice = 1 - (2 * overlap + smooth) / (total + smooth)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    # p_t, the probability given to the truth, also for soft targets.
    missed = probability + target - 2 * probability * target
    focal = (missed.clamp_min(0) ** FOCAL_GAMMA * entropy * known).sum(1) / known.sum(1).clamp_min(1)
    any_known = (known.sum(1) > 0).float()
    return ((dice + 10 * focal) * any_known).sum() / any_known.sum().clamp_min(1)
