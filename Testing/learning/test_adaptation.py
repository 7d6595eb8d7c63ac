"""Adapting a token to a center: the base stays, what helps is kept, and what does not is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest

from PromptSegLib.errors import InputError
from PromptSegLib.inference.judging import judge
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.adaptation import FAILS_BELOW, LEAST_GAIN, Adaptation, adapt
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.features import FeatureCache
from PromptSegLib.learning.tuner import Tuner
from PromptSegLib.tokens.class_token import ClassToken, parse_token
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


def adapting(scans: Sequence[DrawnScan], token: ClassToken, center: str, **options: Any) -> Adaptation:
    backbone = options.pop("backbone", tiny_backbone())
    judging = options.pop("judge", partial(judge, backbone=backbone))
    return adapt(scans, token, center, backbone, judging, FEW_STEPS, **options)


@lru_cache
def adapted() -> Adaptation:
    return adapting([at_center(seed)[0] for seed in (1, 2, 3)], tuned_token(), "Hospital B")


def saying(*reached: float) -> Any:
    """A judge that says the same of every scan: what the token reaches alone, and with what the center learned."""
    return lambda tokens, scan: reached[: len(tokens)]


def found(token: Any, seed: int = 9) -> float:
    drawn, truth = at_center(seed)
    return dsc(Segmenter(tiny_backbone(), [token]).segment(drawn.image).labels.array > 0, truth)


def test_a_new_center_is_found_and_the_base_stays() -> None:
    before = tiny_backbone().fingerprint()
    result = adapted()
    assert tiny_backbone().fingerprint() == before == result.token.backbone.fingerprint
    assert replace(result.token, centers=()).to_bytes() == tuned_token().to_bytes()
    assert not result.uses_base and result.aside == 1
    training = result.center.training
    assert training.scans == 3 and training.held_out_dsc is not None
    assert training.held_out_dsc >= result.base_dsc + LEAST_GAIN - 1e-4
    assert found(result.token.at_center("Hospital B")) > found(result.token.at_center(None)) + 0.2
    assert parse_token(result.token.to_bytes()).recognize(result.center.profile.mean).center == "Hospital B"


def test_the_same_again_is_the_same() -> None:
    again = adapting([at_center(seed)[0] for seed in (1, 2, 3)], tuned_token(), "Hospital B")
    assert all(np.array_equal(again.center.delta[k], v) for k, v in adapted().center.delta.items())


@pytest.mark.parametrize(
    ("reached", "kept"), [((0.5, 0.5 + LEAST_GAIN + 1e-6), True), ((0.5, 0.5 + LEAST_GAIN - 1e-3), False)]
)
def test_a_difference_is_kept_if_it_helps_on_scans_kept_aside(reached: tuple[float, float], kept: bool) -> None:
    token, scans = tuned_token(), [at_center(1)[0], at_center(2)[0]]
    judged: list[DrawnScan] = []

    def judging(tokens: Sequence[ClassToken], scan: DrawnScan) -> tuple[float, float]:
        assert len(tokens) == 2 and not any(each.centers for each in tokens)
        judged.append(scan)
        return reached

    result = adapting(scans, token, "Same", judge=judging)
    assert len(judged) == result.aside == 1 and judged[0] in scans
    assert result.uses_base != kept and result.base_dsc == 0.5
    assert result.center.training.held_out_dsc == pytest.approx(reached[kept], abs=1e-4)
    same = parse_token(result.token.to_bytes()).at_center("Same")
    assert all(np.array_equal(same.numbers[k], v) for k, v in token.numbers.items()) != kept


def test_what_is_kept_aside_is_not_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is drawn on it; it only tells when to go back, which nothing does here."""
    monkeypatch.setattr(Tuner, "_held_out_dsc", lambda tuner, parameters: None)
    scans, judged = [at_center(seed) for seed in (1, 2, 3)], list[DrawnScan]()

    def judging(tokens: Sequence[ClassToken], scan: DrawnScan) -> tuple[float, float]:
        judged.append(scan)
        return 0.0, 1.0

    def learned(number: int | None = None) -> Mapping[str, np.ndarray]:
        """With nonsense drawn on one of the scans."""
        drawn = [scan for scan, _ in scans]
        if number is not None:
            image, truth = scans[number][0].image, scans[number][1]
            drawn[number] = DrawnScan(image, drawing(image, np.roll(truth, 9, axis=2), (2, 4, 6, 8)))
        return adapting(drawn, tuned_token(), "B", judge=judging).center.delta

    before = learned()
    aside = next(number for number, (scan, _) in enumerate(scans) if scan is judged[0])
    for number in range(len(scans)):
        after = learned(number)
        assert all(np.array_equal(before[key], after[key]) for key in before) == (number == aside)


def test_a_single_scan_only_tells_whether_the_token_fails() -> None:
    alone = [at_center(1)[0]]
    fine = adapting(alone, tuned_token(), "B", judge=saying(FAILS_BELOW))
    assert fine.uses_base and fine.aside == 0 and fine.base_dsc == FAILS_BELOW and fine.center.training.steps == 0
    better = adapting(alone, tuned_token(), "B", judge=saying(0.1, 0.9))
    assert not better.uses_base and better.center.training.held_out_dsc is None
    hardly = adapting(alone, tuned_token(), "B", judge=saying(0.1, 0.15))
    assert hardly.uses_base and hardly.base_dsc == pytest.approx(0.1)


def test_a_second_center_leaves_the_first_as_it_is() -> None:
    first = adapted().token
    second = adapting([at_center(4)[0]], first, "C").token
    a, b = first.at_center("Hospital B"), second.at_center("Hospital B")
    assert a.to_bytes() == b.to_bytes() and [c.name for c in second.centers] == ["Hospital B", "C"]


def test_what_is_known_beforehand_is_refused_before_the_work() -> None:
    drawn = [at_center(1)[0]]
    with pytest.raises(InputError, match="there is a center 'Hospital B' already"):
        adapting(drawn, adapted().token, "hospital b")
    with pytest.raises(InputError, match="belongs to the backbone"):
        adapting(drawn, tuned_token(), "B", backbone=tiny_backbone(1, "tiny-2"))
    with pytest.raises(InputError, match="the drawings are axial, and the token 'Organ' is coronal"):
        adapting(drawn, random_token(tiny_backbone()), "B")
    other = replace(tuned_token(), window=replace(tuned_token().window, kind="percentile"))
    with pytest.raises(InputError, match="for scans other than CT, and these are CT scans"):
        adapting(drawn, other, "B")


def test_cancelled_with_nothing_learned_adds_nothing() -> None:
    with pytest.raises(InterruptedError):
        adapting([at_center(1)[0], at_center(2)[0]], tuned_token(), "B", cancelled=lambda: True)


def test_scans_are_seen_as_the_token_sees_them() -> None:
    token = replace(tuned_token(), spacing_mm=4.0)
    drawn = prepare_drawing([at_center(1)[0], at_center(2)[0]], like=token, most_slices=4)
    assert drawn.spacing_mm == 4.0 and len(drawn.slices) == 4 and {part.scan for part in drawn.slices} == {0, 1}
