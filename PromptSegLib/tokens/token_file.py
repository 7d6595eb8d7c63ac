"""The versions of a token's file, and what is checked before its content is believed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np

from PromptSegLib.errors import InputError

FORMAT = "promptseg-class-token"
MAX_BYTES = 256 * 1024
LARGEST_BYTES = 512 * 1024


@dataclass(frozen=True)
class TokenFormat:
    """A version of the file, how many bytes it and its description take at most, and what types its numbers have."""

    version: str
    most_bytes: int
    most_description: int
    types: tuple[np.dtype, ...]


PLAIN = TokenFormat("1", MAX_BYTES, 16 * 1024, (np.dtype(np.float32),))
"""Of tokens without centers and shapes: earlier PromptSegs read them."""

CENTERS = TokenFormat("2", LARGEST_BYTES, 128 * 1024, (*PLAIN.types, np.dtype(np.float16)))
"""Of tokens with centers, without shapes."""

SHAPES = TokenFormat("3", LARGEST_BYTES, 128 * 1024, (*CENTERS.types, np.dtype(np.int8)))
"""Of tokens with shapes, and maybe centers."""

LEVELS = TokenFormat("4", LARGEST_BYTES, 128 * 1024, SHAPES.types)
"""Of tokens with directions of a backbone's levels, and maybe shapes and centers."""

DIRECTION = "head.direction"
"""How the names of these directions begin."""

_FORMATS = {kind.version: kind for kind in (PLAIN, CENTERS, SHAPES, LEVELS)}


def in_order(data: bytes) -> bytes:
    """The same safetensors file with a sorted header: as written, its order is left to chance, and equal tokens differ
    in their bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def read_metadata(data: bytes, source: str) -> tuple[TokenFormat, dict[str, str]]:
    """The header's metadata; the length that the file declares is checked before it is believed.

    source: what a message calls the file.

    Raises:
        InputError: if it is no class token, of a later version, damaged or too large.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise InputError(f"{source} is damaged or cut off: get the file again")
    try:
        header = json.loads(data[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        is_token = metadata.get("format") == FORMAT and all(isinstance(v, str) for v in metadata.values())
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{source} is not a class token: choose a file written by PromptSeg") from error
    if not is_token:
        raise InputError(f"{source} is not a class token: choose a file written by PromptSeg")
    kind = _FORMATS.get(metadata.get("version"))
    if kind is None:
        known = ", ".join(f"'{version}'" for version in _FORMATS)
        raise InputError(
            f"{source} has token format {metadata.get('version')!r:.20}, not one of {known}: update PromptSeg"
        )
    if len(data) > kind.most_bytes:
        raise InputError(
            f"{source} has {len(data)} bytes, and a class token of its format at most {kind.most_bytes}: "
            "this is another kind of file"
        )
    if sum(len(v) for v in metadata.values()) > kind.most_description:
        raise InputError(f"{source} has a description of more than {kind.most_description} bytes: the file is damaged")
    declared = 0
    for entry in header.values():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise InputError(f"{source} has a damaged table of numbers: get the file again")
        declared += math.prod(shape)
    if declared * min(kind_of.itemsize for kind_of in kind.types) > kind.most_bytes:
        raise InputError(f"{source} declares more numbers than a class token can hold: the file is damaged")
    return kind, dict(metadata)
