"""A Slicer that offers no more than the installer asks of it, for tests that need no window."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
REPLACED = ("slicer", "PromptSegPanel")


@contextmanager
def installing_in_bare_slicer() -> Iterator[ModuleType]:
    """PromptSegPanel.installing, loaded anew, in a Slicer that answers yes to every question."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in REPLACED}
    for name in before:
        del sys.modules[name]
    slicer = ModuleType("slicer")
    slicer.app = SimpleNamespace(testingEnabled=lambda: False, userSettings=dict)  # type: ignore[attr-defined]
    slicer.util = SimpleNamespace(confirmOkCancelDisplay=lambda *_: True, pip_install=None)  # type: ignore[attr-defined]
    translations = ModuleType("slicer.i18n")
    translations.tr = lambda text: text  # type: ignore[attr-defined]
    sys.modules |= {"slicer": slicer, "slicer.i18n": translations}
    sys.path.insert(0, str(ROOT / "PromptSeg"))
    try:
        yield importlib.import_module("PromptSegPanel.installing")
    finally:
        sys.path.remove(str(ROOT / "PromptSeg"))
        for name in [name for name in sys.modules if name.split(".")[0] in REPLACED]:
            del sys.modules[name]
        sys.modules |= before
