"""Fixtures for tests of the panel. Nothing of Slicer or Qt is imported before a test asks for one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def slicer_app() -> Any:
    """The application, `slicer.app`; one for the whole session."""
    from Testing.slicer_harness import boot

    return boot.start()


@pytest.fixture
def scene(slicer_app: Any) -> Iterator[Any]:
    """`slicer.mrmlScene`, empty, and no settings; any problem in the background fails the test at its end."""
    import qt
    import slicer

    from Testing.slicer_harness.driving import process_events
    from Testing.slicer_harness.problems import PROBLEMS

    with PROBLEMS.watch():
        slicer.mrmlScene.Clear()
        qt.QSettings().clear()
        process_events()
        yield slicer.mrmlScene
        slicer.mrmlScene.Clear()
        process_events()


@pytest.fixture
def problems(scene: Any) -> Any:
    """What went wrong in slots, observers, VTK and Qt; `with problems.expected("pattern"):` where that is wanted."""
    from Testing.slicer_harness.problems import PROBLEMS

    return PROBLEMS


@pytest.fixture
def dialogs(scene: Any) -> Any:
    """Queue of answers for modal dialogs, and what was shown."""
    from Testing.slicer_harness.dialogs import DIALOGS

    return DIALOGS


@pytest.fixture
def open_module(scene: Any) -> Iterator[Callable[[str | Path], Any]]:
    """Opens scripted modules by path, returns their widget objects, and closes them after the test."""
    from Testing.slicer_harness import modules

    opened: list[Any] = []

    def open_one(path: str | Path) -> Any:
        opened.append(modules.open_module(path))
        return opened[-1]

    yield open_one
    for widget in reversed(opened):
        modules.close_module(widget)


@pytest.fixture(autouse=True)
def watched(request: pytest.FixtureRequest) -> None:
    """A test that runs in the application is watched, whichever of the fixtures it asks for."""
    if "slicer_app" in request.fixturenames:
        request.getfixturevalue("scene")
