"""The panel open in front of a person, its tokens in a folder of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PANEL = Path(__file__).resolve().parents[2] / "PromptSeg"


@pytest.fixture
def panel_package(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """PromptSegPanel can be imported."""
    monkeypatch.syspath_prepend(str(PANEL))


@pytest.fixture
def patient(panel_package: None) -> Any:
    from Testing.PromptSeg.person import Patient

    return Patient()


@pytest.fixture
def person(panel_package: None, open_module: Callable[[Path], Any], tmp_path: Path, qt_settings: Any) -> Iterator[Any]:
    from Testing.PromptSeg.person import MODULE, Person

    qt_settings("PromptSeg/Library", str(tmp_path / "library"))
    person = Person(open_module(MODULE))
    yield person
    person.controller.engine.stop()


@pytest.fixture
def qt_settings(scene: Any) -> Iterator[Callable[[str, Any], None]]:
    """Sets a setting of the application until the end of the test."""
    import slicer

    keys: list[str] = []

    def set_one(key: str, value: Any) -> None:
        slicer.app.userSettings().setValue(key, value)
        keys.append(key)

    yield set_one
    for key in keys:
        slicer.app.userSettings().remove(key)
