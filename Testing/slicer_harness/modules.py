"""Scripted modules: found by path, opened as Slicer opens them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
from PySide6.QtCore import Property

from Testing.slicer_harness import qt


@dataclass(slots=True)
class Module:
    """`qSlicerScriptedLoadableModule`, the `parent` of the module's class; it has these members and no others."""

    name: str
    path: str = ""
    own_logic: Any = None
    title: str = ""
    categories: list[str] = field(default_factory=list)
    dependencies: list[str] = field(default_factory=list)
    contributors: list[str] = field(default_factory=list)
    associatedNodeTypes: list[str] = field(default_factory=list)
    helpText: str = ""
    acknowledgementText: str = ""
    icon: Any = None
    index: int = -1
    hidden: bool = False
    widgetRepresentationCreationEnabled: bool = True
    defaultDocumentationLink: str = ""

    def logic(self) -> Any:
        return self.own_logic

    def widgetRepresentation(self) -> Any:
        return getattr(slicer.modules, f"{self.name}Widget").parent


class qSlicerScriptedLoadableModuleWidget(slicer.qSlicerWidget):
    """What a module's widget object finds as its `parent`."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._entered = False
        self.setLayout(qt.QVBoxLayout())
        self.setMRMLScene(slicer.mrmlScene)
        self.windowTitle = name

    isEntered = Property(bool, lambda self: self._entered)


_loaded: dict[str, ModuleType] = {}


def load(path: str | Path) -> ModuleType:
    """Imports a scripted module's file and registers the module, once."""
    path = Path(path).resolve()
    name = path.stem
    if name not in _loaded:
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        registered = Module(name, str(path))
        instance = getattr(module, name)(registered)
        slicer.app.moduleManager().add(registered)
        setattr(slicer.modules, f"{name}Instance", instance)
        _loaded[name] = module
    return _loaded[name]


def open_module(path: str | Path) -> Any:
    """The module's widget object, set up and entered, as when a user selects the module."""
    module = load(path)
    name = module.__name__
    widget = getattr(module, f"{name}Widget")(qSlicerScriptedLoadableModuleWidget(name))
    setattr(slicer.modules, f"{name}Widget", widget)
    widget.setup()
    enter_module(widget)
    return widget


def enter_module(widget: Any) -> None:
    """The user selects the module."""
    widget.parent._entered = True
    widget.enter()


def leave_module(widget: Any) -> None:
    """The user selects another module."""
    widget.parent._entered = False
    widget.exit()


def close_module(widget: Any) -> None:
    """As when Slicer ends: left, cleaned up, deleted."""
    if widget.parent.isEntered:
        leave_module(widget)
    widget.cleanup()
    widget.parent.hide()
    widget.parent.deleteLater()
    qt.QApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)
    name = type(widget).__name__
    if getattr(slicer.modules, name, None) is widget:
        delattr(slicer.modules, name)
