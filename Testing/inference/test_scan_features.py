"""What is kept of a scan, and what is let go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from PromptSegLib.inference import scan_features
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.networks.backbone import Features

BYTES = 2 * 4 * 8 * 8
"""Of one part, in half precision."""


def features(value: float) -> Features:
    return Features((torch.full((1, 4, 8, 8), value),), (16, 16))


def keep(kept: ScanFeatures, sight: str, part: int) -> bool:
    """Whether it had to be made."""
    made = []
    found = kept.get(sight, part, lambda: (made.append(part), features(part))[1])
    assert torch.equal(found.maps[0], features(part).maps[0])
    return bool(made)


@pytest.mark.parametrize("memory_bytes", [0, 3 * BYTES, 100 * BYTES])
def test_the_sight_that_was_used_least_lately_goes_whole(memory_bytes: int, tmp_path: Path) -> None:
    kept = ScanFeatures(memory_bytes, 4 * BYTES, tmp_path)
    assert all(keep(kept, "fine", part) for part in range(2))
    assert all(keep(kept, "coarse", part) for part in range(2))
    assert not keep(kept, "fine", 0), "nothing had to go yet"
    assert keep(kept, "coronal", 0)
    assert not any(keep(kept, "fine", part) for part in range(2)) and not keep(kept, "coronal", 0)
    assert keep(kept, "coarse", 0), "it was let go"
    kept.clear()
    assert len(kept) == 0 and keep(kept, "fine", 0)


def test_one_sight_is_kept_however_large(tmp_path: Path) -> None:
    kept = ScanFeatures(BYTES, 2 * BYTES, tmp_path)
    assert all(keep(kept, "fine", part) for part in range(5))
    assert not any(keep(kept, "fine", part) for part in range(5))


def test_the_disk_is_not_filled_to_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(free=scan_features.LEFT_FREE_BYTES + BYTES)
    monkeypatch.setattr(scan_features.shutil, "disk_usage", lambda folder: disk)
    kept = ScanFeatures(BYTES, 10 * BYTES, tmp_path)
    assert all(keep(kept, "fine", part) for part in range(2)) and not keep(kept, "fine", 1)
    disk.free -= 1
    assert all(keep(kept, "fine", 2) for _ in range(2)), "it is made anew each time"
    assert not any(keep(kept, "fine", part) for part in range(2))
