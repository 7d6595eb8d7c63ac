"""From a label map to an image as a scanner could have made it, of a scanner that no one has built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import RandBiasField, RandGibbsNoise
from numpy.typing import NDArray
from scipy import ndimage

from PromptSegLib.imaging.window import Window
from PromptSegLib.learning.pretraining.synthetic_anatomy import LabelEnsemble
from PromptSegLib.learning.pretraining.synthetic_shapes import Field, smooth_noise

CT_SHARE = 0.5
"""Views in Hounsfield units; the others have the free contrasts of magnetic resonance."""

_AIR_HU = -1000.0
_SOLID_HU = -200.0
# Range of HU, share of the tissues: lung, fat, fluid, soft tissue, with contrast medium, bone, gas.
_HU_RANGES = (
    (-900.0, -700.0, 0.08),
    (-120.0, -60.0, 0.2),
    (-10.0, 25.0, 0.12),
    (25.0, 90.0, 0.32),
    (90.0, 260.0, 0.14),
    (250.0, 1200.0, 0.1),
    (_AIR_HU, -950.0, 0.04),
)
_TEXTURE_SCALES = (1.5, 3.0, 8.0)
_DARK_AIR_SHARE = 0.85
_LINEAR = {2: "bilinear", 3: "trilinear"}


def render(rng: np.random.Generator, ensemble: LabelEnsemble, slice_spacing: float = 1.0) -> Field:
    """A view with contrasts, textures, blur, resolution, bias and noise of its own: float32 in [-1, 1]."""
    if rng.random() < CT_SHARE:
        return _render_ct(rng, ensemble, slice_spacing)
    return _render_mr(rng, ensemble, slice_spacing)


def _render_ct(rng: np.random.Generator, ensemble: LabelEnsemble, slice_spacing: float) -> Field:
    lower, upper, shares = np.array(_HU_RANGES).T
    kinds = rng.choice(len(shares), int(ensemble.tissues.max()) + 1, p=shares)
    body, solid = _body_tissues(ensemble), shares * (upper > _SOLID_HU)
    kinds[body] = rng.choice(len(shares), len(body), p=solid / solid.sum())
    means = rng.uniform(lower[kinds], upper[kinds])
    spreads = np.exp(rng.uniform(np.log(2), np.log(40), len(means)))
    means[0], spreads[0] = _AIR_HU, 2.0
    image = _sharpness(rng, _tissues(rng, ensemble, means, spreads, slice_spacing))
    image += _noise(rng, image.shape, float(np.exp(rng.uniform(np.log(4), np.log(50)))))
    return Window("ct").apply(image)


def _render_mr(rng: np.random.Generator, ensemble: LabelEnsemble, slice_spacing: float) -> Field:
    means = rng.uniform(0.03, 1, int(ensemble.tissues.max()) + 1)
    body = _body_tissues(ensemble)
    means[body] = rng.uniform(0.2, 1, len(body))
    spreads = np.exp(rng.uniform(np.log(0.005), np.log(0.12), len(means)))
    if rng.random() < _DARK_AIR_SHARE:
        means[0], spreads[0] = rng.uniform(0, 0.05), 0.005
    image = _sharpness(rng, _tissues(rng, ensemble, means, spreads, slice_spacing))
    for transform in (RandBiasField(coeff_range=(0.0, 0.25), prob=0.6), RandGibbsNoise(prob=0.15, alpha=(0.3, 0.7))):
        transform.set_random_state(seed=int(rng.integers(2**31)))
        image = np.asarray(transform(image[None]), dtype=np.float32)[0]
    sigma = float(np.exp(rng.uniform(np.log(0.005), np.log(0.08))))
    # The magnitude of a complex signal: Rician noise.
    image = np.hypot(image + _noise(rng, image.shape, sigma), _noise(rng, image.shape, sigma))
    low, high = np.percentile(image, (0.5, 99.5))
    return Window("percentile", float(low), float(high)).apply(image)


def _body_tissues(ensemble: LabelEnsemble) -> NDArray[np.int64]:
    """What the body as such is made of: were it like air, nothing would tell where an organ lies in it."""
    return ensemble.tissues[np.isin(ensemble.kinds, ("layer", "cavity"))]


def _tissues(
    rng: np.random.Generator,
    ensemble: LabelEnsemble,
    means: NDArray[np.float64],
    spreads: NDArray[np.float64],
    slice_spacing: float,
) -> Field:
    """Each tissue's mean and texture. Textures differ in scale, and some are speckled, as lung and bone are."""
    labels, tissues = ensemble.labels, ensemble.tissues
    steps = (1.0, 1.0, slice_spacing)[: labels.ndim]
    fields = [smooth_noise(rng, labels.shape, [s / step for step in steps]) for s in _TEXTURE_SCALES]
    fields.append(3 * (fields[1] > 1.2).astype(np.float32))
    mixture = rng.dirichlet((0.5,) * len(fields), len(means)) * spreads[:, None]
    # Two labels of one tissue are alike, but not the same to the last unit.
    lightness = means[tissues] + 0.3 * spreads[tissues] * rng.standard_normal(len(tissues))
    image = lightness.astype(np.float32)[labels]
    for number, field in enumerate(fields):
        image += mixture[tissues, number].astype(np.float32)[labels] * field
    return image


def _sharpness(rng: np.random.Generator, image: Field) -> Field:
    """Partial volume and blur; often coarser along one axis, as in a reformatted plane."""
    image = ndimage.gaussian_filter(image, (*[rng.uniform(0.3, 0.9)] * 2, 0.3)[: image.ndim], truncate=3)
    if rng.random() < 0.35:
        factors = np.ones(image.ndim)
        factors[rng.integers(2)] = rng.uniform(1.5, 4)
        if rng.random() < 0.4:
            factors[:2] = factors.max() / 1.5
        image = _coarser(image, factors)
    return image


def _coarser(image: Field, factors: Sequence[float] | NDArray[np.float64]) -> Field:
    """Averaged over ``factors`` pixels along each axis, and brought back to the same size."""
    mode = _LINEAR[image.ndim]
    size = [max(1, round(n / f)) for n, f in zip(image.shape, factors, strict=True)]
    small = F.interpolate(torch.from_numpy(image)[None, None], size=size, mode="area")
    return cast(Field, F.interpolate(small, size=image.shape, mode=mode, align_corners=False)[0, 0].numpy())


def _noise(rng: np.random.Generator, shape: Sequence[int], sigma: float) -> Field:
    """Noise of standard deviation ``sigma``, white or correlated as a reconstruction kernel leaves it."""
    noise = rng.standard_normal(tuple(shape), dtype=np.float32)
    if rng.random() < 0.5:
        width = rng.uniform(0.4, 0.9)
        noise = ndimage.gaussian_filter(noise, (width, width, 0)[: len(shape)], truncate=3)
        noise /= noise.std()
    return cast(Field, noise * np.float32(sigma))
