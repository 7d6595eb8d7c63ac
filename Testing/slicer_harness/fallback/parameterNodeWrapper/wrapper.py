"""The class decorator `parameterNodeWrapper`."""

from __future__ import annotations

import typing
from typing import Any

import qt
import slicer
import vtk
from slicer.parameterNodeWrapper.annotations import Default
from slicer.parameterNodeWrapper.connectors import Connector, connector_for
from slicer.parameterNodeWrapper.parameters import Parameter

SlicerParameterNamePropertyName = "SlicerParameterName"
FORWARDED = ("AddObserver", "RemoveObserver", "StartModify", "EndModify", "Modified", "GetID")


class ParameterNode:
    """What the decorator adds to a class of type hints."""

    allParameters: dict[str, Parameter]
    parameterNode: Any

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        self.parameterNode = parameterNode
        self._prefix = f"{prefix}." if prefix else ""
        self._connections: dict[int, tuple[list[tuple[Connector, Any]], int]] = {}
        self._next_tag = 0
        self._updating = False
        for parameter in self.allParameters.values():
            if not parameter.is_in(parameterNode, self._prefix):
                parameter.write(parameterNode, self._prefix, parameter.default)

    def __getattr__(self, name: str) -> Any:
        if name in FORWARDED:
            return getattr(self.parameterNode, name)
        raise AttributeError(f"{type(self).__name__} has no parameter {name!r}.")

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}.")
        return self.allParameters[name]

    def getValue(self, name: str) -> Any:
        return self._parameter(name).read(self.parameterNode, self._prefix)

    def setValue(self, name: str, value: Any) -> None:
        self._parameter(name).write(self.parameterNode, self._prefix, value)

    def default(self, name: str) -> Default:
        return Default(self._parameter(name).default)

    def connectGui(self, gui: Any) -> int:
        """Connects the widgets that name a parameter; returns a tag for `disconnectGui`."""
        widgets = gui.findChildren(qt.QWidget) if isinstance(gui, qt.QWidget) else vars(gui).values()
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        connections = []
        for name, widget in mapping.items():
            connector = connector_for(widget, self._parameter(name))
            connector.write(self.getValue(name))
            follow = self._follower(name, connector)
            if connector.signal:
                widget.connect(connector.signal, follow)
            connections.append((name, connector, follow))

        def show(caller: Any, event: str) -> None:
            if self._updating:
                return
            self._updating = True
            try:
                for name, connector, _ in connections:
                    connector.write(self.getValue(name))
            finally:
                self._updating = False

        tag = self._next_tag
        self._next_tag += 1
        observer = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, show)
        self._connections[tag] = ([it[1:] for it in connections], observer)
        return tag

    def _follower(self, name: str, connector: Connector) -> Any:
        def follow() -> None:
            if not self._updating:
                with slicer.util.NodeModify(self.parameterNode):
                    self.setValue(name, connector.read())

        return follow

    def disconnectGui(self, tag: int) -> None:
        connections, observer = self._connections.pop(tag, ([], None))
        for connector, follow in connections:
            if connector.signal:
                connector.widget.disconnect(connector.signal, follow)
        if observer is not None:
            self.parameterNode.RemoveObserver(observer)


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """With and without parentheses; the result keeps the methods of the class it decorates."""
    if classtype is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(classtype, include_extras=True)
    members = {name: value for name, value in vars(classtype).items() if name not in ("__dict__", "__weakref__")}
    parameters = {name: Parameter(name, hint, classtype) for name, hint in hints.items()}
    for name in parameters:
        members[name] = property(
            lambda self, name=name: self.getValue(name), lambda self, value, name=name: self.setValue(name, value)
        )
    members["allParameters"] = parameters
    return type(classtype.__name__, (ParameterNode, *classtype.__bases__), members)
