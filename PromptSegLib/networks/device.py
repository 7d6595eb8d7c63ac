"""Where and in which precision to compute."""

from __future__ import annotations

import ctypes
import gc
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import lru_cache

import torch

from PromptSegLib.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")


def find_device(name: str) -> torch.device:
    """The device of this name; ``auto`` takes CUDA, then Apple's GPU, then the CPU. InputError if it is not there."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if name not in DEVICES:
        raise InputError(f"there is no device '{name}': choose one of {', '.join(DEVICES)}")
    if (name == "cuda" and not cuda) or (name == "mps" and not mps):
        raise InputError(f"this computer has no {name} device that torch can use: choose --device cpu or auto")
    return torch.device(name)


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Half precision where it was measured to be faster on this machine, else nothing."""
    dtype = _fastest_dtype(device.type)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@contextmanager
def full_precision() -> Iterator[None]:
    """Single precision inside of autocast, for a block or, as a decorator, for a function: a loss on cosines over a
    small temperature needs all their digits."""
    with ExitStack() as stack:
        for kind in DEVICES[1:]:
            # Torch before 2.5 raises where it has no autocast for a device.
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@lru_cache(maxsize=4)
def _fastest_dtype(device: str) -> torch.dtype | None:
    """The half precision that convolves at least 1.5 times as fast as single precision, measured once.

    The margin is wide, so that a busy moment does not change the choice, and with it the last bits of a result."""
    candidates = [torch.bfloat16] if device == "cpu" else [torch.float16]
    single = _convolution_seconds(device, torch.float32)
    for dtype in candidates:
        if _convolution_seconds(device, dtype) * 1.5 < single:
            return dtype
    return None


def _convolution_seconds(device: str, dtype: torch.dtype) -> float:
    image = torch.ones(2, 64, 56, 56, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(64, 64, 3, 3, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for _ in range(4):
            started = time.perf_counter()
            float(torch.nn.functional.conv2d(image, weight, padding=1).sum())
            seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or the system ran out of memory, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)


def release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def keep_freed_memory() -> None:
    """Have glibc keep large freed blocks instead of giving each back to the system.

    A network allocates and frees the same tens of megabytes in every step; fetched anew from the system, they cost a
    page fault for every 4 kB. Elsewhere than on Linux with glibc, nothing happens.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 64 * 2**20)
