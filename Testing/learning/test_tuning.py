"""Tuning: it learns from what is known and from nothing else, repeats itself, and stops when it is told to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN, Annotation
from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning import correcting, holding_out, tuning
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.tuning import TuningOptions, TuningProgress, token_shapes, tune
from PromptSegLib.networks.backbone import Features
from PromptSegLib.networks.head import is_direction
from PromptSegLib.networks.presets import PUNetPreset
from PromptSegLib.networks.weights import load_backbone
from PromptSegLib.tokens.centers import Center
from PromptSegLib.tokens.class_token import Calibration, ClassToken, Terminology
from PromptSegLib.tokens.place import Place
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.shape import Shape
from PromptSegLib.tokens.size import Size
from Testing.support import (
    FAST,
    drawing,
    drawn_labels,
    drawn_scan,
    dsc,
    scan,
    shipped_backbone,
    tiny_backbone,
    tuned_token,
    wholly_drawn,
)

# As few steps as show that nothing depends on chance.
SHORT = replace(FAST, steps=2, probe_steps=10, prompting="decoder")


def same_numbers(a: ClassToken, b: ClassToken) -> bool:
    assert a.numbers.keys() == b.numbers.keys()
    return all(np.array_equal(a.numbers[key], b.numbers[key]) for key in a.numbers)


def undrawn_dsc(token: ClassToken, slices: tuple[int, ...] = (3, 6, 9)) -> float:
    image, truth = scan(seed=5)
    found = Segmenter(tiny_backbone(), [token]).segment(image).labels.array == 1
    rest = [i for i in range(len(truth)) if i not in slices]
    return dsc(found[rest], truth[rest])


@pytest.mark.parametrize("prompting", PUNetPreset.prompting_variants)
def test_learns_the_organ(prompting: str) -> None:
    before = tiny_backbone().fingerprint()
    token = tuned_token(prompting=prompting)
    assert tiny_backbone().fingerprint() == before
    assert not any(p.requires_grad or p.grad is not None for p in tiny_backbone().parameters())
    shapes = {name: array.shape for name, array in token.numbers.items()}
    expected = token_shapes(tiny_backbone(), prompting)
    # Beside deep prompts, directions are for other scans.
    assert shapes == {name: shape for name, shape in expected.items() if prompting == "end" or not is_direction(name)}
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in token.numbers.values())
    assert undrawn_dsc(token) > 0.8


def test_without_deep_prompts_every_slice_is_seen_once_and_no_gradient_step_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode, calls, seen = tiny_backbone().encode, list[int](), list[TuningProgress]()

    def count(image: Tensor) -> Features:
        calls.append(len(image))
        return encode(image)

    options = TuningOptions(prompting="end", probe_steps=10)
    token = tune([drawn_scan((5, 6))], "Organ", tiny_backbone(), options, encode=count, report=seen.append)
    assert sum(calls) == 2
    assert token.training.steps == 0
    assert [(progress.step, progress.steps) for progress in seen] == [(step, 10) for step in range(1, 11)]
    assert all(np.isfinite(progress.loss) and progress.seconds_left >= 0 for progress in seen)


def test_says_how_it_came_about() -> None:
    color, meaning = (1, 2, 3), Terminology("SCT", "64033007", "Kidney")
    token = tune([drawn_scan([3, 6])], " Organ ", tiny_backbone(), SHORT, color=color, terminology=meaning)
    assert (token.name, token.color, token.terminology) == ("Organ", color, meaning)
    assert (token.backbone.name, token.backbone.preset) == ("tiny-1", "tiny")
    assert token.backbone.fingerprint == tiny_backbone().fingerprint()
    assert (token.prompting, token.plane, token.window.kind, token.pieces) == ("decoder", "axial", "ct", "one")
    training = token.training
    assert (training.scans, training.slices, training.seed) == (1, 2, 0)
    assert 0 <= training.steps <= SHORT.steps and training.seconds > 0
    assert training.date == time.strftime("%Y-%m-%d")
    assert training.held_out_dsc is None or 0 <= training.held_out_dsc <= 1


def test_the_seed_decides() -> None:
    first, again, other = (tune([drawn_scan()], "Organ", tiny_backbone(), replace(SHORT, seed=s)) for s in (3, 3, 4))
    assert same_numbers(first, again) and first.calibration == again.calibration
    assert not same_numbers(first, other)
    assert (first.training.seed, other.training.seed) == (3, 4)


@pytest.mark.parametrize("seed", [0, 4])
def test_the_callers_random_numbers_do_not_matter(seed: int) -> None:
    """Neither numpy's nor torch's own generator takes part."""
    np.random.seed(seed)
    token = tune([drawn_scan()], "Organ", tiny_backbone(), replace(SHORT, seed=3))
    np.random.seed(seed + 1)
    assert same_numbers(token, tune([drawn_scan()], "Organ", tiny_backbone(), replace(SHORT, seed=3)))


def test_reports_every_step() -> None:
    seen: list[TuningProgress] = []
    # More steps than there is time for, however fast the machine: what is left then is the rest of the time.
    options = replace(SHORT, steps=10_000, patience=10_000, seconds=6)
    started = time.monotonic()
    ended: list[float] = []

    def report(progress: TuningProgress) -> None:
        seen.append(progress)
        ended.append(time.monotonic() - started)

    tune([drawn_scan([6])], "Organ", tiny_backbone(), options, report=report)
    # However long a busy machine takes over the last step, none begins after the time is up.
    assert ended[-1] > 4 and ended[-2] < 6.2
    assert [progress.step for progress in seen] == list(range(1, len(seen) + 1))
    left = [progress.seconds_left for progress in seen]
    assert all(a > b for a, b in pairwise(left)) or left[-1] == 0
    assert 0 <= left[-1] < left[0] < 6
    assert all(progress.steps == 10_000 and np.isfinite(progress.loss) for progress in seen)


def test_the_loss_falls() -> None:
    seen: list[TuningProgress] = []
    options = replace(FAST, steps=16, probe_steps=5, patience=100, prompting="decoder")
    tune([drawn_scan()], "Organ", tiny_backbone(), options, report=seen.append)
    losses = [progress.loss for progress in seen]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_cancelled_it_returns_the_best_so_far() -> None:
    seen: list[TuningProgress] = []
    options = replace(SHORT, steps=50)
    token = tune(
        [drawn_scan()], "Organ", tiny_backbone(), options, report=seen.append, cancelled=lambda: len(seen) >= 3
    )
    assert len(seen) == 3
    assert 0 <= token.training.steps <= 3
    Segmenter(tiny_backbone(), [token])


def test_cancelled_after_the_first_guess_it_returns_that() -> None:
    guesses: list[ClassToken] = []
    token = tune([drawn_scan()], "Organ", tiny_backbone(), FAST, watch=guesses.append, cancelled=lambda: bool(guesses))
    assert token.training.steps == 0 and same_numbers(token, guesses[0])
    Segmenter(tiny_backbone(), [token])


def test_a_head_alone_comes_first() -> None:
    happened: list[str] = []
    tune(
        [drawn_scan()],
        "Organ",
        tiny_backbone(),
        replace(FAST, prompting="decoder"),
        ready=lambda drawing: happened.append(f"{len(drawing.slices)} slices"),
        watch=lambda token: happened.append(token.prompting),
    )
    assert happened[:3] == ["3 slices", "end", "decoder"]


def test_cancelled_before_the_first_guess_there_is_no_token() -> None:
    with pytest.raises(InterruptedError):
        tune([drawn_scan()], "Organ", tiny_backbone(), FAST, cancelled=lambda: True)


def test_whoever_watches_sees_the_token_that_is_returned_last() -> None:
    seen: list[ClassToken] = []
    token = tune([drawn_scan()], "Organ", tiny_backbone(), SHORT, watch=seen.append)
    assert len(seen) >= 2 and same_numbers(seen[-1], token)


def test_unknown_slices_never_matter() -> None:
    """Whatever the scan shows there, and whether they are unpainted or marked as unknown."""
    expected = tune([drawn_scan()], "Organ", tiny_backbone(), SHORT)
    image, truth = scan()
    rest = [i for i in range(len(truth)) if i not in (3, 6, 9)]
    image.array[rest] = np.random.default_rng(1).integers(-1000, 1500, image.array[rest].shape)
    changed = tune([DrawnScan(image, drawing(image, truth))], "Organ", tiny_backbone(), SHORT)
    assert same_numbers(changed, expected) and changed.calibration == expected.calibration
    labels = drawn_labels(truth)
    labels[rest] = UNKNOWN
    marked = DrawnScan(image, Annotation.from_label_map(image.with_array(labels), 1))
    assert same_numbers(tune([marked], "Organ", tiny_backbone(), SHORT), expected)


def test_one_slice() -> None:
    token = tune([drawn_scan([6])], "Organ", tiny_backbone(), FAST)
    assert token.training.slices == 1
    assert undrawn_dsc(token, (6,)) > 0.7


def test_all_slices() -> None:
    """From eight slices on, whole slices are held out."""
    token = tune([drawn_scan(range(1, 11))], "Organ", tiny_backbone(), FAST)
    assert token.training.slices == 10 and token.training.held_out_dsc is not None
    assert undrawn_dsc(token, ()) > 0.8


def test_a_complete_drawing_of_a_short_structure() -> None:
    """Forty known slices, two of which show the structure."""
    image, truth = scan((40, 64, 64))
    labels = drawn_labels(truth, [20, 21])
    annotation = Annotation.from_label_map(image.with_array(labels), 1, complete=True)
    token = tune([DrawnScan(image, annotation)], "Organ", tiny_backbone(), SHORT)
    Segmenter(tiny_backbone(), [token])


def test_scribbles() -> None:
    image, truth = scan()
    labels = np.zeros(truth.shape, np.uint8)
    for index in (3, 6, 9):
        rows, columns = np.nonzero(truth[index])
        middle = round(rows.mean())
        labels[index, middle, columns.min() + 2 : columns.max() - 2] = 1
        labels[index, 50:52, 10:50] = 2
        labels[index, 12:50, 15] = 2
        # Air, and the edge between it and the body.
        labels[index, 2, 10:50] = 2
    annotation = Annotation.from_label_map(image.with_array(labels), 1, scribbles=True)
    token = tune([DrawnScan(image, annotation)], "Organ", tiny_backbone(), replace(FAST, prompting="end"))
    assert undrawn_dsc(token) > 0.5


def test_all_background_is_never_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long stroke on the structure and a dot beside it, which alone says what the structure is not."""
    monkeypatch.setattr(holding_out, "HELD_OUT_SHARE", 0.8)
    image, _ = scan()
    labels = np.zeros(image.array.shape, np.uint8)
    labels[6, 8:56, 40], labels[6, 29, 10] = 1, 2
    annotation = Annotation.from_label_map(image.with_array(labels), 1, scribbles=True, axis=0)
    for seed in range(3):
        options = replace(SHORT, steps=1, probe_steps=1, seed=seed, prompting="end")
        Segmenter(tiny_backbone(), [tune([DrawnScan(image, annotation)], "Organ", tiny_backbone(), options)])


