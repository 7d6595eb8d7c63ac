"""Ways to bring a class token to a new center: ours, and those that set weights or prompts free."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from PromptSegLib.errors import InputError
from PromptSegLib.inference.judging import judge
from PromptSegLib.learning.adaptation import adapt
from PromptSegLib.learning.drawing import MAX_SLICES, DrawnScan, prepare_drawing
from PromptSegLib.networks.backbone import BackboneModule, freeze
from PromptSegLib.networks.head import class_logits, is_direction
from PromptSegLib.tokens.class_token import ClassToken, parse_token
from Testing.benchmarks.command import words
from Testing.benchmarks.methods.fine_tuning import FEW_WEIGHTS_RATE, NUMBERS_RATE, RATE
from Testing.benchmarks.methods.method import Setup
from Testing.benchmarks.methods.partial import Free, biases, everything
from Testing.benchmarks.methods.working import Crops, train

NEW_CENTER = "New center"


@dataclass(frozen=True)
class Adapted:
    """What segments from here on. old, new: the token for scans of the old centers and of the new one, which are the
    same unless a method keeps centers apart; trained: how many numbers were set free."""

    backbone: BackboneModule
    old: ClassToken
    new: ClassToken
    trained: int


@dataclass(frozen=True)
class CenterMethod:
    """key: its name on the command line and in files; learn: scans of the new center and the token that is to be
    adapted in; prompting: of that token, None for the backbone's default."""

    key: str
    name: str
    learn: Callable[[Sequence[DrawnScan], ClassToken, Setup], Adapted]
    prompting: str | None = None

    def fits(self, backbone: BackboneModule) -> bool:
        return self.prompting is None or self.prompting in backbone.prompting_variants

    def prompting_on(self, backbone: BackboneModule) -> str:
        return self.prompting or backbone.default_prompting


def _nothing(scans: Sequence[DrawnScan], token: ClassToken, setup: Setup) -> Adapted:
    return Adapted(setup.backbone, token, token, 0)


def _center_token(scans: Sequence[DrawnScan], token: ClassToken, setup: Setup) -> Adapted:
    """Both tokens come out of the file that would be saved."""
    adapted = adapt(scans, token, NEW_CENTER, setup.backbone, partial(judge, setup.backbone), setup.options).token
    saved = parse_token(adapted.to_bytes())
    trained = sum(n.size for n in token.numbers.values())
    return Adapted(setup.backbone, saved.at_center(None), saved.at_center(NEW_CENTER), trained)


def _no_weights(network: BackboneModule) -> list[nn.Parameter]:
    return []


def set_free(
    scans: Sequence[DrawnScan],
    token: ClassToken,
    setup: Setup,
    weights: Free = _no_weights,
    rate: float = RATE,
    numbers_of: str = "",
    most_slices: int = MAX_SLICES,
) -> Adapted:
    """Train on a copy of the backbone, from the token on, for as long as the options say.

    weights: of the network that are trained, at ``rate``; numbers_of: how the names of the token's numbers begin
    that are; most_slices: used of all scans together. Batch norms keep their statistics, which four crops cannot
    replace.
    """
    until = time.monotonic() + setup.options.seconds
    drawing = prepare_drawing(scans, like=token, most_slices=most_slices)
    network, device = deepcopy(setup.backbone), setup.backbone.device
    free = [parameter.requires_grad_() for parameter in weights(network)]
    numbers = {name: torch.from_numpy(n.copy())[None].to(device) for name, n in token.numbers.items()}
    # Beside tokens, directions come in closed form: a rate that suits tokens would only shake them.
    still = [name for name in numbers if is_direction(name) and not token.is_head_alone]
    tuned = [n.requires_grad_() for k, n in numbers.items() if k.startswith(numbers_of) and k not in still]

    def logits(images: Tensor) -> Tensor:
        features = network.encode(images.to(device), numbers)
        found = class_logits(network.decode_levels(features, numbers), numbers, features.size)
        return token.calibration.scale * found + token.calibration.offset

    groups: list[dict[str, object]] = [{"params": tuned, "lr": NUMBERS_RATE}]
    if free:
        groups.append({"params": free, "lr": rate})
    train(logits, groups, Crops(drawing.slices, setup.seed), until, device)
    freeze(network)
    learned = replace(
        token,
        numbers={name: n.detach()[0].cpu().numpy() for name, n in numbers.items()},
        backbone=replace(token.backbone, fingerprint=network.fingerprint()),
    )
    return Adapted(network, learned, learned, sum(n.numel() for n in (*free, *tuned)))


NONE = CenterMethod("none", "no adaptation", _nothing)
CENTER_TOKEN = CenterMethod("center-token", "center token", _center_token)
CENTER_METHODS = {
    method.key: method
    for method in (
        NONE,
        CENTER_TOKEN,
        CenterMethod("head", "partial fine-tuning (head)", partial(set_free, numbers_of="head")),
        CenterMethod("full", "full fine-tuning", partial(set_free, weights=everything)),
        CenterMethod("bitfit", "BitFit", partial(set_free, weights=biases, rate=FEW_WEIGHTS_RATE, numbers_of="head")),
        CenterMethod("shallow", "shallow prompts", set_free, "shallow"),
        CenterMethod("deep", "deep prompts", set_free, "deep"),
    )
}


def choose(names: str) -> list[CenterMethod]:
    """The methods of a comma-separated list of keys, all for none; `NONE`, which the others stand beside, always.

    Raises:
        InputError: if there is no method of a name.
    """
    wanted = set(words(names))
    unknown = sorted(wanted - set(CENTER_METHODS))
    if unknown:
        raise InputError(f"there is no method '{unknown[0]}': choose from {', '.join(CENTER_METHODS)}")
    return [m for m in CENTER_METHODS.values() if not wanted or m.key in wanted or m is NONE]
