"""Section 6: what hardly anybody needs to change, and the log."""

from __future__ import annotations

from types import SimpleNamespace

import qt
import slicer
from slicer.i18n import tr as _

from PromptSegPanel.controller import Controller
from PromptSegPanel.engine import EngineOptions
from PromptSegPanel.guidance import Situation
from PromptSegPanel.installing import WHEELHOUSE_SETTING

DEVICE_SETTING = "PromptSeg/Device"
BACKBONE_SETTING = "PromptSeg/Backbone"
PROMPTING_SETTING = "PromptSeg/Prompting"


class AdvancedSection:
    """These are settings of the user and the computer, not of a scene: they are kept in the application's settings."""

    def __init__(self, ui: SimpleNamespace, controller: Controller) -> None:
        self._ui = ui
        self._controller = controller
        self._log = ""
        _offer(
            ui.deviceComboBox,
            DEVICE_SETTING,
            (
                (_("Automatic"), "auto"),
                (_("Processor (CPU)"), "cpu"),
                (_("NVIDIA graphics card"), "cuda"),
                (_("Apple graphics"), "mps"),
            ),
        )
        _offer(
            ui.promptingComboBox,
            PROMPTING_SETTING,
            (
                (_("Standard"), "decoder"),
                (_("Light: fewer numbers, for a few simple slices"), "start"),
                (_("Thorough: for structures that are hard to tell apart, slower"), "full"),
            ),
        )
        settings = slicer.app.userSettings()
        ui.backbonePathLineEdit.currentPath = settings.value(BACKBONE_SETTING, "")
        ui.wheelhousePathLineEdit.currentPath = settings.value(WHEELHOUSE_SETTING, "")
        ui.deviceComboBox.connect("currentIndexChanged(int)", lambda index: self._choose())
        ui.promptingComboBox.connect("currentIndexChanged(int)", lambda index: self._choose())
        ui.backbonePathLineEdit.connect("currentPathChanged(QString)", lambda path: self._choose())
        ui.wheelhousePathLineEdit.connect("currentPathChanged(QString)", lambda path: self._choose())
        ui.clearCacheButton.connect("clicked(bool)", lambda checked: controller.clear_cache())
        self._controller.engine.options = self._options

    @property
    def prompting(self) -> str:
        return str(self._ui.promptingComboBox.currentData)

    def update(self, situation: Situation) -> None:
        if self._ui.advancedCollapsibleButton.collapsed:
            return
        log = "\n".join((*self._controller.log, *self._controller.engine.log))
        if log != self._log:
            self._log = log
            self._ui.logText.setPlainText(log)
            self._ui.logText.moveCursor(qt.QTextCursor.End)

    @property
    def _options(self) -> EngineOptions:
        return EngineOptions(str(self._ui.deviceComboBox.currentData), self._ui.backbonePathLineEdit.currentPath or "")

    def _choose(self) -> None:
        options = self._options
        settings = slicer.app.userSettings()
        settings.setValue(DEVICE_SETTING, options.device)
        settings.setValue(BACKBONE_SETTING, options.backbone)
        settings.setValue(PROMPTING_SETTING, self.prompting)
        settings.setValue(WHEELHOUSE_SETTING, self._ui.wheelhousePathLineEdit.currentPath)
        self._controller.engine.options = options
        self._controller.refresh()


def _offer(combo_box: qt.QComboBox, setting: str, choices: tuple[tuple[str, str], ...]) -> None:
    """Fill a list of (text, value) and select the value that the user chose earlier."""
    for text, value in choices:
        combo_box.addItem(text, value)
    index = combo_box.findData(slicer.app.userSettings().value(setting, choices[0][1]))
    combo_box.currentIndex = max(0, index)
