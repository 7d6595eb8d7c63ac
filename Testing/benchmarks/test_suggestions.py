"""What each strategy names, and the question of suggestions asked on a network that costs milliseconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from PromptSegLib.errors import InputError
from Testing.benchmarks import __main__ as benchmarks
from Testing.benchmarks.ensemble import EncodedScan
from Testing.benchmarks.methods.method import Setup
from Testing.benchmarks.methods.promptseg import as_guide
from Testing.benchmarks.results import Result, Results
from Testing.benchmarks.suggestions import NAMES, STRATEGIES, Look, undecided
from Testing.support import FAST, drawn_scan, tiny_backbone

SLICES = 14


def _on(slices: dict[int, int]) -> np.ndarray:
    pixels = np.zeros(SLICES)
    pixels[list(slices)] = list(slices.values())
    return pixels


LOOK = Look(
    drawn={3, 7},
    spacing_mm=3.0,
    doubt=_on({2: 50, 5: 30, 7: 900}),
    wrong=_on({4: 80, 12: 20, 3: 700}),
    ensemble_doubt=lambda: _on({8: 10, 9: 9}),
)


@pytest.mark.parametrize(
    ("key", "index"),
    [
        ("suggested", 5),  # 30 pixels at 6 mm from what is drawn are worth more than 50 at 3 mm
        ("ensemble", 9),
        ("widest-gap", 10),  # halfway from 7 to the end
        ("worst", 4),
    ],
)
def test_a_strategy_names_the_slice_that_it_must(key: str, index: int) -> None:
    assert _name(key, LOOK) == index


def test_chance_names_every_undrawn_slice_and_the_same_ones_again() -> None:
    named = [_name("random", LOOK, seed) for seed in range(200)]
    assert set(named) == set(range(SLICES)) - {3, 7}
    assert named[:20] == [_name("random", LOOK, seed) for seed in range(20)]


@pytest.mark.parametrize("key", NAMES)
def test_nothing_is_named_where_everything_is_drawn(key: str) -> None:
    assert _name(key, replace(LOOK, drawn=set(range(SLICES)))) == -1


def test_the_widest_gap_may_lie_before_the_first_slice_or_between_two() -> None:
    assert _name("widest-gap", replace(LOOK, drawn={9, 12})) == 4
    assert _name("widest-gap", replace(LOOK, drawn={2, 10})) == 6


def test_an_ensemble_is_the_mean_of_its_members_and_its_doubt_is_counted_as_the_segmentation_counts() -> None:
    drawn = drawn_scan()
    encoded = EncodedScan(drawn.image, Setup(tiny_backbone(), replace(FAST, steps=1, probe_steps=10)))
    token = encoded.tune(drawn.annotation)
    segmentation = encoded.segment(token, as_guide(drawn.annotation))
    (probability,), (doubt,) = segmentation.probabilities, segmentation.doubts
    assert doubt.any()
    # Probabilities are of single precision: a pixel on the very limit may fall to the other side.
    np.testing.assert_allclose(undecided(probability.array, drawn.image, as_guide(drawn.annotation), 0), doubt, atol=2)
    assert undecided(probability.array, drawn.image, None, 0).sum() != doubt.sum()

    tokens = [token, *(encoded.tune(drawn.annotation, member) for member in (1, 2))]
    assert [t.training.seed for t in tokens] == [0, 100, 200]
    members = [encoded.segment(t).probabilities[0].array for t in tokens]
    assert abs(members[0] - members[1]).max() > 1e-3
    mean = encoded.mean_probability(drawn.annotation, probability.array)
    np.testing.assert_allclose(mean, np.mean(members, axis=0), atol=1e-6)


@pytest.mark.usefixtures("small_benchmarks")
def test_strategies_start_from_one_look_and_a_run_that_is_resumed_looks_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = []
    tune = EncodedScan.tune

    def counted(*arguments: object) -> object:
        learned.append(arguments)
        return tune(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(EncodedScan, "tune", counted)

    def run(methods: str, rounds: int = 1, plots: Path | None = None) -> dict[tuple[str, int], Result]:
        learned.clear()
        benchmarks.main(
            only="suggestions",
            methods=methods,
            backbone="a",
            organs="spleen",
            patients=1,
            seeds=1,
            rounds=rounds,
            out=tmp_path,
            plot_folder=plots,
        )
        return {(r.method, r.round): r for r in Results(tmp_path / "suggestions.csv")}

    found = run("suggested, widest-gap, worst", plots=tmp_path)
    assert list(found) == [(key, n) for key in ("suggested", "widest-gap", "worst") for n in (0, 1)]
    named = {found[key, 0].worst for key, n in found if n == 0}
    assert len(learned) == len(named | {-1}), "a drawing that two strategies share is learned once"
    assert len({found[key, 0].dsc for key in ("suggested", "widest-gap", "worst")}) == 1
    assert found["suggested", 0].dsc > 0.7
    assert (tmp_path / "suggestions.png").stat().st_size > 10_000

    assert run("suggested, widest-gap, worst") == found and not learned
    with_ensemble = run("suggested, ensemble", rounds=0)
    assert {key: with_ensemble[key] for key in found} == found
    assert len(learned) == 3, "the token, and two more for its doubt"
    with pytest.raises(InputError, match="there is no method 'itk'"):
        run("itk")


def _name(key: str, look: Look, seed: int = 0) -> int:
    (strategy,) = (strategy for strategy in STRATEGIES if strategy.key == key)
    return strategy.suggest(look, np.random.default_rng(seed))
