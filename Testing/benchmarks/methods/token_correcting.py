"""Ours on a scan where a token of other scans was corrected: it learns from the corrections, or stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from PromptSegLib.learning.drawing import DrawnScan
from Testing.benchmarks.methods.method import Setup
from Testing.benchmarks.methods.promptseg import PROMPTSEG, Tuned, find, tune_token


def _stay(scans: Sequence[DrawnScan], setup: Setup) -> Tuned:
    if setup.before is None:
        return tune_token(scans, setup)
    return Tuned(setup.backbone, setup.before, setup.features)


LEARNING = replace(PROMPTSEG, find=partial(find, corrects=True))
FIXED = replace(LEARNING, key="fixed-token", name="PromptSeg, the token stays as it is", learn=_stay)
