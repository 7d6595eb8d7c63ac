"""The list of tokens: what is shown of them, and what its buttons do."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from PromptSegLib.tokens.centers import Center
from PromptSegLib.tokens.class_token import ClassToken, load_token
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.shape import Shape
from PromptSegLib.tokens.size import Size
from Testing.support import random_token, tiny_backbone


@lru_cache
def token_data(name: str = "Kidney") -> bytes:
    return random_token(tiny_backbone(), name).to_bytes()


@pytest.fixture
def listed(person: Any) -> Any:
    """The section is open, with "Kidney" of the library selected."""
    person.controller.library.keep(token_data(), "Kidney", None)
    person.ui.tokensCollapsibleButton.collapsed = False
    person.wait(lambda: person.ui.tokensTable.rowCount == 1)
    person.ui.tokensTable.selectRow(0)
    return person


def names(person: Any) -> list[str]:
    return [person.ui.tokensTable.item(row, 0).text() for row in range(person.ui.tokensTable.rowCount)]


def test_shows_what_a_token_is(listed: Any) -> None:
    details = listed.ui.tokenDetailsLabel.text
    assert "Learned from" in details and "tiny-1" in details and "Kidney.promptseg" in details


def details(person: Any, token: ClassToken) -> str:
    """What is shown of the library's only token."""
    person.controller.library.keep(token.to_bytes(), "Kidney", None)
    person.ui.tokensCollapsibleButton.collapsed = False
    person.wait(lambda: person.ui.tokensTable.rowCount == 1)
    person.ui.tokensTable.selectRow(0)
    text: str = person.ui.tokenDetailsLabel.text
    return text


@pytest.mark.parametrize(("scans", "words"), [(1, "from one scan."), (3, "from 3 scans.")])
def test_shows_what_a_token_knows_of_its_structure(person: Any, scans: int, words: str) -> None:
    shapes = scans * (Shape(np.ones((3, 3, 3), np.int8), 4.0),)
    knows = replace(random_token(tiny_backbone(), "Kidney"), size=Size(161.84, 0.2), shapes=shapes)
    assert f"Size: about 162 ml.\nKnows its shape {words}\n" in details(person, knows)


def test_shows_the_centers_of_a_token(person: Any) -> None:
    token = random_token(tiny_backbone(), "Kidney")
    center = Center("Hospital B", {}, token.training, Profile(2, {"noise": 3.0}, {"noise": 0.1}))
    single = replace(center, name="Scanner 7", training=replace(token.training, scans=1))
    assert "Hospital B (2 scans), Scanner 7 (1 scan)." in details(person, replace(token, centers=(center, single)))


def test_buttons_wait_for_a_selection_and_say_so(person: Any) -> None:
    for name in ("applyTokenButton", "renameTokenButton", "exportTokenButton", "deleteTokenButton"):
        button = getattr(person.ui, name)
        assert not button.enabled and button.toolTip
    assert person.ui.importTokenButton.enabled


def test_needs_a_scan_to_find_something_on(listed: Any, patient: Any) -> None:
    assert "choose the scan" in listed.ui.applyTokenButton.toolTip
    listed.choose(patient.scan)
    listed.ui.tokensTable.selectRow(0)
    assert listed.ui.applyTokenButton.enabled


def test_rename(listed: Any, dialogs: Any) -> None:
    dialogs.answer("Left kidney")
    listed.press("renameTokenButton")
    assert names(listed) == ["Left kidney"]
    assert load_token(listed.controller.library.folder / "Left kidney.promptseg").name == "Left kidney"


def test_a_cancelled_rename_changes_nothing(listed: Any, dialogs: Any) -> None:
    dialogs.answer("")
    listed.press("renameTokenButton")
    assert names(listed) == ["Kidney"]


def test_export_and_import(listed: Any, dialogs: Any, tmp_path: Path) -> None:
    dialogs.answer(str(tmp_path / "for a colleague"))
    listed.press("exportTokenButton")
    file = tmp_path / "for a colleague.promptseg"
    assert file.read_bytes() == token_data() and str(file) in listed.status

    file.write_bytes(token_data("Spleen"))
    dialogs.answer(str(file))
    listed.press("importTokenButton")
    assert names(listed) == ["Kidney", "Spleen"]


