"""The module that Slicer's Python calls `qt`: all of Qt in one namespace."""

from __future__ import annotations

from Testing.slicer_harness import pythonqt
from Testing.slicer_harness.dialogs import replace_modal_functions

replace_modal_functions(pythonqt.QtWidgets)
pythonqt.QtCore.QTimer.singleShot = staticmethod(pythonqt.single_shot)

for _module in pythonqt.QT_MODULES:
    globals().update(pythonqt.members(_module))
for _name in pythonqt.NOT_IN_PYTHONQT:
    del globals()[_name]

from Testing.slicer_harness.ui_loader import QUiLoader  # noqa: E402, F401
