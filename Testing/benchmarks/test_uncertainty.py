"""Brier score and calibration error on numbers done by hand, and the question asked on a tiny network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import special

from Testing.benchmarks import __main__ as benchmarks
from Testing.benchmarks.calibration import BINS, bins_of, brier, calibration_error, near, pooled
from Testing.benchmarks.ensemble import EncodedScan
from Testing.benchmarks.uncertainty import NAMES, Qualities, report

PROBABILITY = np.array([0.02, 0.04, 0.5, 0.52, 0.98, 1.0])
TRUTH = np.array([False, True, False, True, True, True])


def test_brier_is_the_mean_square() -> None:
    assert brier(PROBABILITY, TRUTH) == pytest.approx((0.02**2 + 0.96**2 + 0.5**2 + 0.48**2 + 0.02**2) / 6)
    assert brier(TRUTH.astype(float), TRUTH) == 0


def test_calibration_error_is_the_mean_distance_of_bins_from_the_diagonal() -> None:
    bins = bins_of(PROBABILITY, TRUTH)
    assert bins.shape == (BINS, 3)
    np.testing.assert_allclose(bins[[0, 7, 14]], [[2, 0.03, 0.5], [2, 0.51, 0.5], [2, 0.99, 1]])
    assert not np.delete(bins, [0, 7, 14], axis=0).any()
    assert calibration_error(bins) == pytest.approx((0.47 + 0.01 + 0.01) / 3)
    assert calibration_error(np.zeros((BINS, 3))) == 0


def test_probabilities_that_come_true_as_often_as_they_say_have_no_error() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(200_000)
    truth = rng.random(200_000) < probability
    assert calibration_error(bins_of(probability, truth)) < 0.01
    sharpened = special.expit(3 * special.logit(probability))
    assert calibration_error(bins_of(sharpened, truth)) > 0.1


def test_pooled_bins_are_those_of_all_pixels() -> None:
    parts = [bins_of(PROBABILITY[part], TRUTH[part]) for part in (slice(0, 1), slice(1, 4), slice(4, 6))]
    np.testing.assert_allclose(pooled(parts), bins_of(PROBABILITY, TRUTH))


def test_near_is_measured_in_mm() -> None:
    mask = np.zeros((5, 9, 9), dtype=bool)
    mask[2, 4, 4] = True
    close = near([mask, np.zeros_like(mask)], (6.0, 3.0, 5.0))
    assert close[1, 4, 4] and not close[0, 4, 4]
    assert close[2, 1, 4] and not close[2, 0, 4]
    assert close[2, 4, 2] and not close[2, 4, 1]
    assert not near([np.zeros_like(mask)], (6.0, 3.0, 5.0)).any()


@pytest.mark.usefixtures("small_benchmarks")
def test_a_run_judges_all_three_and_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(plots: Path | None = None) -> list[tuple[object, ...]]:
        benchmarks.main(
            only="uncertainty",
            backbone="a",
            organs="spleen",
            patients=1,
            seeds=1,
            out=tmp_path,
            plot_folder=plots,
        )
        rows = Qualities(tmp_path).rows
        assert [row.key for row in rows] == [("validation 0", "spleen", 3, method, 0) for method in NAMES]
        return [(row.method, row.dsc, row.brier, row.calibration_error, row.seconds) for row in rows]

    rows = run(tmp_path)
    found = {method: numbers for method, *numbers in rows}
    assert all(dsc > 0.5 and 0 < brier < 0.25 and 0 < error < 0.5 for dsc, brier, error, _ in found.values())
    assert found["token"] != found["ensemble"] and found["token"][2] != found["uncalibrated"][2]
    assert found["ensemble"][3] > found["token"][3] == found["uncalibrated"][3]
    qualities = Qualities(tmp_path)
    for method in NAMES:
        assert calibration_error(qualities.pooled_bins(3, method)) == pytest.approx(found[method][2], abs=2e-4)
    assert (tmp_path / "uncertainty.png").stat().st_size > 10_000

    def fail(*arguments: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr(EncodedScan, "tune", fail)
    assert run() == rows
    text = (tmp_path / "uncertainty.csv").read_text()
    (tmp_path / "uncertainty.csv").write_text(text[: text.index("uncalibrated")])
    with pytest.raises(AssertionError, match="learned again"):
        run()


def test_without_results_there_is_no_table(tmp_path: Path) -> None:
    console = Console(width=120, record=True, quiet=False)
    report(Qualities(), console, tmp_path)
    assert "nothing to compare" in console.export_text()
    assert not list(tmp_path.iterdir())
