"""The user's tokens: never overwritten, checked before they are taken."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from PromptSegLib.errors import InputError
from PromptSegLib.tokens.class_token import load_token
from Testing.support import random_token, tiny_backbone


@pytest.fixture
def library(panel_package: None, tmp_path: Path) -> Any:
    from PromptSegPanel.library import TokenLibrary

    return TokenLibrary(tmp_path / "tokens")


@lru_cache
def token_data(name: str = "Kidney", seed: int = 0) -> bytes:
    return random_token(tiny_backbone(), name, seed=seed).to_bytes()


def test_keeps_a_token_under_its_name(library: Any) -> None:
    kept = library.keep(token_data(), "Kidney", None)
    assert kept.name == "Kidney.promptseg"
    assert [entry.token.name for entry in library.entries()] == ["Kidney"]


def test_training_again_replaces_the_own_file(library: Any) -> None:
    first = library.keep(token_data(seed=0), "Kidney", None)
    second = library.keep(token_data(seed=1), "Kidney", first)
    assert second.name == first.name and second.digest != first.digest
    assert len(library.entries()) == 1


def test_keeps_the_file_of_another_backbone(library: Any) -> None:
    before = library.keep(token_data(), "Kidney", None)
    other = random_token(tiny_backbone(3, "other-1"), "Kidney").to_bytes()
    assert library.keep(other, "Kidney", before).name == "Kidney 2.promptseg"
    assert (library.folder / before.name).read_bytes() == token_data()


def test_never_overwrites_another_class_of_the_same_name(library: Any) -> None:
    others = library.keep(token_data(seed=0), "Kidney", None)
    mine = library.keep(token_data(seed=1), "Kidney", None)
    assert (others.name, mine.name) == ("Kidney.promptseg", "Kidney 2.promptseg")
    assert (library.folder / others.name).read_bytes() == token_data(seed=0)


def test_never_overwrites_a_file_that_somebody_changed(library: Any) -> None:
    before = library.keep(token_data(seed=0), "Kidney", None)
    (library.folder / before.name).write_bytes(token_data(seed=5))
    after = library.keep(token_data(seed=1), "Kidney", before)
    assert after.name == "Kidney 2.promptseg"
    assert (library.folder / before.name).read_bytes() == token_data(seed=5)


def test_a_renamed_class_gets_a_file_of_its_new_name(library: Any) -> None:
    before = library.keep(token_data("Kidney"), "Kidney", None)
    after = library.keep(token_data("Left kidney"), "Left kidney", before)
    assert {entry.path.name for entry in library.entries()} == {before.name, after.name}


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b\\c", "...", 'what? "*<>|'])
def test_no_name_leads_out_of_the_folder(library: Any, name: str) -> None:
    kept = library.keep(token_data(), name, None)
    assert (library.folder / kept.name).resolve().parent == library.folder.resolve()
    assert (library.folder / kept.name).is_file()


def test_renames_class_and_file(library: Any) -> None:
    kept = library.keep(token_data(), "Kidney", None)
    path = library.rename(library.folder / kept.name, "Left kidney")
    assert path.name == "Left kidney.promptseg" and load_token(path).name == "Left kidney"
    assert [entry.path for entry in library.entries()] == [path]


def test_takes_a_file_from_elsewhere_once(library: Any, tmp_path: Path) -> None:
    file = tmp_path / "from a colleague.promptseg"
    file.write_bytes(token_data())
    assert library.add_file(file) == library.add_file(file)
    assert [entry.path.name for entry in library.entries()] == ["Kidney.promptseg"]


def test_refuses_a_file_that_is_no_token(library: Any, tmp_path: Path) -> None:
    file = tmp_path / "scan.promptseg"
    file.write_bytes(b"no token at all")
    with pytest.raises(InputError):
        library.add_file(file)
    assert library.entries() == []


def test_says_so_where_the_folder_cannot_be_made(panel_package: None, tmp_path: Path) -> None:
    from PromptSegPanel.library import TokenLibrary

    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another one"):
        TokenLibrary(tmp_path / "file" / "tokens").keep(token_data(), "Kidney", None)


def test_what_the_system_refuses_is_one_sentence(library: Any) -> None:
    library.keep(token_data(), "Kidney", None)
    folder = library.folder / "folder.promptseg"
    folder.mkdir()
    too_long = "\N{MATHEMATICAL DOUBLE-STRUCK CAPITAL K}" * 80
    for call in (
        lambda: library.keep(token_data(), too_long, None),
        lambda: library.rename(library.folder / "Kidney.promptseg", too_long),
        lambda: library.delete(folder),
    ):
        with pytest.raises(InputError, match="choose another one under Tokens"):
            call()
    assert [entry.token is None for entry in library.entries()] == [False, True]


def test_the_scene_remembers_which_file_is_its_own(panel_package: None) -> None:
    from PromptSegPanel.library import Kept

    kept = Kept("left kidney 2.promptseg", "ab" * 32)
    assert Kept.from_text(kept.to_text()) == kept
    assert Kept.from_text("") is None
