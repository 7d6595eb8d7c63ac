"""What tests share: a network that costs milliseconds, and a small scan with an organ that is easy to find."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.imaging.window import Window
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.pretraining.objectives import Objective
from PromptSegLib.learning.tuning import TuningOptions, token_shapes, tune
from PromptSegLib.networks.backbone import freeze
from PromptSegLib.networks.catalog import DEFAULT_BACKBONE, SHIPPED_FOLDERS, SUFFIX
from PromptSegLib.networks.head import is_direction
from PromptSegLib.networks.presets import PUNetPreset, SwinUNETRPreset, UNETRPreset
from PromptSegLib.networks.punet import DecoderLevel, PUNet
from PromptSegLib.tokens.class_token import BackboneReference, Calibration, ClassToken, Terminology, Training

TINY = PUNetPreset("tiny", (64, 64), (4, 4), channels=(8, 12, 16, 20, 24), heads=2, prompt_tokens=4)
"""A PUNet with all of its levels and hardly any channels. To load it from a file, put it into PRESETS first."""

TINY_UNETR = UNETRPreset(
    "tiny-unetr", (64, 64), features=8, embedding_channels=12, prompt_tokens=4, hidden=24, mlp=48, heads=2
)
TINY_SWIN = SwinUNETRPreset(
    "tiny-swin", (64, 64), features=12, embedding_channels=12, prompt_tokens=4, window=4, heads=(2, 2, 4, 4)
)
"""Transformers as small as MONAI allows."""

SHAPE = (12, 64, 64)
SPACING = (3.0, 2.0, 2.0)
FAST = TuningOptions(steps=4, probe_steps=100, seconds=1000)
"""Enough for the head to find the organ; the deep prompts take four steps."""


def shipped_backbone() -> Path | None:
    """The file of the default backbone, None as long as none was trained."""
    files = (folder / f"{DEFAULT_BACKBONE}{SUFFIX}" for folder in SHIPPED_FOLDERS)
    return next((file for file in files if file.is_file()), None)


@lru_cache(maxsize=4)
def tiny_backbone(seed: int = 0, name: str = "tiny-1") -> PUNet:
    """A frozen network of random weights and batch-norm statistics, all of which fp16 holds exactly.

    Its decoder leans on the finest levels: deep random levels only blur, and the organ is told by its brightness.
    """
    before = torch.random.get_rng_state()
    torch.manual_seed(seed)
    network = PUNet(TINY, name)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        for level in network.decoder:
            assert isinstance(level, DecoderLevel)
            from_below = level.norm.num_features - level.conv.out_channels
            level.conv.weight[:, :from_below] *= 0.1
            level.conv.weight[:, from_below:] *= 2
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
    torch.random.set_rng_state(before)
    freeze(network)
    return network


def organ(shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING) -> np.ndarray:
    """bool (slices, rows, columns): a spindle off the center, through the middle slices."""
    z, y, x = (np.arange(n) * s for n, s in zip(shape, spacing, strict=True))
    height, width = shape[1] * spacing[1], shape[2] * spacing[2]
    middle = (shape[0] - 1) * spacing[0] / 2
    radius = 16 * np.sqrt(np.clip(1 - ((z - middle) / (0.8 * middle + 1)) ** 2, 0, None))[:, None, None]
    distance = (y[None, :, None] - 0.45 * height) ** 2 + (x[None, None, :] - 0.62 * width) ** 2
    mask: np.ndarray = (distance < radius**2) & (radius > 3)
    return mask


def scan(
    shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING, seed: int = 0
) -> tuple[Volume, np.ndarray]:
    """A made-up CT and its organ (bool): 200 HU in a body of 40 HU, an upright cylinder, in air."""
    rng = np.random.default_rng(seed)
    truth = organ(shape, spacing)
    y, x = (np.linspace(-1, 1, n) for n in shape[1:])
    body = (y[:, None] / 0.9) ** 2 + (x[None, :] / 0.95) ** 2 < 1
    values = np.where(body, 40.0, -1000.0) + rng.normal(0, 5, shape)
    values[truth] += 160
    array = np.rint(values).astype(np.int16)
    return Volume(array, Geometry(shape, spacing)), truth


def drawing(image: Volume, truth: np.ndarray, slices: Iterable[int] = (3, 6, 9), axis: int = 0) -> Annotation:
    """The organ drawn on some slices across an axis."""
    return Annotation.from_label_map(image.with_array(drawn_labels(truth, slices, axis)), 1, axis=axis)


def drawn_labels(truth: np.ndarray, slices: Iterable[int] = (3, 6, 9), axis: int = 0, label: int = 1) -> np.ndarray:
    """uint8 label map that holds the organ on some slices only."""
    labels = np.zeros(truth.shape, np.uint8)
    for index in slices:
        np.moveaxis(labels, axis, 0)[index][np.moveaxis(truth, axis, 0)[index]] = label
    return labels


def write_scans(folder: Path, count: int = 2) -> Path:
    """Made-up scans with their organ, each in a subfolder as pre-training looks for them; the folder."""
    for number in range(count):
        image, truth = scan(seed=number)
        (folder / f"scan{number}").mkdir()
        write_image(image, folder / f"scan{number}" / "ct.nii.gz")
        write_image(image.with_array(truth.astype(np.uint8)), folder / f"scan{number}" / "oar.nii.gz")
    return folder


def loss_of(objective: Objective, network: PUNet, rng: np.random.Generator, patch: int = 64) -> Any:
    """What a pre-training objective finds on samples that it draws itself."""
    return objective(network, objective.draw(rng, patch), rng)


def drawn_scan(slices: Iterable[int] = (3, 6, 9), seed: int = 0) -> DrawnScan:
    image, truth = scan(seed=seed)
    return DrawnScan(image, drawing(image, truth, slices))


def wholly_drawn(image: Volume, truth: np.ndarray) -> DrawnScan:
    """Axial slices, and nothing of the structure is left to find."""
    labels = image.with_array(truth.astype(np.uint8))
    return DrawnScan(image, Annotation.from_label_map(labels, 1, complete=True, axis=0))


def reoriented(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same voxels at the same places, stored along other axes and from other ends."""
    geometry = volume.geometry
    array = np.transpose(volume.array, order)
    direction = np.array(geometry.direction)[:, order]
    spacing = np.array(geometry.spacing)[list(order)]
    origin = np.array(geometry.origin)
    for axis, flip in enumerate(flips):
        if flip:
            array = np.flip(array, axis)
            origin = origin + direction[:, axis] * spacing[axis] * (array.shape[axis] - 1)
            direction[:, axis] *= -1
    shape = (array.shape[0], array.shape[1], array.shape[2])
    return Volume(
        np.ascontiguousarray(array), Geometry(shape, tuple(spacing), tuple(origin), tuple(map(tuple, direction)))
    )


