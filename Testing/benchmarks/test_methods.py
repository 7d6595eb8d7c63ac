"""Every method on a scan of a few thousand voxels, and what surrounds the methods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference import random_walk
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.evaluation import evaluate
from PromptSegLib.inference.segmenter import Segmentation, Segmenter
from PromptSegLib.inference.surrounding_logits import SurroundingLogits
from PromptSegLib.tokens.class_token import ClassToken
from Testing.benchmarks import across, corrections, profiling, token_corrections
from Testing.benchmarks.comparing import Comparison, Lesson
from Testing.benchmarks.data import Case
from Testing.benchmarks.measuring import Cost, measured
from Testing.benchmarks.methods import promptseg, token_fine_tuning
from Testing.benchmarks.methods.method import Method, Setup, as_drawn, told_ends
from Testing.benchmarks.methods.promptseg import NETWORK_ALONE, PROMPTSEG, tune_token
from Testing.benchmarks.methods.registry import ABLATIONS, CORRECTING_TOKENS, METHODS, NAMES, choose
from Testing.benchmarks.methods.token_fine_tuning import FULL_TOKEN
from Testing.benchmarks.plots import plot_results
from Testing.benchmarks.results import Result, Results, require_same_settings
from Testing.benchmarks.scoring import Score, score
from Testing.support import FAST, drawn_scan, dsc, scan, tiny_backbone

MODULES = {"itk-morphologicalcontourinterpolation": "itk", "slicer-core": "slicer", "scikit-learn": "sklearn"}

LEAST_DSC = {"unet": 0.0}
"""A UNet that starts from nothing finds nothing in the time that a test has."""

RESULT = Result("scan", "organ", 3, "promptseg", 0, 0, 0.75, 0.5, 12.0, 10.0, 100.0)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_finds_the_organ(method: Method) -> None:
    for package in method.packages:
        pytest.importorskip(MODULES[package])
    drawn, (image, truth) = drawn_scan(), scan()
    fingerprint = tiny_backbone().fingerprint()
    setup = Setup(tiny_backbone(), replace(FAST, steps=1, probe_steps=60), seconds=0.2)
    learned = method.learn([drawn], setup)
    found = method.find(learned, image, drawn.annotation)
    assert found.shape == truth.shape and found.dtype == bool
    assert dsc(found, truth) > LEAST_DSC.get(method.key, 0.7)
    for index in drawn.annotation.drawn:
        np.testing.assert_array_equal(found[index], truth[index])
    if method.across:
        assert method.find(learned, image, None).shape == truth.shape
    assert tiny_backbone().fingerprint() == fingerprint, "a method that trains weights must work on a copy"


@pytest.mark.parametrize("method", ABLATIONS.values(), ids=ABLATIONS)
def test_what_was_switched_off_is_on_again_afterwards(method: Method) -> None:
    drawn, (image, truth) = drawn_scan(), scan()
    setup = Setup(tiny_backbone(), replace(FAST, steps=1, probe_steps=10))
    product = tune_token([drawn], setup)
    before = PROMPTSEG.find(product, image, drawn.annotation)
    without = method.find(method.learn([drawn], setup), image, drawn.annotation)
    assert without.shape == truth.shape and without.dtype == bool
    for index in drawn.annotation.drawn:
        np.testing.assert_array_equal(without[index], truth[index])
    assert np.array_equal(PROMPTSEG.find(product, image, drawn.annotation), before)


def test_without_walk_shape_brightness_and_surroundings_it_is_the_network_alone() -> None:
    drawn, (image, _) = drawn_scan(), scan()
    tuned = tune_token([drawn], Setup(tiny_backbone(), replace(FAST, steps=1, probe_steps=10)))
    with (
        patch.object(Drawn, "shape", lambda drawn, label, stack: None),
        patch.object(SurroundingLogits, "of", lambda *_: None),
    ):
        bare = ABLATIONS["without-walk"].find(tuned, image, drawn.annotation)
    np.testing.assert_array_equal(bare, NETWORK_ALONE.find(tuned, image, drawn.annotation))
    assert not np.array_equal(bare, PROMPTSEG.find(tuned, image, drawn.annotation))


def test_all_weights_are_trained_on_from_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as many times as long as the token took; the backbone of all others stays as it is."""
    given: list[float] = []
    set_free = token_fine_tuning.set_free

    def noted(scans: Any, token: ClassToken, setup: Setup, *rest: Any, **options: Any) -> Any:
        given.append(setup.options.seconds)
        return set_free(scans, token, replace(setup, options=replace(setup.options, seconds=0.5)), *rest, **options)

    monkeypatch.setattr(token_fine_tuning, "set_free", noted)
    setup = Setup(tiny_backbone(), replace(FAST, steps=1, probe_steps=10), times=8.0)
    lesson = Lesson([drawn_scan()], setup, across=True)
    before, (tuned, cost) = tiny_backbone().fingerprint(), lesson.learn(PROMPTSEG)
    trained, _ = lesson.learn(FULL_TOKEN)
    assert given == [pytest.approx(8 * cost.seconds)]
    assert trained.backbone.fingerprint() != before == tiny_backbone().fingerprint()
    assert (trained.token.size, trained.token.place) == (tuned.token.size, tuned.token.place)
    image, truth = scan()
    assert FULL_TOKEN.find(trained, image, None).shape == truth.shape


