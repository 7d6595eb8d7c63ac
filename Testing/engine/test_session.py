"""A session in this process, on the tiny backbone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from PromptSegLib.engine import session as session_module
from PromptSegLib.engine.messages import ClassInfo, Preview, Progress, SliceDrawing
from PromptSegLib.engine.previewing import PreviewOrder
from PromptSegLib.engine.session import GPU_BECAME_FULL, Session
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.imaging.window import Window
from PromptSegLib.inference.suggestion import suggest_slice
from PromptSegLib.learning import tuner
from PromptSegLib.learning.features import FeatureCache
from PromptSegLib.tokens.centers import Center
from PromptSegLib.tokens.class_token import ClassToken, parse_token
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.shape import Shape
from PromptSegLib.tokens.size import Size
from Testing.engine.support import ORGAN, planes
from Testing.support import dsc, random_token, scan, tiny_backbone, tuned_token


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "load_network", lambda name, device: tiny_backbone())
    monkeypatch.setattr(tuner, "_MOST_STEPS", 10)
    # Views of changed slices help no random network.
    monkeypatch.setattr(FeatureCache, "augment", lambda cache, enough: None)


def drawn_session() -> tuple[Session, np.ndarray]:
    image, truth = scan()
    session = Session("cpu")
    session.set_image(image)
    session.annotate("a", ORGAN, planes(truth, 3, 6, 9))
    return session, truth


def test_a_token_with_centers_is_used_as_the_one_that_the_scan_is_like() -> None:
    image, _ = scan()
    token = tuned_token()
    offset = {"head.offset": np.full(1, -30, np.float16)}
    here = Center("Here", offset, token.training, Profile.of([scan_statistics(image)]))
    session = Session("cpu")
    session.set_image(image)
    session.put_token("a", replace(token, profile=None, centers=(here,)).to_bytes())
    (found,) = session.segment(["a"])
    assert found.recognition is not None and found.recognition.center == "Here" and not found.mask.any()
    session.set_image(image.with_array(image.array + np.int16(500)))
    (found,) = session.segment(["a"])
    assert found.recognition is not None and not found.recognition.is_known
    session.put_token("a", token.to_bytes())
    session.set_image(image)
    (found,) = session.segment(["a"])
    assert found.recognition is None and found.mask.any()


def whole(session: Session, *keys: str) -> dict[str, np.ndarray]:
    masks = {}
    for found in session.segment(keys):
        masks[found.key] = np.zeros(session._require_image().array.shape, bool)
        masks[found.key][found.box] = found.mask
    return masks


def test_from_a_drawing_to_a_segmentation() -> None:
    session, truth = drawn_session()
    seen: list[Progress] = []
    result = session.tune(["a"], report=seen.append)
    assert not result.cancelled and session.tokens == result.tokens
    token = parse_token(result.tokens["a"])
    assert (token.name, token.color) == (ORGAN.name, ORGAN.color)
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen) and seen[-1].fraction == 1
    (found,) = session.segment(["a"])
    assert 0.5 < found.confidence <= 1
    assert found.ml == pytest.approx(np.count_nonzero(found.mask) * 12 / 1000)
    mask = whole(session, "a")["a"]
    assert dsc(mask, truth) > 0.85
    for drawn in (3, 6, 9):
        assert np.array_equal(mask[drawn], truth[drawn])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis_can_be_drawn_across(axis: int) -> None:
    image, truth = scan((64, 64, 64), (2.0, 2.0, 2.0))
    middle = np.flatnonzero(truth.any(axis=tuple(k for k in range(3) if k != axis)))
    chosen = middle[[2, len(middle) // 2, -3]]
    session = Session("cpu")
    session.set_image(image)
    moved = np.moveaxis(truth, axis, 0)
    session.annotate("a", ORGAN, SliceDrawing(axis, {int(i): moved[i].astype(np.uint8) for i in chosen}))
    previews: list[Preview] = []
    session.tune(["a"], preview=previews.append)
    assert {p.axis for p in previews} == {axis}
    assert all(plane.shape == moved.shape[1:] for p in previews for plane in p.planes.values())
    mask = np.moveaxis(whole(session, "a")["a"], axis, 0)
    assert dsc(mask, moved) > 0.8
    assert all(np.array_equal(mask[i], moved[i]) for i in chosen)


def test_previews_come_early_and_show_the_slice_that_is_looked_at() -> None:
    session, truth = drawn_session()
    session.focus = (0, 5)
    order: list[str] = []
    previews: list[Preview] = []

    def show(preview: Preview) -> None:
        order.append("preview")
        previews.append(preview)

    session.tune(["a"], preview=show, report=lambda p: order.append("step" if p.step else p.stage))
    assert order[:4] == ["encoding", "training", "preview", "preview"] and "step" in order
    assert 5 in previews[0].planes
    last = {i: plane for p in previews for i, plane in p.planes.items()}
    assert dsc(last[5], truth[5]) > 0.85
    for preview in previews:
        for drawn in {3, 6, 9} & set(preview.planes):
            assert np.array_equal(preview.planes[drawn], truth[drawn])


def test_a_second_class_changes_nothing_of_the_first() -> None:
    session, truth = drawn_session()
    session.tune(["a"])
    mask, token = whole(session, "a")["a"], session.tokens["a"]
    other = np.roll(~truth & (scan()[0].array < scan()[0].array.mean()), 1, axis=1)
    other[:, :8] = other[:, 20:] = False
    session.annotate("b", ClassInfo("Other"), planes(other, 3, 6, 9))
    session.tune(["b"])
    assert session.tokens["a"] == token
    assert np.array_equal(whole(session, "a")["a"], mask)
    both = whole(session, "a", "b")
    assert not (both["a"] & both["b"]).any()


def test_features_of_a_scan_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = drawn_session()
    session.tune(["a"])
    first = whole(session, "a")["a"]
    seen: list[int] = []
    encode = tiny_backbone().encode
    monkeypatch.setattr(tiny_backbone(), "encode", lambda x, *a: (seen.append(len(x)), encode(x, *a))[1])
    assert np.array_equal(whole(session, "a")["a"], first) and not seen
    session.clear_cache()
    assert np.array_equal(whole(session, "a")["a"], first) and seen


def test_nothing_is_encoded_between_the_drawn_slices_and_the_first_preview(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = drawn_session()
    order: list[str] = []
    encode = tiny_backbone().encode
    monkeypatch.setattr(tiny_backbone(), "encode", lambda x, *a: (order.append("encode"), encode(x, *a))[1])
    session.tune(["a"], report=lambda p: order.append(p.stage), preview=lambda p: order.append("preview"))
    assert order[0] == "encoding" and order[order.index("training") + 1] == "preview"


def test_what_is_drawn_is_looked_at_ahead_and_learned_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    session, truth = drawn_session()
    numbers = parse_token(session.tune(["a"]).tokens["a"]).numbers
    ahead, _ = drawn_session()
    order: list[str] = []
    encode = tiny_backbone().encode
    monkeypatch.setattr(tiny_backbone(), "encode", lambda x, *a: (order.append("encode"), encode(x, *a))[1])
    slices = 0
    while ahead.work_ahead():
        slices += 1
    assert slices == 3 + 11, "slices 1 to 11 are previewed"
    ahead.focus = (0, 3)
    order.clear()
    found = ahead.tune(["a"], report=lambda p: order.append(p.stage)).tokens["a"]
    assert order[:2] == ["encoding", "training"], "nothing is left to encode"
    assert all(np.array_equal(numbers[name], array) for name, array in parse_token(found).numbers.items())
    assert not ahead.work_ahead()
    ahead.annotate("a", ORGAN, planes(truth, 3, 5, 6, 9))
    order.clear()
    while ahead.work_ahead():
        pass
    assert order.count("encode") >= 1, "the new slice"


def test_an_empty_slice_counts_also_when_all_slices_are_drawn() -> None:
    session, truth = drawn_session()
    truth[5] = False
    session.annotate("a", ORGAN, planes(truth, *range(len(truth))))
    slices = 0
    while session.work_ahead():
        slices += 1
    assert slices == 2 * len(truth)


def test_training_again_goes_on_from_what_was_learned_unless_told_not_to() -> None:
    session, truth = drawn_session()
    first = parse_token(session.tune(["a"]).tokens["a"])
    session.annotate("a", ORGAN, planes(truth, 3, 5, 6, 9))
    again = parse_token(session.tune(["a"]).tokens["a"])
    assert again.training.seconds > first.training.seconds and again.training.slices == 4
    anew = parse_token(session.tune(["a"], anew=True).tokens["a"])
    fresh, _ = drawn_session()
    fresh.annotate("a", ORGAN, planes(truth, 3, 5, 6, 9))
    expected = parse_token(fresh.tune(["a"]).tokens["a"])
    assert all(np.array_equal(anew.numbers[name], array) for name, array in expected.numbers.items())


def test_the_result_tells_a_token_what_the_drawing_did_not_show() -> None:
    image, truth = scan((20, 64, 64))
    truth[[0, 1, 18, 19]] = False
    session = Session("cpu")
    session.set_image(image)
    session.annotate("a", ORGAN, planes(truth, 4, 10, 16))
    learned = parse_token(session.tune(["a"]).tokens["a"])
    assert learned.size is None and learned.height is None

    (found,) = session.segment(["a"])
    assert found.token is not None and session.tokens == {"a": found.token}
    token = parse_token(found.token)
    assert token.size is not None and token.size.ml == pytest.approx(found.ml, rel=1e-3)
    assert token.height is not None
    ends = [3.0 * found.box[0].start, 3.0 * (found.box[0].stop - 1)]
    assert [token.height.levels[0].low_mm, token.height.levels[0].high_mm] == ends
    assert all(np.array_equal(token.numbers[name], array) for name, array in learned.numbers.items())
    assert session.segment(["a"])[0].token is None, "it knows that already"

    session.annotate("a", ORGAN, planes(truth, 3, 4, 10, 16, 17))
    session.tune(["a"])
    (again,) = session.segment(["a"])
    told = parse_token(session.tokens["a"]).size
    assert told is not None and told.ml == pytest.approx(again.ml, rel=1e-3), "of the corrected result"

    session.put_token("a", learned.to_bytes())
    assert session.segment(["a"])[0].token is None, "it may have been learned on another scan"
    session.annotate("b", ORGAN, planes(truth, *range(20)))
    drawn = session.tune(["b"]).tokens
    assert session.segment(["b"])[0].token is None and session.tokens["b"] == drawn["b"], "a drawing says more"


def test_no_more_than_so_many_slices_are_looked_at_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LOOKED_AT_AHEAD", 2)
    session, _ = drawn_session()
    slices = 0
    while session.work_ahead():
        slices += 1
    assert slices == 3 + 2


def test_what_cannot_be_learned_is_not_looked_at() -> None:
    session, _ = drawn_session()
    session.annotate("a", ORGAN, SliceDrawing(0, {3: np.zeros((64, 64), np.uint8)}))
    assert not session.work_ahead()
    session.annotate("a", ORGAN, None)
    assert not session.work_ahead()


def test_cancelled_it_keeps_the_best_so_far_and_segmenting_stops() -> None:
    session, _ = drawn_session()
    steps: list[int] = []
    result = session.tune(["a"], report=lambda p: steps.append(p.step), cancelled=lambda: len(steps) > 4)
    assert result.cancelled and set(result.tokens) == {"a"} and max(steps) < 8
    with pytest.raises(InterruptedError):
        session.segment(["a"], cancelled=lambda: True)


def test_a_token_from_elsewhere_is_as_good() -> None:
    session, truth = drawn_session()
    tokens = session.tune(["a"]).tokens
    fresh = Session("cpu")
    fresh.set_image(scan(seed=4)[0])
    assert fresh.put_token("x", tokens["a"]) == ORGAN
    assert dsc(whole(fresh, "x")["x"], truth) > 0.7


def test_a_token_of_another_kind_of_scans_is_used_with_a_word() -> None:
    image, _ = scan()
    session = Session("cpu")
    for name, window in (("Bone", Window("ct")), ("Nerve", Window("percentile"))):
        session.put_token(name, replace(random_token(tiny_backbone(), name), window=window).to_bytes())
    for shift, strange in ((0, "'Nerve'"), (1500, "'Bone'")):
        notices: list[str] = []
        session.notice = notices.append
        session.set_image(image.with_array(image.array + np.int16(shift)))
        with pytest.raises(InterruptedError):
            session.segment(["Bone", "Nerve"], cancelled=lambda: True)
        assert len(notices) == 1 and strange in notices[0] and "does not look like such a scan" in notices[0]


def test_another_scan_forgets_drawings_but_not_tokens() -> None:
    session, _ = drawn_session()
    session.tune(["a"])
    session.set_image(scan(seed=4)[0])
    with pytest.raises(InputError, match="nothing is drawn of 'Organ'"):
        session.tune(["a"])
    assert session.segment(["a"])[0].mask.any()


def test_an_empty_slice_says_that_the_organ_ends() -> None:
    image, truth = scan()
    session = Session("cpu")
    session.set_image(image)
    drawing = planes(truth, 3, 6, 9)
    empty = SliceDrawing(0, {**drawing.planes, 7: np.zeros_like(drawing.planes[3])})
    session.annotate("a", ORGAN, empty)
    session.tune(["a"])
    assert not whole(session, "a")["a"][7].any()


def test_the_next_slice_is_an_undrawn_one() -> None:
    session, _ = drawn_session()
    before = session.suggest_slice("a")
    assert before.index not in (3, 6, 9) and before.axis == 0
    session.tune(["a"])
    session.segment(["a"])
    after = session.suggest_slice("a")
    assert after.index not in (3, 6, 9) and "least sure" in after.reason


def test_sentences_for_what_cannot_be() -> None:
    session = Session("cpu")
    image, truth = scan()
    refusals = [
        (lambda: session.annotate("a", ORGAN, planes(truth, 3)), "no scan yet"),
        (lambda: session.segment(["a"]), "no scan yet"),
        (lambda: session.set_image(image.with_array(np.full(image.array.shape, np.nan))), "not finite"),
        (lambda: session.set_image(image), None),
        (lambda: session.segment(["a"]), "not known"),
        (lambda: session.annotate("a", ORGAN, SliceDrawing(0, {99: truth[3]})), "does not fit the scan"),
        (lambda: session.annotate("a", ORGAN, SliceDrawing(1, {3: truth[3]})), "does not fit the scan"),
        (lambda: session.annotate("a", ORGAN, None), None),
        (lambda: session.tune(["a"]), "nothing is drawn of 'Organ'"),
        (lambda: session.segment(["a"]), "'Organ' was not trained yet"),
        (lambda: session.suggest_slice("a"), "nothing is drawn of 'Organ'"),
        (lambda: session.annotate("a", ORGAN, SliceDrawing(0, {3: np.zeros((64, 64), np.uint8)})), None),
        (lambda: session.tune(["a"]), "nothing painted in the drawing of 'Organ'"),
        (lambda: session.put_token("a", b"nothing"), "the class token is damaged"),
        (lambda: session.set_image(image.with_array(np.full(image.array.shape, np.nan))), "not finite"),
        (lambda: session.annotate("a", ORGAN, planes(truth, 3)), "no scan yet"),
    ]
    for call, words in refusals:
        if words is None:
            call()
        else:
            with pytest.raises(InputError, match=re.escape(words)):
                call()


class FullGraphicsCard:
    """A network on a card whose memory is full; moved to the processor, it is the tiny one."""

    device = torch.device("cuda")

    def __getattr__(self, name: str) -> Any:
        return getattr(tiny_backbone(), name)

    def to(self, device: str) -> Any:
        assert device == "cpu"
        return tiny_backbone()


def test_a_full_graphics_card_is_left_for_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = drawn_session()
    real = session_module.tune

    def tune(scans: Any, name: str, network: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(network, FullGraphicsCard):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(scans, name, network, *arguments, **options)

    monkeypatch.setattr(session_module, "tune", tune)
    session._network = FullGraphicsCard()  # type: ignore[assignment]
    notices: list[str] = []
    session.notice = notices.append
    assert set(session.tune(["a"]).tokens) == {"a"}
    assert notices == [GPU_BECAME_FULL]
    assert session.device_name == "cpu"


def test_a_bad_drawing_costs_no_other_class_its_training() -> None:
    session, _ = drawn_session()
    session.annotate("b", ClassInfo("Everything"), SliceDrawing(0, {3: np.ones((64, 64), np.uint8)}))
    notices: list[str] = []
    session.notice = notices.append
    assert set(session.tune(["b", "a", "b"]).tokens) == {"a"}
    assert len(notices) == 2 and all("the drawing of 'Everything'" in notice for notice in notices)


def test_memory_that_runs_out_costs_no_other_class_its_training(monkeypatch: pytest.MonkeyPatch) -> None:
    session, truth = drawn_session()
    session.annotate("b", ClassInfo("Large"), planes(truth, 3, 6, 9))

    def tune(scans: Any, name: str, *arguments: Any, **options: Any) -> ClassToken:
        if name == "Large":
            raise MemoryError
        return random_token(tiny_backbone())

    monkeypatch.setattr(session_module, "tune", tune)
    notices: list[str] = []
    session.notice = notices.append
    assert set(session.tune(["a", "b"]).tokens) == {"a"}
    assert len(notices) == 1 and "memory ran out while 'Large'" in notices[0]
    with pytest.raises(MemoryError):
        session.tune(["b"])


def test_a_preview_of_scribbles_shows_more_than_the_strokes() -> None:
    image, truth = scan()
    strokes = np.full((64, 64), 255, np.uint8)
    rows, columns = np.nonzero(truth[6])
    middle = int(rows.mean())
    strokes[middle, columns[rows == middle]] = 1
    strokes[4:8, 4:40] = 0
    session = Session("cpu")
    session.set_image(image)
    session.annotate("a", ORGAN, SliceDrawing(0, {6: strokes}))
    session.focus = (0, 6)
    previews: list[Preview] = []
    session.tune(["a"], preview=previews.append)
    shown = previews[-1].planes[6] if 6 in previews[-1].planes else previews[0].planes[6]
    assert np.count_nonzero(shown) > 2 * np.count_nonzero(strokes == 1)


def test_large_features_go_to_the_folder(tmp_path: Path) -> None:
    session, _ = drawn_session()
    session.folder, session._features.folder = tmp_path, tmp_path
    session._features.memory_bytes = 1000
    session.tune(["a"])
    first = whole(session, "a")["a"]
    assert np.array_equal(whole(session, "a")["a"], first)
    session.close()


def test_preview_order_covers_the_range_and_repeats() -> None:
    order = PreviewOrder([10, 20, 30], 100)
    seen = [i for _ in range(13) for i in order.next(None)]
    assert set(seen) == set(range(8, 33)), "a little beyond either end"
    assert 40 not in order.next(40), "far away, there is nothing to show"
    assert order.next(12)[0] == 12
    assert PreviewOrder([0], 1).next(0) == [0]


@pytest.mark.parametrize(
    "drawn, slices, expected",
    [([], 9, 4), ([10], 40, 15), ([38], 40, 33), ([2, 4, 12], 20, 8), ([2, 3], 6, 1), ([0, 1], 2, None)],
)
def test_suggestions_before_anything_was_found(drawn: list[int], slices: int, expected: int | None) -> None:
    found = suggest_slice(drawn, slices, 3.0)
    assert (None if found is None else found[0]) == expected


def test_doubt_far_from_drawn_slices_counts_more() -> None:
    doubt = np.zeros(40)
    doubt[[11, 30]] = 100
    found = suggest_slice([10], 40, 3.0, doubt)
    assert found is not None and found[0] == 30


def test_drawings_correct_the_tokens_of_other_scans() -> None:
    """Whether a token is of other scans is seen after a restart of the engine, too: by what its scans are like."""
    session, truth = drawn_session()
    image, _ = scan()

    def corrects() -> frozenset[int]:
        guide = session.drawn(["a"], image)
        assert guide is not None
        return guide.corrects

    session.tune(["a"])
    (found,) = session.segment(["a"])
    assert found.token is not None and parse_token(found.token).shapes, "its own result told it the shape"
    assert not corrects(), "it was learned from this very drawing"
    session.put_token("a", found.token)
    assert not corrects()
    elsewhere = Profile(3, {"noise": 1.0}, {"noise": 0.1})
    session.put_token("a", replace(parse_token(found.token), profile=elsewhere).to_bytes())
    assert corrects() == {1}
    session.annotate("a", ORGAN, planes(truth, 6))
    session.tune(["a"])
    assert corrects() == {1}
    session.put_token("a", replace(parse_token(found.token), profile=elsewhere).to_bytes())
    shown = session.drawn(["a"], image, [parse_token(found.token)])
    assert shown is not None and not shown.corrects, "what is learned anew here corrects nothing"
    session.tune(["a"], anew=True)
    assert not corrects()


def with_token_of_others(session: Session, **changes: Any) -> ClassToken:
    """The session's class "a" gets a token as if other scans had taught it."""
    token = replace(tuned_token(), profile=Profile(3, {"noise": 1.0}, {"noise": 0.1}), **changes)
    session.put_token("a", token.to_bytes())
    return token


