"""Section 6: what hardly anybody needs to change, and the log."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import qt
import slicer
from slicer.i18n import tr as _

from PromptSegLib.errors import InputError
from PromptSegLib.networks.presets import PUNetPreset, find_preset
from PromptSegPanel.controller import Controller
from PromptSegPanel.engine import EngineOptions
from PromptSegPanel.guidance import Situation
from PromptSegPanel.installing import WHEELHOUSE_SETTING

DEVICE_SETTING = "PromptSeg/Device"
BACKBONE_SETTING = "PromptSeg/Backbone"
PROMPTING_SETTING = "PromptSeg/WhatIsLearned"


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
        settings = slicer.app.userSettings()
        ui.backbonePathLineEdit.currentPath = settings.value(BACKBONE_SETTING, "")
        ui.backboneComboBox.placeholderText = _("Another file")
        self._offer_backbones()
        self._offer_prompting()
        ui.wheelhousePathLineEdit.currentPath = settings.value(WHEELHOUSE_SETTING, "")
        ui.deviceComboBox.connect("currentIndexChanged(int)", lambda index: self._choose())
        ui.promptingComboBox.connect("currentIndexChanged(int)", lambda index: self._choose())
        ui.anewCheckBox.connect("toggled(bool)", lambda checked: self._choose())
        ui.backboneComboBox.connect("currentIndexChanged(int)", lambda index: self._choose_listed_backbone())
        ui.advancedCollapsibleButton.connect("contentsCollapsed(bool)", lambda collapsed: self._offer_backbones())
        ui.backbonePathLineEdit.connect("currentPathChanged(QString)", lambda path: self._choose_backbone())
        ui.wheelhousePathLineEdit.connect("currentPathChanged(QString)", lambda path: self._choose())
        ui.clearCacheButton.connect("clicked(bool)", lambda checked: controller.clear_cache())
        self._controller.engine.options = self._options

    @property
    def prompting(self) -> str | None:
        return str(self._ui.promptingComboBox.currentData) or None

    @property
    def anew(self) -> bool:
        """Not kept in the settings: it is for the one drawing that went wrong."""
        return bool(self._ui.anewCheckBox.checked)

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
        settings.setValue(PROMPTING_SETTING, self.prompting or "")
        settings.setValue(WHEELHOUSE_SETTING, self._ui.wheelhousePathLineEdit.currentPath)
        self._controller.engine.options = options
        self._controller.training = replace(self._controller.training, prompting=self.prompting, anew=self.anew)
        self._controller.refresh()

    def _choose_backbone(self) -> None:
        self._show_backbone()
        self._offer_prompting()
        self._choose()

    def _choose_listed_backbone(self) -> None:
        path = self._ui.backboneComboBox.currentData
        if path is not None:
            self._ui.backbonePathLineEdit.currentPath = path

    def _offer_backbones(self) -> None:
        """List those that are installed now, the shipped one first."""
        combo_box = self._ui.backboneComboBox
        was_blocked = combo_box.blockSignals(True)
        combo_box.clear()
        for text, path in _installed_backbones():
            combo_box.addItem(text, path)
        combo_box.blockSignals(was_blocked)
        self._show_backbone()

    def _show_backbone(self) -> None:
        """Select the chosen file in the list, or nothing if it is none of the list's."""
        combo_box = self._ui.backboneComboBox
        was_blocked = combo_box.blockSignals(True)
        combo_box.currentIndex = combo_box.findData(self._options.backbone)
        combo_box.blockSignals(was_blocked)

    def _offer_prompting(self) -> None:
        """What can be trained of the chosen backbone, or what suits the drawing."""
        texts = {
            "": _("Standard"),
            "end": _("Fast: short training, and quick with many structures"),
            "shallow": _("Light: fewer numbers, for a few simple slices"),
            "decoder": _("Prompts: longer training, for other scans"),
            "full": _("Thorough: for structures that are hard to tell apart, slower"),
        }
        fitting = _prompting_variants(self._options.backbone)
        combo_box = self._ui.promptingComboBox
        was_blocked = combo_box.blockSignals(True)
        combo_box.clear()
        _offer(combo_box, PROMPTING_SETTING, tuple((text, v) for v, text in texts.items() if not v or v in fitting))
        combo_box.blockSignals(was_blocked)


def _installed_backbones() -> list[tuple[str, str]]:
    """What a list shows of each installed backbone, and its file; empty stands for the shipped one, which is first."""
    found = [(_("Comes with PromptSeg"), "")]
    # Before the packages are installed, safetensors is not there.
    with suppress(ImportError):
        from PromptSegLib.networks.catalog import DEFAULT_BACKBONE, list_backbones

        for info in list_backbones():
            text = f"{info.name} ({info.family})"
            if info.name == DEFAULT_BACKBONE:
                found[0] = (text, "")
            else:
                found.append((text, str(info.path)))
    return found


def _prompting_variants(backbone: str) -> tuple[str, ...]:
    """Of this backbone file; those of the shipped one also for a file that cannot be read: the engine says why not."""
    if backbone:
        with suppress(ImportError, InputError):
            from PromptSegLib.networks.catalog import read_info

            return find_preset(read_info(Path(backbone)).preset).prompting_variants
    return PUNetPreset.prompting_variants


def _offer(combo_box: qt.QComboBox, setting: str, choices: tuple[tuple[str, str], ...]) -> None:
    """Fill a list of (text, value) and select the value that the user chose earlier."""
    for text, value in choices:
        combo_box.addItem(text, value)
    index = combo_box.findData(slicer.app.userSettings().value(setting, choices[0][1]))
    combo_box.currentIndex = max(0, index)