def test_time_is_told_apart_by_stages() -> None:
    image, _ = scan()
    spent = profiling.shares(lambda: NETWORK_ALONE.find(tune_token([drawn_scan()], _one_step()), image, None))
    assert set(spent) == {*profiling.STAGES, "everything else", "together"}
    assert sum(spent.values()) == pytest.approx(2 * spent["together"])
    assert all(spent[stage] > 0 for stage in ("encoder", "decoder, forward", "random walk", "pieces"))


def _one_step() -> Setup:
    return Setup(tiny_backbone(), replace(FAST, steps=1, probe_steps=10))


def test_what_two_methods_are_named_after() -> None:
    told = told_ends(drawn_scan().annotation)
    last = told.label_map.shape[0] - 1
    assert told.slices == (0, 3, 6, 9, last) and told.drawn == {*told.slices}
    assert told.known(last).all() and not told.foreground(last).any()
    image = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    with ABLATIONS["walk-in-plane"].find.keywords["without"]():  # type: ignore[attr-defined]
        across, rows, columns = random_walk._edge_weights(image, (2.0, 1.0, 1.0))
    assert not across.any() and rows.all() and columns.all()
    assert random_walk._edge_weights(image, (2.0, 1.0, 1.0))[0].all()


def test_corrections_go_on_from_the_round_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, truth = scan()
    monkeypatch.setattr(corrections, "cases", lambda *_: [Case("scan", "organ", image, truth)])
    starts: list[ClassToken | None] = []
    real = promptseg.tune

    def noting(*arguments: Any, before: ClassToken | None, **options: Any) -> ClassToken:
        starts.append(before)
        return real(*arguments, before=before, **options)

    monkeypatch.setattr(promptseg, "tune", noting)
    setup = Setup(tiny_backbone(), replace(FAST, steps=1, probe_steps=10))
    path = tmp_path / "corrections.csv"
    for _ in range(2):
        corrections.compare(Comparison([PROMPTSEG], setup, [0]), Results(path), 1, 3, 2)
        assert [start is None for start in starts] == [True, False, False], "nothing is run again"
    assert [r.round for r in Results(path)] == [0, 1, 2]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    corrections.compare(Comparison([PROMPTSEG], setup, [0]), Results(path), 1, 3, 2)
    assert [start is None for start in starts] == 2 * [True, False, False], "a chain is run anew as a whole"


def test_a_token_of_other_scans_learns_from_its_corrections_or_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def some(part: str, count: int, skip: int = 0) -> list[tuple[str, Volume, Volume]]:
        found = []
        for number, (image, truth) in enumerate(scan(seed=seed) for seed in range(count)):
            # Of other patients, not all that looks alike is the organ: so there is something to correct.
            truth[:, :30] &= part == "train"
            found.append((f"{part} {number}", image, image.with_array(truth.astype(np.uint8))))
        return found

    monkeypatch.setattr(token_corrections, "scans", some)
    monkeypatch.setattr(token_corrections, "classes", lambda: {"organ": 1})
    starts: list[ClassToken | None] = []
    guides: list[frozenset[int] | None] = []
    tune, segment = promptseg.tune, Segmenter.segment

    def noting(*arguments: Any, before: ClassToken | None, **options: Any) -> ClassToken:
        starts.append(before)
        return tune(*arguments, before=before, **options)

    def looking(segmenter: Segmenter, image: Volume, drawn: Drawn | None = None, **options: Any) -> Segmentation:
        guides.append(None if drawn is None else drawn.corrects)
        return segment(segmenter, image, drawn, **options)

    monkeypatch.setattr(promptseg, "tune", noting)
    monkeypatch.setattr(Segmenter, "segment", looking)
    comparison = Comparison(list(CORRECTING_TOKENS.values()), _one_step(), [0])
    results = Results(tmp_path / "token-corrections.csv")
    for _ in range(2):
        token_corrections.compare(comparison, results, 1, [2], 2)
        assert [start is None for start in starts] == [True, False, False], "nothing is run again"
    assert guides == 2 * [None, {1}, {1}], "of each method"
    assert [(r.method, r.round) for r in results] == [(key, n) for key in CORRECTING_TOKENS for n in range(3)]
    first = [r for r in results if r.round == 0]
    assert first[0].dsc == first[1].dsc and first[0].worst == first[1].worst >= 0


