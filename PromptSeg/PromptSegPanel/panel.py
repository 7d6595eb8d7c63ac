"""The panel as a whole: its sections, its clock and its keys."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Protocol

import qt
import slicer
from slicer.i18n import tr as _

from PromptSegLib.engine.client import Client
from PromptSegLib.errors import InputError
from PromptSegPanel import scan
from PromptSegPanel.advanced import AdvancedSection
from PromptSegPanel.controller import Controller
from PromptSegPanel.draw import DrawSection
from PromptSegPanel.engine import Engine, EngineOptions
from PromptSegPanel.explained import ExplainedControls
from PromptSegPanel.guidance import status, why_not
from PromptSegPanel.installing import Installer
from PromptSegPanel.library import TokenLibrary
from PromptSegPanel.process import QProcessTransport, wait_for_leaving
from PromptSegPanel.review import ReviewSection
from PromptSegPanel.state import TrainingOptions
from PromptSegPanel.tokens import TokensSection, library_folder
from PromptSegPanel.train import TrainSection

_POLL_MS = 50
# Painting sends many events; one look at the drawing after the last of them is enough.
_REFRESH_MS = 150


class Parameters(Protocol):
    """The choices that are kept in the scene, as the module's parameter node has them."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode | None
    segmentation: slicer.vtkMRMLSegmentationNode | None
    timeBudget: float
    scribbles: bool


class Panel:
    """Connects widgets and controller.

    Args:
        ui: the widgets of PromptSeg.ui by name.
        installer: of the packages that the engine needs.
    """

    def __init__(self, ui: SimpleNamespace, installer: Installer) -> None:
        self._ui = ui
        self._installer = installer
        self._parameters: Parameters | None = None
        self._volume_node: slicer.vtkMRMLScalarVolumeNode | None = None
        self._is_closed = False
        self._shortcuts: list[qt.QShortcut] = []
        self._refresh_timer = qt.QTimer()
        self._refresh_timer.setSingleShot(True)
        self._refresh_timer.setInterval(_REFRESH_MS)
        self._poll_timer = qt.QTimer()
        self._poll_timer.setInterval(_POLL_MS)
        engine = Engine(_make_client, lambda sentence: self.controller.say(sentence))
        self.controller = Controller(
            engine, TokenLibrary(library_folder()), self._update, lambda: self._refresh_timer.start()
        )
        self._draw = DrawSection(ui)
        self._train = TrainSection(ui, self.controller)
        self._review = ReviewSection(ui, self.controller, self._draw.editor)
        self._tokens = TokensSection(ui, self.controller)
        self._advanced = AdvancedSection(ui, self.controller)
        self._controls = ExplainedControls(
            {
                "train": (ui.trainButton,),
                "finish": (ui.finishButton,),
                "preview": (ui.previewCheckBox, ui.opacitySlider, ui.show3DCheckBox),
                "apply": (ui.applyButton,),
                "discard": (ui.discardButton,),
                "undo": (ui.undoButton,),
                "suggest": (ui.suggestButton,),
                "advanced": (ui.deviceComboBox, ui.backboneComboBox, ui.backbonePathLineEdit, ui.clearCacheButton),
            }
        )
        ui.installButton.connect("clicked(bool)", lambda checked: self._install())
        self._refresh_timer.connect("timeout()", self.controller.refresh)
        self._poll_timer.connect("timeout()", self.controller.poll)
        self._poll_timer.start()

    def enter(self) -> None:
        """The module is shown."""
        self._draw.enter()
        for keys, action in (
            ("Ctrl+Shift+T", self._train.train_or_cancel),
            ("Ctrl+Shift+A", self._review.apply),
            ("Ctrl+Shift+N", self._review.suggest),
            ("Ctrl+Shift+P", self._toggle_preview),
        ):
            shortcut = qt.QShortcut(qt.QKeySequence(keys), slicer.util.mainWindow() or self._ui.statusFrame)
            shortcut.connect("activated()", action)
            self._shortcuts.append(shortcut)
        self.check_packages()

    def exit(self) -> None:
        """Another module is shown. What is being computed goes on."""
        self._draw.exit()
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    def close(self) -> None:
        """The application ends or the module is reloaded."""
        self._is_closed = True
        self._poll_timer.stop()
        self._refresh_timer.stop()
        self.exit()
        self.controller.close()
        wait_for_leaving()

    def set_parameters(self, parameters: Parameters | None) -> None:
        """Take the choices from a parameter node; None when the scene closes."""
        self._parameters = parameters
        if parameters is None:
            self._volume_node = None
            self._draw.set_nodes(None, None)
            self.controller.set_scan(None, None)
            return
        self._draw.make_editor_node()
        if parameters.segmentation is not None:
            # As chosen in the scene, whatever its source is.
            self._volume_node = parameters.inputVolume
        self.read_parameters()

    def read_parameters(self) -> None:
        """The user chose something."""
        parameters = self._parameters
        if parameters is None:
            return
        volume_node = parameters.inputVolume
        if volume_node is not self._volume_node:
            self._volume_node = volume_node
            if volume_node is not None and not scan.fits(parameters.segmentation, volume_node):
                parameters.segmentation = scan.segmentation_of(volume_node)
        is_read_otherwise = parameters.scribbles != self.controller.training.scribbles
        self.controller.training = TrainingOptions(
            parameters.timeBudget, self._advanced.prompting, parameters.scribbles, self._advanced.anew
        )
        self._draw.set_nodes(volume_node, parameters.segmentation)
        self.controller.set_scan(volume_node, parameters.segmentation)
        if is_read_otherwise:
            self.controller.refresh()

    def check_packages(self) -> None:
        """Find out whether everything that the engine needs is there; costs a few milliseconds."""
        self.controller.missing_packages = tuple(self._installer.missing())
        self.controller.refresh()

    def _install(self) -> None:
        self.controller.engine.stop()
        try:
            outcome = self._installer.install()
        except InputError as error:
            self.controller.say(str(error))
            return
        if self._is_closed:
            return
        self.check_packages()
        self.controller.say(outcome.message)
        if outcome.restart and slicer.util.confirmYesNoDisplay(_("Slicer must be restarted. Restart it now?")):
            slicer.util.restart()

    def _toggle_preview(self) -> None:
        self._ui.previewCheckBox.click()

    def _update(self) -> None:
        if self._is_closed:
            # An installation that the application was closed in still says what becomes of it.
            return
        situation = self.controller.situation
        self._ui.statusLabel.text = status(situation)
        self._ui.installButton.visible = bool(situation.missing_packages)
        self._controls.update(why_not(situation))
        for section in (self._draw, self._train, self._review, self._tokens, self._advanced):
            section.update(situation)


def _make_client(options: EngineOptions) -> Client:
    return Client(QProcessTransport, device=options.device, backbone=options.backbone or None)
