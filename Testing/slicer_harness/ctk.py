"""The module that Slicer's Python calls `ctk`: the part of CTK's widgets that a module's panel is made of."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Property, Signal

from Testing.slicer_harness import qt
from Testing.slicer_harness.ctk_numbers import (
    ctkDoubleRangeSlider,
    ctkDoubleSlider,
    ctkDoubleSpinBox,
    ctkRangeWidget,
    ctkSliderWidget,
)
from Testing.slicer_harness.ui_loader import stand_in, stored

__all__ = [
    "ctkCheckBox",
    "ctkCheckablePushButton",
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
    "ctkColorPickerButton",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkDoubleRangeSlider",
    "ctkDoubleSlider",
    "ctkDoubleSpinBox",
    "ctkFittedTextBrowser",
    "ctkMenuButton",
    "ctkMessageBox",
    "ctkPathLineEdit",
    "ctkRangeWidget",
    "ctkSliderWidget",
]
HEADER_HEIGHT = 24
WANTED = "visibilityToParent"
"""CTK's property of a child that was shown or hidden by someone else than the section."""
UNLIMITED = 16777215
"""Qt's largest widget size."""


@stand_in
class ctkCollapsibleButton(qt.QWidget):
    """A titled section that opens and closes. Abstract button in CTK: `checked` means open."""

    contentsCollapsed = Signal(bool)
    clicked = Signal(bool)
    toggled = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(next((it for it in arguments if isinstance(it, qt.QWidget)), None))
        self._text = next((it for it in arguments if isinstance(it, str)), "")
        self._collapsed = False
        self._showing = False
        self.setContentsMargins(6, HEADER_HEIGHT + 4, 6, 4)
        self.setFocusPolicy(qt.Qt.StrongFocus)

    def _set_text(self, text: str) -> None:
        self._text = text
        self.update()

    def _set_collapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self._show_contents()
        self.contentsCollapsed.emit(collapsed)
        self.toggled.emit(not collapsed)

    def _show_contents(self) -> None:
        for child in self.children():
            if isinstance(child, qt.QWidget):
                self._adopt(child)
                self._show_child(child)
        self.setMaximumHeight(HEADER_HEIGHT if self._collapsed else UNLIMITED)
        self.updateGeometry()
        self.update()

    def _adopt(self, child: qt.QWidget) -> None:
        """From now on it is known whether the module wants this child visible in an open section."""
        if child.property(WANTED) is None:
            hidden = child.isHidden() and child.testAttribute(qt.Qt.WA_WState_ExplicitShowHide)
            child.setProperty(WANTED, not hidden)
            child.installEventFilter(self)

    def _show_child(self, child: qt.QWidget) -> None:
        self._showing = True
        child.setVisible(child.property(WANTED) and not self._collapsed)
        self._showing = False

    def eventFilter(self, child: qt.QObject, event: qt.QEvent) -> bool:
        if not self._showing:
            if event.type() == qt.QEvent.ShowToParent:
                child.setProperty(WANTED, True)
                self._show_child(child)
            elif event.type() == qt.QEvent.HideToParent:
                child.setProperty(WANTED, False)
        return False

    text = Property(str, lambda self: self._text, _set_text)
    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)
    checked = Property(bool, lambda self: not self._collapsed, lambda self, on: self._set_collapsed(not on))
    flat = stored(bool, "flat", False)
    contentsFrameShape = stored(int, "contentsFrameShape", 0)
    contentsFrameShadow = stored(int, "contentsFrameShadow", 0)
    collapsedHeight = stored(int, "collapsedHeight", 10)

    def isChecked(self) -> bool:
        return self.checked

    def click(self) -> None:
        self._set_collapsed(not self._collapsed)
        self.clicked.emit(not self._collapsed)

    def toggle(self) -> None:
        self._set_collapsed(not self._collapsed)

    def showEvent(self, event: qt.QShowEvent) -> None:
        self._show_contents()

    def mousePressEvent(self, event: qt.QMouseEvent) -> None:
        if event.position().y() < HEADER_HEIGHT:
            self.click()

    def keyPressEvent(self, event: qt.QKeyEvent) -> None:
        if event.key() == qt.Qt.Key_Space:
            self.click()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: qt.QPaintEvent) -> None:
        header = qt.QStyleOptionButton()
        header.initFrom(self)
        header.rect = qt.QRect(0, 0, self.width, HEADER_HEIGHT)
        painter = qt.QPainter(self)
        self.style().drawPrimitive(qt.QStyle.PE_PanelButtonCommand, header, painter, self)
        header.rect = qt.QRect(6, 6, 12, 12)
        arrow = qt.QStyle.PE_IndicatorArrowRight if self._collapsed else qt.QStyle.PE_IndicatorArrowDown
        self.style().drawPrimitive(arrow, header, painter, self)
        painter.setPen(self.palette.color(qt.QPalette.ButtonText))
        painter.drawText(qt.QRect(24, 0, self.width - 24, HEADER_HEIGHT), qt.Qt.AlignVCenter, self._text)
        painter.end()


