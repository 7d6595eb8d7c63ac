"""Widgets around one segmentation: the table of its segments, the box to choose one, the 3-D button."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtCore import Property, Signal

from Testing.slicer_harness import qt
from Testing.slicer_harness.mrml_widgets import Observing, qMRMLNodeComboBox, qMRMLWidget
from Testing.slicer_harness.ui_loader import stand_in, stored

CLOSED_SURFACE = "Closed surface"
VISIBLE, HIDDEN = "\N{BLACK CIRCLE}", "\N{WHITE CIRCLE}"


def segment_events() -> tuple[int, ...]:
    events = slicer.vtkSegmentation
    return events.SegmentAdded, events.SegmentRemoved, events.SegmentModified, events.SegmentsOrderModified


def segment_ids(node: Any) -> list[str]:
    return list(node.GetSegmentation().GetSegmentIDs()) if node is not None else []


def visible_segment_ids(node: Any) -> tuple[str, ...]:
    display = node.GetDisplayNode() if node is not None else None
    if display is None:
        return ()
    # While a segment is being added its display properties are not there yet, of which the display node complains.
    vtk.vtkObject.GlobalWarningDisplayOff()
    try:
        return tuple(display.GetVisibleSegmentIDs())
    finally:
        vtk.vtkObject.GlobalWarningDisplayOn()


@stand_in
class qMRMLSegmentsTableView(qMRMLWidget):
    """Segments with their visibility, color and name; a click on the visibility toggles it."""

    selectionChanged = Signal(qt.QItemSelection, qt.QItemSelection)
    segmentAboutToBeModified = Signal(str)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._hidden: list[str] = []
        self._table = qt.QTableWidget(0, 3)
        self._table.setHorizontalHeaderLabels(["", "", "Name"])
        self._table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        self._table.horizontalHeader().setStretchLastSection(True)
        self._table.verticalHeader().hide()
        for column in (0, 1):
            self._table.setColumnWidth(column, 28)
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)
        self._table.selectionModel().selectionChanged.connect(self.selectionChanged)
        self._table.cellClicked.connect(self._click)
        self._table.itemChanged.connect(self._rename)

    selectionMode = Property(
        int, lambda self: int(self._table.selectionMode), lambda self, mode: self._set_selection_mode(mode)
    )
    headerVisible = Property(
        bool,
        lambda self: not self._table.horizontalHeader().isHidden(),
        lambda self, shown: self._table.horizontalHeader().setVisible(shown),
    )
    segmentCount = Property(int, lambda self: len(self.displayedSegmentIDs()))
    visibilityColumnVisible = stored(bool, "visibilityColumnVisible", True)
    colorColumnVisible = stored(bool, "colorColumnVisible", True)
    opacityColumnVisible = stored(bool, "opacityColumnVisible", False)
    statusColumnVisible = stored(bool, "statusColumnVisible", False)
    layerColumnVisible = stored(bool, "layerColumnVisible", False)
    filterBarVisible = stored(bool, "filterBarVisible", False)
    textFilter = stored(str, "textFilter", "")
    readOnly = stored(bool, "readOnly", False)
    jumpToSelectedSegmentEnabled = stored(bool, "jumpToSelectedSegmentEnabled", False)

    def _set_selection_mode(self, mode: int) -> None:
        self._table.selectionMode = mode

    def tableWidget(self) -> qt.QTableWidget:
        return self._table

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._stop_observing()
        self._node = node
        if node is not None:
            for event in segment_events():
                self._observe(node.GetSegmentation(), event, self._refresh)
            self._observe(node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, self._refresh)
        self._refresh()

    def setHideSegments(self, ids: list[str]) -> None:
        self._hidden = list(ids)
        self._refresh()

    def hideSegments(self) -> tuple[str, ...]:
        return tuple(self._hidden)

    def displayedSegmentIDs(self) -> tuple[str, ...]:
        return tuple(it for it in segment_ids(self._node) if it not in self._hidden)

    def _refresh(self) -> None:
        selected = self.selectedSegmentIDs()
        self._table.blockSignals(True)
        self._table.selectionModel().blockSignals(True)
        self._table.setRowCount(0)
        seen = visible_segment_ids(self._node)
        for row, segment_id in enumerate(self.displayedSegmentIDs()):
            segment = self._node.GetSegmentation().GetSegment(segment_id)
            self._table.insertRow(row)
            eye = qt.QTableWidgetItem(VISIBLE if segment_id in seen else HIDDEN)
            eye.setData(qt.Qt.UserRole, segment_id)
            eye.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            color = qt.QTableWidgetItem()
            color.setData(qt.Qt.DecorationRole, qt.QColor.fromRgbF(*segment.GetColor()))
            color.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            for column, item in enumerate((eye, color, qt.QTableWidgetItem(segment.GetName()))):
                self._table.setItem(row, column, item)
        self.setSelectedSegmentIDs(selected)
        self._table.selectionModel().blockSignals(False)
        self._table.blockSignals(False)

    def _click(self, row: int, column: int) -> None:
        display = self._node.GetDisplayNode()
        if column == 0 and display is not None:
            segment_id = self.segmentIDForRow(row)
            display.SetSegmentVisibility(segment_id, not display.GetSegmentVisibility(segment_id))

    def _rename(self, item: qt.QTableWidgetItem) -> None:
        if item.column() == 2 and not self.readOnly:
            self._node.GetSegmentation().GetSegment(self.segmentIDForRow(item.row())).SetName(item.text())

    def segmentIDForRow(self, row: int) -> str:
        return str(self._table.item(row, 0).data(qt.Qt.UserRole))

    def rowForSegmentID(self, segment_id: str) -> int:
        rows = range(self._table.rowCount)
        return next((row for row in rows if self.segmentIDForRow(row) == segment_id), -1)

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        return tuple(self.segmentIDForRow(index.row()) for index in self._table.selectionModel().selectedRows(0))

    def setSelectedSegmentIDs(self, ids: list[str]) -> None:
        self._table.clearSelection()
        for segment_id in ids:
            row = self.rowForSegmentID(segment_id)
            if row >= 0:
                flags = qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows
                self._table.selectionModel().select(self._table.model().index(row, 0), flags)

    def clearSelection(self) -> None:
        self._table.clearSelection()


@stand_in
class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A segmentation and one of its segments."""

    currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._nodes = qMRMLNodeComboBox()
        self._nodes.nodeTypes = ["vtkMRMLSegmentationNode"]
        self._nodes.addEnabled = self._nodes.removeEnabled = False
        self._segments = qt.QComboBox()
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._nodes)
        layout.addWidget(self._segments)
        self._nodes.currentNodeChanged.connect(self._follow)
        self._segments.currentIndexChanged.connect(lambda row: self.currentSegmentChanged.emit(self.currentSegmentID()))

    noneEnabled = Property(
        bool, lambda self: self._nodes.noneEnabled, lambda self, enabled: self._nodes.setNoneEnabled(enabled)
    )
    segmentationNodeSelectorVisible = Property(
        bool, lambda self: not self._nodes.isHidden(), lambda self, shown: self._nodes.setVisible(shown)
    )
    editEnabled = stored(bool, "editEnabled", False)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._nodes.setMRMLScene(scene)

    def _follow(self, node: Any) -> None:
        self._stop_observing()
        if node is not None:
            for event in segment_events():
                self._observe(node.GetSegmentation(), event, self._refresh)
        self._refresh()
        self.currentNodeChanged.emit(node)

    def _refresh(self) -> None:
        chosen = self.currentSegmentID()
        self._segments.blockSignals(True)
        self._segments.clear()
        for segment_id in self.segmentIDs():
            segment = self.currentNode().GetSegmentation().GetSegment(segment_id)
            self._segments.addItem(segment.GetName(), segment_id)
        self._segments.setCurrentIndex(max(self._segments.findData(chosen), 0))
        self._segments.blockSignals(False)
        if chosen != self.currentSegmentID():
            self.currentSegmentChanged.emit(self.currentSegmentID())

    def currentNode(self) -> Any:
        return self._nodes.currentNode()

    def currentNodeID(self) -> str:
        return self._nodes.currentNodeID

    def setCurrentNode(self, node: Any) -> None:
        self._nodes.setCurrentNode(node)

    def setCurrentNodeID(self, node_id: str) -> None:
        self._nodes.setCurrentNode(node_id)

    def segmentIDs(self) -> tuple[str, ...]:
        return tuple(segment_ids(self.currentNode()))

    def currentSegmentID(self) -> str:
        return self._segments.itemData(self._segments.currentIndex) or ""

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._segments.setCurrentIndex(self._segments.findData(segment_id))


@stand_in
class qMRMLSegmentationShow3DButton(qt.QPushButton, Observing):
    """Creates or removes the closed surfaces of a segmentation."""

    locked = stored(bool, "locked", False)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__("Show 3D", parent)
        self._node: Any = None
        self.setCheckable(True)
        self.setEnabled(False)
        self.toggled.connect(self._show_surfaces)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._stop_observing()
        self._node = node
        if node is not None:
            self._observe(node, slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent, self._refresh)
        self._refresh()

    def _refresh(self) -> None:
        self.setEnabled(self._node is not None and not self.locked)
        self.blockSignals(True)
        self.setChecked(self._node is not None and self._node.GetSegmentation().ContainsRepresentation(CLOSED_SURFACE))
        self.blockSignals(False)

    def _show_surfaces(self, shown: bool) -> None:
        if shown:
            self._node.CreateClosedSurfaceRepresentation()
        else:
            self._node.RemoveClosedSurfaceRepresentation()
