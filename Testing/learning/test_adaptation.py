"""Adapting a token to a center: the base stays, what helps is kept, and what does not is left out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest
import torch

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.inference.judging import judge
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning import adaptation
from PromptSegLib.learning.adaptation import EMPTY_SHARE, FAILS_BELOW, LEAST_GAIN, MOST_JUDGED, PARTS, Adaptation, adapt
from PromptSegLib.learning.differences import learn_difference
from PromptSegLib.learning.drawing import Drawing, DrawnScan, prepare_drawing
from PromptSegLib.learning.holding_out import split
from PromptSegLib.tokens.centers import Center
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
    """A judge that says the same of every scan: what the token reaches alone, which it is asked about first, and with
    what was learned.

    taking: called each time; asked: about which tokens, and on which scan.
    """

    base: float
    changed: float
    taking: Callable[[], object] = lambda: None
    asked: list[tuple[Sequence[ClassToken], DrawnScan]] = field(default_factory=list)

    def __call__(
        self,
        tokens: Sequence[ClassToken],
        scan: DrawnScan,
        report: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> list[float]:
        assert not any(token.centers for token in tokens), "they are used as they will be"
        self.asked.append((tokens, scan))
        self.taking()
        report(1.0)
        alone = self.asked[0][0][0]
        return [self.base if token is alone else self.changed for token in tokens]


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> list[Drawing]:
    """What differences were learned from, one after the other."""
    drawings: list[Drawing] = []
    learn = adaptation.learn_difference

    def noted(token: ClassToken, drawn: Drawing, *rest: Any, **options: Any) -> Any:
        drawings.append(drawn)
        return learn(token, drawn, *rest, **options)

    monkeypatch.setattr(adaptation, "learn_difference", noted)
    return drawings


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


def test_no_scan_judges_what_it_taught(taught: list[Drawing]) -> None:
    judged: dict[int, set[int]] = defaultdict(set)
    says = Saying(0.0, 1.0)

    def judging(tokens: Sequence[ClassToken], scan: DrawnScan, *rest: Any) -> list[float]:
        judged[len(taught)] |= seeds(prepare_drawing([scan], like=tuned_token()))
        return says(tokens, scan, *rest)

    def seeds(drawn: Drawing) -> set[int]:
        return {part.seed for part in drawn.slices}

    scans = [at_center(seed)[0] for seed in range(1, 6)]
    result = adapting(scans, tuned_token(), "B", judge=judging)
    assert result.judged == len(says.asked) == 5 and {id(scan) for _, scan in says.asked} == {id(s) for s in scans}
    assert len(taught) == len(judged) == PARTS and not judged[1] & judged[2]
    everything = judged[1] | judged[2] | judged[3]
    assert all(seeds(part) == everything - judged[number] for number, part in enumerate(taught, start=1))
    assert result.center.training.slices == len(everything)


def test_of_many_scans_a_few_judge() -> None:
    says = Saying(0.5, 0.5)
    scans = [at_center(seed)[0] for seed in range(1, 9)]
    assert adapting(scans, tuned_token(), "B", judge=says).judged == len(says.asked) == PARTS * MOST_JUDGED


def test_a_single_scan_only_tells_whether_the_token_fails() -> None:
    alone, fine = [at_center(1)[0]], Saying(FAILS_BELOW, 1.0)
    result = adapting(alone, tuned_token(), "B", judge=fine)
    assert result.uses_base and (result.judged, result.base_dsc, result.dsc) == (0, FAILS_BELOW, None)
    assert [len(tokens) for tokens, _ in fine.asked] == [1], "nothing was learned"
    better = adapting(alone, tuned_token(), "B", judge=(fails := Saying(0.1, 0.9)))
    assert [len(tokens) for tokens, _ in fails.asked] == [1, 1], "what the token itself finds is looked for once"
    assert not better.uses_base and better.dsc == 0.9 and better.center.training.held_out_dsc is None
    hardly = adapting(alone, tuned_token(), "B", judge=Saying(0.1, 0.15))
    assert hardly.uses_base and (hardly.base_dsc, hardly.dsc) == (pytest.approx(0.1), pytest.approx(0.15))


def test_judging_takes_no_time_from_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    now, judged = time.monotonic, list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: now() + sum(judged))
    slow, options = Saying(0.0, 1.0, taking=lambda: judged.append(2000.0)), replace(FEW_STEPS, seconds=1000.0)
    result = adapt([at_center(1)[0]], tuned_token(), "B", tiny_backbone(), slow, options)
    assert result.center.training.steps > 0 and sum(judged) >= 2000.0


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


def test_scans_are_seen_as_the_token_sees_them_and_half_of_the_slices_are_empty(
    taught: list[Drawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptation, "MAX_SLICES", 20)
    scans = []
    for seed in (1, 2):
        image, truth = scan((60, 64, 64), seed=seed)
        truth[:20] = truth[40:] = False
        whole = image.with_array(truth.astype(np.uint8))
        scans.append(DrawnScan(image, Annotation.from_label_map(whole, 1, complete=True, axis=0)))
    adapting(scans, replace(tuned_token(), spacing_mm=4.0), "B", judge=Saying(0.5, 0.6))
    assert len(taught) == 2
    for drawn in taught:
        empty = sum(not part.target.any() for part in drawn.slices)
        assert drawn.spacing_mm == 4.0 and (len(drawn.slices), empty) == (20, 20 * EMPTY_SHARE)


def test_a_time_limit_that_leaves_no_time_is_no_verdict() -> None:
    says, limit = Saying(0.5, 0.6), replace(FEW_STEPS, seconds=0.001)
    with pytest.raises(InputError, match="the time limit is too short to learn anything from these scans"):
        adapt([at_center(1)[0], at_center(2)[0]], tuned_token(), "B", tiny_backbone(), says, limit)
    assert not says.asked


def test_ct_and_other_scans_are_not_mixed() -> None:
    image, truth = scan()
    other = image.with_array((image.array + 1000).astype(np.int16))
    mixed = [at_center(1)[0], DrawnScan(other, drawing(other, truth))]
    with pytest.raises(InputError, match="for CT scans, and these are scans other than CT"):
        adapting(mixed, tuned_token(), "B")
    with pytest.raises(InputError, match="CT scans and others are mixed"):
        adapting([at_center(2)[0], *mixed], tuned_token(), "B")


def test_where_nothing_can_be_held_out_a_token_that_fails_is_no_start() -> None:
    """A structure so small that it lies within one tile of each slice."""
    image, _ = scan()
    truth = np.zeros(image.array.shape, bool)
    truth[:, 33:37, 43:47] = True
    values = np.where(truth, -60, image.array).astype(np.int16)
    drawn = DrawnScan(image.with_array(values), drawing(image, truth, (4, 6, 8)))
    prepared = prepare_drawing([drawn], like=tuned_token())
    assert not any(held.any() for held in split(prepared.slices, torch.Generator().manual_seed(0), True)[1])
    difference, _ = learn_difference(tuned_token(), prepared, tiny_backbone(), FEW_STEPS)
    assert np.abs(difference["head.foreground"]).max() > 0.1, "two steps alone do not take it so far: a probe did"


def test_directions_of_a_head_are_changed_in_closed_form() -> None:
    token = tuned_token(prompting="end")
    assert token.has_directions
    drawing = prepare_drawing([at_center(seed)[0] for seed in (1, 2)], like=token)
    delta, step = learn_difference(token, drawing, tiny_backbone(), FEW_STEPS)
    assert step == 0
    assert set(delta) == {name for name in token.numbers if "direction" in name} | {"head.offset"}
    assert all(difference.dtype == np.float16 and np.isfinite(difference).all() for difference in delta.values())
    again, _ = learn_difference(token, drawing, tiny_backbone(), FEW_STEPS)
    assert all(np.array_equal(delta[name], again[name]) for name in delta)
    with pytest.raises(InterruptedError):
        learn_difference(token, drawing, tiny_backbone(), FEW_STEPS, cancelled=lambda: True)


def test_a_center_of_a_head_is_kept_in_its_file() -> None:
    token = replace(tuned_token(prompting="end"), centers=())
    delta = {name: np.full(number.shape, 0.25, np.float16) for name, number in token.numbers.items()}
    center = Center("B", delta, token.training, adapted().center.profile)
    loaded = parse_token(replace(token, centers=(center,)).to_bytes())
    at = loaded.at_center("B")
    assert at.has_directions
    for name, number in token.numbers.items():
        assert np.array_equal(loaded.numbers[name], number)
        assert np.array_equal(at.numbers[name], number + np.float32(0.25))
