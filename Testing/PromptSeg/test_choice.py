"""Which structures are ticked for training."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def choice(panel_package: None) -> Any:
    from PromptSegPanel.choice import Choice

    return Choice()


def test_ticks_what_is_drawn_and_unticks_what_is_learned(choice: Any) -> None:
    choice.see("a", "1", 3, is_learned=False)
    assert choice.is_chosen("a")
    choice.note_trained("a", "1")
    assert not choice.is_chosen("a") and choice.is_trained("a")
    choice.see("a", "2", 4, is_learned=True)
    assert choice.is_chosen("a") and not choice.is_trained("a")


def test_leaves_finished_work_and_learned_structures_of_an_opened_scene_alone(choice: Any) -> None:
    choice.see("finished", "1", 200, is_learned=False)
    choice.see("finished, 19 contiguous slices", "1", 19, is_learned=False, is_gapless=True)
    choice.see("small, 3 contiguous slices", "1", 3, is_learned=False, is_gapless=True)
    choice.see("19 slices with gaps", "1", 19, is_learned=False)
    choice.see("learned", "1", 3, is_learned=True)
    assert not choice.is_chosen("finished") and not choice.is_chosen("learned")
    assert not choice.is_chosen("finished, 19 contiguous slices")
    assert choice.is_trained("learned") and not choice.is_trained("finished")
    assert choice.is_chosen("small, 3 contiguous slices") and choice.is_chosen("19 slices with gaps")


def test_the_user_has_the_last_word_until_drawing_on(choice: Any) -> None:
    choice.see("a", "1", 3, is_learned=False)
    choice.set("a", False)
    choice.see("a", "1", 3, is_learned=False)
    assert not choice.is_chosen("a")
    choice.see("a", "2", 3, is_learned=False)
    assert choice.is_chosen("a")


def test_a_drawing_changed_while_it_was_learned_is_still_to_be_learned(choice: Any) -> None:
    choice.see("a", "1", 3, is_learned=False)
    choice.see("a", "2", 4, is_learned=False)
    choice.note_trained("a", "1")
    assert choice.is_chosen("a")
