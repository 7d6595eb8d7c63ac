"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable

from PromptSegLib.networks.punet import PUNet
from PromptSegLib.networks.weights import DEFAULT_BACKBONE
from Testing.support import tiny_backbone

Run = Callable[..., tuple[int, str, str]]
"""A command's words to its exit code, standard output and standard error."""


def default_backbone() -> PUNet:
    return tiny_backbone(name=DEFAULT_BACKBONE)