def test_a_dot_and_a_dot() -> None:
    """The least that can be drawn: one voxel of the structure and one of the rest."""
    image, _ = scan()
    labels = np.zeros(image.array.shape, np.uint8)
    labels[6, 29, 40], labels[6, 29, 10] = 1, 2
    annotation = Annotation.from_label_map(image.with_array(labels), 1, scribbles=True)
    token = tune([DrawnScan(image, annotation)], "Organ", tiny_backbone(), SHORT)
    Segmenter(tiny_backbone(), [token])


@pytest.mark.parametrize("spacing", [(3.0, 2.0, 2.0), (3.0, 0.5, 0.5)])
def test_a_structure_of_one_voxel(spacing: tuple[float, float, float]) -> None:
    """Thinner than a working pixel: it is less than half of every pixel there."""
    image, _ = scan(spacing=spacing)
    labels = np.zeros(image.array.shape, np.uint8)
    labels[6, 29, 40] = 1
    annotation = Annotation.from_label_map(image.with_array(labels), 1, axis=0)
    token = tune([DrawnScan(image, annotation)], "Vessel", tiny_backbone(), SHORT)
    Segmenter(tiny_backbone(), [token])


def test_several_scans_of_different_spacing() -> None:
    image, truth = scan((8, 90, 80), (4.5, 1.4, 1.6), seed=2)
    other = DrawnScan(image, drawing(image, truth, [2, 4]))
    token = tune([drawn_scan([3, 7]), other], "Organ", tiny_backbone(), FAST)
    assert (token.training.scans, token.training.slices) == (2, 4)
    assert undrawn_dsc(token) > 0.8
    found = Segmenter(tiny_backbone(), [token]).segment(image).labels.array == 1
    assert dsc(found, truth) > 0.75


