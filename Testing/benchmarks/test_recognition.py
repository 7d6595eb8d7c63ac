"""The benchmark of recognition, small: on generated scans the right center is taken."""

from __future__ import annotations

import numpy as np
import pytest

from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.tokens.recognition import Profile, recognize
from Testing.benchmarks.recognition import held_out_scans, shares
from Testing.benchmarks.simulated_centers import CHANGES, UNCHANGED, changed


def test_generated_centers_are_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMPTSEG_DATA", raising=False)
    names = (UNCHANGED, "soft kernel", "shift")
    patients = [
        {name: scan_statistics(changed(scan, CHANGES[name], number)) for name in names}
        for number, (_, scan) in enumerate(held_out_scans(5))
    ]
    strange = [scan_statistics(changed(scan, lambda hu, rng: hu + 100, 0)) for _, scan in held_out_scans(2)]
    profiles = {name: Profile.of([patient[name] for patient in patients[:3]]) for name in names}
    known = [shares([recognize(p[name], profiles) for p in patients[3:]], name)[0] for name in names]
    assert np.mean(known) == 1.0
    assert shares([recognize(statistics, profiles) for statistics in strange], None)[2] == 1.0
