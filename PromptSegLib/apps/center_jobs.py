"""What the commands about centers do, from files to files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from PromptSegLib.apps.drawn_files import read_drawn_scans
from PromptSegLib.apps.jobs import require_token_path
from PromptSegLib.errors import InputError
from PromptSegLib.tokens.centers import checked_center_name, same_name
from PromptSegLib.tokens.class_token import ClassToken, load_token

if TYPE_CHECKING:
    from PromptSegLib.learning.adaptation import Adaptation
    from PromptSegLib.learning.tuning import TuningOptions


@dataclass(frozen=True)
class AdaptJob:
    """Paths and words of an `adapt`; see the command's options. label: None for the only one in the label maps."""

    token: Path
    center: str
    images: Sequence[Path]
    drawings: Sequence[Path]
    out: Path
    label: int | None = None
    scribbles: bool = False
    complete: bool = False
    series: str | None = None
    backbone: str | None = None
    device: str = "auto"


def adapt_files(
    job: AdaptJob,
    options: TuningOptions,
    report: Callable[[float, str], None] = lambda fraction, doing: None,
    cancelled: Callable[[], bool] = lambda: False,
    notice: Callable[[str], None] = lambda sentence: None,
) -> Adaptation:
    """Add a center to a token file; what others add to the file meanwhile stays.

    All that can be wrong is found before the long work begins, but for what others do to the file meanwhile.

    notice: called with a sentence for each drawing of which slices do not count.

    Raises:
        InputError: if the token, the center's name, scans or drawings do not fit.
        InterruptedError: once it was cancelled; nothing is written.
    """
    if not job.drawings:
        raise InputError("a center is learned from what was drawn in its scans: give one --labels per --image")
    require_token_path(job.out)
    token = _by_now(job, load_token(job.token))
    checked_center_name(job.center, token.centers)
    scans = read_drawn_scans(job, token.plane, notice)

    from PromptSegLib.inference.judging import judge
    from PromptSegLib.learning.adaptation import adapt
    from PromptSegLib.networks.weights import load_network

    network = load_network(job.backbone or token.backbone.name, job.device)
    found = adapt(
        scans,
        token,
        job.center,
        network,
        partial(judge, network),
        options,
        report=report,
        cancelled=cancelled,
    )
    if cancelled():
        raise InterruptedError("adapting was cancelled")
    token = _by_now(job, token)
    checked_center_name(job.center, token.centers)
    found = replace(found, token=replace(token, centers=(*token.centers, found.center)))
    found.token.save(job.out)
    return found


def _by_now(job: AdaptJob, token: ClassToken) -> ClassToken:
    """What a center of the token is to be added to: the token, with the centers that only ``job.out`` has."""
    if not job.out.is_file():
        return token
    there = load_token(job.out)
    base, numbers = token.numbers, there.numbers
    if numbers.keys() != base.keys() or not all(np.array_equal(numbers[name], base[name]) for name in base):
        raise InputError(
            f"{job.out} is another token than {job.token} was, so no center of this one fits it: choose another --out"
        )
    if job.out.resolve() == job.token.resolve():
        return there
    others = [c for c in there.centers if not any(same_name(c.name, ours.name) for ours in token.centers)]
    return replace(token, centers=(*token.centers, *others))
