"""Widgets that know the scene: their base, and the box in which a node is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from PySide6.QtCore import Property, Signal
from shiboken6 import isValid

from Testing.slicer_harness import qt
from Testing.slicer_harness.ctk_numbers import ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget
from Testing.slicer_harness.ui_loader import stand_in, stored

CREATE = "create"
RENAME = "rename"
REMOVE = "remove"


class Observing:
    """Mixin: VTK observers of a widget; they are removed together, and end with the widget."""

    def _observe(self, obj: Any, event: Any, call: Callable[[], None]) -> None:
        observers = self.__dict__.setdefault("_observers", [])
        observers.append((obj, obj.AddObserver(event, lambda caller, event: call() if isValid(self) else None)))

    def _stop_observing(self) -> None:
        for obj, tag in self.__dict__.get("_observers", []):
            obj.RemoveObserver(tag)
        self.__dict__["_observers"] = []


@stand_in
class qMRMLWidget(qt.QWidget, Observing):
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@stand_in
class qSlicerWidget(qMRMLWidget):
    def appLogic(self) -> Any:
        return slicer.app.applicationLogic()


def _label(class_name: str) -> str:
    return class_name.removeprefix("vtkMRML").removesuffix("Node")


@stand_in
class qMRMLNodeComboBox(qMRMLWidget):
    """Nodes of the scene by their type, with entries that create, rename or delete one."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._node_types: list[str] = []
        self._none_enabled = False
        self._labels: dict[str, str] = {}
        self._attributes: list[tuple[str, str, str | None]] = []
        self._listed: list[tuple[Any, int]] = []
        self._box = qt.QComboBox()
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.activated.connect(self._choose)

    def _set_node_types(self, types: list[str]) -> None:
        self._node_types = list(types)
        self._refresh()

    def _set_none_enabled(self, enabled: bool) -> None:
        self._none_enabled = enabled
        self._refresh()

    nodeTypes = Property("QStringList", lambda self: self._node_types, _set_node_types)
    noneEnabled = Property(bool, lambda self: self._none_enabled, _set_none_enabled)
    addEnabled = stored(bool, "addEnabled", True)
    removeEnabled = stored(bool, "removeEnabled", True)
    editEnabled = stored(bool, "editEnabled", False)
    renameEnabled = stored(bool, "renameEnabled", False)
    showHidden = stored(bool, "showHidden", False)
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True)
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [])
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    baseName = stored(str, "baseName", "")
    noneDisplay = stored(str, "noneDisplay", "None")
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "")
    sizeAdjustPolicy = stored(int, "sizeAdjustPolicy", 0)
    currentNodeID = Property(
        str, lambda self: self._node.GetID() if self._node else "", lambda self, node_id: self.setCurrentNode(node_id)
    )

    def setMRMLScene(self, scene: Any) -> None:
        self._stop_observing()
        super().setMRMLScene(scene)
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
                self._observe(scene, event, self._refresh)
        self._refresh()

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self._attributes.append((node_type, name, None if value is None else str(value)))
        self._refresh()

    def removeAttribute(self, node_type: str, name: str) -> None:
        self._attributes = [it for it in self._attributes if it[:2] != (node_type, name)]
        self._refresh()

    def setNodeTypeLabel(self, label: str, node_type: str) -> None:
        self._labels[node_type] = label

    def nodeTypeLabel(self, node_type: str) -> str:
        return self._labels.get(node_type, _label(node_type))

    def _type_of(self, node: Any) -> str | None:
        """The first of the node types that the node belongs to."""
        if any(node.IsA(hidden) for hidden in self.hideChildNodeTypes):
            return None
        fits = node.IsA if self.showChildNodeTypes else lambda name: node.GetClassName() == name
        return next((name for name in self._node_types if fits(name)), None)

    def _offers(self, node: Any) -> bool:
        wanted = [it[1:] for it in self._attributes if it[0] == self._type_of(node)]
        values = [(node.GetAttribute(name), value) for name, value in wanted]
        visible = self.showHidden or not node.GetHideFromEditors()
        return visible and all(found is not None and value in (None, found) for found, value in values)

    def _nodes(self, offered_only: bool = True) -> list[Any]:
        if self._scene is None:
            return []
        if len(self._node_types) == 1:
            nodes = slicer.util.getNodesByClass(self._node_types[0], self._scene)
        else:
            nodes = [self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes())]
        fitting = [node for node in nodes if self._type_of(node) is not None]
        return [node for node in fitting if self._offers(node)] if offered_only else fitting

    def _look(self) -> list[tuple[str, str]]:
        return [(node.GetID(), node.GetName()) for node in self._nodes()]

    def _watch_nodes(self) -> None:
        """A node that is renamed, hidden or shown changes the list."""
        for node, tag in self._listed:
            node.RemoveObserver(tag)
        seen = self._look()

        def compare(caller: Any, event: str) -> None:
            if isValid(self) and self._look() != seen:
                self._refresh()

        self._listed = [(node, node.AddObserver("ModifiedEvent", compare)) for node in self._nodes(offered_only=False)]

    def _refresh(self) -> None:
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        nodes = self._nodes()
        self._watch_nodes()
        self._box.clear()
        if self._none_enabled:
            self._box.addItem(self.noneDisplay, "")
        for node in nodes:
            self._box.addItem(node.GetName(), node.GetID())
        if self._box.count and any((self.addEnabled, self.renameEnabled, self.removeEnabled)):
            self._box.insertSeparator(self._box.count)
        if self.renameEnabled and self._node is not None:
            self._box.addItem(f"Rename current {self._type_label()}", RENAME)
        if self.addEnabled and self._node_types:
            self._box.addItem(f"Create new {self._type_label()}", CREATE)
        if self.removeEnabled and self._node is not None:
            self._box.addItem(f"Delete current {self._type_label()}", REMOVE)
        kept = next((node for node in nodes if node is self._node), None)
        if kept is None and nodes and not self._none_enabled:
            kept = nodes[0]
        self._make_current(kept)

    def _type_label(self) -> str:
        return self.nodeTypeLabel(self._node_types[0]) if self._node_types else ""

    def _make_current(self, node: Any) -> None:
        self._box.setCurrentIndex(self._box.findData(node.GetID() if node else ""))
        if node is not self._node:
            self._node = node
            self.currentNodeChanged.emit(node)
            self.currentNodeIDChanged.emit(node.GetID() if node else "")
            self._refresh()

    def _choose(self, row: int) -> None:
        choice = self._box.itemData(row)
        if choice == CREATE:
            self.addNode()
        elif choice == RENAME:
            self.renameCurrentNode()
        elif choice == REMOVE:
            self.removeCurrentNode()
        else:
            node = self._scene.GetNodeByID(choice) if choice else None
            self._make_current(node)
            self.nodeActivated.emit(node)

    def addNode(self, node_type: str = "") -> Any:
        node_type = node_type or self._node_types[0]
        name = self._scene.GenerateUniqueName(self.baseName or self.nodeTypeLabel(node_type))
        node = self._scene.AddNewNodeByClass(node_type, name)
        if self.selectNodeUponCreation:
            self._make_current(node)
        self.nodeAddedByUser.emit(node)
        return node

    def renameCurrentNode(self) -> None:
        name = qt.QInputDialog.getText(self, f"Rename {self._type_label()}", "New name:")
        if name:
            self._node.SetName(name)
            self._refresh()
            self.currentNodeRenamed.emit(name)

    def removeCurrentNode(self) -> None:
        self.nodeAboutToBeRemoved.emit(self._node)
        self._scene.RemoveNode(self._node)

    def currentNode(self) -> Any:
        return self._node

    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if node and self._scene else None
        if node is None or any(node is it for it in self._nodes()):
            self._make_current(node)

    def setCurrentNodeIndex(self, index: int) -> None:
        self._make_current(self._nodes()[index])

    def nodeCount(self) -> int:
        return len(self._nodes())

    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes()[index]


@stand_in
class qMRMLSliderWidget(ctkSliderWidget):
    def setMRMLScene(self, scene: Any) -> None:
        """The scene's units are not followed."""


@stand_in
class qMRMLSpinBox(ctkDoubleSpinBox):
    def setMRMLScene(self, scene: Any) -> None:
        """The scene's units are not followed."""


@stand_in
class qMRMLRangeWidget(ctkRangeWidget):
    def setMRMLScene(self, scene: Any) -> None:
        """The scene's units are not followed."""
