"""MONAI's 2-D UNet, which starts from nothing and learns as long as PromptSeg did."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from monai.networks.nets import UNet
from torch import Tensor

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from Testing.benchmarks.methods.method import Method, Setup, as_drawn
from Testing.benchmarks.methods.working import Crops, Slicewise, train

RATE = 1e-2
"""High, because there is time for a few hundred steps at the most: on training patients, the loss falls fastest so."""


def _learn(scans: Sequence[DrawnScan], setup: Setup) -> Slicewise:
    """On the same windowed slices at the same working spacing as ours."""
    until = time.monotonic() + setup.seconds
    drawing = prepare_drawing(scans)
    device = setup.backbone.device
    with torch.random.fork_rng():
        torch.manual_seed(setup.seed)
        net = UNet(2, 1, 1, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2).to(device)

    def network(images: Tensor) -> Tensor:
        logits: Tensor = net(images.to(device))[:, 0]
        return logits

    groups: list[dict[str, object]] = [{"params": list(net.parameters()), "lr": RATE}]
    train(network, groups, Crops(drawing.slices, setup.seed), until, device)
    net.eval()
    return Slicewise.of(network, drawing)


def _find(learned: Slicewise, image: Volume, annotation: Annotation | None) -> np.ndarray:
    return as_drawn(learned(image), annotation)


UNET = Method("unet", "UNet from scratch", _learn, _find, timed=True, across=True)
