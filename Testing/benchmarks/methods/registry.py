"""All methods, in the order of tables and plots."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, TypeVar

from PromptSegLib.errors import InputError
from Testing.benchmarks.methods.ablations import ABLATIONS
from Testing.benchmarks.methods.fine_tuning import DECODER, FULL
from Testing.benchmarks.methods.grow_from_seeds import GROW_FROM_SEEDS
from Testing.benchmarks.methods.linear_probe import LINEAR_PROBE
from Testing.benchmarks.methods.promptseg import NETWORK_ALONE, PROMPTSEG, TOLD_ENDS
from Testing.benchmarks.methods.random_forest import RANDOM_FOREST
from Testing.benchmarks.methods.shapes import INTERPOLATION, ITK
from Testing.benchmarks.methods.token_correcting import FIXED, LEARNING
from Testing.benchmarks.methods.token_fine_tuning import FULL_TOKEN
from Testing.benchmarks.methods.unet import UNET

METHODS = {
    method.key: method
    for method in (
        PROMPTSEG,
        NETWORK_ALONE,
        TOLD_ENDS,
        INTERPOLATION,
        ITK,
        GROW_FROM_SEEDS,
        RANDOM_FOREST,
        UNET,
        LINEAR_PROBE,
        FULL,
        DECODER,
    )
}

CORRECTING_TOKENS = {method.key: method for method in (LEARNING, FIXED)}

NAMES = {key: method.name for key, method in (METHODS | ABLATIONS | CORRECTING_TOKENS).items()} | {
    FULL_TOKEN.key: FULL_TOKEN.name
}

IN_SCAN = tuple(method for method in METHODS.values() if method is not DECODER)
ACROSS = tuple(method for method in METHODS.values() if method.across)
CORRECTIONS = (PROMPTSEG, INTERPOLATION)
ABLATION = (PROMPTSEG, NETWORK_ALONE, *ABLATIONS.values())


class Keyed(Protocol):
    @property
    def key(self) -> str: ...


K = TypeVar("K", bound=Keyed)


def choose(names: str, default: Sequence[K], allowed: Sequence[K], known: Collection[str] = NAMES.keys()) -> list[K]:
    """The methods of a comma-separated list of keys that ``allowed`` has, ``default`` for none.

    known: keys that there are, also those of methods that are of no use for the question at hand.

    Raises:
        InputError: if there is no method of a name.
    """
    if not names:
        return list(default)
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"there is no method '{unknown[0]}': choose from {', '.join(known)}")
    return [method for method in allowed if method.key in wanted]
