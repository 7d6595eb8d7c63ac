"""The Slicer module PromptSeg: segment a scan from a few drawn slices."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

_HERE = Path(__file__).resolve().parent
# Installed, the library lies beside this file; in a checkout, in the folder above.
for _folder, _package in ((_HERE, "PromptSegPanel"), (_HERE.parent, "PromptSegLib")):
    if importlib.util.find_spec(_package) is None:
        sys.path.insert(0, str(_folder))


class PromptSeg(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent: slicer.qSlicerScriptedLoadableModule) -> None:
        super().__init__(parent)
        self.parent.title = "PromptSeg"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "SegmentEditor"]
        self.parent.contributors = ["The PromptSeg developers"]
        self.parent.helpText = _(
            "Draw a structure on a few slices, press Train, and find it in the rest of the scan and in other scans."
        )
        self.parent.acknowledgementText = _("Based on prompt tuning of a frozen network (PUNet, Fischer et al.).")


@parameterNodeWrapper
class PromptSegParameterNode:
    """What the user chose, kept in the scene.

    inputVolume - the scan.
    segmentation - where structures are drawn, and results applied.
    scribbles - strokes instead of whole slices.
    previewVisible, previewOpacity (percent), show3D - how the preview looks.
    timeBudget - seconds of training at most, for each structure.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    scribbles: bool = False
    previewVisible: bool = True
    previewOpacity: Annotated[float, WithinRange(0, 100)] = 50
    show3D: bool = False
    timeBudget: Annotated[float, WithinRange(5, 300)] = 60


class PromptSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the panel, and follows the scene and the parameter node."""

    def __init__(self, parent: slicer.qSlicerWidget | None = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: PromptSegLogic | None = None
        self._parameterNode: PromptSegParameterNode | None = None
        self._parameterNodeGuiTag = None

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from PromptSegPanel.installing import Installer
        from PromptSegPanel.panel import Panel

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/PromptSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = PromptSegLogic()
        installer = Installer.for_slicer(self.resourcePath("requirements.txt"), progress=self.showProgress)
        self.panel = Panel(self.ui, installer)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """The application closes or the module is reloaded."""
        self.setParameterNode(None)
        self.removeObservers()
        self.panel.close()

    def enter(self) -> None:
        """The user opens the module."""
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self) -> None:
        """The user opens another module."""
        self.panel.exit()

    def onSceneStartClose(self, caller: object, event: object) -> None:
        self.setParameterNode(None)

    def onSceneEndClose(self, caller: object, event: object) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller: object, event: object) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Take the scene's choices, and the scan that is shown if none was chosen yet."""
        from PromptSegPanel.scan import first_scan

        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = first_scan()

    def setParameterNode(self, parameterNode: PromptSegParameterNode | None) -> None:
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
        self._parameterNode = parameterNode
        if parameterNode:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParameterNodeModified)
        self.panel.set_parameters(parameterNode)

    def onParameterNodeModified(self, caller: object = None, event: object = None) -> None:
        # While a scene is imported, what refers to a node may mean another one; the end of it reads anew.
        if not slicer.mrmlScene.IsImporting():
            self.panel.read_parameters()

    def showProgress(self, sentence: str) -> None:
        self.panel.controller.say(sentence)
        slicer.app.processEvents()


class PromptSegLogic(ScriptedLoadableModuleLogic):
    """Holds the parameter node. What the module computes is in PromptSegLib, which scripts use without a window."""

    def getParameterNode(self) -> PromptSegParameterNode:
        return PromptSegParameterNode(super().getParameterNode())


class PromptSegTest(ScriptedLoadableModuleTest):
    """The main job on a generated phantom; skipped where the engine's packages are not installed."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_MainJob()

    def test_MainJob(self) -> None:
        from PromptSegPanel.selftest import missing_packages, run_main_job

        missing = missing_packages(str(_HERE / "Resources" / "requirements.txt"))
        if missing:
            self.delayDisplay(f"Skipped: {', '.join(missing)} not installed")
            return
        overlap = run_main_job(self.delayDisplay)
        self.assertGreater(overlap, 0.8)
        self.delayDisplay(f"Test passed: Dice {overlap:.2f}")
