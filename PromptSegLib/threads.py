"""How the threads of torch's processes wait for each other. No torch: it must be said before that is loaded."""

from __future__ import annotations

import os


def let_threads_sleep() -> None:
    """Threads that wait sleep, unless the user's environment says otherwise.

    By default they turn in circles, ready to go on at once. But where another program needs one of the cores, those
    that turn keep the one that they wait for from working: training took more than ten times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
