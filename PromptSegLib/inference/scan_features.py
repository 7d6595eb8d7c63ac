"""Encoder features of one scan, made when first asked for and kept for every class and every later round."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.networks.backbone import Features

MEMORY_BYTES = 600 * 2**20


@dataclass(frozen=True)
class _Spilled:
    """Where in the file a map lies, channels last."""

    offset: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Kept:
    """As `Features`, in half precision."""

    maps: tuple[Tensor | _Spilled, ...]
    size: tuple[int, ...]
    classes: int


@dataclass
class ScanFeatures:
    """Kept in half precision; beyond ``memory_bytes`` in a file, which the system keeps in memory while it has some.

    Rounding to half precision changes logits in the third digit, and so a voxel here and there at an edge. The file is
    deleted as soon as it is open: no crash leaves it behind.
    """

    memory_bytes: int = MEMORY_BYTES
    folder: Path | None = None
    _kept: dict[Hashable, _Kept] = field(default_factory=dict)
    _in_memory: int = 0
    _file: IO[bytes] | None = None
    _end: int = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Features]) -> Features:
        """The features of this key on the CPU, float32, after rounding to half precision."""
        if key not in self._kept:
            made = make()
            try:
                self._kept[key] = _Kept(tuple(self._keep(m) for m in made.maps), made.size, made.classes)
            except OSError:
                # No room on the disk: what cannot be kept is made again.
                return made.to(torch.device("cpu"))
        kept = self._kept[key]
        return Features(tuple(self._read(m).float() for m in kept.maps), kept.size, kept.classes)

    def clear(self) -> None:
        self._kept.clear()
        self._in_memory = self._end = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _keep(self, features: Tensor) -> Tensor | _Spilled:
        half = features.detach().to("cpu", torch.float16)
        if self._in_memory + half.nbytes <= self.memory_bytes:
            self._in_memory += half.nbytes
            return half
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="promptseg-", dir=self.folder)  # noqa: SIM115 (kept open)
        # Channels last, as the network keeps them: another order in memory would change its last bits.
        rows = half.movedim(1, -1).contiguous().numpy()
        self._file.seek(self._end)
        self._file.write(rows.data)
        self._file.flush()
        spilled = _Spilled(self._end, rows.shape)
        self._end += half.nbytes
        return spilled

    def _read(self, kept: Tensor | _Spilled) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        assert self._file is not None
        # Read, not mapped: every map would cost one of the few hundred files that a process may have open.
        self._file.seek(kept.offset)
        rows = np.empty(kept.shape, np.float16)
        self._file.readinto(rows.data.cast("B"))  # type: ignore[attr-defined]
        return torch.from_numpy(rows).movedim(-1, 1)
