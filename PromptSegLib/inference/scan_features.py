"""Encoder features of one scan, made when first asked for and kept for every class and every later round."""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.networks.backbone import Backbone, Features

MEMORY_BYTES = 600 * 2**20
KEPT_BYTES = 6 * 2**30

LEFT_FREE_BYTES = 2**30
"""On the disk, for results and for other programs."""

_DRAWN = "drawn"


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
class _Sight:
    """All that is kept of one sight, with a file of its own, so that its room is given back with it."""

    parts: dict[Hashable, _Kept] = field(default_factory=dict)
    in_memory: int = 0
    in_file: int = 0
    file: IO[bytes] | None = None

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


@dataclass
class ScanFeatures:
    """Kept in half precision; beyond ``memory_bytes`` in files, which the system keeps in memory while it has some.

    Beyond ``kept_bytes`` in all, what was used least lately goes, a whole sight at a time: a class that is drawn anew
    may be seen at another spacing, and nobody asks for the former one again. One sight alone is always kept.

    Rounding to half precision changes logits in the third digit, and so a voxel here and there at an edge. A file is
    deleted as soon as it is open: no crash leaves it behind.
    """

    memory_bytes: int = MEMORY_BYTES
    kept_bytes: int = KEPT_BYTES
    folder: Path | None = None
    _sights: dict[Hashable, _Sight] = field(default_factory=dict)
    """The one that was used last comes last."""

    def __len__(self) -> int:
        return sum(len(kept.parts) for kept in self._sights.values())

    def get(self, sight: Hashable, part: Hashable, make: Callable[[], Features]) -> Features:
        """The features of a part of the scan on the CPU, float32, after rounding to half precision.

        Args:
            sight: how the scan is seen.
            part: which part of it.
            make: called where they are not kept.
        """
        used = self._sights.pop(sight, None) or _Sight()
        self._sights[sight] = used
        if part not in used.parts:
            made, before = make(), (used.in_memory, used.in_file)
            try:
                used.parts[part] = _Kept(tuple(self._keep(used, m) for m in made.maps), made.size, made.classes)
            except OSError:
                # No room on the disk: what cannot be kept is made again.
                used.in_memory, used.in_file = before
                return made.to(torch.device("cpu"))
            self._make_room()
        kept = used.parts[part]
        return Features(tuple(_read(used, m).float() for m in kept.maps), kept.size, kept.classes)

    def encode(self, backbone: Backbone, image: Tensor) -> Features:
        """Features of a drawn slice (1, 1, h, w) on the backbone's device, kept by what the slice shows."""
        content = hashlib.blake2b(image.cpu().numpy().tobytes(), digest_size=16).digest()

        def encode() -> Features:
            with torch.no_grad():
                return backbone.encode(image)

        return self.get(_DRAWN, (image.shape, content), encode).to(backbone.device)

    def clear(self) -> None:
        for kept in self._sights.values():
            kept.close()
        self._sights.clear()

    def _make_room(self) -> None:
        while len(self._sights) > 1 and sum(s.in_memory + s.in_file for s in self._sights.values()) > self.kept_bytes:
            self._sights.pop(next(iter(self._sights))).close()

    def _keep(self, sight: _Sight, features: Tensor) -> Tensor | _Spilled:
        half = features.detach().to("cpu", torch.float16)
        if sum(s.in_memory for s in self._sights.values()) + half.nbytes <= self.memory_bytes:
            sight.in_memory += half.nbytes
            return half
        if sight.file is None:
            sight.file = tempfile.TemporaryFile(prefix="promptseg-", dir=self.folder)  # noqa: SIM115 (kept open)
        if shutil.disk_usage(self.folder or tempfile.gettempdir()).free < LEFT_FREE_BYTES + half.nbytes:
            raise OSError(errno.ENOSPC, "the disk is nearly full")
        # Channels last, as the network keeps them: another order in memory would change its last bits.
        rows = half.movedim(1, -1).contiguous().numpy()
        sight.file.seek(sight.in_file)
        sight.file.write(rows.data)
        sight.file.flush()
        spilled = _Spilled(sight.in_file, rows.shape)
        sight.in_file += half.nbytes
        return spilled


def _read(sight: _Sight, kept: Tensor | _Spilled) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    assert sight.file is not None
    # Read, not mapped: every map would cost one of the few hundred files that a process may have open.
    sight.file.seek(kept.offset)
    rows = np.empty(kept.shape, np.float16)
    sight.file.readinto(rows.data.cast("B"))  # type: ignore[attr-defined]
    return torch.from_numpy(rows).movedim(-1, 1)
