"""Makes members.json, the list of names that PromptSeg's use of Slicer is checked against.

    python -m Testing.extension.members.generate --slicer CHECKOUT --ctk CHECKOUT

Names of Slicer and CTK come from their headers; those of VTK and Qt from the slicer-core and PySide6 packages. Only
classes that PromptSeg names, some common ones, their bases, and what their getters return are listed. With --check, the
use of Slicer is compared with another version's checkout.
"""

from __future__ import annotations

import argparse
import ast
import enum
import re
import subprocess
import unittest
from pathlib import Path

from Testing.extension.members.headers import ClassNames, read_headers
from Testing.extension.members.table import MemberTable
from Testing.extension.members.usage import UI_FILE, check_sources, read_sources

# Reached without being named (slicer.app, slicer.mrmlScene, the parents of module and widget, what getters return), or
# so common that using one should not ask for a new list.
ALSO = (
    "QAbstractItemView",
    "QAction",
    "QApplication",
    "QBoxLayout",
    "QBrush",
    "QByteArray",
    "QDesktopServices",
    "QDialog",
    "QEvent",
    "QFileDialog",
    "QFont",
    "QGridLayout",
    "QGroupBox",
    "QHeaderView",
    "QIcon",
    "QImage",
    "QInputDialog",
    "QKeySequence",
    "QLineEdit",
    "QListWidgetItem",
    "QMenu",
    "QMessageBox",
    "QPalette",
    "QPen",
    "QPixmap",
    "QPoint",
    "QRect",
    "QSettings",
    "QShortcut",
    "QSignalBlocker",
    "QSize",
    "QSizePolicy",
    "QSlider",
    "QSpinBox",
    "QStandardPaths",
    "QStyle",
    "QTableWidgetItem",
    "QTextCursor",
    "QTimer",
    "QToolButton",
    "QUrl",
    "ctkComboBox",
    "ctkDirectoryButton",
    "ctkDoubleSlider",
    "qMRMLSegmentsTableView",
    "qMRMLSliceWidget",
    "qMRMLThreeDView",
    "qMRMLThreeDWidget",
    "qSlicerApplication",
    "qSlicerLayoutManager",
    "qSlicerScriptedLoadableModule",
    "qSlicerScriptedLoadableModuleWidget",
    "vtkCollection",
    "vtkMRMLLabelMapVolumeNode",
    "vtkMRMLLinearTransformNode",
    "vtkMRMLScalarVolumeDisplayNode",
    "vtkMRMLScene",
    "vtkMRMLSegmentationDisplayNode",
    "vtkMRMLSliceCompositeNode",
    "vtkPointData",
)
PYTHON_MODULES = ("util", "i18n", "packaging", "ScriptedLoadableModule", "parameterNodeWrapper/wrapper")
INHERITED = ("ScriptedLoadableModule", "VTKObservationMixin")
_CLASS_NAME = re.compile(r"\b(?:q(?:MRML|Slicer)|ctk|vtk|Q)[A-Z]\w+|\bQt\b")


def collect(headers: dict[str, ClassNames], used_names: set[str], attributes: set[str]) -> dict[str, ClassNames]:
    """The named classes, their bases, and what those of their methods return that are called ``attributes``."""
    found: dict[str, ClassNames] = {}
    waiting = sorted(used_names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        names = from_qt(name) if name.startswith("Q") else headers.get(name) or from_vtk(name)
        if names is None:
            continue
        known = {method: returned for method, returned in names.returns.items() if _CLASS_NAME.fullmatch(returned)}
        found[name] = ClassNames(names.bases, names.members, names.properties, known)
        waiting += [*names.bases, *(returned for method, returned in known.items() if method in attributes)]
    for names in found.values():
        names.bases = [base for base in names.bases if base in found]
        names.returns = {method: returned for method, returned in names.returns.items() if returned in found}
    return found


def from_vtk(name: str) -> ClassNames | None:
    import slicer
    import vtk

    found = getattr(vtk, name, None) or getattr(slicer, name, None)
    if not isinstance(found, type):
        return None
    # VTK puts classes written in Python in front of some of its own.
    base = next((c for c in found.__mro__[1:] if c.__name__.startswith("vtk") and c.__name__ != name), object)
    members = {member for member in set(dir(found)) - set(dir(base)) if not member.startswith("_")}
    return ClassNames([base.__name__] if base is not object else [], members)


def from_qt(name: str) -> ClassNames | None:
    from PySide6 import QtCore, QtGui, QtWidgets

    found = next((getattr(module, name) for module in (QtCore, QtGui, QtWidgets) if hasattr(module, name)), None)
    if not isinstance(found, type):
        return None
    names = ClassNames([base.__name__ for base in found.__bases__ if base.__name__.startswith("Q")])
    for member, value in vars(found).items():
        if not member.startswith("_"):
            names.members.add(member)
        if isinstance(value, enum.EnumMeta):  # PythonQt puts enumerators on the class itself
            names.members.update(value.__members__)
    meta = getattr(found, "staticMetaObject", None)
    if meta is not None:
        names.properties.update(meta.property(i).name() for i in range(meta.propertyOffset(), meta.propertyCount()))
    names.members |= names.properties
    return names


def python_module(path: Path) -> dict[str, ClassNames]:
    """A module's functions and classes as members of "slicer.<module>", and those of its classes that are inherited."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = ClassNames()
    classes = {f"slicer.{path.stem}": module}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            module.members.add(node.name)
        if isinstance(node, ast.ClassDef) and node.name.startswith(INHERITED):
            bases = [ast.unparse(base).split(".")[-1] for base in node.bases]
            classes[node.name] = ClassNames(bases, _names_set_in(node))
    # What parameterNodeWrapper puts on the classes that it wraps.
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    module.members.update(ast.literal_eval(c.args[1]) for c in calls if ast.unparse(c.func) == "checkedSetAttr")
    return classes


def _names_set_in(node: ast.AST) -> set[str]:
    names = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef):
            names.add(inner.name)
        elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
            names.add(inner.attr)
    return {name for name in names if not name.startswith("_")}


def make_table(slicer: Path, ctk: Path) -> MemberTable:
    headers = read_headers(ctk / "Libs", *(slicer / part for part in ("Base", "Libs", "Modules/Loadable")))
    sources = read_sources()
    attributes = {node.attr for text in sources.values() for node in ast.walk(ast.parse(text)) if hasattr(node, "attr")}
    texts = (*sources.values(), UI_FILE.read_text(encoding="utf-8"))
    used = {match for text in texts for match in _CLASS_NAME.findall(text)}
    classes = collect(headers, used | set(ALSO), attributes)
    for module in PYTHON_MODULES:
        path = slicer / "Base" / "Python" / "slicer" / f"{module}.py"
        if path.is_file():  # slicer.packaging came with 5.12
            classes |= python_module(path)
    classes["TestCase"] = ClassNames(members={name for name in dir(unittest.TestCase) if not name.startswith("_")})
    return MemberTable(classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slicer", type=Path, required=True, help="a checkout of Slicer")
    parser.add_argument("--ctk", type=Path, required=True, help="a checkout of CTK")
    parser.add_argument("--check", action="store_true", help="write nothing: say what this Slicer lacks")
    arguments = parser.parse_args()
    table = make_table(arguments.slicer, arguments.ctk)
    if arguments.check:
        print("\n".join(check_sources(table, read_sources(), UI_FILE.read_text(encoding="utf-8"))))
    else:
        table.save({"Slicer": revision(arguments.slicer), "CTK": revision(arguments.ctk)})


def revision(checkout: Path) -> str:
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
