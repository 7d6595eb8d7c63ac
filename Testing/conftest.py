"""Fixtures that every folder may use."""

from __future__ import annotations

import pytest

pytest_plugins = ["Testing.slicer_harness.fixtures"]


@pytest.fixture
def without_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views of changed slices help no random network."""
    # Torch takes a second to import, and most folders do without.
    from PromptSegLib.learning.features import FeatureCache

    monkeypatch.setattr(FeatureCache, "augment", lambda cache, enough: None)
