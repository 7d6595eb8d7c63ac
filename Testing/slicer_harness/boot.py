"""Starts the harness once per process, and only when asked."""

from __future__ import annotations

import importlib
import os
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from Testing.slicer_harness.system_libraries import missing_packages

REAL_PYTHON = "PROMPTSEG_SLICER_PYTHON"
"""Names the folder of a Slicer checkout with `slicer/ScriptedLoadableModule.py` and `slicer/parameterNodeWrapper`."""
SLICER_CORE_MODULES = ("vtkITK", "vtkTeem", "vtkSegmentationCore")


class MissingSystemLibrary(RuntimeError):
    """Qt and VTK cannot be loaded."""


def check_system_libraries() -> None:
    missing = missing_packages() if sys.platform == "linux" else []
    if missing:
        names = " ".join(missing)
        raise MissingSystemLibrary(f"The panel cannot be tested here: run `apt-get install {names}`.")


@lru_cache(maxsize=1)
def start() -> Any:
    """The running application; `qt`, `ctk` and all of `slicer` can be imported afterwards."""
    check_system_libraries()
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    from Testing.slicer_harness import qt

    sys.modules["qt"] = qt
    _alias_packages(qt)
    import slicer
    import slicer.util

    _extend_slicer(slicer)
    from Testing.slicer_harness import application, scene

    app = slicer.app = application.Application()
    slicer.mrmlScene = scene.build_scene(app.applicationLogic(), app.temporaryPath)
    app._managers = scene.give_cache(slicer.mrmlScene, app.temporaryPath)
    _register_widgets(slicer)
    from Testing.slicer_harness.modules import Module

    for name, logic in scene.module_logics(slicer.mrmlScene, app.applicationLogic(), app.temporaryPath).items():
        app.moduleManager().add(Module(name, own_logic=logic, title=name))
    return app


def _alias_packages(qt: ModuleType) -> None:
    """The names under which Slicer's own Python finds its compiled parts."""
    python_qt = ModuleType("PythonQt")
    python_qt.__path__ = []
    sys.modules["PythonQt"] = python_qt
    for name in ("QtCore", "QtGui", "QtWidgets", "QtUiTools"):
        sys.modules[f"PythonQt.{name}"] = qt
        setattr(python_qt, name, qt)
    for name in SLICER_CORE_MODULES:
        sys.modules[name] = importlib.import_module(f"slicer_core.{name}")


def _extend_slicer(slicer: ModuleType) -> None:
    fallback = Path(__file__).parent / "fallback"
    real = os.environ.get(REAL_PYTHON)
    if real:
        slicer.__path__.append(str(Path(real) / "slicer"))
    slicer.__path__.append(str(fallback))
    sys.modules["mrml"] = slicer
    for name in ("modules", "moduleNames"):
        module = ModuleType(f"slicer.{name}")
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)
    slicer.selfTests = {}
    # Real or not, nothing is ever installed from a test.
    spec = importlib.util.spec_from_file_location("slicer.packaging", fallback / "packaging.py")
    packaging = importlib.util.module_from_spec(spec)
    sys.modules["slicer.packaging"] = slicer.packaging = packaging
    spec.loader.exec_module(packaging)


def _register_widgets(slicer: ModuleType) -> None:
    from Testing.slicer_harness import ctk, mrml_widgets, segment_editor, segment_widgets
    from Testing.slicer_harness.ui_loader import STAND_INS

    sys.modules["ctk"] = ctk
    for name, widget in STAND_INS.items():
        if name.startswith("q"):
            setattr(slicer, name, widget)
    for name in ("qSlicerSegmentationsModuleWidgetsPythonQt", "qMRMLWidgets", "qSlicerBaseQTGUIPythonQt"):
        sys.modules[name] = ModuleType(name)
    assert mrml_widgets and segment_editor and segment_widgets
