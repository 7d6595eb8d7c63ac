"""Modal dialogs would stop a headless run for ever: each is answered from a queue, or refused."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any


class UnexpectedDialog(RuntimeError):
    """A modal dialog opened and no answer was queued."""


@dataclass(frozen=True)
class Shown:
    """A dialog that opened: the class and function, its title, and what it says."""

    kind: str
    title: str
    text: str


class Dialogs:
    """The answers that a test has ready, and what was asked.

    An answer is what the dialog returns (`qt.QMessageBox.Ok`, a file name …), the text of a button to press in a
    message box, or a function of the dialog that fills it in and returns what it returns.
    """

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self._answers: deque[Any] = deque()

    def answer(self, *answers: Any) -> None:
        self._answers.extend(answers)

    def unused(self) -> list[Any]:
        return list(self._answers)

    def reset(self) -> None:
        self.shown.clear()
        self._answers.clear()

    def ask(self, kind: str, title: str, text: str, dialog: Any = None) -> Any:
        self.shown.append(Shown(kind, title, text))
        if not self._answers:
            raise UnexpectedDialog(f"A {kind} opened and no answer is queued. Title: {title!r}. Text: {text!r}.")
        answer = self._answers.popleft()
        return answer(dialog) if callable(answer) else answer


DIALOGS = Dialogs()


def replace_modal_functions(widgets: Any) -> None:
    """Every way that Qt has to open a modal dialog asks `DIALOGS` instead."""
    widgets.QDialog.exec = widgets.QDialog.exec_ = _run_dialog
    widgets.QMessageBox.exec = widgets.QMessageBox.exec_ = _run_message_box
    widgets.QMessageBox.clickedButton = lambda box: box.__dict__.get("_clicked")
    for name in ("question", "information", "warning", "critical", "about"):
        setattr(widgets.QMessageBox, name, _static("QMessageBox", name))
    for name in ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"):
        setattr(widgets.QFileDialog, name, _static("QFileDialog", name))
    for name in ("getText", "getItem", "getInt", "getDouble", "getMultiLineText"):
        setattr(widgets.QInputDialog, name, _static("QInputDialog", name))
    widgets.QColorDialog.getColor = _static("QColorDialog", "getColor")
    for name in ("exec", "exec_"):
        setattr(widgets.QMenu, name, _run_menu)


def _run_dialog(dialog: Any) -> Any:
    return DIALOGS.ask(type(dialog).__name__, dialog.windowTitle, "", dialog)


def _run_menu(menu: Any, *position: Any) -> Any:
    return DIALOGS.ask("QMenu", menu.title, ", ".join(action.text for action in menu.actions()), menu)


def _run_message_box(box: Any) -> Any:
    answer = DIALOGS.ask(type(box).__name__, box.windowTitle, box.text, box)
    if not isinstance(answer, str):
        return answer
    buttons = {button.text.replace("&", ""): button for button in box.buttons()}
    if answer not in buttons:
        raise UnexpectedDialog(f"The message box has no button {answer!r}, but {sorted(buttons)}.")
    box.__dict__["_clicked"] = buttons[answer]
    return box.standardButton(buttons[answer])


def _static(class_name: str, name: str) -> staticmethod:
    def ask(parent: Any = None, title: str = "", text: str = "", *others: Any, **named: Any) -> Any:
        return DIALOGS.ask(f"{class_name}.{name}", str(title), str(text))

    return staticmethod(ask)