def test_a_scan_without_a_physical_unit() -> None:
    image, truth = scan()
    magnetic = image.with_array(((image.array.astype(np.float32) + 1000) * 0.37).astype(np.float32))
    token = tune([DrawnScan(magnetic, drawing(magnetic, truth))], "Organ", tiny_backbone(), FAST)
    assert token.window.kind == "percentile"
    louder = image.with_array(magnetic.array * 30)
    found = Segmenter(tiny_backbone(), [token]).segment(louder).labels.array == 1
    assert dsc(found, truth) > 0.7


def test_refusals() -> None:
    with pytest.raises(InputError, match="no prompting 'sideways'"):
        tune([drawn_scan()], "Organ", tiny_backbone(), replace(FAST, prompting="sideways"))
    with pytest.raises(InputError, match="needs a name"):
        tune([drawn_scan()], " ", tiny_backbone(), FAST)
    with pytest.raises(InputError, match="no drawn scan"):
        tune([], "Organ", tiny_backbone(), FAST)


@pytest.mark.slow
@pytest.mark.skipif(shipped_backbone() is None, reason="the default backbone has not been trained yet")
def test_quality_with_the_shipped_backbone() -> None:
    path = shipped_backbone()
    assert path is not None
    network = load_backbone(path)
    before = network.fingerprint()
    token = tune([drawn_scan()], "Organ", network, replace(FAST, steps=20))
    assert network.fingerprint() == before
    image, truth = scan(seed=5)
    found = Segmenter(network, [token]).segment(image).labels.array == 1
    assert dsc(found, truth) > 0.85


