"""What the engine's tests share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from PromptSegLib.engine.client import Client
from PromptSegLib.engine.messages import ClassInfo, SliceDrawing
from PromptSegLib.engine.transport import SubprocessTransport
from PromptSegLib.networks.weights import save_backbone
from Testing.support import tiny_backbone

ORGAN = ClassInfo("Organ", (10, 200, 30))


def tiny_backbone_file(folder: Path) -> Path:
    """The tests' tiny backbone as a file."""
    path = folder / "tiny-1.safetensors"
    save_backbone(tiny_backbone(), path, {})
    return path


def tiny_transport() -> SubprocessTransport:
    return SubprocessTransport(module="Testing.engine.tiny_worker")


def planes(truth: np.ndarray, *slices: int, axis: int = 0) -> SliceDrawing:
    """These slices of a mask along an axis as a drawing, axial by default."""
    return SliceDrawing(axis, {i: truth.take(i, axis).astype(np.uint8) for i in slices})


def wait(client: Client, until: Callable[[], bool], seconds: float = 180) -> None:
    """Poll until something is true, AssertionError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it took too long"
        client.poll(0.02)
