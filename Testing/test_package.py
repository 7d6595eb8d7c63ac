import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import PromptSegLib

ROOT = Path(__file__).resolve().parents[1]


def test_importing_the_package_does_not_import_torch() -> None:
    """Slicer starts without torch, and has to be able to load the module that installs it."""
    code = "import sys, PromptSegLib, PromptSegLib.errors; sys.exit(bool({'torch', 'monai'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_reading_tokens_imports_no_torch() -> None:
    """Slicer lists tokens itself: where torch is missing, too, and without waiting for it."""
    code = "import sys, PromptSegLib.tokens.class_token, PromptSegLib.tokens.library"
    code += "; sys.exit(bool({'torch', 'monai', 'scipy', 'SimpleITK'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_version_is_the_distributions() -> None:
    assert version("promptseg") == PromptSegLib.__version__


def test_command_line_entry_point() -> None:
    (script,) = entry_points(group="console_scripts", name="promptseg")
    assert script.value == "PromptSegLib.apps.cli:main"


def test_license() -> None:
    text = (ROOT / "LICENSE.txt").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "The PromptSeg developers" in text
    assert "[yyyy]" not in text
