"""Ways to adapt a PUNet to a new class, which differ only in what of it is trained: all are used as a token is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from unittest.mock import patch

import torch

from PromptSegLib.errors import InputError
from PromptSegLib.learning import tuning
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.networks.backbone import BackboneModule, direction_channels, freeze
from PromptSegLib.networks.families import build_backbone
from PromptSegLib.networks.head import head_shapes
from PromptSegLib.networks.punet import PUNet
from Testing.benchmarks.methods.fine_tuning import FEW_WEIGHTS_RATE, RATE
from Testing.benchmarks.methods.method import Method, Setup
from Testing.benchmarks.methods.partial import Free, adapters, biases, decoder, everything, low_rank
from Testing.benchmarks.methods.promptseg import Tuned, find, tune_token
from Testing.benchmarks.methods.weights_tuner import WeightsTuner

PROMPTINGS = ("full", "decoder", "encoder", "start", "end")
"""With `end`, the head alone is the class's, as it is with the paper's fixed backbone and a new output layer; here it
comes in closed form."""

SCRATCH_RATE = 1e-3
"""As in pre-training."""


def _copied(backbone: BackboneModule, seed: int) -> BackboneModule:
    return deepcopy(backbone)


def _random(backbone: BackboneModule, seed: int) -> BackboneModule:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return freeze(build_backbone(backbone.preset)).to(backbone.device)


@dataclass(frozen=True)
class _Freed:
    """rate: of the weights; begin: the network to train; batch_statistics: normalize by those of a batch, and learn
    them: a trained backbone keeps its own, which four crops cannot replace."""

    key: str
    name: str
    free: Free
    rate: float
    begin: Callable[[BackboneModule, int], BackboneModule] = _copied
    batch_statistics: bool = False

    def learn(self, scans: Sequence[DrawnScan], setup: Setup) -> Tuned:
        network = self.begin(setup.backbone, setup.seed)
        with torch.random.fork_rng():
            torch.manual_seed(setup.seed)
            weights = self.free(network)
        make = partial(WeightsTuner, weights=weights, rate=self.rate, batch_statistics=self.batch_statistics)
        # Features that are kept would be those of the weights before.
        options = replace(setup.options, prompting="full", seconds=setup.seconds)
        with patch.object(tuning, "LevelsTuner", make):
            token = tuning.tune(scans, "Structure", network, options)
        reference = replace(token.backbone, fingerprint=network.fingerprint())
        return Tuned(network, replace(token, backbone=reference))

    @property
    def method(self) -> Method:
        return Method(self.key, self.name, self.learn, find, timed=True, across=True)


FULL = "full-fine-tuning"
SCRATCH = "scratch"

_FREED = (
    _Freed("bias", "biases (BitFit)", biases, FEW_WEIGHTS_RATE),
    _Freed("adapter", "adapters", adapters, FEW_WEIGHTS_RATE),
    _Freed("lora", "LoRA", low_rank, FEW_WEIGHTS_RATE),
    _Freed("decoder-fine-tuning", "decoder fine-tuning", decoder, RATE),
    _Freed(FULL, "full fine-tuning", everything, RATE),
    _Freed(SCRATCH, "from scratch", everything, SCRATCH_RATE, _random, batch_statistics=True),
)

KEYS = (*(f"prompts-{prompting}" for prompting in PROMPTINGS), *(freed.key for freed in _FREED))


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
    head = sum(map(prod, head_shapes(backbone.embedding_channels, direction_channels(backbone)).values()))
    prompted = tuning.measure_size(backbone).trained
    return [
        *(Variant(_prompting(name, ours=name == prompting), prompted[name]) for name in PROMPTINGS),
        *(
            Variant(freed.method, head + sum(parameter.numel() for parameter in freed.free(deepcopy(backbone))))
            for freed in _FREED
        ),
    ]


def _prompting(variant: str, ours: bool) -> Method:
    name = f"prompts: {variant}" if variant != "end" else "prompts: end (head alone)"
    learn = tune_token if ours else partial(_tune, prompting=variant)
    return Method(f"prompts-{variant}", name, learn, find, timed=not ours, across=True)


def _tune(scans: Sequence[DrawnScan], setup: Setup, prompting: str) -> Tuned:
    return tune_token(scans, replace(setup, options=replace(setup.options, prompting=prompting, seconds=setup.seconds)))