def test_export_asks_before_it_replaces_a_file_that_nobody_named(listed: Any, dialogs: Any, tmp_path: Path) -> None:
    import qt

    file = tmp_path / "other.promptseg"
    file.write_bytes(b"another token")
    dialogs.answer(str(tmp_path / "other"), qt.QMessageBox.Cancel)
    listed.press("exportTokenButton")
    assert file.read_bytes() == b"another token" and str(file) in dialogs.shown[-1].text
    dialogs.answer(str(tmp_path / "other"), qt.QMessageBox.Ok)
    listed.press("exportTokenButton")
    assert file.read_bytes() == token_data()


def test_a_file_that_is_no_token_is_refused_in_one_sentence(listed: Any, dialogs: Any, tmp_path: Path) -> None:
    file = tmp_path / "scan.nii.promptseg"
    file.write_bytes(b"something else")
    dialogs.answer(str(file))
    listed.press("importTokenButton")
    assert "scan.nii.promptseg" in listed.status and "\n" not in listed.status
    assert names(listed) == ["Kidney"]


def test_delete_asks_first(listed: Any, dialogs: Any) -> None:
    import qt

    dialogs.answer(qt.QMessageBox.Cancel)
    listed.press("deleteTokenButton")
    assert names(listed) == ["Kidney"]
    dialogs.answer(qt.QMessageBox.Ok)
    listed.press("deleteTokenButton")
    assert names(listed) == []
    assert "Kidney" in dialogs.shown[-1].text


def test_a_damaged_file_is_listed_with_what_is_wrong(listed: Any) -> None:
    (listed.controller.library.folder / "Broken.promptseg").write_bytes(b"garbage")
    listed.controller.refresh()
    assert names(listed) == ["Broken", "Kidney"]
    listed.ui.tokensTable.selectRow(0)
    assert "damaged" in listed.ui.applyTokenButton.toolTip or "choose the scan" in listed.ui.applyTokenButton.toolTip
    assert not listed.ui.exportTokenButton.enabled and listed.ui.deleteTokenButton.enabled
    assert "Broken.promptseg" in listed.ui.tokenDetailsLabel.text


def test_a_link_to_nowhere_is_listed_as_damaged(listed: Any, tmp_path: Path) -> None:
    (listed.controller.library.folder / "Link.promptseg").symlink_to(tmp_path / "nowhere")
    listed.controller.refresh()
    assert names(listed) == ["Kidney", "Link"]


def test_a_damaged_token_of_the_scene_does_not_hide_the_others(listed: Any, patient: Any) -> None:
    from PromptSegLib.mrml.tokens import store_token

    listed.choose(patient.scan)
    store_token(listed.segmentation, listed.add_structure("Liver"), b"garbage")
    listed.controller.refresh()
    assert names(listed) == ["Liver", "Kidney"]
    listed.ui.tokensTable.selectRow(0)
    assert "damaged" in listed.ui.applyTokenButton.toolTip and listed.ui.tokenDetailsLabel.text


def test_another_folder_is_remembered(listed: Any, tmp_path: Path, qt_settings: Any) -> None:
    from PromptSegPanel.tokens import library_folder

    qt_settings("PromptSeg/Library", str(listed.controller.library.folder))
    listed.ui.libraryPathLineEdit.currentPath = str(tmp_path / "empty")
    assert names(listed) == [] and library_folder() == tmp_path / "empty"


def test_a_folder_that_may_not_be_looked_into_counts_as_empty(listed: Any, patient: Any, tmp_path: Path) -> None:
    from PromptSegLib.mrml.tokens import store_token

    listed.ui.libraryPathLineEdit.currentPath = str(tmp_path / ("x" * 300))
    assert names(listed) == [] and "choose another one under Tokens" in listed.status
    listed.choose(patient.scan)
    store_token(listed.segmentation, listed.add_structure("Liver"), token_data("Liver"))
    listed.controller.refresh()
    assert names(listed) == ["Liver"] and "choose another one" not in listed.status, "it was said already"


def test_a_token_of_the_scene_is_not_deleted_from_here(person: Any, patient: Any) -> None:
    from PromptSegLib.mrml.tokens import store_token

    person.choose(patient.scan)
    key = person.add_structure("Kidney")
    store_token(person.segmentation, key, token_data())
    person.ui.tokensCollapsibleButton.collapsed = False
    person.controller.refresh()
    person.ui.tokensTable.selectRow(0)
    assert person.ui.tokensTable.item(0, 3).text() == "this scene"
    assert not person.ui.deleteTokenButton.enabled and "segment" in person.ui.deleteTokenButton.toolTip
    assert person.ui.applyTokenButton.enabled and person.ui.exportTokenButton.enabled
