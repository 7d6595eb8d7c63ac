"""Changes that a class must not depend on, from MONAI's transforms."""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffined,
    RandCoarseDropout,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandHistogramShift,
    RandScaleIntensity,
    RandShiftIntensity,
)
from torch import Tensor


def intensity_augmentation(strength: float = 1.0) -> Compose:
    """Random contrast, brightness, blur, noise and missing regions, for images (1, rows, columns) in [-1, 1].

    strength: 1 for pre-training, which must meet every scanner; less for tuning on one scan.
    """
    p = 0.5 * min(strength, 1.0)
    return Compose(
        [
            RandScaleIntensity(factors=0.3 * strength, prob=p),
            RandShiftIntensity(offsets=0.15 * strength, prob=p),
            RandHistogramShift(num_control_points=6, prob=0.4 * p),
            RandAdjustContrast(prob=0.4 * p, gamma=(0.7, 1.5)),
            RandGaussianSmooth(sigma_x=(0.3, 1.2), sigma_y=(0.3, 1.2), prob=0.4 * p),
            RandGaussianNoise(prob=p, std=0.06 * strength),
            RandCoarseDropout(holes=1, max_holes=3, spatial_size=8, max_spatial_size=24, fill_value=-1.0, prob=0.3 * p),
        ]
    )


def shape_augmentation() -> RandAffined:
    """Random small rotation, scale and shear of the entries image, target and known, (1, rows, columns) each; never a
    flip, since left and right differ."""
    return RandAffined(
        keys=("image", "target", "known"),
        prob=1.0,
        rotate_range=0.15,
        scale_range=(0.12, 0.12),
        shear_range=(0.06, 0.06),
        mode="bilinear",
        padding_mode=("border", "zeros", "zeros"),
    )


def augment(transform: Compose, images: Tensor, seed: int) -> Tensor:
    """Images (B, 1, rows, columns), each changed on its own; the same seed gives the same change."""
    transform.set_random_state(seed=seed & 0x7FFFFFFF)
    changed = [torch.as_tensor(np.asarray(transform(image))) for image in images]
    return torch.stack(changed).float().clamp(-1.5, 1.5)
