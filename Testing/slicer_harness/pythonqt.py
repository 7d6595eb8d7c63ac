"""Gives PySide6 the manners of PythonQt.

Facts of PythonQt that a module relies on, and that are kept here:
- A Qt property is an attribute (`label.text = "x"`), a getter that is no property stays a method (`isVisible()`).
- Reading or writing an unknown attribute of a C++ object raises; only Python subclasses may grow attributes.
- `obj.connect("clicked(bool)", f)` and `obj.clicked.connect(f)`; a slot gets no more arguments than it takes.
- A property of type QStringList and a list of children are tuples, an enum is an int.
- `obj.name` is the object name, and a named child is an attribute.
"""

from __future__ import annotations

import enum
import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

if "PySide6" in sys.modules:
    raise ImportError("PySide6 was imported before the harness; its enums cannot be made integers any more.")
sys.pyside6_option_python_enum = 0x02  # type: ignore[attr-defined]  # every enum is an int, as PythonQt has it

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets  # noqa: E402

QT_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtUiTools)
NATIVE = ("PySide6.", "Testing.slicer_harness.")
"""Where classes are made that a module sees as C++ classes."""
VIRTUAL_GETTERS = {"sizeHint", "minimumSizeHint"}
"""Properties whose getter C++ calls itself: as an attribute it would recurse."""

NOT_IN_PYTHONQT = ("Signal", "SignalInstance", "Slot", "Property", "ClassInfo", "QEnum", "QFlag")
"""PySide6's own means to make signals and properties in Python, which a module has to do without."""

Slot = Callable[..., Any]


def members(module: types.ModuleType) -> dict[str, Any]:
    """The public names of a PySide6 module, all of them: it makes its classes on their first use."""
    return {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}


def is_native(cls: type) -> bool:
    return cls.__module__.startswith(NATIVE) and ".tests." not in cls.__module__


class QtProperty:
    """A Q_PROPERTY as an attribute."""

    def __init__(self, name: str, writable: bool) -> None:
        self.name = name
        self.writable = writable

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        if obj is None:
            return self
        value = obj.property(self.name)
        return tuple(value) if isinstance(value, list) else value

    def __set__(self, obj: Any, value: Any) -> None:
        if not self.writable:
            raise AttributeError(f"Property '{self.name}' of {type(obj).__name__} is not writable.")
        if not obj.setProperty(self.name, converted(obj, self.name, value)):
            raise AttributeError(f"Property '{self.name}' of {type(obj).__name__} does not accept {value!r}.")


def converted(obj: Any, name: str, value: Any) -> Any:
    """A value as PythonQt hands it to a property: a bool of anything, an int of a float, never a number of a text."""
    meta = obj.metaObject()
    type_name = meta.property(meta.indexOfProperty(name)).typeName()
    if type_name in ("int", "double", "float") and not isinstance(value, int | float):
        raise AttributeError(f"Property '{name}' of type {type_name} does not accept {value!r}.")
    if type_name == "bool":
        return bool(value)
    if type_name == "int":
        return int(value)
    if type_name == "double":
        return float(value)
    if type_name == "QString" and value is not None:
        return str(value)
    return int(value) if isinstance(value, enum.Enum) else value


def _get_unknown(self: Any, name: str) -> Any:
    if not name.startswith("__"):
        if name.encode() in QtCore.QObject.dynamicPropertyNames(self):
            return self.property(name)
        for child in QtCore.QObject.children(self):
            if child.property("objectName") == name:
                return child
    raise AttributeError(f"{type(self).__name__} has no attribute named '{name}'.")


def _set(self: Any, name: str, value: Any) -> None:
    if isinstance(value, QtCore.SignalInstance):  # PySide6 keeps bound signals on the object
        self.__dict__[name] = value
        return
    cls = type(self)
    owner = next((base for base in cls.__mro__ if name in base.__dict__), None)
    known = owner.__dict__[name] if owner else None
    if isinstance(known, QtProperty):
        known.__set__(self, value)
    elif isinstance(known, QtCore.Property):
        if known.fset is None:
            raise AttributeError(f"Property '{name}' of {cls.__name__} is not writable.")
        known.fset(self, converted(self, name, value))
    elif hasattr(type(known), "__set__"):
        known.__set__(self, value)
    elif name.startswith("_") and not cls.__module__.startswith("PySide6."):
        self.__dict__[name] = value
    elif owner is not None and is_native(owner):
        raise AttributeError(f"'{name}' of {cls.__name__} is a method or signal and cannot be overwritten.")
    elif name.encode() in QtCore.QObject.dynamicPropertyNames(self):
        self.setProperty(name, value)
    elif is_native(cls):
        raise AttributeError(f"'{name}' does not exist on {cls.__name__}, and a C++ object takes no new attributes.")
    else:
        self.__dict__[name] = value


_slots: WeakKeyDictionary[Any, list[tuple[str, Slot, Slot]]] = WeakKeyDictionary()
"""Object -> (signal, what the module gave, what is connected)."""


def _with_fitting_arguments(function: Slot) -> Slot:
    """A slot that takes any number of arguments and passes on what a plain function or bound method takes."""
    method = inspect.ismethod(function) and isinstance(function.__func__, types.FunctionType)
    plain = function.__func__ if method else function
    count = None
    if isinstance(plain, types.FunctionType) and not plain.__code__.co_flags & inspect.CO_VARARGS:
        count = plain.__code__.co_argcount - (1 if method else 0)

    def call(*arguments: Any) -> Any:
        if count is not None:
            return function(*arguments[:count])
        if not isinstance(plain, types.BuiltinFunctionType | types.MethodWrapperType):
            return function(*arguments)
        try:  # a method of a C++ object, such as dialog.close
            return function(*arguments)
        except TypeError:
            return function()

    return _reported(call)


