"""Statistics of scans: each tells what it is called after, and none depends on where the body lies."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from PromptSegLib.imaging.phantom import make_phantom
from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.tokens.recognition import GEOMETRY, USUAL_SPREAD


@lru_cache
def phantom() -> Volume:
    return make_phantom(0, shape=(20, 96, 96), spacing=(6.0, 3.5, 3.5)).image


@lru_cache
def statistics() -> dict[str, float]:
    return scan_statistics(phantom())


def moved(change: np.ndarray) -> dict[str, float]:
    """By how much the statistics of a changed phantom differ."""
    return {k: v - statistics()[k] for k, v in scan_statistics(phantom().with_array(change)).items()}


def test_each_is_of_use_to_tell_centers_apart() -> None:
    assert set(statistics()) <= {*GEOMETRY, *USUAL_SPREAD}
    assert all(isinstance(value, float) for value in statistics().values())


def test_geometry() -> None:
    found = statistics()
    assert (found["row_spacing"], found["slice_spacing"]) == (pytest.approx(np.log(3.5)), pytest.approx(np.log(6)))
    assert found["matrix"] == pytest.approx(np.log(96))


def test_calibration() -> None:
    found = moved(phantom().array + 40)
    assert found["soft"] == pytest.approx(40, abs=4) and found["outside"] == pytest.approx(40, abs=2)
    assert abs(found["noise"]) < 0.05 and abs(found["grain"]) < 0.05


def test_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 60, phantom().array.shape)
    found = moved(phantom().array + noise)
    assert found["noise"] > 0.5 and found["slice_grain"] > -0.2
    assert np.exp(scan_statistics(phantom().with_array(phantom().array + noise))["noise"]) == pytest.approx(
        60, rel=0.25
    )


def test_sharpness() -> None:
    values = phantom().array.astype(np.float32)
    blurred = gaussian_filter(values, (0, 1, 1))
    soft, sharp = moved(blurred), moved(values + 0.8 * (values - blurred))
    assert soft["noise"] < -0.5 and soft["edge"] > 0.1 and soft["halo"] < sharp["halo"]
    assert sharp["noise"] > 0.2 and sharp["edge"] < soft["edge"]


def test_metal() -> None:
    values = phantom().array.copy()
    values[8:12, 45:50, 45:50] = 3000
    assert moved(values)["metal"] > 1


def test_where_the_body_lies_does_not_count() -> None:
    array = np.pad(phantom().array, ((0, 0), (0, 0), (0, 7)), constant_values=-1000)[:, :, 7:]
    found = scan_statistics(phantom().with_array(array))
    assert found["noise"] == pytest.approx(statistics()["noise"], abs=0.1)
    assert found["soft"] == pytest.approx(statistics()["soft"], abs=3)


def test_other_scans_than_ct() -> None:
    values = np.clip(phantom().array + 1000.0, 0, None) / 4
    found = scan_statistics(phantom().with_array(values))
    brighter = scan_statistics(phantom().with_array(2 * values))
    assert set(found) <= {*GEOMETRY, *USUAL_SPREAD} and "soft" not in found
    assert brighter["level"] - found["level"] == pytest.approx(np.log(2), abs=0.01)
    assert brighter["high"] == pytest.approx(found["high"], abs=0.01)


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 5, 5), (1, 1, 1), (30, 4, 3), (3, 700, 20)])
@pytest.mark.parametrize("values", ["air", "noise", "body"])
def test_any_scan_has_statistics(shape: tuple[int, int, int], values: str) -> None:
    array = {
        "air": np.full(shape, -1000, np.int16),
        "noise": np.random.default_rng(0).normal(-400, 500, shape).astype(np.float32),
        "body": np.where(np.arange(shape[2]) > shape[2] // 3, 40, -1000) * np.ones(shape, np.int16),
    }[values]
    found = scan_statistics(Volume(array, replace(Geometry(shape, (1.0, 1.0, 1.0)))))
    assert all(np.isfinite(value) for value in found.values())
