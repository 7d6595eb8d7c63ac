"""Tokens of many scans: learned on from either half of the scans, of which the mean is kept.

What one half's patients have in common by chance cancels out: M. Wortsman et al., "Model soups: averaging weights of
multiple fine-tuned models improves accuracy without increasing inference time", ICML 2022.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from PromptSegLib.errors import InputError
from PromptSegLib.learning.differences import Difference, divided, learn_difference
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.tuning import TuningOptions, TuningProgress
from PromptSegLib.networks.backbone import Backbone
from PromptSegLib.tokens.centers import added, mean_difference
from PromptSegLib.tokens.class_token import ClassToken

LEAST_SCANS = 20
"""Of ten, either half says too little of other patients: the mean of both is no better than the token. This bounds
what the command does; with fewer scans, `averaged` does the same."""

STEPS = 150
"""Of either half."""


def require_many(scans: int) -> None:
    """InputError unless these are enough scans to be divided."""
    if scans < LEAST_SCANS:
        raise InputError(
            f"a token is only learned thoroughly from {LEAST_SCANS} or more scans, and these are {scans}: "
            "give more, or leave --thorough out"
        )


def averaged(
    token: ClassToken,
    scans: Sequence[DrawnScan],
    backbone: Backbone,
    options: TuningOptions,
    *,
    report: Callable[[float, float], None] = lambda fraction, loss: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ClassToken:
    """The token, with the mean of what it learns on from either half of its scans; directions beside prompts stay.

    Args:
        token: that was learned from these scans, without centers.
        options: the prompting is the token's, whatever they say; either half may take all of the seconds.
        report: called after every step with the fraction done, of both halves, and the loss.
        cancelled: asked between any two steps.

    Raises:
        InterruptedError: once it was cancelled.
        NoTimeError: if the time was over before the first step.
    """
    started, within = time.monotonic(), replace(options, steps=options.steps or STEPS)
    differences, steps = list[Difference](), token.training.steps
    for number, half in enumerate(divided(scans, 2, options.seed)):

        def tell(progress: TuningProgress, before: int = number) -> None:
            report((before + progress.step / progress.steps) / 2, progress.loss)

        drawing = prepare_drawing(half, like=token)
        difference, best_step = learn_difference(token, drawing, backbone, within, report=tell, cancelled=cancelled)
        differences.append(difference)
        steps += best_step
    numbers = added(token.numbers, mean_difference(differences))
    seconds = round(token.training.seconds + time.monotonic() - started, 1)
    # On the mean, nothing was measured.
    return replace(
        token, numbers=numbers, training=replace(token.training, steps=steps, seconds=seconds, held_out_dsc=None)
    )