def test_what_is_drawn_far_from_what_was_found_is_another_structure() -> None:
    session, truth = drawn_session()
    shape, size = Shape(np.ones((3, 3, 3), np.int8), 10.0), Size(15.0, 0.3)
    token = with_token_of_others(session, shapes=(shape,), size=size)
    session.segment(["a"])
    after = parse_token(session.tune(["a"]).tokens["a"])
    assert after.profile == token.profile, "beside what was found, it is a correction"

    session.annotate("a", ORGAN, None)
    token = with_token_of_others(session, shapes=(shape,), size=size)
    (found,) = session.segment(["a"])
    assert found.box[2].start > 15
    drawing = planes(np.roll(truth, -30, axis=2), 3, 6, 9)
    session.annotate("a", ORGAN, drawing)
    session.put_token("a", random_token(tiny_backbone(), "Organ").to_bytes())
    session.put_token("a", token.to_bytes())
    said: list[str] = []
    session.notice = said.append
    after = parse_token(session.tune(["a"]).tokens["a"])
    assert after.profile not in (None, token.profile), "nothing of the token is left"
    assert len(said) == 1 and "drawn far from what its token found" in said[0]


def test_what_is_drawn_where_nothing_was_found_goes_on_from_a_token_of_other_scans() -> None:
    session, truth = drawn_session()
    session.annotate("a", ORGAN, None)
    token = tuned_token()
    blind = {"head.offset": np.full_like(token.numbers["head.offset"], -50)}
    token = with_token_of_others(
        session,
        numbers={**token.numbers, **blind},
        shapes=(Shape(np.ones((3, 3, 3), np.int8), 10.0),),
        size=Size(15.0, 0.3),
    )
    (found,) = session.segment(["a"])
    assert not found.mask.any()
    session.annotate("a", ORGAN, planes(truth, 6))
    assert parse_token(session.tune(["a"]).tokens["a"]).profile == token.profile


