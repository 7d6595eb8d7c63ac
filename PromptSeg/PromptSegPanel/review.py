"""Section 4: look at the preview, and take it or leave it."""

from __future__ import annotations

from types import SimpleNamespace

import qt
from slicer.i18n import tr as _

from PromptSegPanel.case import Case
from PromptSegPanel.controller import Controller
from PromptSegPanel.guidance import Situation, Structure, volume_text

_MOST_ROWS = 5


class ReviewSection:
    """
    Args:
        editor: the segment editor, which keeps the undo steps.
    """

    def __init__(self, ui: SimpleNamespace, controller: Controller, editor: qt.QWidget) -> None:
        self._ui = ui
        self._controller = controller
        self._editor = editor
        self._case: Case | None = None
        self._found: tuple[Structure, ...] | None = None
        header = ui.resultsTable.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        ui.previewCheckBox.connect("toggled(bool)", lambda on: self._set_display())
        ui.show3DCheckBox.connect("toggled(bool)", lambda on: self._set_display())
        ui.opacitySlider.connect("valueChanged(double)", lambda value: self._set_display())
        ui.applyButton.connect("clicked(bool)", lambda checked: self.apply())
        ui.discardButton.connect("clicked(bool)", lambda checked: controller.discard())
        ui.undoButton.connect("clicked(bool)", lambda checked: self._undo())
        ui.suggestButton.connect("clicked(bool)", lambda checked: self.suggest())

    def apply(self) -> None:
        if self._ui.applyButton.enabled:
            self._controller.apply(self._editor.mrmlSegmentEditorNode(), self._editor.saveStateForUndo)

    def suggest(self) -> None:
        """The slice to draw next of the structure that is selected, if one is."""
        if self._ui.suggestButton.enabled:
            row = self._ui.resultsTable.currentRow()
            found = self._found or ()
            self._controller.suggest(found[row].key if 0 <= row < len(found) else None)

    def update(self, situation: Situation) -> None:
        found = tuple(s for s in situation.structures if s.confidence is not None)
        if found != self._found:
            self._found = found
            self._fill_table(found)
        if self._controller.case is not self._case:
            self._case = self._controller.case
            self._set_display()

    def _undo(self) -> None:
        self._editor.undo()
        self._controller.note_undone()

    def _set_display(self) -> None:
        case = self._controller.case
        if case is not None:
            case.preview.visible = self._ui.previewCheckBox.checked
            case.preview.opacity = self._ui.opacitySlider.value / 100
            case.preview.show_3d = self._ui.show3DCheckBox.checked

    def _fill_table(self, found: tuple[Structure, ...]) -> None:
        table = self._ui.resultsTable
        table.clearSelection()
        table.setCurrentCell(-1, -1)
        table.setRowCount(len(found))
        for row, structure in enumerate(found):
            cells = (structure.name, _percent(structure.confidence), _volume(structure.ml))
            for column, text in enumerate(cells):
                cell = qt.QTableWidgetItem(text)
                if column:
                    cell.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(row, column, cell)
        table.visible = bool(found)
        table.resizeRowsToContents()
        rows = sum(table.rowHeight(row) for row in range(min(len(found), _MOST_ROWS)))
        table.setFixedHeight(table.horizontalHeader().height + rows + 2 * table.frameWidth)


def _percent(part: float | None) -> str:
    return "" if not part else _("{percent}%").format(percent=round(100 * part))


def _volume(ml: float | None) -> str:
    return volume_text(ml) if ml else _("not found")
