"""``python -m Testing.PromptSeg.screenshots FOLDER``: the README's pictures of the panel and the views."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory


def main(folder: Path) -> None:
    """Do the main job once, write its pictures and print what came of it."""
    from Testing.slicer_harness import boot

    boot.start()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "PromptSeg"))
    import slicer

    from Testing.PromptSeg.person import MODULE, Person
    from Testing.PromptSeg.recording import record
    from Testing.slicer_harness.modules import close_module, open_module
    from Testing.slicer_harness.problems import PROBLEMS

    with PROBLEMS.watch(), TemporaryDirectory() as library:
        slicer.app.userSettings().setValue("PromptSeg/Library", library)
        widget = open_module(MODULE)
        print(record(Person(widget), folder))
        close_module(widget)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
