"""Our token, with all weights of its backbone trained on from there, and used as the token is: what freezing costs.

Its time is that of the weights alone; the token comes on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from PromptSegLib.learning.drawing import MAX_SLICES, DrawnScan
from Testing.benchmarks.methods.center_methods import set_free
from Testing.benchmarks.methods.method import Method, Setup
from Testing.benchmarks.methods.partial import everything
from Testing.benchmarks.methods.promptseg import Tuned, find, tune_token

SLICES_OF_EACH = 20
"""Of many scans, so many slices of each: all weights take more to learn from than a token does."""


def _fine_tune(scans: Sequence[DrawnScan], setup: Setup) -> Tuned:
    token = tune_token(scans, setup).token
    longer = replace(setup, options=replace(setup.options, seconds=setup.seconds))
    most = max(MAX_SLICES, SLICES_OF_EACH * len(scans))
    adapted = set_free(scans, token, longer, everything, most_slices=most)
    return Tuned(adapted.backbone, adapted.new)


FULL_TOKEN = Method("full-token", "full fine-tuning from the token", _fine_tune, find, timed=True, across=True)
