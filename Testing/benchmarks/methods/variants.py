"""Ways to adapt a PUNet to a new class, which differ only in what of it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import measure_size
from PromptSegLib.networks.backbone import BackboneModule
from PromptSegLib.networks.head import head_shapes
from PromptSegLib.networks.punet import PUNet
from Testing.benchmarks.methods import fine_tuning
from Testing.benchmarks.methods.fine_tuning import Adapted
from Testing.benchmarks.methods.method import Method, Setup
from Testing.benchmarks.methods.partial import Free, adapters, biases, decoder, everything, low_rank
from Testing.benchmarks.methods.promptseg import Tuned, tune_token
from Testing.benchmarks.methods.working import Slicewise

PROMPTINGS = ("full", "decoder", "encoder", "start", "end")
"""With `end`, the head alone is the class's: the paper's fixed backbone with a new output layer."""

_FREED: tuple[tuple[Method, Free], ...] = (
    (fine_tuning.BIAS, biases),
    (fine_tuning.ADAPTER, adapters),
    (fine_tuning.LORA, low_rank),
    (fine_tuning.DECODER, decoder),
    (fine_tuning.FULL, everything),
    (fine_tuning.SCRATCH, everything),
)

KEYS = (*(f"prompts-{prompting}" for prompting in PROMPTINGS), *(method.key for method, _ in _FREED))


@dataclass(frozen=True)
class Variant:
    """trained: how many numbers, those of the head among them."""

    method: Method
    trained: int


def variants_of(backbone: BackboneModule, prompting: str) -> list[Variant]:
    """All variants, in the order of `KEYS`; prompting: the one that is ours, and whose time the others get.

    Raises:
        InputError: if the backbone is no PUNet.
    """
    if not isinstance(backbone, PUNet):
        raise InputError(
            f"the backbone {backbone.name} is a {backbone.preset.family}: variants are compared on a PUNet"
        )
    backbone.preset.check_prompting(prompting)
    head = sum(map(prod, head_shapes(backbone.embedding_channels).values()))
    prompted = measure_size(backbone).trained
    return [
        *(Variant(_prompting(name, ours=name == prompting), prompted[name]) for name in PROMPTINGS),
        *(
            Variant(method, head + sum(parameter.numel() for parameter in free(deepcopy(backbone))))
            for method, free in _FREED
        ),
    ]


def _prompting(variant: str, ours: bool) -> Method:
    name = f"prompts: {variant}" if variant != "end" else "prompts: end (fixed)"
    learn = tune_token if ours else partial(_tune, prompting=variant)
    return Method(f"prompts-{variant}", name, learn, _find, timed=not ours, across=True)


def _tune(scans: Sequence[DrawnScan], setup: Setup, prompting: str) -> Tuned:
    return tune_token(scans, replace(setup, options=replace(setup.options, prompting=prompting, seconds=setup.seconds)))


def _find(tuned: Tuned, image: Volume, annotation: Annotation | None) -> np.ndarray:
    """By the network alone and uncalibrated, as the other variants do it."""
    token = tuned.token
    network = Slicewise(Adapted.of(tuned.backbone, token.numbers), token.plane, token.spacing_mm)
    return fine_tuning.find(network, image, annotation)
