"""Reads CMake files as far as this repository uses them: commands, quoted and plain arguments, `set` variables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_TOKEN = re.compile(r'#[^\n]*|"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<bracket>[()])|(?P<plain>[^\s()#"]+)')
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Command:
    name: str
    arguments: tuple[str, ...]

    def values_of(self, keyword: str, keywords: tuple[str, ...]) -> list[str]:
        """The arguments between a keyword and the next one of ``keywords``."""
        rest = self.arguments[self.arguments.index(keyword) + 1 :]
        end = next((i for i, argument in enumerate(rest) if argument in keywords), len(rest))
        return list(rest[:end])


def read(path: Path) -> list[Command]:
    """The commands of a file, in order, with variables of this file replaced and lists taken apart.

    Raises:
        ValueError: where brackets do not match.
    """
    commands: list[Command] = []
    variables: dict[str, str] = {}
    name, arguments, depth = "", [""], 0
    for token in _TOKEN.finditer(path.read_text(encoding="utf-8")):
        quoted, bracket, plain = token.group("quoted", "bracket", "plain")
        if bracket == "(":
            depth += 1
            if depth == 1:
                arguments = []
        elif bracket == ")":
            depth -= 1
            if depth == 0:
                commands.append(Command(name, tuple(arguments)))
                if name == "set":
                    variables[arguments[0]] = ";".join(arguments[1:])
        elif depth == 0 and plain:
            name = plain
        elif quoted is not None:
            arguments += _expand(quoted, variables).split(";")
        elif plain:
            arguments += [part for part in _expand(plain, variables).split(";") if part]
        if depth < 0:
            break
    if depth != 0:
        raise ValueError(f"{path}: brackets do not match")
    return commands


def variable(commands: list[Command], name: str) -> list[str]:
    (setting,) = [command for command in commands if command.name == "set" and command.arguments[0] == name]
    return list(setting.arguments[1:])


def only(commands: list[Command], name: str) -> Command:
    (command,) = [command for command in commands if command.name == name]
    return command


def _expand(text: str, variables: dict[str, str]) -> str:
    """Variables that are set elsewhere stay as they are written."""
    return _VARIABLE.sub(lambda match: variables.get(match.group(1), match.group(0)), text)
