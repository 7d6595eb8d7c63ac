"""A small scripted module, written as for Slicer and knowing nothing of the harness: it thresholds a volume."""

import enum
from typing import Annotated

import numpy as np
import qt
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


class HarnessSample(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Harness sample")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations"]
        self.parent.helpText = _("Thresholds a volume.")


class Side(enum.Enum):
    ABOVE = 1
    BELOW = 2


@parameterNodeWrapper
class HarnessSampleParameterNode:
    volume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    threshold: Annotated[float, WithinRange(0, 200)] = 50.0
    side: Side = Side.ABOVE
    automatic: bool = False
    note: str = ""


class HarnessSampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HarnessSample.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HarnessSampleLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.askButton.clicked.connect(self.onAskButton)
        self.ui.thresholdSlider.connect("valueChanged(double)", self.onThreshold)
        self.initializeParameterNode()

    def cleanup(self):
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.volume:
            self._parameterNode.volume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")

    def setParameterNode(self, parameterNode):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
        self._parameterNode = parameterNode
        if parameterNode:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._checkCanApply)
            self._checkCanApply()

    def _checkCanApply(self, caller=None, event=None):
        ready = bool(self._parameterNode and self._parameterNode.volume and self._parameterNode.segmentation)
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Segment") if ready else _("Choose a volume and a segmentation first")
        self.ui.segmentsTable.setSegmentationNode(self._parameterNode.segmentation)

    def onThreshold(self, value):
        if self._parameterNode and self._parameterNode.automatic and self.ui.applyButton.enabled:
            self.onApplyButton()

    def onApplyButton(self):
        count = self.logic.process(self._parameterNode)
        self.ui.statusLabel.text = _("{count} voxels").format(count=count)

    def onAskButton(self):
        if slicer.util.confirmOkCancelDisplay(_("Clear the note?")):
            self._parameterNode.note = ""


class HarnessSampleLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return HarnessSampleParameterNode(super().getParameterNode())

    def process(self, parameters):
        array = slicer.util.arrayFromVolume(parameters.volume)
        mask = array > parameters.threshold if parameters.side == Side.ABOVE else array <= parameters.threshold
        segmentation = parameters.segmentation
        if segmentation.GetSegmentation().GetSegment("result") is None:
            segmentation.GetSegmentation().AddEmptySegment("result", "result")
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask.astype(np.uint8), segmentation, "result", parameters.volume
        )
        return int(mask.sum())


class HarnessSampleTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_threshold()

    def test_threshold(self):
        self.delayDisplay("Thresholding")
        array = np.zeros((4, 5, 6), np.int16)
        array[1, 2, 3] = 100
        parameters = HarnessSampleLogic().getParameterNode()
        parameters.volume = slicer.util.addVolumeFromArray(array)
        parameters.segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        self.assertEqual(HarnessSampleLogic().process(parameters), 1)
        self.assertIsInstance(qt.QApplication.instance(), qt.QApplication)
