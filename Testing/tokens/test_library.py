"""A folder of tokens, good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from PromptSegLib.errors import InputError
from PromptSegLib.tokens.library import list_tokens
from Testing.support import random_token, tiny_backbone


def test_lists_by_file_name_and_says_what_is_wrong(tmp_path: Path) -> None:
    random_token(tiny_backbone(), "Spleen").save(tmp_path / "b.promptseg")
    random_token(tiny_backbone(), "Liver").save(tmp_path / "a.promptseg")
    (tmp_path / "c.promptseg").write_bytes((tmp_path / "a.promptseg").read_bytes()[:500])
    (tmp_path / "._a.promptseg").write_bytes(b"what macOS leaves beside a file on a foreign disk")
    (tmp_path / "notes.txt").write_text("no token")
    (tmp_path / "d.promptseg").mkdir()
    entries = list_tokens(tmp_path)
    assert [entry.path.name for entry in entries] == [f"{letter}.promptseg" for letter in "abcd"]
    assert [entry.token.name if entry.token else None for entry in entries] == ["Liver", "Spleen", None, None]
    assert [entry.problem for entry in entries[:2]] == [None, None]
    assert "cut off" in str(entries[2].problem) and "there is no class token" in str(entries[3].problem)


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    assert list_tokens(tmp_path) == []
    for folder in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(InputError, match="there is no folder"):
            list_tokens(folder)
