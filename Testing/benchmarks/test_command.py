"""What the benchmarks' commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from PromptSegLib.errors import InputError
from Testing.benchmarks import command
from Testing.benchmarks.data import cases


def test_lists() -> None:
    assert command.words(" a, b,,c ") == ["a", "b", "c"] and command.words("a; b, c", ";") == ["a", "b, c"]
    assert command.numbers("1, 3,10") == [1, 3, 10]


@pytest.mark.parametrize("text", ["", "all", "1,,3", "1.5", "3,0", "-1"])
def test_what_is_no_list_of_numbers(text: str) -> None:
    with pytest.raises(InputError, match="is no list of whole numbers from 1 on: write it as 1,3,5"):
        command.numbers(text)


def test_bad_input_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        command.numbers("x")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["benchmark"])
        command.run(fails)
    assert (
        ended.value.code == 2
        and capsys.readouterr().err == "'x' is no list of whole numbers from 1 on: write it as 1,3,5\n"
    )


def test_scans_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTSEG_DATA", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"there is no folder .*none, which PROMPTSEG_DATA names"):
        next(cases(1))
    monkeypatch.setenv("PROMPTSEG_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"there is no .*index.csv: OpenKBP's scans must lie in the folder"):
        next(cases(1))
