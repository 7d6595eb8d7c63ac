"""Seconds and memory that a piece of work takes."""

from __future__ import annotations

import ctypes
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from PromptSegLib.networks.device import release_memory

T = TypeVar("T")

_SAMPLE_SECONDS = 0.02
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds, and by how many megabytes the resident set grew at the most."""

    seconds: float
    megabytes: float

    def __add__(self, later: Cost) -> Cost:
        """Of two pieces of work, one after the other, the first of which keeps little of what it needed."""
        return Cost(self.seconds + later.seconds, max(self.megabytes, later.megabytes))


def measured(work: Callable[[], T]) -> tuple[T, Cost]:
    """The result of ``work`` and what it cost."""
    release_memory()
    _give_back()
    with _peak() as peak:
        started = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - started
    return result, Cost(seconds, peak.growth / 1e6)


def _give_back() -> None:
    """Freed memory that the allocator keeps would hide what the work takes out of it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@dataclass
class _Peak:
    """Bytes of the resident set: before the work, and the most of them since."""

    before: int = field(default_factory=lambda: int(psutil.Process().memory_info().rss))
    most: int = 0

    @property
    def growth(self) -> int:
        return max(0, self.most - self.before)

    def sample(self) -> None:
        self.most = max(self.most, int(psutil.Process().memory_info().rss))


@contextmanager
def _peak() -> Iterator[_Peak]:
    peak = _Peak()
    if _reset_kernel_peak():
        yield peak
        peak.most = _kernel_peak()
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_SAMPLE_SECONDS):
            peak.sample()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        # A library that holds the interpreter's lock starves the thread: what is still held now counts at least.
        peak.sample()
        over.set()
        thread.join()


def _reset_kernel_peak() -> bool:
    """Linux counts the peak itself, exactly; False where it does not."""
    try:
        _RESET.write_text("5")
        return _kernel_peak() > 0
    except OSError:
        return False


def _kernel_peak() -> int:
    line = next((line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return 1024 * int(line.split()[1])