def test_across_scans_a_token_of_a_few_slices_knows_its_size_as_from_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[ClassToken] = []
    real = across.find

    def noting(method: Method, learned: Any, image: Volume, annotation: Annotation | None) -> tuple[np.ndarray, Cost]:
        used.append(learned.token)
        return real(method, learned, image, annotation)

    monkeypatch.setattr(across, "find", noting)
    setup, (image, truth) = Setup(tiny_backbone(), FAST), scan()
    other = ("other", image, image.with_array(truth.astype(np.uint8)))
    comparison, results = Comparison([PROMPTSEG], setup, [0]), Results(tmp_path / "across.csv")
    across.learn_and_find([drawn_scan()], [other], "organ", 1, 0, comparison, results)
    assert [token.size is None for token in used] == [False]
    learned, _ = Lesson([drawn_scan()], setup).learn(PROMPTSEG)
    assert learned.token.size is None, "in the drawn scan it is not needed"


def test_methods_are_chosen_by_name() -> None:
    everything = list(METHODS.values())
    assert choose("", everything[:2], everything) == everything[:2]
    assert [m.key for m in choose("unet, itk", everything, everything)] == ["itk", "unet"]
    with pytest.raises(InputError, match="there is no method 'nnunet'"):
        choose("nnunet", everything, everything)


def test_pieces_that_touch_no_drawing_are_dropped_and_drawn_slices_stay() -> None:
    _, truth = scan()
    mask = truth.copy()
    mask[:, :8, :8] = True
    annotation = drawn_scan().annotation
    np.testing.assert_array_equal(as_drawn(mask, annotation), truth)
    assert as_drawn(mask, None)[:, :8, :8].any() != as_drawn(mask, None)[:, 20:, 20:].any()


def test_scores_leave_drawn_slices_out() -> None:
    image, truth = scan()
    spacing = image.geometry.spacing
    found = np.roll(truth, 3, axis=1)
    drawn = [3, 6, 9]
    whole = score(found, truth, spacing)
    (reference,) = evaluate(image.with_array(found.astype(np.uint8)), image.with_array(truth.astype(np.uint8)))
    assert whole.dsc == pytest.approx(reference.dsc)
    assert whole.surface_dsc == pytest.approx(reference.surface_dsc)
    corrected = found.copy()
    corrected[drawn] = truth[drawn]
    assert score(corrected, truth, spacing, drawn) == score(found, truth, spacing, drawn)
    assert score(truth, truth, spacing, drawn).surface_dsc == 1
    nothing = np.zeros_like(truth)
    assert score(nothing, truth, spacing, drawn) == score(nothing, truth, spacing) == Score(0, 0)


def test_results_survive_a_run_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "in-scan.csv"
    results = Results(path)
    results.add(RESULT)
    results.add(replace(RESULT, seed=1))
    text = path.read_text()
    path.write_text(text[: text.rindex("12.0")])
    again = Results(path)
    assert list(again) == [RESULT]
    again.add(replace(RESULT, dsc=0.8))
    assert [r.dsc for r in Results(path)] == [0.8]


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    require_same_settings(tmp_path, {"seconds": 90})
    require_same_settings(tmp_path, {"seconds": 90})
    with pytest.raises(InputError, match="another folder"):
        require_same_settings(tmp_path, {"seconds": 15})


def test_memory_that_was_freed_again_counts() -> None:
    _, cost = measured(lambda: np.ones(8_000_000).sum())
    assert 60 < cost.megabytes < 100


def test_results_are_drawn(tmp_path: Path) -> None:
    results = [replace(RESULT, drawn=n, method=key) for n in (1, 3) for key in NAMES]
    plot_results(tmp_path / "plot.png", "Title", "drawn slices", results, lambda r: r.drawn, NAMES)
    assert (tmp_path / "plot.png").stat().st_size > 10_000