@stand_in
class ctkCollapsibleGroupBox(qt.QGroupBox):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.setCheckable(True)
        self.toggled.connect(lambda opened: self._show_contents())

    def _show_contents(self) -> None:
        for child in self.children():
            if isinstance(child, qt.QWidget):
                child.setVisible(self.checked)

    collapsed = Property(bool, lambda self: not self.checked, lambda self, closed: self.setChecked(not closed))
    collapsedHeight = stored(int, "collapsedHeight", 14)


@stand_in
class ctkPathLineEdit(qt.QWidget):
    """A path, typed or chosen in a file dialog, with a history under its settings key."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    Dirs, Files, Drives, NoSymLinks = 0x001, 0x002, 0x004, 0x008
    Readable, Writable, Executable, Hidden, System = 0x010, 0x020, 0x040, 0x100, 0x200
    NoDot, NoDotDot, NoDotAndDotDot, AllEntries = 0x2000, 0x4000, 0x6000, 0x007

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._edit = qt.QLineEdit()
        self._button = qt.QToolButton()
        self._button.text = "..."
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit, 1)
        layout.addWidget(self._button)
        self._edit.textChanged.connect(self.currentPathChanged)
        self._button.clicked.connect(self.browse)

    currentPath = Property(str, lambda self: self._edit.text, lambda self, path: self._edit.setText(path))
    settingKey = stored(str, "settingKey", "")
    filters = stored(int, "filters", 0)
    nameFilters = stored("QStringList", "nameFilters", [])
    label = stored(str, "label", "")
    showBrowseButton = Property(
        bool, lambda self: not self._button.isHidden(), lambda self, shown: self._button.setVisible(shown)
    )
    showHistoryButton = stored(bool, "showHistoryButton", True)
    sizeAdjustPolicy = stored(int, "sizeAdjustPolicy", 0)

    def browse(self) -> None:
        wants_folder = self.filters & self.Dirs and not self.filters & self.Files
        ask = qt.QFileDialog.getExistingDirectory if wants_folder else qt.QFileDialog.getOpenFileName
        path = ask(self, self.label or "Select a path", self.currentPath)
        if path:
            self.currentPath = path

    def addCurrentPathToHistory(self) -> None:
        if self.settingKey:
            qt.QSettings().setValue(self.settingKey, self.currentPath)

    def retrieveHistory(self) -> None:
        if self.settingKey:
            self.currentPath = qt.QSettings().value(self.settingKey, "")


@stand_in
class ctkDirectoryButton(qt.QPushButton):
    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(next((it for it in arguments if isinstance(it, qt.QWidget)), None))
        self._directory = ""
        self.clicked.connect(self.browse)

    def _set_directory(self, directory: str) -> None:
        if directory != self._directory:
            self._directory = directory
            self.setText(directory)
            self.directoryChanged.emit(directory)

    directory = Property(str, lambda self: self._directory, _set_directory)
    caption = stored(str, "caption", "")

    def browse(self) -> None:
        directory = qt.QFileDialog.getExistingDirectory(self, self.caption, self._directory)
        if directory:
            self._set_directory(directory)
            self.directorySelected.emit(directory)


@stand_in
class ctkComboBox(qt.QComboBox):
    defaultText = stored(str, "defaultText", "")
    forceDefault = stored(bool, "forceDefault", False)
    scrollWheelEffect = stored(int, "scrollWheelEffect", 1)
    elideMode = stored(int, "elideMode", 3)


@stand_in
class ctkCheckablePushButton(qt.QPushButton):
    checkState = stored(int, "checkState", 0)
    checkBoxControlsButton = stored(bool, "checkBoxControlsButton", True)


@stand_in
class ctkMenuButton(qt.QPushButton):
    """A push button with a menu beside it."""


@stand_in
class ctkCheckBox(qt.QCheckBox):
    pass


@stand_in
class ctkFittedTextBrowser(qt.QTextBrowser):
    collapsed = stored(bool, "collapsed", False)


@stand_in
class ctkColorPickerButton(qt.QPushButton):
    colorChanged = Signal(qt.QColor)

    def _set_color(self, color: qt.QColor) -> None:
        if color != self._color():
            self.__dict__["_kept_color"] = qt.QColor(color)
            self.colorChanged.emit(color)

    def _color(self) -> qt.QColor:
        return self.__dict__.get("_kept_color", qt.QColor(0, 0, 0))

    color = Property(qt.QColor, lambda self: self._color(), _set_color)
    displayColorName = stored(bool, "displayColorName", True)


class ctkMessageBox(qt.QMessageBox):
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")
