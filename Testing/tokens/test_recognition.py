"""Profiles of centers, and what a scan's statistics say of where it is from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from PromptSegLib.tokens.recognition import USUAL_SPREAD, Profile, recognize

CT = {"row_spacing": 0.0, "slice_spacing": 1.0, "matrix": 6.2, "outside": -1000.0, "outside_noise": 0.0}
TEXTURE = {"noise": 3.0, "roughness": 1.6, "halo": 0.3, "grain": 0.4, "slice_grain": -0.3, "edge": 0.15}
TISSUE = {"air": -970.0, "soft": 40.0, "bright": 20.0, "bone": 1100.0, "metal": -9.0}


def scan(seed: int, **changes: float) -> dict[str, float]:
    """Statistics of a patient: half of the usual spread around those above, moved by the changes."""
    rng = np.random.default_rng(seed)
    found = CT | {k: v + 0.5 * USUAL_SPREAD[k] * rng.normal() for k, v in (TEXTURE | TISSUE).items()}
    return {k: v + changes.get(k, 0.0) for k, v in found.items()}


def profile(*seeds: int, **changes: float) -> Profile:
    return Profile.of([scan(seed, **changes) for seed in seeds])


def test_profile() -> None:
    found = Profile.of([{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 2.0}])
    assert found == Profile(2, {"a": 2.0, "b": 2.0}, {"a": 1.0, "b": 0.0})
    assert Profile.parse(found.describe()) == found
    with pytest.raises(ValueError, match="needs a scan"):
        Profile.of([])


def test_merged_profiles_are_the_profile_of_all_scans() -> None:
    scans = [{"a": float(v)} for v in (1, 2, 4, 8, 16)]
    whole, parts = Profile.of(scans), Profile.of(scans[:2]).merged(Profile.of(scans[2:]))
    assert parts.scans == 5
    assert parts.mean["a"] == pytest.approx(whole.mean["a"], abs=1e-3)
    assert parts.spread["a"] == pytest.approx(whole.spread["a"], abs=1e-3)


def test_the_right_center() -> None:
    centers = {None: {}, "soft": {"noise": -1.5, "edge": 0.3}, "thick": {"slice_spacing": 0.5}}
    profiles = {name: profile(3 * n, 3 * n + 1, 3 * n + 2, **c) for n, (name, c) in enumerate(centers.items())}
    for seed in range(20, 40):
        for name, changes in centers.items():
            found = recognize(scan(seed, **changes), profiles)
            assert found.is_known and found.center == name and found.probability > 0.9


def test_a_scan_like_none() -> None:
    profiles = {None: profile(1, 2, 3), "soft": profile(4, 5, 6, noise=-1.5, edge=0.3)}
    for seed in range(20, 40):
        found = recognize(scan(seed, soft=80.0), profiles)
        assert not found.is_known and found.center is None and found.probability > 0.5
        assert "like no known center" in found.sentence() and "without a center" in found.sentence()


def test_centers_that_mix_scanners_are_told_apart_by_what_scanners_share() -> None:
    thin, middle, thick = ({"slice_spacing": s} for s in (-0.3, 0.0, 0.3))
    soft = {"noise": -1.5, "edge": 0.3}

    def mixed(seed: int, changes: dict[str, float]) -> Profile:
        return Profile.of([scan(seed + n, **s, **changes) for n, s in enumerate((thin, middle, middle))])

    profiles = {None: mixed(1, {}), "soft": mixed(4, soft)}
    assert all(profile.mixes_geometries for profile in profiles.values())
    for seed in range(20, 40):
        assert recognize(scan(seed, **thick), profiles).center is None
        found = recognize(scan(seed, **thick, **soft), profiles)
        assert found.is_known and found.center == "soft"
    one_scanner = profile(1, 2, 3)
    assert not one_scanner.mixes_geometries
    assert one_scanner.distance(scan(20, **thick))[0] > profiles[None].distance(scan(20, **thick), True)[0] + 5


def test_what_follows_from_the_spacing_does_not_make_a_scan_strange() -> None:
    """Of the scans that this was measured on, those of wider pixels show less dense bone."""
    center = profile(1, 2, 3)
    wide = {"row_spacing": 0.2}
    as_usual, denser = scan(20, **wide, bone=-155.0), scan(20, **wide, bone=155.0)
    assert center.distance(as_usual, any_geometry=True)[0] < center.distance(denser, any_geometry=True)[0]
    beyond = [center.distance(scan(20, row_spacing=s), any_geometry=False) for s in (0.3, 3.0)]
    assert all(math.isfinite(squared) for squared, _ in beyond) and beyond[0] < beyond[1]


def test_one_scan_is_enough_for_a_center() -> None:
    profiles = {"A": profile(1), "B": profile(4, noise=-1.5, edge=0.3)}
    for seed in range(20, 40):
        assert recognize(scan(seed), profiles).center == "A"
        assert recognize(scan(seed, noise=-1.5, edge=0.3), profiles).center == "B"


def test_a_base_that_is_not_described_is_what_is_left() -> None:
    assert recognize(scan(20), {"soft": profile(4, 5, 6, noise=-1.5, edge=0.3)}).center is None


def test_centers_that_cannot_be_told_apart_are_no_certainty() -> None:
    found = recognize(scan(20), {"A": profile(1, 2, 3), "B": profile(1, 2, 3)})
    assert found.center in ("A", "B") and found.probability == pytest.approx(0.5, abs=0.05)
    assert "(50 %)" in found.sentence()


def test_another_kind_of_scan_is_like_none() -> None:
    found = recognize(CT | {"level": 5.0, "low": 0.5, "high": 1.5, "brightest": 3.0}, {"A": profile(1, 2, 3)})
    assert not found.is_known and found.probability == 1.0
    assert not recognize(scan(1), {}).is_known


def test_statistics_of_another_time_do_not_break_it() -> None:
    found = Profile.of([scan(1) | {"new": 1.0}])
    assert math.isinf(found.distance(scan(2))[0])
    assert math.isfinite(found.distance(scan(2) | {"new": 5.0})[0])


def test_far_away_is_no_overflow() -> None:
    huge = Profile.parse({"scans": 1, "mean": dict.fromkeys(scan(1), 1e6), "spread": dict.fromkeys(scan(1), 0.0)})
    assert not recognize(scan(1), {"A": huge}).is_known
