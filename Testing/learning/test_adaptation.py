"""Adapting a token to a center: the base stays, what helps is kept, and what does not is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from PromptSegLib.errors import InputError
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning import adaptation
from PromptSegLib.learning.adaptation import Adaptation, adapt
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.features import FeatureCache
from PromptSegLib.tokens.class_token import parse_token
from Testing.support import FAST, drawing, dsc, random_token, scan, tiny_backbone, tuned_token

FEW_STEPS = replace(FAST, steps=2, probe_steps=40)


@pytest.fixture(autouse=True)
def without_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views of changed slices help no random network."""
    monkeypatch.setattr(FeatureCache, "augment", lambda cache, enough: None)


def at_center(seed: int, slices: Sequence[int] = (2, 4, 6, 8)) -> tuple[DrawnScan, np.ndarray]:
    """A scan of a center whose contrast is the other way round: what is bright elsewhere is dark here."""
    image, truth = scan(seed=seed)
    values = np.where(image.array > -500, 240 - image.array, image.array)
    changed = image.with_array(values.astype(np.int16))
    return DrawnScan(changed, drawing(changed, truth, slices)), truth


@lru_cache
def adapted() -> Adaptation:
    return adapt([at_center(seed)[0] for seed in (1, 2, 3)], tuned_token(), "Hospital B", tiny_backbone(), FEW_STEPS)


def found(token: Any, seed: int = 9) -> float:
    drawn, truth = at_center(seed)
    return dsc(Segmenter(tiny_backbone(), [token]).segment(drawn.image).labels.array > 0, truth)


def test_a_new_center_is_found_and_the_base_stays() -> None:
    before = tiny_backbone().fingerprint()
    result = adapted()
    assert tiny_backbone().fingerprint() == before == result.token.backbone.fingerprint
    assert replace(result.token, centers=()).to_bytes() == tuned_token().to_bytes()
    assert not result.uses_base and result.base_dsc is not None
    training = result.center.training
    assert training.scans == 3 and training.held_out_dsc is not None and training.held_out_dsc > result.base_dsc
    assert found(result.token.at_center("Hospital B")) > found(result.token.at_center(None)) + 0.2
    assert parse_token(result.token.to_bytes()).recognize(result.center.profile.mean).center == "Hospital B"


def test_the_same_again_is_the_same() -> None:
    again = adapt([at_center(seed)[0] for seed in (1, 2, 3)], tuned_token(), "Hospital B", tiny_backbone(), FEW_STEPS)
    assert all(np.array_equal(again.center.delta[k], v) for k, v in adapted().center.delta.items())


def test_a_center_that_the_base_serves_as_well_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "LEAST_GAIN", 1.0)
    token = tuned_token()
    result = adapt([at_center(1)[0], at_center(2)[0]], token, "Same", tiny_backbone(), FEW_STEPS)
    assert result.uses_base and result.center.training.held_out_dsc == pytest.approx(result.base_dsc, abs=1e-3)
    same = parse_token(result.token.to_bytes()).at_center("Same")
    assert all(np.array_equal(same.numbers[k], v) for k, v in token.numbers.items())


def test_a_second_center_leaves_the_first_as_it_is() -> None:
    first = adapted().token
    second = adapt([at_center(4)[0]], first, "C", tiny_backbone(), FEW_STEPS).token
    a, b = first.at_center("Hospital B"), second.at_center("Hospital B")
    assert a.to_bytes() == b.to_bytes() and [c.name for c in second.centers] == ["Hospital B", "C"]


def test_what_is_known_beforehand_is_refused_before_the_work() -> None:
    drawn = [at_center(1)[0]]
    with pytest.raises(InputError, match="there is a center 'Hospital B' already"):
        adapt(drawn, adapted().token, "hospital b", tiny_backbone(), FEW_STEPS)
    with pytest.raises(InputError, match="belongs to the backbone"):
        adapt(drawn, tuned_token(), "B", tiny_backbone(1, "tiny-2"), FAST)
    with pytest.raises(InputError, match="the drawings are axial, and the token 'Organ' is coronal"):
        adapt(drawn, random_token(tiny_backbone()), "B", tiny_backbone(), FEW_STEPS)
    other = replace(tuned_token(), window=replace(tuned_token().window, kind="percentile"))
    with pytest.raises(InputError, match="for scans other than CT, and these are CT scans"):
        adapt(drawn, other, "B", tiny_backbone(), FEW_STEPS)


def test_cancelled_with_nothing_better_adds_nothing() -> None:
    with pytest.raises(InterruptedError):
        adapt([at_center(1)[0]], tuned_token(), "B", tiny_backbone(), FEW_STEPS, cancelled=lambda: True)


def test_scans_are_seen_as_the_token_sees_them() -> None:
    token = replace(tuned_token(), spacing_mm=4.0)
    drawn = prepare_drawing([at_center(1)[0], at_center(2)[0]], like=token, most_slices=4)
    assert drawn.spacing_mm == 4.0 and len(drawn.slices) == 4 and {part.scan for part in drawn.slices} == {0, 1}
