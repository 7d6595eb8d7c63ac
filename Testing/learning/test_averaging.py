"""Learning on from either half of many scans: what is kept is their mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from PromptSegLib.errors import InputError
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning import averaging
from PromptSegLib.learning.averaging import LEAST_SCANS, averaged, require_many
from PromptSegLib.learning.differences import NoTimeError
from PromptSegLib.learning.drawing import Drawing, DrawnScan
from PromptSegLib.tokens.class_token import ClassToken
from Testing.support import FAST, drawing, dsc, scan, tiny_backbone, tuned_token

pytestmark = pytest.mark.usefixtures("without_views")

FEW_STEPS = replace(FAST, steps=2, probe_steps=40)


def drawn_scans(count: int = 6) -> list[DrawnScan]:
    found = (scan(seed=seed) for seed in range(1, count + 1))
    return [DrawnScan(image, drawing(image, truth, (3, 6))) for image, truth in found]


def test_the_mean_of_what_both_halves_teach_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[set[int]] = []
    learned: list[dict[str, np.ndarray]] = []
    learn = averaging.learn_difference

    def noted(token: ClassToken, drawn: Drawing, *rest: Any, **options: Any) -> Any:
        taught.append({part.seed for part in drawn.slices})
        found = learn(token, drawn, *rest, **options)
        learned.append(found[0])
        return found

    monkeypatch.setattr(averaging, "learn_difference", noted)
    said: list[float] = []
    before = tuned_token()
    after = averaged(before, drawn_scans(7), tiny_backbone(), FEW_STEPS, report=lambda done, loss: said.append(done))
    assert [len(slices) for slices in taught] == [6, 8] and not taught[0] & taught[1]
    for name, number in before.numbers.items():
        both = sum(each.get(name, np.zeros(1, np.float16)).astype(np.float32) for each in learned)
        np.testing.assert_allclose(after.numbers[name], number + both / 2, atol=1e-3)
    assert any(difference.any() for each in learned for difference in each.values())
    assert said == [0.25, 0.5, 0.75, 1.0]
    image, truth = scan(seed=20)
    assert dsc(Segmenter(tiny_backbone(), [after]).segment(image).labels.array == 1, truth) > 0.7
    assert (after.size, after.shapes, after.place) == (before.size, before.shapes, before.place)
    assert after.training.held_out_dsc is None and after.training.seconds >= before.training.seconds


def test_few_scans_have_no_halves() -> None:
    with pytest.raises(InputError, match=f"from {LEAST_SCANS} or more scans, and these are 5: give more, or leave"):
        require_many(5)
    require_many(LEAST_SCANS)


def test_a_time_limit_that_leaves_no_time_is_said() -> None:
    with pytest.raises(NoTimeError, match="the time limit is too short to learn anything"):
        averaged(tuned_token(), drawn_scans(), tiny_backbone(), replace(FEW_STEPS, seconds=0.001))


def test_it_can_be_cancelled() -> None:
    with pytest.raises(InterruptedError):
        averaged(tuned_token(), drawn_scans(), tiny_backbone(), FEW_STEPS, cancelled=lambda: True)
