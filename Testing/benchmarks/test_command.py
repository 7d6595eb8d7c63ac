"""What the benchmarks' commands share."""

from __future__ import annotations

import pytest

from PromptSegLib.errors import InputError
from Testing.benchmarks import command


def test_lists() -> None:
    assert command.words(" a, b,,c ") == ["a", "b", "c"] and command.words("a; b, c", ";") == ["a", "b, c"]
    assert command.numbers("1, 3,10") == [1, 3, 10]


@pytest.mark.parametrize("text", ["", "all", "1,,3", "1.5"])
def test_what_is_no_list_of_numbers(text: str) -> None:
    with pytest.raises(InputError, match="is no list of whole numbers: write it as 1,3,5"):
        command.numbers(text)


def test_bad_input_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        command.numbers("x")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["benchmark"])
        command.run(fails)
    assert ended.value.code == 2 and capsys.readouterr().err == "'x' is no list of whole numbers: write it as 1,3,5\n"
