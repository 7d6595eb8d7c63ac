"""Threads that wait leave the cores to others, and are told so before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

WORKER = """
import os, sys
from PromptSegLib.engine import worker

def look(self):
    print(os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules, file=sys.stderr)

worker.Worker.run = look
worker.main()
"""

COMMAND = """
import atexit, os, sys
from PromptSegLib.apps.cli import main

atexit.register(lambda: print(os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules, file=sys.stderr))
main(["--version"])
"""


@pytest.mark.parametrize("script", [WORKER, COMMAND], ids=["worker", "command line"])
@pytest.mark.parametrize("wish", [None, "ACTIVE"])
def test_threads_sleep_unless_the_user_says_otherwise(script: str, wish: str | None, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({} if wish is None else {"OMP_WAIT_POLICY": wish})
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.split() == [wish or "PASSIVE", "False"]
