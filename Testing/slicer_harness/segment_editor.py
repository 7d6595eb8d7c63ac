"""The segment editor's window over its real logic. Paint and Erase work in the slice views; other effects are names."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6.QtCore import Property, Signal
from shiboken6 import isValid

from Testing.slicer_harness import qt
from Testing.slicer_harness.mrml_widgets import qMRMLNodeComboBox, qMRMLWidget
from Testing.slicer_harness.segment_effects import (
    COLUMNS,
    EFFECTS,
    NO_EFFECT,
    Brush,
    EffectButtons,
    SegmentEditorEffect,
)
from Testing.slicer_harness.segment_widgets import (
    qMRMLSegmentationShow3DButton,
    qMRMLSegmentsTableView,
    segment_events,
    segment_ids,
)
from Testing.slicer_harness.ui_loader import stand_in, stored


@stand_in
class qMRMLSegmentEditorWidget(qMRMLWidget):
    currentSegmentIDChanged = Signal(str)
    segmentationNodeChanged = Signal(object)
    sourceVolumeNodeChanged = Signal(object)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._node: Any = None
        self._node_tags: list[int] = []
        self._shown: tuple[Any, Any, str, str] = (None, None, "", "")
        self._brush = Brush(self, self._logic)
        self._shortcuts: list[qt.QShortcut] = []
        self._effects = {name: SegmentEditorEffect(name, self) for name in EFFECTS}
        self._build()

    def _build(self) -> None:
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._segmentation_box = self._node_box("vtkMRMLSegmentationNode", self.setSegmentationNode)
        self._volume_box = self._node_box("vtkMRMLScalarVolumeNode", self.setSourceVolumeNode)
        form = qt.QFormLayout()
        self._segmentation_label, self._volume_label = qt.QLabel("Segmentation:"), qt.QLabel("Source volume:")
        form.addRow(self._segmentation_label, self._segmentation_box)
        form.addRow(self._volume_label, self._volume_box)
        layout.addLayout(form)
        segments = qt.QHBoxLayout()
        self._add, self._remove = qt.QPushButton("Add"), qt.QPushButton("Remove")
        self._show3d = qMRMLSegmentationShow3DButton()
        for button in (self._add, self._remove, self._show3d):
            segments.addWidget(button)
        layout.addLayout(segments)
        self._table = qMRMLSegmentsTableView()
        self._table.selectionMode = qt.QAbstractItemView.SingleSelection
        self._table.setMinimumHeight(90)
        layout.addWidget(self._table, 1)
        self._buttons = EffectButtons()
        self._buttons.chosen.connect(self.setActiveEffectByName)
        layout.addWidget(self._buttons)
        history = qt.QHBoxLayout()
        self._undo, self._redo = qt.QPushButton("Undo"), qt.QPushButton("Redo")
        history.addWidget(self._undo)
        history.addWidget(self._redo)
        layout.addLayout(history)
        self._add.clicked.connect(self._add_segment)
        self._remove.clicked.connect(self._remove_segment)
        self._table.selectionChanged.connect(self._follow_table)
        self._undo.clicked.connect(self.undo)
        self._redo.clicked.connect(self.redo)
        self._observe(self._logic, self._logic.SegmentationHistoryChangedEvent, self.updateWidgetFromMRML)
        self.updateWidgetFromMRML()

    def _node_box(self, node_type: str, choose: Any) -> qMRMLNodeComboBox:
        box = qMRMLNodeComboBox()
        box.nodeTypes = [node_type]
        box.noneEnabled = True
        box.currentNodeChanged.connect(lambda node: choose(node) if self._node is not None else None)
        return box

    segmentationNodeSelectorVisible = Property(
        bool,
        lambda self: not self._segmentation_box.isHidden(),
        lambda self, shown: _show((self._segmentation_label, self._segmentation_box), shown),
    )
    sourceVolumeNodeSelectorVisible = Property(
        bool,
        lambda self: not self._volume_box.isHidden(),
        lambda self, shown: _show((self._volume_label, self._volume_box), shown),
    )
    addRemoveSegmentButtonsVisible = Property(
        bool, lambda self: not self._add.isHidden(), lambda self, shown: _show((self._add, self._remove), shown)
    )
    show3DButtonVisible = Property(
        bool, lambda self: not self._show3d.isHidden(), lambda self, shown: _show((self._show3d,), shown)
    )
    undoEnabled = Property(
        bool, lambda self: not self._undo.isHidden(), lambda self, shown: _show((self._undo, self._redo), shown)
    )
    maximumNumberOfUndoStates = Property(
        int,
        lambda self: self._logic.GetMaximumNumberOfUndoStates(),
        lambda self, count: self._logic.SetMaximumNumberOfUndoStates(count),
    )
    readOnly = Property(bool, lambda self: not self._table.enabled, lambda self, only: self._set_read_only(only))
    maskingSectionVisible = stored(bool, "maskingSectionVisible", True)
    specifyGeometryButtonVisible = stored(bool, "specifyGeometryButtonVisible", True)
    switchToSegmentationsButtonVisible = stored(bool, "switchToSegmentationsButtonVisible", True)
    autoShowSourceVolumeNode = stored(bool, "autoShowSourceVolumeNode", True)
    unorderedEffectsVisible = Property(
        bool,
        lambda self: self._buttons.unordered_visible(),
        lambda self, shown: self._buttons.show_unordered(shown),
    )
    effectButtonStyle = stored(int, "effectButtonStyle", 0)
    effectColumnCount = stored(int, "effectColumnCount", COLUMNS)
    jumpToSelectedSegmentEnabled = stored(bool, "jumpToSelectedSegmentEnabled", False)
    defaultTerminologyEntrySettingsKey = stored(str, "defaultTerminologyEntrySettingsKey", "")
    defaultTerminologyEntry = stored(str, "defaultTerminologyEntry", "")

    def _set_read_only(self, only: bool) -> None:
        for widget in (self._table, self._add, self._remove, self._buttons):
            widget.setEnabled(not only)

    # Scene, node, segmentation, source volume

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._logic.SetMRMLScene(scene)
        for widget in (self._segmentation_box, self._volume_box, self._table):
            widget.setMRMLScene(scene)

    def mrmlSegmentEditorNode(self) -> Any:
        return self._node

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        for tag in self._node_tags:
            self._node.RemoveObserver(tag)
        self._node = node
        self._logic.SetSegmentEditorNode(node)
        self._node_tags = [] if node is None else [node.AddObserver("ModifiedEvent", self._follow_node)]
        self.updateWidgetFromMRML()

    def _follow_node(self, caller: Any, event: str) -> None:
        if isValid(self):
            self.updateWidgetFromMRML()

    def segmentationNode(self) -> Any:
        return self._node.GetSegmentationNode() if self._node is not None else None

    def segmentationNodeID(self) -> str:
        return self.segmentationNode().GetID() if self.segmentationNode() else ""

    def setSegmentationNode(self, node: Any) -> None:
        if self._node is None:
            raise RuntimeError("Set a segment editor node first; Slicer only logs this and goes on without.")
        if node is not self.segmentationNode():
            self._node.SetSelectedSegmentID("")
            self._logic.SetSegmentationNode(node)
            if node is not None and segment_ids(node):
                self._node.SetSelectedSegmentID(segment_ids(node)[0])
        self.updateWidgetFromMRML()

    def setSegmentationNodeID(self, node_id: str) -> None:
        self.setSegmentationNode(self.mrmlScene().GetNodeByID(node_id))

    def sourceVolumeNode(self) -> Any:
        return self._node.GetSourceVolumeNode() if self._node is not None else None

    def sourceVolumeNodeID(self) -> str:
        return self.sourceVolumeNode().GetID() if self.sourceVolumeNode() else ""

    def setSourceVolumeNode(self, node: Any) -> None:
        if self._node is None:
            raise RuntimeError("Set a segment editor node first; Slicer only logs this and goes on without.")
        self._logic.SetSourceVolumeNode(node)
        self.updateWidgetFromMRML()

    def setSourceVolumeNodeID(self, node_id: str) -> None:
        self.setSourceVolumeNode(self.mrmlScene().GetNodeByID(node_id))

    def currentSegmentID(self) -> str:
        return (self._node.GetSelectedSegmentID() or "") if self._node is not None else ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._node.SetSelectedSegmentID(segment_id)

    def updateWidgetFromMRML(self) -> None:
        """Follows the editor node; emits what changed."""
        segmentation, volume, segment_id = self.segmentationNode(), self.sourceVolumeNode(), self.currentSegmentID()
        effect = (self._node.GetActiveEffectName() or "") if self._node is not None else ""
        before, self._shown = self._shown, (segmentation, volume, segment_id, effect)
        if segmentation is not before[0]:
            self._follow_segmentation(segmentation)
        if volume is not before[1]:
            self._volume_box.setCurrentNode(volume)
            self.sourceVolumeNodeChanged.emit(volume)
        if segment_id != before[2] or segmentation is not before[0]:
            self._select_in_table(segment_id)
            self.currentSegmentIDChanged.emit(segment_id)
        self._buttons.show_active(effect or NO_EFFECT)
        if effect != before[3]:
            self.setupViewObservations()
        ready = segmentation is not None and volume is not None and not self.readOnly
        self._add.setEnabled(ready)
        self._remove.setEnabled(ready and bool(segment_id))
        self._buttons.setEnabled(ready and bool(segment_id))
        self._undo.setEnabled(segmentation is not None and self._logic.CanUndo())
        self._redo.setEnabled(segmentation is not None and self._logic.CanRedo())

    def _follow_segmentation(self, node: Any) -> None:
        self._stop_observing()
        self._observe(self._logic, self._logic.SegmentationHistoryChangedEvent, self.updateWidgetFromMRML)
        if node is not None:
            for event in segment_events():
                self._observe(node.GetSegmentation(), event, self._check_selection)
        self._segmentation_box.setCurrentNode(node)
        self._table.setSegmentationNode(node)
        self._show3d.setSegmentationNode(node)
        self.segmentationNodeChanged.emit(node)

    def _check_selection(self) -> None:
        """A removed segment is no longer the selected one, and the first one added is."""
        ids = segment_ids(self.segmentationNode())
        if self.currentSegmentID() not in ids:
            self._node.SetSelectedSegmentID(ids[0] if ids else "")
        self._select_in_table(self.currentSegmentID())

    # Segments

    def _select_in_table(self, segment_id: str) -> None:
        self._table.blockSignals(True)
        self._table.setSelectedSegmentIDs([segment_id])
        self._table.blockSignals(False)

    def _follow_table(self, selected: Any, deselected: Any) -> None:
        ids = self._table.selectedSegmentIDs()
        if ids and self._node is not None:
            self.setCurrentSegmentID(ids[0])

    def _add_segment(self) -> None:
        self._logic.SaveStateForUndo()
        self.setCurrentSegmentID(self._logic.AddEmptySegment())

    def _remove_segment(self) -> None:
        self._logic.SaveStateForUndo()
        self._logic.RemoveSelectedSegment()

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def undo(self) -> None:
        self._logic.Undo()
        self.updateWidgetFromMRML()

    def redo(self) -> None:
        self._logic.Redo()
        self.updateWidgetFromMRML()

    def rotateSliceViewsToSegmentation(self) -> None:
        for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            node.RotateToVolumePlane(self.sourceVolumeNode())

    # Effects

    def availableEffectNames(self) -> tuple[str, ...]:
        return EFFECTS

    def effectNameOrder(self) -> tuple[str, ...]:
        return self._buttons.order()

    def setEffectNameOrder(self, names: list[str]) -> None:
        self._buttons.set_order(names)

    def effectByName(self, name: str) -> SegmentEditorEffect | None:
        return self._effects.get(name)

    def activeEffect(self) -> SegmentEditorEffect | None:
        return self._effects.get((self._node.GetActiveEffectName() or "") if self._node is not None else "")

    def setActiveEffect(self, effect: SegmentEditorEffect | None) -> None:
        self.setActiveEffectByName(effect.name if effect is not None else "")

    def setActiveEffectByName(self, name: str) -> None:
        self._node.SetActiveEffectName(name if name in EFFECTS else "")
        self.updateWidgetFromMRML()

    def installKeyboardShortcuts(self, parent: qt.QWidget | None = None) -> None:
        self.uninstallKeyboardShortcuts()
        for keys, call in (("Ctrl+Z", self.undo), ("Ctrl+Y", self.redo)):
            shortcut = qt.QShortcut(qt.QKeySequence(keys), parent or self)
            shortcut.activated.connect(call)
            self._shortcuts.append(shortcut)

    def uninstallKeyboardShortcuts(self) -> None:
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.deleteLater()
        self._shortcuts.clear()

    def setupViewObservations(self) -> None:
        active = self.activeEffect()
        if active is not None and active.name in ("Paint", "Erase"):
            self._brush.watch()
        else:
            self._brush.stop()

    def removeViewObservations(self) -> None:
        self._brush.stop()


def _show(widgets: tuple[qt.QWidget, ...], shown: bool) -> None:
    for widget in widgets:
        widget.setVisible(shown)
