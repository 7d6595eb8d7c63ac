"""Adapting a token to a center: the base stays, what helps is kept, and what does not is left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest

from PromptSegLib.errors import InputError
from PromptSegLib.inference.judging import judge
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning import adaptation
from PromptSegLib.learning.adaptation import FAILS_BELOW, LEAST_GAIN, MOST_JUDGED, Adaptation, adapt
from PromptSegLib.learning.drawing import Drawing, DrawnScan, prepare_drawing
from PromptSegLib.tokens.class_token import ClassToken, parse_token
from Testing.support import FAST, drawing, dsc, random_token, scan, tiny_backbone, tuned_token

pytestmark = pytest.mark.usefixtures("without_views")

FEW_STEPS = replace(FAST, steps=2, probe_steps=40)


def at_center(seed: int, slices: Sequence[int] = (2, 4, 6, 8)) -> tuple[DrawnScan, np.ndarray]:
    """A scan of a center whose contrast is the other way round: what is bright elsewhere is dark here."""
    image, truth = scan(seed=seed)
    values = np.where(image.array > -500, 240 - image.array, image.array)
    changed = image.with_array(values.astype(np.int16))
    return DrawnScan(changed, drawing(changed, truth, slices)), truth


def adapting(scans: Sequence[DrawnScan], token: ClassToken, center: str, **options: Any) -> Adaptation:
    backbone = options.pop("backbone", tiny_backbone())
    judging = options.pop("judge", partial(judge, backbone))
    return adapt(scans, token, center, backbone, judging, FEW_STEPS, **options)


@lru_cache
def adapted() -> Adaptation:
    return adapting([at_center(seed)[0] for seed in (1, 2, 3)], tuned_token(), "Hospital B")


@dataclass
class Saying:
    """A judge that says the same of every scan: what the token reaches alone, and with what was learned.

    seconds: that it takes; asked: how many tokens it was asked about, and on which scan.
    """

    base: float
    changed: float
    seconds: float = 0.0
    asked: list[tuple[int, DrawnScan]] = field(default_factory=list)

    def __call__(
        self,
        tokens: Sequence[ClassToken],
        scan: DrawnScan,
        report: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> list[float]:
        assert not any(token.centers for token in tokens), "they are used as they will be"
        self.asked.append((len(tokens), scan))
        time.sleep(self.seconds)
        report(1.0)
        return [self.base, self.changed][: len(tokens)]


def found(token: Any, seed: int = 9) -> float:
    drawn, truth = at_center(seed)
    return dsc(Segmenter(tiny_backbone(), [token]).segment(drawn.image).labels.array > 0, truth)


def test_a_new_center_is_found_and_the_base_stays() -> None:
    before = tiny_backbone().fingerprint()
    result = adapted()
    assert tiny_backbone().fingerprint() == before == result.token.backbone.fingerprint
    assert replace(result.token, centers=()).to_bytes() == tuned_token().to_bytes()
    assert not result.uses_base and result.judged == 3
    training = result.center.training
    assert training.scans == 3 and training.held_out_dsc == pytest.approx(result.dsc, abs=1e-4)
    assert result.dsc is not None and result.dsc > result.base_dsc + LEAST_GAIN
    assert found(result.token.at_center("Hospital B")) > found(result.token.at_center(None)) + 0.2
    assert parse_token(result.token.to_bytes()).recognize(result.center.profile.mean).center == "Hospital B"


def test_the_same_again_is_the_same() -> None:
    again = adapting([at_center(seed)[0] for seed in (1, 2, 3)], tuned_token(), "Hospital B")
    assert all(np.array_equal(again.center.delta[k], v) for k, v in adapted().center.delta.items())


@pytest.mark.parametrize(("gain", "kept"), [(LEAST_GAIN + 1e-6, True), (LEAST_GAIN - 1e-3, False)])
def test_a_difference_is_kept_if_it_helps_on_other_scans(gain: float, kept: bool) -> None:
    token, judging = tuned_token(), Saying(0.5, 0.5 + gain)
    result = adapting([at_center(1)[0], at_center(2)[0]], token, "Same", judge=judging)
    assert result.uses_base != kept and result.judged == 2 and result.base_dsc == 0.5
    assert result.center.training.held_out_dsc == pytest.approx(0.5 + gain * kept, abs=1e-4)
    same = parse_token(result.token.to_bytes()).at_center("Same")
    assert all(np.array_equal(same.numbers[k], v) for k, v in token.numbers.items()) != kept


def test_no_scan_judges_what_it_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[set[int]] = []
    judged: list[set[int]] = []
    says, learn = Saying(0.0, 1.0), adaptation.learn_difference

    def noted(token: ClassToken, drawing: Drawing, *rest: Any, **options: Any) -> Any:
        taught.append({part.seed for part in drawing.slices})
        judged.append(set())
        return learn(token, drawing, *rest, **options)

    def judging(tokens: Sequence[ClassToken], scan: DrawnScan, *rest: Any) -> list[float]:
        judged[-1] |= {part.seed for part in prepare_drawing([scan], like=tuned_token()).slices}
        return says(tokens, scan, *rest)

    monkeypatch.setattr(adaptation, "learn_difference", noted)
    scans = [at_center(seed)[0] for seed in range(1, 6)]
    result = adapting(scans, tuned_token(), "B", judge=judging)
    assert result.judged == len(says.asked) == 5 and {id(scan) for _, scan in says.asked} == {id(s) for s in scans}
    assert len(taught) == 2 and not taught[0] & taught[1]
    assert taught[0] == judged[1] and taught[1] == judged[0]


def test_of_many_scans_a_few_judge() -> None:
    says = Saying(0.5, 0.5)
    scans = [at_center(seed)[0] for seed in range(1, 9)]
    assert adapting(scans, tuned_token(), "B", judge=says).judged == len(says.asked) == 2 * MOST_JUDGED


def test_a_single_scan_only_tells_whether_the_token_fails() -> None:
    alone, fine = [at_center(1)[0]], Saying(FAILS_BELOW, 1.0)
    result = adapting(alone, tuned_token(), "B", judge=fine)
    assert result.uses_base and (result.judged, result.base_dsc, result.dsc) == (0, FAILS_BELOW, None)
    assert [count for count, _ in fine.asked] == [1], "nothing was learned"
    better = adapting(alone, tuned_token(), "B", judge=Saying(0.1, 0.9))
    assert not better.uses_base and better.dsc == 0.9 and better.center.training.held_out_dsc is None
    hardly = adapting(alone, tuned_token(), "B", judge=Saying(0.1, 0.15))
    assert hardly.uses_base and (hardly.base_dsc, hardly.dsc) == (pytest.approx(0.1), pytest.approx(0.15))


def test_judging_takes_no_time_from_learning() -> None:
    options = replace(FEW_STEPS, seconds=2.0)
    result = adapt([at_center(1)[0]], tuned_token(), "B", tiny_backbone(), Saying(0.0, 1.0, seconds=2.2), options)
    assert result.center.training.steps > 0


def test_what_is_reported_only_rises() -> None:
    said: list[tuple[float, str]] = []
    scans = [at_center(1)[0], at_center(2)[0]]
    adapting(scans, tuned_token(), "B", judge=Saying(0.5, 0.6), report=lambda share, doing: said.append((share, doing)))
    shares = [share for share, _ in said]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    assert any(doing.startswith("learning") for _, doing in said)
    assert any(doing == "judging by scan 1 of 1" for _, doing in said)


def test_a_second_center_leaves_the_first_as_it_is() -> None:
    first = adapted().token
    second = adapting([at_center(4)[0]], first, "C", judge=Saying(0.1, 0.9)).token
    a, b = first.at_center("Hospital B"), second.at_center("Hospital B")
    assert a.to_bytes() == b.to_bytes() and [c.name for c in second.centers] == ["Hospital B", "C"]
    assert second.at_center("C").to_bytes() not in (a.to_bytes(), second.at_center(None).to_bytes())


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


@pytest.mark.parametrize("when", ["", "learning", "judging"])
def test_once_cancelled_nothing_is_kept(when: str) -> None:
    """Before the first step, amid learning, or while judging."""
    said: list[str] = []
    with pytest.raises(InterruptedError):
        adapting(
            [at_center(1)[0], at_center(2)[0]],
            tuned_token(),
            "B",
            report=lambda share, doing: said.append(doing),
            cancelled=lambda: not when or any(doing.startswith(when) for doing in said),
        )
    assert any(doing.startswith("judging") for doing in said) == (when == "judging")


def test_scans_are_seen_as_the_token_sees_them() -> None:
    token = replace(tuned_token(), spacing_mm=4.0)
    drawn = prepare_drawing([at_center(1)[0], at_center(2)[0]], like=token, most_slices=4)
    assert drawn.spacing_mm == 4.0 and len(drawn.slices) == 4 and {part.scan for part in drawn.slices} == {0, 1}
