"""Run by ctest inside Slicer, where torch may be absent: what was built holds all that PromptSeg opens with."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path


class PromptSegBuildTest(unittest.TestCase):
    """The build tree's scripted-modules folder is on sys.path; the repository's root is not."""

    def test_opens_without_torch(self) -> None:
        before = "torch" in sys.modules
        import PromptSegLib.errors
        import PromptSegPanel.packages

        self.assertTrue(PromptSegLib.errors.InputError)
        self.assertTrue(PromptSegPanel.packages.SLICERS_OWN)
        self.assertEqual("torch" in sys.modules, before)

    def test_library_and_module_were_built_side_by_side(self) -> None:
        import PromptSegLib

        folder = Path(PromptSegLib.__file__).resolve().parents[1]
        for name in ("PromptSeg.py", "Resources/UI/PromptSeg.ui", "Resources/requirements.txt"):
            self.assertTrue((folder / name).is_file(), f"{name} is not in {folder}")

    def test_a_backbone_was_built(self) -> None:
        import PromptSegLib

        folder = Path(PromptSegLib.__file__).resolve().parents[1] / "Resources" / "Backbones"
        self.assertTrue(list(folder.glob("*.safetensors")), f"no backbone in {folder}")


if __name__ == "__main__":
    unittest.main()