def _reported(function: Slot) -> Slot:
    """As called by C++: an exception goes to `sys.excepthook` and no further."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except Exception:
            sys.excepthook(*sys.exc_info())
            return None

    return call


def _report_event_handlers(cls: type, **named: Any) -> None:
    """`__init_subclass__`: an exception in an overridden handler would end the process."""
    super(QtCore.QObject, cls).__init_subclass__(**named)
    for name, value in list(vars(cls).items()):
        if isinstance(value, types.FunctionType) and name.endswith("Event"):
            setattr(cls, name, _reported(value))


def _signal(obj: Any, text: str) -> str:
    """The normalized signature of a signal; a pointer to a VTK or widget object is a Python object in the stand-ins."""
    signature = bytes(QtCore.QMetaObject.normalizedSignature(text)).decode()
    meta = obj.metaObject()
    if meta.indexOfSignal(signature) < 0:
        name, arguments = signature.rstrip(")").split("(", 1) if "(" in signature else (signature, "")
        types_ = ["PyObject" if a.endswith("*") or a.startswith("QItemSelection") else a for a in arguments.split(",")]
        in_python = f"{name}({','.join(types_)})"
        if meta.indexOfSignal(in_python) < 0:
            raise ValueError(f"Signal '{text}' does not exist on {meta.className()}.")
        signature = in_python
    return signature


def _from_pyside(arguments: tuple[Any, ...]) -> bool:
    """Whether `signal.connect` calls, which passes (source, "2name(types)", slot, type)."""
    return bool(arguments) and isinstance(arguments[0], QtCore.QObject)


def _connect(self: Any, *arguments: Any) -> Any:
    if _from_pyside(arguments):
        source, signal, function = arguments[:3]
        if isinstance(function, QtCore.SignalInstance) or not callable(function):
            return _native(self, "connect")(*arguments)
        signature = signal[1:] if isinstance(signal, str) else bytes(signal)[1:].decode()
        obj = source
    else:
        obj = self
        signature = _signal(self, arguments[0])
        function = arguments[1]
        if len(arguments) > 2:
            function = getattr(function, arguments[2].lstrip("12").split("(")[0])
        if not callable(function):
            raise ValueError(f"The receiver of '{arguments[0]}' is not callable: {function!r}.")
    slot = _with_fitting_arguments(function)
    connection = _native(obj, "connect")("2" + signature, slot)
    _slots.setdefault(obj, []).append((signature, function, slot))
    return connection


def _disconnect(self: Any, *arguments: Any) -> bool:
    if _from_pyside(arguments):
        obj, signal, function = (*arguments, None)[:3]
        signature = signal[1:] if isinstance(signal, str) else bytes(signal)[1:].decode()
    else:
        obj = self
        signature = _signal(self, arguments[0]) if arguments else None
        function = arguments[1] if len(arguments) > 1 else None
    connected = _slots.get(obj, [])
    ending = [it for it in connected if signature in (None, it[0]) and (function is None or it[1] == function)]
    for ended in ending:
        connected.remove(ended)
        _native(obj, "disconnect")("2" + ended[0], ended[2])
    return bool(ending)


_native = QtCore.QObject.__getattribute__


def _with_own_connect(getattribute: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """PySide6 finds `connect` and `disconnect` before it looks into the class, so each class needs its own detour."""

    def __getattribute__(self: Any, name: str) -> Any:
        if name == "connect":
            return types.MethodType(_connect, self)
        if name == "disconnect":
            return types.MethodType(_disconnect, self)
        return getattribute(self, name)

    return __getattribute__


def _as_tuple(function: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
    return functools.wraps(function)(lambda *arguments, **named: tuple(function(*arguments, **named)))


def _patch_classes() -> None:
    classes = {
        cls
        for module in QT_MODULES
        for cls in members(module).values()
        if isinstance(cls, type) and issubclass(cls, QtCore.QObject) and hasattr(cls, "staticMetaObject")
    }
    own_getattribute = [
        (cls, cls.__getattribute__) for cls in classes if "__getattribute__" in cls.__dict__ or cls is QtCore.QObject
    ]
    for cls in classes:
        cls.__setattr__ = _set
        meta = cls.staticMetaObject
        for index in range(meta.propertyOffset(), meta.propertyCount()):
            found = meta.property(index)
            if found.name() not in VIRTUAL_GETTERS:
                setattr(cls, found.name(), QtProperty(found.name(), found.isWritable()))
    for cls, getattribute in own_getattribute:
        cls.__getattribute__ = _with_own_connect(getattribute)
    QtCore.QObject.__init_subclass__ = classmethod(_report_event_handlers)
    QtCore.QObject.name = QtProperty("objectName", True)
    QtCore.QObject.__getattr__ = _get_unknown
    QtCore.QObject.className = lambda self: self.metaObject().className()
    for name in ("children", "findChildren"):
        setattr(QtCore.QObject, name, _as_tuple(getattr(QtCore.QObject, name)))
    QtCore.QObject.delete = QtCore.QObject.deleteLater
    QtWidgets.QWidget.setShown = QtWidgets.QWidget.setVisible


_single_shot = QtCore.QTimer.singleShot


def single_shot(milliseconds: float, function: Any, member: str | None = None) -> None:
    """`QTimer.singleShot(ms, callable)` and `QTimer.singleShot(ms, object, "slot()")`."""
    target = getattr(function, member.split("(")[0]) if member else function
    _single_shot(int(milliseconds), _with_fitting_arguments(target))


_patch_classes()