def test_smaller_batches_when_memory_runs_out_learn_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here while training holds what gradients need, of more than two crops."""
    options = replace(SHORT, steps=1)
    expected = tune([drawn_scan()], "Organ", tiny_backbone(), options)
    real, sizes = tuning.Tuner._class_logits, list[int]()

    def class_logits(self: tuning.Tuner, features: Features, parameters: Mapping[str, Tensor]) -> Tensor:
        if torch.is_grad_enabled():
            sizes.append(len(features))
            if len(features) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, features, parameters)

    monkeypatch.setattr(tuning.Tuner, "_class_logits", class_logits)
    found = tune([drawn_scan()], "Organ", tiny_backbone(), options)
    assert sizes == [4, 2, 2]
    for name, numbers in expected.numbers.items():
        assert np.allclose(found.numbers[name], numbers, atol=1e-4), name


def corrected(token: ClassToken, options: TuningOptions = SHORT) -> ClassToken:
    """What tuning makes of a token after one more slice was drawn."""
    return tune([drawn_scan((3, 5, 6, 9))], "Organ", tiny_backbone(), options, before=token)


def test_a_correction_goes_on_from_the_token() -> None:
    token = tuned_token()
    watched: list[ClassToken] = []
    image = drawn_scan((3, 5, 6, 9))
    again = tune([image], "Organ", tiny_backbone(), SHORT, before=token, watch=watched.append)
    assert same_numbers(watched[0], token), "what there was is shown at once"
    assert not same_numbers(again, token) and undrawn_dsc(again, (3, 5, 6, 9)) > 0.8
    assert again.training.steps >= token.training.steps and again.training.seconds >= token.training.seconds
    assert again.training.slices == 4
    close = [np.abs(again.numbers[n] - token.numbers[n]).mean() for n in token.numbers if "tokens" in n]
    anew = tune([image], "Organ", tiny_backbone(), SHORT)
    far = [np.abs(anew.numbers[n] - token.numbers[n]).mean() for n in token.numbers if "tokens" in n]
    assert max(close) < min(far)


def test_a_correction_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correcting, "STEPS", 3)
    progress: list[TuningProgress] = []
    options = replace(FAST, steps=None, prompting="decoder")
    tune([drawn_scan((3, 5, 6, 9))], "Organ", tiny_backbone(), options, before=tuned_token(), report=progress.append)
    assert [p.step for p in progress] == [1, 2, 3]


def test_a_correction_stays_at_the_tokens_spacing_while_it_suits() -> None:
    token = tuned_token()
    near, far = (replace(token, spacing_mm=token.spacing_mm * factor) for factor in (1.25, 1.75))
    assert corrected(near).spacing_mm == near.spacing_mm
    assert corrected(far).spacing_mm == token.spacing_mm


def test_what_does_not_fit_is_learned_anew() -> None:
    anew = tune([drawn_scan((3, 5, 6, 9))], "Organ", tiny_backbone(), SHORT)
    centers = replace(tuned_token(), centers=(Center("B", {}, tuned_token().training, None),))
    of_another = replace(tuned_token(), backbone=replace(tuned_token().backbone, fingerprint="0" * 64))
    head_alone = tuned_token(prompting="end")
    for token in (centers, of_another, head_alone, replace(tuned_token(), plane="coronal")):
        assert same_numbers(corrected(token), anew)


def test_a_token_that_finds_nothing_of_the_drawing_is_no_start() -> None:
    token = tuned_token()
    blind = replace(token, numbers=token.numbers | {"head.offset": np.full_like(token.numbers["head.offset"], -50)})
    assert undrawn_dsc(corrected(blind, FAST), (3, 5, 6, 9)) > 0.8
    assert corrected(blind).training.steps <= SHORT.steps, "no earlier steps are counted"


def test_tiles_that_were_held_out_stay_held_out() -> None:
    few, more = (prepare_drawing([drawn_scan(slices)]).slices for slices in ((3, 6, 9), (3, 5, 6, 9)))
    before, after = (holding_out.split(slices, torch.Generator().manual_seed(0))[1] for slices in (few, more))
    assert any(known.any() for known in before)
    for old, new in zip(before, (after[0], after[2], after[3]), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("is_bow", [True, False])
def test_a_few_slices_in_pieces_do_not_divide_a_bow(is_bow: bool) -> None:
    """A token of other scans goes on to learn from one slice that shows two pieces."""
    distances = np.full((7, 7, 9), -4, np.int8)
    distances[1:6, 2:5, 1:3] = distances[1:6, 2:5, 6:8] = 4
    if is_bow:
        distances[1, 2:5, 1:8] = 4
    else:
        distances[1:6, 2:5, 1:8] = 4
    shape = Shape(distances, 5.0)
    token = replace(tuned_token(), pieces="one", size=Size(20.0, 0.3), shapes=(shape,))
    image, truth = scan()
    labels = drawn_labels(truth, (6,))
    labels[6, 28:36, 10:18], image.array[6, 28:36, 10:18] = 1, 200
    drawn = DrawnScan(image, Annotation.from_label_map(image.with_array(labels), 1, axis=0))
    assert prepare_drawing([drawn]).pieces == "many"
    after = tune([drawn], "Organ", tiny_backbone(), SHORT, before=token)
    assert after.training.steps > token.training.steps, "it went on from the token"
    assert after.pieces == ("one" if is_bow else "many")
    assert after.size == token.size and after.shapes == token.shapes


def of_other_scans(token: ClassToken) -> ClassToken:
    """As a token that knows from other scans what the structure looks like."""
    shape, profile = Shape(np.ones((3, 3, 3), np.int8), 4.0), Profile(2, {"noise": 3.0}, {"noise": 0.1})
    return replace(token, size=Size(20.0, 0.3), shapes=(shape,), profile=profile)


def test_what_other_scans_taught_stays_where_a_correction_cannot_go_on_from_it() -> None:
    token = of_other_scans(tuned_token())
    assert token.profile is not None
    centers = replace(token, centers=(Center("B", {}, token.training, token.profile),))
    for before in (centers, replace(token, plane="coronal")):
        after = tune([drawn_scan((5,))], "Renamed", tiny_backbone(), SHORT, color=before.color, before=before)
        assert after.to_bytes() == replace(before, name="Renamed").to_bytes()


def test_two_slices_or_three_corrections_outweigh_a_token_of_other_scans_without_a_shape() -> None:
    before = replace(of_other_scans(tuned_token()), shapes=(), calibration=Calibration(0.5, -1.0))
    image, truth = scan()
    labels = np.full(truth.shape, UNKNOWN, np.uint8)
    labels[6], corrected = truth[6], []
    for empty in (0, 11):
        labels[empty] = 0
        known = Annotation.from_label_map(image.with_array(labels.copy()), 1, complete=True, axis=0)
        corrected.append(DrawnScan(image, known))
    drawings = ((drawn_scan((6,)), True), (drawn_scan((6, 9)), False), (corrected[0], True), (corrected[1], False))
    for drawn, stays in drawings:
        after = tune([drawn], "Organ", tiny_backbone(), SHORT, before=before)
        assert ((after.calibration, after.profile) == (before.calibration, before.profile)) is stays
        assert after.training.steps > before.training.steps, "it went on from the token"


def test_a_correction_of_what_other_scans_taught_keeps_its_prompting() -> None:
    before = of_other_scans(tuned_token(prompting="end"))
    assert SHORT.prompting != "end"
    after = corrected(before)
    assert after.prompting == "end" and after.shapes == before.shapes and not same_numbers(after, before)


def test_a_few_slices_change_what_other_scans_taught_by_half() -> None:
    shape, drawn = Shape(np.ones((3, 3, 3), np.int8), 4.0), drawn_scan((3, 5, 6, 9))
    here = replace(tuned_token(), size=Size(20.0, 0.3), shapes=(shape,), calibration=Calibration())
    elsewhere = replace(here, profile=Profile(2, {"noise": 3.0}, {"noise": 0.1}))
    own, after = (tune([drawn], "Organ", tiny_backbone(), SHORT, before=token) for token in (here, elsewhere))
    assert not same_numbers(own, here)
    for name, numbers in after.numbers.items():
        assert np.allclose(numbers, (here.numbers[name] + own.numbers[name]) / 2, atol=1e-6), name
    calibrated = replace(elsewhere, calibration=Calibration(0.5, -1.0))
    watched: list[ClassToken] = []
    after = tune([drawn], "Organ", tiny_backbone(), SHORT, before=calibrated, watch=watched.append)
    assert {token.calibration for token in (*watched, after)} == {calibrated.calibration}


def test_what_is_known_from_other_scans_survives_many_corrected_slices() -> None:
    """Eight slices without a gap count as a whole structure where nothing else is known of it."""
    shape = Shape(np.ones((3, 3, 3), np.int8), 4.0)
    image, truth = scan((40, 64, 64), (1.5, 3.0, 3.0))
    drawn = DrawnScan(image, drawing(image, truth, range(16, 25)))
    assert prepare_drawing([drawn]).size is not None
    profile = Profile(2, {"noise": 3.0}, {"noise": 0.1})
    token = replace(tuned_token(), size=Size(50.0, 0.3), shapes=(shape,), profile=profile)
    after = tune([drawn], "Organ", tiny_backbone(), SHORT, before=token)
    assert (after.size, after.shapes, after.profile) == (token.size, token.shapes, profile)


@pytest.mark.parametrize("has_shape", [True, False])
def test_what_is_known_from_other_scans_survives_a_slice_on_which_nothing_was_found(has_shape: bool) -> None:
    shape = Shape(np.ones((3, 3, 3), np.int8), 4.0)
    place = Place((5.0, 3.0), (50.0, 4.0))
    token = replace(tuned_token(), place=place, size=Size(20.0, 0.3), shapes=(shape,) if has_shape else ())
    image, truth = scan()
    labels = drawn_labels(np.roll(truth, -20, axis=2), (6,))
    drawn = DrawnScan(image, Annotation.from_label_map(image.with_array(labels), 1, axis=0))
    here = replace(token, profile=Profile.of([scan_statistics(image)]))
    anew = tune([drawn], "Organ", tiny_backbone(), SHORT, before=here)
    assert anew.shapes == () and anew.size is None and anew.training.steps <= 2
    elsewhere = replace(token, profile=Profile(2, {"noise": 3.0}, {"noise": 0.1}))
    after = tune([drawn], "Organ", tiny_backbone(), SHORT, before=elsewhere)
    assert (after.shapes, after.size, after.place) == (token.shapes, token.size, place)
    assert after.profile == elsewhere.profile and anew.place not in (None, place)
    assert after.training.steps > anew.training.steps


HEAD_ALONE = TuningOptions(prompting="end", probe_steps=30)


def test_the_default_is_a_head_alone() -> None:
    token = tune([drawn_scan()], "Organ", tiny_backbone(), TuningOptions(probe_steps=100))
    assert token.prompting == "end" and token.has_directions
    assert undrawn_dsc(token) > 0.8


@pytest.mark.parametrize("is_whole", [True, False])
def test_of_what_is_learned_for_other_scans_directions_alone_tell(is_whole: bool) -> None:
    """One scan in which all is drawn, or several; what its pixels look like beyond that is their own."""
    drawn = [wholly_drawn(*scan())] if is_whole else [drawn_scan(), drawn_scan(seed=1)]
    own, others = (tune(each, "Organ", tiny_backbone(), HEAD_ALONE) for each in ([drawn_scan()], drawn))
    assert np.exp(others.numbers["head.log_scale"]) < 0.01 < 1 < np.exp(own.numbers["head.log_scale"])
    assert undrawn_dsc(others) > 0.8


def test_a_head_is_learned_anew_from_every_state_of_a_drawing() -> None:
    before = tune([drawn_scan()], "Organ", tiny_backbone(), HEAD_ALONE)
    image = drawn_scan((3, 5, 6, 9))
    after = tune([image], "Organ", tiny_backbone(), HEAD_ALONE, before=before)
    assert same_numbers(after, tune([image], "Organ", tiny_backbone(), HEAD_ALONE))


def test_a_correction_of_what_other_scans_taught_changes_directions_alone() -> None:
    before = of_other_scans(tune([drawn_scan()], "Organ", tiny_backbone(), HEAD_ALONE))
    watched: list[ClassToken] = []
    image, truth = scan(seed=3)
    drawn = DrawnScan(image, drawing(image, np.roll(truth, 6, axis=1), (4, 6)))
    after = tune([drawn], "Organ", tiny_backbone(), HEAD_ALONE, before=before, watch=watched.append)
    changed = {name for name in before.numbers if not np.array_equal(before.numbers[name], after.numbers[name])}
    assert changed == {name for name in before.numbers if "direction" in name} | {"head.offset"}
    assert len(watched) == 1 and same_numbers(watched[0], after)
    assert (after.calibration, after.shapes, after.profile) == (before.calibration, before.shapes, before.profile)


def test_what_a_result_told_of_the_structure_stays_when_a_head_is_learned_anew() -> None:
    """A bow, of which a corrected slice shows two pieces."""
    distances = np.full((7, 7, 9), -4, np.int8)
    distances[1:6, 2:5, 1:3] = distances[1:6, 2:5, 6:8] = distances[1, 2:5, 1:8] = 4
    before = tune([drawn_scan()], "Organ", tiny_backbone(), HEAD_ALONE)
    before = replace(before, pieces="one", size=Size(20.0, 0.3), shapes=(Shape(distances, 5.0),))
    image, truth = scan()
    labels = drawn_labels(truth, (3, 6))
    labels[6, 28:36, 10:18], image.array[6, 28:36, 10:18] = 1, 200
    drawn = DrawnScan(image, Annotation.from_label_map(image.with_array(labels), 1, axis=0))
    here = replace(before, profile=Profile.of([scan_statistics(image)]))
    after = tune([drawn], "Organ", tiny_backbone(), HEAD_ALONE, before=here)
    assert (after.pieces, after.size, after.shapes) == ("one", here.size, here.shapes)
    assert after.training.seconds > here.training.seconds
    blind = replace(here, numbers=here.numbers | {"head.offset": np.full(1, -90, np.float32)})
    assert tune([drawn], "Organ", tiny_backbone(), HEAD_ALONE, before=blind).shapes == ()


@pytest.mark.parametrize("of_others", [True, False])
def test_a_head_of_earlier_promptsegs_goes_on(of_others: bool) -> None:
    """Without directions: gradients change its tokens where it is of other scans; here, a new head takes its place."""
    token = tune([drawn_scan()], "Organ", tiny_backbone(), HEAD_ALONE)
    numbers = {name: number for name, number in tuned_token().numbers.items() if name.startswith("head")}
    token = replace(token, numbers=numbers, calibration=Calibration())
    assert not token.has_directions
    after = corrected(of_other_scans(token) if of_others else token, replace(HEAD_ALONE, steps=2))
    assert after.prompting == "end" and after.has_directions is not of_others
    assert not np.array_equal(after.numbers["head.foreground"], token.numbers["head.foreground"])


def test_cancelled_between_directions_and_tokens_the_directions_are_kept() -> None:
    watched: list[ClassToken] = []
    token = tune(
        [drawn_scan()], "Organ", tiny_backbone(), HEAD_ALONE, watch=watched.append, cancelled=lambda: bool(watched)
    )
    assert len(watched) == 1 and same_numbers(token, watched[0])
    assert undrawn_dsc(token) > 0.7


def test_only_a_scan_of_which_all_is_known_is_for_others() -> None:
    image, truth = scan((40, 64, 64), (1.5, 3.0, 3.0))
    many = DrawnScan(image, drawing(image, truth, range(16, 25)))
    complete = wholly_drawn(image, truth)
    assert [prepare_drawing(each).is_for_others for each in ([many], [complete], [many, many])] == [False, True, True]
    prompted = {
        name: tune([drawn], "Organ", tiny_backbone(), FAST).prompting
        for name, drawn in (("many", many), ("two", drawn_scan((5, 6))), ("one", drawn_scan((6,))))
    }
    assert prompted == {"many": "end", "two": "end", "one": "decoder"}
    assert tune([complete], "Organ", tiny_backbone(), replace(FAST, prompting=None)).prompting == "decoder"
