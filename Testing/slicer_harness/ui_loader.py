"""Loads `.ui` files with the stand-ins in place of Slicer's and CTK's widgets, and refuses what Slicer would ignore."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

STAND_INS: dict[str, type] = {}
"""Class name -> widget that takes its place in `.ui` files."""
OF_THE_FORMAT = {"buddy"}
"""What a `.ui` file says as a property although no class has it."""


class UiFileError(RuntimeError):
    """The `.ui` file names something that does not exist."""


def stand_in(cls: type) -> type:
    """Class decorator: known to `.ui` files, and every writable property has its setter, as in C++."""
    STAND_INS[cls.__name__] = cls
    for name, value in list(vars(cls).items()):
        setter = f"set{name[0].upper()}{name[1:]}"
        if isinstance(value, QtCore.Property) and value.fset is not None and setter not in vars(cls):
            setattr(cls, setter, _setter(name))
    return cls


def _setter(name: str) -> Any:
    def set_property(self: Any, value: Any) -> None:
        setattr(self, name, value)

    return set_property


def stored(type_: Any, name: str, default: Any) -> Any:
    """A Qt property that is kept and changes nothing."""
    attribute = f"_stored_{name}"

    def read(self: Any) -> Any:
        return self.__dict__.get(attribute, default)

    def write(self: Any, value: Any) -> None:
        self.__dict__[attribute] = value

    return QtCore.Property(type_, read, write)


class QUiLoader(QtUiTools.QUiLoader):
    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._made: list[QtWidgets.QWidget] = []

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> QtWidgets.QWidget | None:
        cls = STAND_INS.get(class_name)
        if cls is None:
            widget = super().createWidget(class_name, parent, name)
        else:
            widget = cls(parent)
            widget.setObjectName(name)
        if widget is not None:
            self._made.append(widget)
        return widget

    def load(self, device: Any, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        path = Path(device if isinstance(device, str) else device.fileName())
        root = ElementTree.parse(path).getroot()
        self._check_classes(path, root)
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        enums = self._take_enums(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        self.setWorkingDirectory(QtCore.QDir(str(path.parent)))
        widget = super().load(buffer, parent)
        if widget is None:
            raise UiFileError(f"{path.name}: {self.errorString()}")
        widget.__dict__["_made"] = self._made  # the Python halves of the stand-ins live as long as the form
        by_name = {it.objectName: it for it in (widget, *widget.findChildren(QtCore.QObject))}
        self._check_properties(path, root, by_name)
        for widget_name, property_name, text in enums:
            setattr(by_name[widget_name], property_name, self._enum_value(path, by_name[widget_name], text))
        for connection in connections if connections is not None else ():
            self._connect(path, connection, by_name)
        return widget

    def _check_classes(self, path: Path, root: ElementTree.Element) -> None:
        for element in root.iter("widget"):
            name = element.get("class", "")
            if name not in STAND_INS and not hasattr(QtWidgets, name):
                raise UiFileError(f"{path.name}: the widget class {name} is not known to the harness.")

    def _take_enums(self, root: ElementTree.Element) -> list[tuple[str, str, str]]:
        """(widget, property, text) of the stand-ins' enums, out of the form: Qt does not know enums made in Python."""
        taken = []
        for element in root.iter("widget"):
            own = vars(STAND_INS.get(element.get("class", ""), object))
            for prop in element.findall("property"):
                text = prop.findtext("set") or prop.findtext("enum")
                if text and prop.get("name") in own:
                    element.remove(prop)
                    taken.append((element.get("name", ""), prop.get("name", ""), text))
        return taken

    def _enum_value(self, path: Path, widget: QtWidgets.QWidget, text: str) -> int:
        value = 0
        for name in text.split("|"):
            scope, _, member = name.rpartition("::")
            owner = STAND_INS.get(scope) or getattr(QtWidgets, scope, None) or getattr(QtCore, scope, type(widget))
            if not hasattr(owner, member):
                raise UiFileError(f"{path.name}: {widget.objectName} is given {name}, which does not exist.")
            value |= int(getattr(owner, member))
        return value

    def _check_properties(self, path: Path, root: ElementTree.Element, by_name: dict[str, Any]) -> None:
        names = [element.get("name", "") for element in root.iter("widget")]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise UiFileError(f"{path.name}: more than one widget is called {sorted(twice)}.")
        for element in root.iter("widget"):
            meta = by_name[element.get("name", "")].metaObject()
            for prop in element.findall("property"):
                name = prop.get("name", "")
                if prop.get("stdset") != "0" and name not in OF_THE_FORMAT and meta.indexOfProperty(name) < 0:
                    raise UiFileError(f"{path.name}: {element.get('class')} has no property {name}.")

    def _connect(self, path: Path, connection: ElementTree.Element, by_name: dict[str, Any]) -> None:
        sender, signal, receiver, slot = (
            connection.findtext(tag, "") for tag in ("sender", "signal", "receiver", "slot")
        )
        for name in (sender, receiver):
            if name not in by_name:
                raise UiFileError(f"{path.name}: a connection names {name}, which is not in the file.")
        target = getattr(by_name[receiver], slot.split("(")[0], None)
        if not callable(target):
            raise UiFileError(f"{path.name}: {receiver} has no slot {slot}.")
        by_name[sender].connect(signal, target)
