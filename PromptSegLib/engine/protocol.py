"""How a client and a worker talk: JSON, one message a line, arrays in files of a folder that both can reach.

Version 2. The worker begins with ``{"event": "hello", "protocol": 2, "version": …}``. The client sends requests
``{"id": 7, "method": "tune", "arguments": {…}}``; about request 7 the worker sends ``progress``, ``preview`` and
``checkpoint`` events, and at last one of ``done``, ``failed`` or ``cancelled``; training that is cancelled is ``done``
with what there is. A ``notice`` is a sentence for the user. Three requests have no answer and are obeyed while another
one is worked on: ``cancel`` (``{"id": 7}``), ``focus`` (``{"axis": 0, "index": 31}``) and ``leave``, which ends the
worker but not the folder.

Values that JSON lacks are objects with a ``$``: arrays (name, type and shape of a raw file), bytes, slices, mappings
with whole numbers as keys, and the dataclasses of `PromptSegLib.engine.messages` and what these are made of.
Nothing else is accepted, and nothing is ever executed.
"""

from __future__ import annotations

import base64
import errno
import itertools
import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from PromptSegLib.engine import messages
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.tokens.recognition import Recognition

PROTOCOL_VERSION = 4

OUT_OF_MEMORY = "memory ran out: close other programs, or choose a smaller part of the scan"
"""What either side says of it."""

_DATACLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Geometry,
        Volume,
        messages.SliceDrawing,
        messages.ClassInfo,
        messages.Progress,
        messages.Preview,
        messages.SegmentedClass,
        messages.Suggestion,
        messages.TuneResult,
        Recognition,
    )
}
_DTYPES = frozenset("?bBhHiIlLqQefd")
_MAP_FROM_BYTES = 2**20


class ProtocolError(RuntimeError):
    """The other side sent something that is not of this protocol."""


def reason(error: OSError | MemoryError | ProtocolError) -> str:
    """Why a message could not be written or read."""
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    return getattr(error, "strerror", None) or str(error)


@dataclass(frozen=True)
class Packed:
    """A value that is ready to travel, since its arrays were written before."""

    value: Any


