"""What the panel says next, from where the user stands."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("panel_package")


def situation(**changes: Any) -> Any:
    from PromptSegPanel.guidance import Situation

    return Situation(**{"has_scan": True, "scans_loaded": True, **changes})


def structure(drawn: int = 0, **changes: Any) -> Any:
    from PromptSegPanel.guidance import Structure

    return Structure(**{"key": "k", "name": "Kidney", "color": (1, 2, 3), "drawn": drawn, "plane": "axial", **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"missing_packages": ("torch",), "has_scan": False}, "Install"),
        ({"has_scan": False, "scans_loaded": False}, "Load a scan"),
        ({"has_scan": False}, "Choose the scan"),
        ({"has_scan": False, "lacks_segmentation": True}, "Choose a segmentation"),
        ({}, "Press Add"),
    ],
)
def test_begins_with_what_comes_first(changes: dict[str, Any], words: str) -> None:
    from PromptSegPanel.guidance import status

    assert words in status(situation(**changes))


def test_says_how_many_slices_are_still_to_draw() -> None:
    from PromptSegPanel.guidance import status

    assert "on 3 or more slices" in status(situation(structures=(structure(0),)))
    assert "Kidney on 2 slices more" in status(situation(structures=(structure(1),)))
    assert "Kidney on 1 slice more" in status(situation(structures=(structure(2),)))
    assert status(situation(structures=(structure(3),))) == "Press Train."


def test_counts_only_what_is_ticked() -> None:
    from PromptSegPanel.guidance import status

    drawn, barely = structure(5), structure(1, key="l", name="Liver", chosen=False)
    assert status(situation(structures=(drawn, barely))) == "Press Train."
    assert "Tick" in status(situation(structures=(barely,)))


def test_after_training_asks_to_look() -> None:
    from PromptSegPanel.guidance import status

    trained = structure(3, trained=True, chosen=False)
    assert "Look at the preview" in status(situation(structures=(trained,), has_preview=True))
    assert "Applied" in status(situation(structures=(trained,), just_applied=True))
    assert "has been learned" in status(situation(structures=(trained,)))


def test_shows_time_left_and_what_went_wrong_meanwhile() -> None:
    from PromptSegPanel.guidance import Activity, status

    training = situation(activity=Activity.TRAINING, stage="training", seconds_left=21.0, message="It was restarted.")
    assert status(training) == "Training… 20 s left It was restarted."


def test_says_what_comes_before_training() -> None:
    from PromptSegPanel.guidance import Activity, status

    assert status(situation(activity=Activity.TRAINING)) == "Preparing the scan…"
    assert status(situation(activity=Activity.TRAINING, stage="encoding")) == "Looking at the drawn slices…"


def test_says_when_a_tool_changed_a_whole_segment() -> None:
    from dataclasses import replace

    from PromptSegPanel.guidance import drawing_hint

    assert drawing_hint(situation(structures=(structure(60),))) == ""
    assert "press Undo" in drawing_hint(situation(structures=(replace(structure(60), remade=True),)))


def test_says_when_two_planes_were_drawn_on() -> None:
    from PromptSegPanel.guidance import drawing_hint

    assert drawing_hint(situation(structures=(structure(3, crossed_by="coronal"),))) == (
        "Kidney is drawn on axial and coronal slices: only the axial ones count."
    )


def test_says_when_slices_lie_between_those_of_the_scan() -> None:
    from PromptSegPanel.guidance import drawing_hint

    assert drawing_hint(situation(structures=(structure(3, between=2),))) == (
        "Kidney is also drawn between the slices of the scan (2 slices), which does not count, and Apply overwrites "
        "it: draw on the slices of the scan."
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (2, "a few seconds left"), (33, "35 s left"), (150, "2 min left")]
)
def test_rounds_the_time_left(seconds: float | None, text: str) -> None:
    from PromptSegPanel.guidance import time_left

    assert time_left(seconds) == text


def test_every_control_that_cannot_be_used_says_why() -> None:
    from PromptSegPanel.guidance import Activity, why_not

    start = why_not(situation(has_scan=False))
    assert {name for name, reason in start.items() if not reason} == {"advanced"}
    ready = why_not(situation(structures=(structure(3),)))
    assert not ready["train"] and not ready["suggest"]
    assert "no preview" in ready["apply"]
    busy = why_not(situation(structures=(structure(3),), activity=Activity.TRAINING, has_preview=True))
    assert not busy["train"] and not busy["finish"], "Train is Cancel now"
    assert "Cancel" in busy["apply"] and "Cancel" in busy["suggest"]


def test_nothing_is_computed_without_the_packages() -> None:
    from PromptSegPanel.guidance import why_not

    reasons = why_not(situation(structures=(structure(3),), missing_packages=("torch",)))
    assert all("install" in reasons[name] for name in ("train", "suggest", "find"))


def test_learned_structures_are_not_trained_again_by_chance() -> None:
    from PromptSegPanel.guidance import why_not

    assert "has been learned" in why_not(situation(structures=(structure(3, trained=True, chosen=False),)))["train"]