def dsc(found: np.ndarray, truth: np.ndarray) -> float:
    return 2 * int((found & truth).sum()) / max(1, int(found.sum() + truth.sum()))


@lru_cache(maxsize=8)
def tuned_token(
    name: str = "Organ",
    slices: tuple[int, ...] = (3, 6, 9),
    prompting: str = "decoder",
    spacing_mm: float | None = None,
) -> ClassToken:
    """A token that finds the organ of `scan`; with ``spacing_mm`` it looks at another working spacing."""
    token = tune([drawn_scan(slices)], name, tiny_backbone(), replace(FAST, prompting=prompting))
    return token if spacing_mm is None else replace(token, spacing_mm=spacing_mm)


def random_token(
    network: PUNet, name: str = "Organ", prompting: str = "decoder", seed: int = 0, directions: bool = False
) -> ClassToken:
    """A token of the right shapes and meaningless numbers, with every field set to something. Without directions, it is
    one of earlier PromptSegs."""
    rng = np.random.default_rng(seed)
    shapes = {n: shape for n, shape in token_shapes(network, prompting).items() if directions or not is_direction(n)}
    return ClassToken(
        name=name,
        color=(1, 20, 255),
        terminology=Terminology("SCT", "64033007", "Kidney"),
        backbone=BackboneReference(network.name, network.fingerprint(), network.preset_name),
        prompting=prompting,
        plane="coronal",
        spacing_mm=1.75,
        window=Window("percentile", -3.5, 812.25),
        calibration=Calibration(1.25, -0.5),
        pieces="many",
        training=Training(2, 7, 150, 31.5, "2024-02-29", 11, 0.8125),
        numbers={key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()},
    )