class Codec:
    """Messages to lines and back.

    Args:
        folder: where arrays are written to and read from.
        side: a word in the names of the files that this side writes, so that the two sides never collide.
        keep_files: leave files in place when their array is read, because they will be read again.
    """

    def __init__(self, folder: Path, side: str, *, keep_files: bool = False):
        self.folder, self.side, self.keep_files = folder, side, keep_files
        self.written: list[Path] = []
        """Files written since somebody last cleared this list."""
        self._numbers = itertools.count(1)

    def encode(self, message: Mapping[str, Any]) -> bytes:
        """One line, with its line feed. Arrays are written to files now; of a message that fails, none is left."""
        before = len(self.written)
        try:
            return json.dumps({key: self._pack(value) for key, value in message.items()}).encode() + b"\n"
        except (OSError, MemoryError, ProtocolError):
            for path in self.written[before:]:
                path.unlink(missing_ok=True)
            del self.written[before:]
            raise

    def decode(self, line: bytes) -> dict[str, Any]:
        """The message of a line. ProtocolError when it is none, MemoryError when there is no room for its arrays."""
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ProtocolError(f"not a message: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise ProtocolError(f"not a message: {line[:80]!r}")
        try:
            return {key: self._unpack(value) for key, value in message.items()}
        except (KeyError, TypeError, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOMEM:
                raise MemoryError from error
            raise ProtocolError(f"a damaged message: {error}") from error

    @staticmethod
    def number_of(line: bytes) -> int | None:
        """Which request a line belongs to that `decode` refused."""
        try:
            number = json.loads(line).get("id")
        except (ValueError, AttributeError):
            return None
        return number if isinstance(number, int) else None

    def write_array(self, array: np.ndarray) -> dict[str, Any]:
        """Write an array, plane by plane, and return what stands for it in a message.

        The interpreter lock is free while the system writes, so a thread may do this beside a window's event loop.
        """
        if array.dtype.char not in _DTYPES:
            raise ProtocolError(f"arrays of {array.dtype} do not travel")
        path = self.folder / f"{self.side}-{next(self._numbers)}.raw"
        # Systems clean their folders of temporary files now and then.
        self.folder.mkdir(mode=0o700, exist_ok=True)
        try:
            with open(path, "wb", buffering=0) as file:
                for plane in array if array.ndim > 2 else [array]:
                    if plane.nbytes:
                        remaining = np.ascontiguousarray(plane).data.cast("B")
                        while remaining:
                            remaining = remaining[file.write(remaining) :]
        except (OSError, MemoryError):
            path.unlink(missing_ok=True)
            raise
        self.written.append(path)
        return {"$": "array", "file": path.name, "dtype": array.dtype.str, "shape": list(array.shape)}

    def pack(self, value: Any) -> Packed:
        """Write the arrays of a value now, to send it later, or more than once."""
        return Packed(self._pack(value))

    def _pack(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str, Packed)):
            return value.value if isinstance(value, Packed) else value
        if isinstance(value, np.ndarray):
            return self.write_array(value)
        if isinstance(value, bytes):
            return {"$": "bytes", "base64": base64.b64encode(value).decode()}
        if isinstance(value, slice):
            return {"$": "slice", "start": int(value.start), "stop": int(value.stop)}
        if is_dataclass(value) and type(value).__name__ in _DATACLASSES:
            packed = {field.name: self._pack(getattr(value, field.name)) for field in fields(value)}
            return {"$": type(value).__name__, **packed}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) for key in value):
                return {key: self._pack(item) for key, item in value.items()}
            return {"$": "map", "items": [[int(key), self._pack(item)] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            return [self._pack(item) for item in value]
        if isinstance(value, np.generic):
            return value.item()
        raise ProtocolError(f"a {type(value).__name__} does not travel")

    def _unpack(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self._unpack(item) for item in value)
        if not isinstance(value, dict):
            return value
        kind = value.get("$")
        if kind is None:
            return {key: self._unpack(item) for key, item in value.items()}
        if kind == "array":
            return self._read_array(value)
        if kind == "bytes":
            return base64.b64decode(value["base64"], validate=True)
        if kind == "slice":
            return slice(int(value["start"]), int(value["stop"]))
        if kind == "map":
            return {int(key): self._unpack(item) for key, item in value["items"]}
        if kind in _DATACLASSES:
            return _DATACLASSES[kind](**{key: self._unpack(item) for key, item in value.items() if key != "$"})
        raise ValueError(f"unknown kind {kind!r:.40}")

    def _read_array(self, value: dict[str, Any]) -> np.ndarray:
        name, dtype = str(value["file"]), np.dtype(str(value["dtype"]))
        shape = tuple(int(n) for n in value["shape"])
        if os.path.basename(name) != name or not name.endswith(".raw"):
            raise ValueError(f"a file outside of the folder: {name!r:.80}")
        if dtype.char not in _DTYPES or any(n < 0 for n in shape):
            raise ValueError("not an array")
        path = self.folder / name
        expected = dtype.itemsize * math.prod(shape)
        if path.stat().st_size != expected:
            raise ValueError(f"{name} does not have {expected} bytes")
        if expected < _MAP_FROM_BYTES or os.name != "posix":
            array = np.fromfile(path, dtype).reshape(shape)
        else:
            # Not on Windows, which does not delete what is mapped.
            with open(path, "rb") as file:
                # Copy on write: nobody is surprised by a read-only array, nor by changes of the other side's file.
                mapped = mmap.mmap(file.fileno(), expected, access=mmap.ACCESS_COPY)
            array = np.frombuffer(mapped, dtype).reshape(shape)
        if not self.keep_files:
            path.unlink(missing_ok=True)
        return array


class Lines:
    """Whole lines out of pieces of a stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete, without their line feeds."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line for line in lines if line.strip()]