def test_slices_on_which_a_result_was_erased_teach_nothing() -> None:
    session, truth = drawn_session()
    token = with_token_of_others(session)
    session.annotate("a", ORGAN, planes(np.zeros_like(truth), 6))
    assert session.tune(["a"]).tokens == {"a": token.to_bytes()}
    (found,) = session.segment(["a"])
    assert not whole(session, "a")["a"][6].any() and found.mask.any()
    with pytest.raises(InputError, match="nothing painted"):
        session.tune(["a"], anew=True)


def test_where_a_token_is_least_sure_is_known_before_anything_is_drawn() -> None:
    session, _ = drawn_session()
    session.annotate("a", ORGAN, None)
    with_token_of_others(session)
    with pytest.raises(InputError, match="nothing is drawn"):
        session.suggest_slice("a")
    session.segment(["a"])
    suggestion = session.suggest_slice("a")
    assert suggestion.axis == 0 and suggestion.reason == "the result is least sure here"


def test_a_token_of_other_scans_stays_where_it_cannot_learn_from_a_drawing() -> None:
    session, truth = drawn_session()
    said: list[str] = []
    session.notice = said.append
    session.tune(["a"])
    (found,) = session.segment(["a"])
    assert found.token is not None
    token = replace(parse_token(found.token), profile=Profile(3, {"noise": 1.0}, {"noise": 0.1}))
    session.put_token("a", token.to_bytes())
    session.annotate("a", ORGAN, planes(truth, 30, axis=1))
    assert session.tune(["a"]).tokens == {"a": token.to_bytes()}
    assert len(said) == 1 and "was learned on axial slices of other scans" in said[0]
    assert "corrects its result here, and the class token stays as it is" in said[0]
    (found,) = session.segment(["a"])
    whole_scan = np.zeros(truth.shape, bool)
    whole_scan[found.box] = found.mask
    assert np.array_equal(whole_scan[:, 30], truth[:, 30]) and dsc(whole_scan, truth) > 0.8 and found.token is None

    centers = (Center("B", {}, token.training, Profile(2, {"noise": 1.0}, {"noise": 0.1})),)
    session.put_token("a", replace(token, centers=centers).to_bytes())
    session.annotate("a", ORGAN, planes(truth, 6))
    session.tune(["a"])
    assert parse_token(session.tokens["a"]).centers and "'Organ' has centers" in said[1]
