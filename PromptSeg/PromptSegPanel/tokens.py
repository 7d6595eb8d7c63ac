"""Section 5: what was learned, in this scene and in the user's library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from PromptSegLib.engine.messages import ClassInfo
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import write_bytes
from PromptSegPanel.controller import Controller
from PromptSegPanel.explained import ExplainedControls
from PromptSegPanel.guidance import Situation, slices_text, volume_text, why_not
from PromptSegPanel.library import SUFFIX, file_stem, read_token

if TYPE_CHECKING:
    from PromptSegLib.tokens.centers import Center
    from PromptSegLib.tokens.class_token import ClassToken

FOLDER_SETTING = "PromptSeg/Library"
_FILE_FILTER = f"PromptSeg (*{SUFFIX})"


@dataclass(frozen=True)
class _Row:
    """A token of the scene (key) or of the library (path); token is None where `problem` says why."""

    key: str | None
    path: Path | None
    token: ClassToken | None
    problem: str = ""


class TokensSection:
    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self._ui = ui
        self._controller = controller
        self._situation = controller.situation
        self._rows: list[_Row] = []
        self._shown: tuple[object, ...] | None = None
        self._refused: Path | None = None
        self._controls = ExplainedControls(
            {
                "find": (ui.applyTokenButton,),
                "rename": (ui.renameTokenButton,),
                "export": (ui.exportTokenButton,),
                "delete": (ui.deleteTokenButton,),
            }
        )
        header = ui.tokensTable.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        ui.libraryPathLineEdit.currentPath = str(library_folder())
        ui.libraryPathLineEdit.connect("currentPathChanged(QString)", self._set_folder)
        ui.tokensTable.connect("itemSelectionChanged()", self._select)
        ui.applyTokenButton.connect("clicked(bool)", lambda checked: self._find())
        ui.renameTokenButton.connect("clicked(bool)", lambda checked: self._rename())
        ui.exportTokenButton.connect("clicked(bool)", lambda checked: self._export())
        ui.importTokenButton.connect("clicked(bool)", lambda checked: self._import())
        ui.deleteTokenButton.connect("clicked(bool)", lambda checked: self._delete())
        ui.tokensCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self.update())

    def update(self, situation: Situation | None = None) -> None:
        """List what is there; an unchanged list keeps its selection."""
        self._situation = situation or self._controller.situation
        if not self._ui.tokensCollapsibleButton.collapsed and not self._situation.missing_packages:
            shown = self._state()
            if shown != self._shown:
                self._shown = shown
                self._rows = [*self._scene_rows(), *self._library_rows()]
                self._fill()
        self._select()

    def _state(self) -> tuple[object, ...]:
        """Something that changes whenever the list does, and that costs little to find."""
        case, library = self._controller.case, self._controller.library
        scene = case.tokens() if case is not None else {}
        names = tuple((s.key, s.name) for s in self._situation.structures)
        files = tuple((path, _changed_at(path)) for path in library.paths())
        return library.folder, names, tuple(scene.items()), files

    def _scene_rows(self) -> Iterator[_Row]:
        case = self._controller.case
        for key, data in (case.tokens() if case is not None else {}).items():
            try:
                yield _Row(key, None, read_token(data))
            except InputError as error:
                yield _Row(key, None, None, str(error))

    def _library_rows(self) -> Iterator[_Row]:
        library = self._controller.library
        try:
            entries = library.entries()
        except InputError as error:
            # Once is enough: the list is made anew with every token of the scene.
            if library.folder != self._refused:
                self._refused = library.folder
                self._controller.say(str(error))
            return
        for entry in entries:
            yield _Row(None, entry.path, entry.token, entry.problem or "")

    def _fill(self) -> None:
        table = self._ui.tokensTable
        blocked = table.blockSignals(True)
        table.setRowCount(len(self._rows))
        for number, row in enumerate(self._rows):
            for column, text in enumerate(self._cells(row)):
                table.setItem(number, column, qt.QTableWidgetItem(text))
        table.clearSelection()
        table.setCurrentCell(-1, -1)
        table.resizeRowsToContents()
        table.blockSignals(blocked)

    def _cells(self, row: _Row) -> tuple[str, str, str, str]:
        where = _("this scene") if row.path is None else _("library")
        if row.token is None:
            return (self._name(row), "", _("damaged"), where)
        return (self._name(row), row.token.plane, row.token.training.date, where)

    def _name(self, row: _Row) -> str:
        """In the scene, the segment's present name."""
        named = {s.key: s.name for s in self._situation.structures}
        if row.key in named:
            return named[row.key]
        if row.token is not None:
            return row.token.name
        return row.path.stem if row.path is not None else ""

    @property
    def _selected(self) -> _Row | None:
        number = self._ui.tokensTable.currentRow()
        return self._rows[number] if 0 <= number < len(self._rows) else None

    def _select(self) -> None:
        row = self._selected
        none = "" if row is not None else _("First select a token in the list.")
        damaged = _("This token is damaged.") if row is not None and row.token is None else ""
        scene = _("This token belongs to a segment of the scene.") if row is not None and row.path is None else ""
        self._controls.update(
            {
                "find": why_not(self._situation)["find"] or none or damaged,
                "rename": none or scene or damaged,
                "export": none or damaged,
                "delete": none or scene,
            }
        )
        self._ui.tokenDetailsLabel.text = "" if row is None else row.problem or _details(row)
        self._ui.tokenDetailsLabel.visible = row is not None

    def _find(self) -> None:
        row = self._selected
        if row is None or row.token is None:
            return
        if row.key is not None:
            self._controller.find_again(row.key)
        elif row.path is not None:
            term = row.token.terminology
            coded = (term.scheme, term.code, term.meaning) if term is not None else None
            with self._saying_problems():
                self._controller.find(_read(row.path), ClassInfo(row.token.name, row.token.color, coded))

    def _rename(self) -> None:
        row = self._selected
        if row is None or row.path is None or row.token is None:
            return
        name = qt.QInputDialog.getText(
            slicer.util.mainWindow(), _("Rename token"), _("New name:"), qt.QLineEdit.Normal, row.token.name
        )
        if name and name != row.token.name:
            with self._saying_problems():
                self._controller.library.rename(row.path, name)
            self.update()

    def _export(self) -> None:
        row = self._selected
        if row is None or row.token is None:
            return
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Export token"), f"{file_stem(row.token.name)}{SUFFIX}", _FILE_FILTER
        )
        target = Path(path) if path.endswith(SUFFIX) else Path(path + SUFFIX)
        # The file dialog asked about the name that was typed only.
        if path and (path.endswith(SUFFIX) or _may_replace(target)):
            with self._saying_problems():
                write_bytes(self._content(row), target)
                self._controller.say(_("The token was saved as {path}.").format(path=target))

    def _import(self) -> None:
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Import token"), "", _FILE_FILTER)
        if path:
            with self._saying_problems():
                kept = self._controller.library.add_file(Path(path))
                self._controller.say(_("The token is in your library as {name}.").format(name=kept.stem))
            self.update()

    def _delete(self) -> None:
        row = self._selected
        if row is None or row.path is None:
            return
        question = _("Delete the token {name} from your library? This cannot be undone.").format(name=row.path.stem)
        if slicer.util.confirmOkCancelDisplay(question, _("Delete token")):
            with self._saying_problems():
                self._controller.library.delete(row.path)
            self.update()

    def _content(self, row: _Row) -> bytes:
        case = self._controller.case
        if row.key is not None and case is not None:
            return case.tokens()[row.key]
        assert row.path is not None
        return _read(row.path)

    def _set_folder(self, folder: str) -> None:
        if folder:
            slicer.app.userSettings().setValue(FOLDER_SETTING, folder)
            self._controller.library.folder = Path(folder)
            self.update()

    @contextmanager
    def _saying_problems(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            self._controller.say(str(error))


def library_folder() -> Path:
    """The folder that the user chose, or one beside the application's settings."""
    settings = slicer.app.userSettings()
    return Path(settings.value(FOLDER_SETTING, "") or Path(settings.fileName()).parent / "PromptSegTokens")


def _may_replace(path: Path) -> bool:
    question = _("{path} exists already. Replace it?").format(path=path)
    return not path.exists() or bool(slicer.util.confirmOkCancelDisplay(question, _("Export token")))


def _changed_at(path: Path) -> int:
    """When a file was written, in ns; 0 for one that cannot be looked at, such as a link to nowhere."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(_("{path} cannot be read: choose another token.").format(path=path)) from error


def _center_text(center: Center) -> str:
    scans = center.training.scans
    text = _("{name} (1 scan)") if scans == 1 else _("{name} ({scans} scans)")
    return text.format(name=center.name, scans=scans)


def _details(row: _Row) -> str:
    token = row.token
    if token is None:
        return ""
    training = token.training
    learned = _("Learned from {slices} in {seconds} s on {date}.").format(
        slices=slices_text(training.slices), seconds=round(training.seconds), date=training.date
    )
    lines = [learned]
    if training.held_out_dsc is not None:
        percent = _("{percent}%").format(percent=round(100 * training.held_out_dsc))
        lines.append(_("Agreement with the part of the drawing kept aside: {percent}.").format(percent=percent))
    if token.terminology is not None:
        lines.append(f"{token.terminology.meaning} ({token.terminology.scheme} {token.terminology.code})")
    if token.size is not None:
        lines.append(_("Size: about {volume}.").format(volume=volume_text(token.size.ml)))
    if token.shapes:
        scans = _("one scan") if len(token.shapes) == 1 else _("{count} scans").format(count=len(token.shapes))
        lines.append(_("Knows its shape from {scans}.").format(scans=scans))
    lines.append(_("Backbone: {name}.").format(name=token.backbone.name))
    if token.centers:
        names = ", ".join(_center_text(center) for center in token.centers)
        lines.append(_("Centers, chosen by what a scan is like: {names}.").format(names=names))
    if row.path is not None:
        lines.append(str(row.path))
    return "\n".join(lines)
