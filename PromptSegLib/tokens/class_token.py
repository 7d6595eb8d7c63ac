"""A class token: every trained number of one class, in a file of about 0.2 MB. No torch: Slicer can list them."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import write_bytes
from PromptSegLib.imaging.window import Window

FORMAT = "promptseg-class-token"
FORMAT_VERSION = 1
SUFFIX = ".promptseg"
MAX_BYTES = 256 * 1024
PLANES = ("axial", "coronal", "sagittal")

_MAX_NAME = 120
_MAX_METADATA_BYTES = 16 * 1024


@dataclass(frozen=True)
class Terminology:
    """A coded meaning, such as ("SCT", "64033007", "Kidney")."""

    scheme: str
    code: str
    meaning: str


@dataclass(frozen=True)
class Calibration:
    """From the network's logit to the calibrated one: ``scale * logit + offset`` (Platt 1999)."""

    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class BackboneReference:
    """The one backbone that a token works with: name for people, fingerprint (SHA-256) for certainty."""

    name: str
    fingerprint: str
    preset: str


@dataclass(frozen=True)
class Training:
    """How a token came about. date: ISO 8601, day only; held_out_dsc: on the part of the drawing kept aside."""

    scans: int
    slices: int
    steps: int
    seconds: float
    date: str
    seed: int
    held_out_dsc: float | None = None


@dataclass(frozen=True, eq=False)
class ClassToken:
    """One class.

    Attributes:
        name: of the class, as the user wrote it.
        color: red, green, blue, 0 to 255.
        backbone: what the numbers were trained on.
        prompting: which blocks have prompts: a variant of the backbone's family, such as decoder or deep.
        plane: that was drawn on: axial, coronal or sagittal.
        spacing_mm: in the plane, at which the backbone sees the slices.
        window: of intensities.
        pieces: whether the structure was one piece on the drawing ("one") or several ("many").
        numbers: float32 arrays by name.
    """

    name: str
    backbone: BackboneReference
    prompting: str
    plane: str
    spacing_mm: float
    window: Window
    numbers: Mapping[str, np.ndarray]
    training: Training
    color: tuple[int, int, int] = (230, 159, 0)
    terminology: Terminology | None = None
    calibration: Calibration = field(default_factory=Calibration)
    pieces: str = "one"

    def save(self, path: str | Path) -> None:
        """Write atomically. InputError if the folder is missing or full, or the name of the file is not a token's."""
        path = Path(path)
        if path.suffix != SUFFIX:
            raise InputError(f"a class token's file must end in {SUFFIX}: rename {path.name} to {path.stem}{SUFFIX}")
        write_bytes(self.to_bytes(), path)

    def to_bytes(self) -> bytes:
        """The content of the token's file, the same bytes for equal tokens; `parse_token` is the inverse."""
        metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "token": json.dumps(self.describe())}
        data = _in_order(
            save({name: np.ascontiguousarray(n, dtype=np.float32) for name, n in self.numbers.items()}, metadata)
        )
        if len(data) > MAX_BYTES:
            raise InputError(
                f"the token '{self.name}' would take {len(data)} bytes, more than {MAX_BYTES}: shorten its name"
            )
        return data

    def describe(self) -> dict[str, Any]:
        """All but the numbers, ready for JSON."""
        return {
            "name": self.name,
            "color": list(self.color),
            "terminology": vars(self.terminology) if self.terminology else None,
            "backbone": vars(self.backbone),
            "prompting": self.prompting,
            "plane": self.plane,
            "spacing_mm": self.spacing_mm,
            "window": self.window.to_json(),
            "calibration": vars(self.calibration),
            "pieces": self.pieces,
            "training": vars(self.training),
        }

    def require_backbone(self, name: str, fingerprint: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """InputError unless the token was trained on this very backbone and has just the numbers it wants."""
        if self.backbone.fingerprint != fingerprint:
            raise InputError(
                f"the token '{self.name}' belongs to the backbone {self.backbone.name} "
                f"({self.backbone.fingerprint[:12]}), not to {name} ({fingerprint[:12]}): "
                "choose its backbone with --backbone or train the class again"
            )
        found = {key: array.shape for key, array in self.numbers.items()}
        if set(found) != set(shapes):
            odd = ", ".join(f"{key!r:.80}" for key in sorted(set(found) ^ set(shapes))[:3])
            raise InputError(f"the token '{self.name}' has missing or unknown numbers ({odd}): the file is damaged")
        for key, shape in shapes.items():
            if found[key] != tuple(shape):
                raise InputError(
                    f"the token '{self.name}': '{key}' has shape {found[key]}, not {tuple(shape)}: the file is damaged"
                )


def load_token(path: str | Path) -> ClassToken:
    """Read and check a token file; InputError says which check failed. Nothing of it is ever executed."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no class token {path}: check the path")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(
            f"{path} has {size} bytes, and a class token has at most {MAX_BYTES}: this is another kind of file"
        )
    return parse_token(path.read_bytes(), str(path))


def parse_token(data: bytes, source: str = "the class token") -> ClassToken:
    """As `load_token`, from the content of a file; ``source`` is what a message calls it."""
    if len(data) > MAX_BYTES:
        raise InputError(f"{source} has {len(data)} bytes, more than a class token's {MAX_BYTES}: choose another")
    metadata = _metadata(data, source)
    try:
        numbers = load(data)
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{source} is damaged or cut off ({error}): get the file again") from error
    for name, array in numbers.items():
        if array.dtype != np.float32:
            raise InputError(f"{source}: {name!r:.80} is {array.dtype}, not float32: the file is damaged")
        if not np.isfinite(array).all():
            raise InputError(f"{source}: {name!r:.80} holds values that are not finite: train the class again")
    try:
        return _from_description(json.loads(metadata["token"]), numbers)
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{source} has a damaged description ({error}): get the file again") from error


def _in_order(data: bytes) -> bytes:
    """The same safetensors file with a sorted header: as written, its order is left to chance, and equal tokens differ
    in their bytes."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _metadata(data: bytes, source: str) -> dict[str, str]:
    """The header's metadata; the length that the file declares is checked before it is believed."""
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
    if metadata.get("version") != str(FORMAT_VERSION):
        raise InputError(
            f"{source} has token format {metadata.get('version')!r:.20}, not '{FORMAT_VERSION}': update PromptSeg"
        )
    if sum(len(v) for v in metadata.values()) > _MAX_METADATA_BYTES:
        raise InputError(f"{source} has a description of more than {_MAX_METADATA_BYTES} bytes: the file is damaged")
    declared = 0
    for entry in header.values():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise InputError(f"{source} has a damaged table of numbers: get the file again")
        declared += math.prod(shape)
    if declared * 4 > MAX_BYTES:
        raise InputError(f"{source} declares more numbers than a class token can hold: the file is damaged")
    return dict(metadata)


def _from_description(data: dict[str, Any], numbers: dict[str, np.ndarray]) -> ClassToken:
    color = tuple(int(c) for c in data["color"])
    if len(color) != 3 or not all(0 <= c <= 255 for c in color):
        raise ValueError("color is not three numbers from 0 to 255")
    spacing = float(data["spacing_mm"])
    if not 0.5 <= spacing <= 10:
        raise ValueError(f"spacing of {spacing} mm")
    if data["plane"] not in PLANES or data["pieces"] not in ("one", "many"):
        raise ValueError("unknown plane or pieces")
    calibration = Calibration(float(data["calibration"]["scale"]), float(data["calibration"]["offset"]))
    if not (math.isfinite(calibration.scale) and math.isfinite(calibration.offset)):
        raise ValueError("calibration is not finite")
    window = Window.from_json(data["window"])
    if not (math.isfinite(window.lower) and math.isfinite(window.upper)):
        raise ValueError("window is not finite")
    terminology = data["terminology"]
    training = data["training"]
    held_out = training["held_out_dsc"]
    return ClassToken(
        name=checked_name(_text(data["name"])),
        color=(color[0], color[1], color[2]),
        terminology=Terminology(**{key: _text(value) for key, value in terminology.items()}) if terminology else None,
        backbone=BackboneReference(**{key: _text(data["backbone"][key]) for key in ("name", "fingerprint", "preset")}),
        prompting=_text(data["prompting"]),
        plane=data["plane"],
        spacing_mm=spacing,
        window=window,
        calibration=calibration,
        pieces=data["pieces"],
        training=Training(
            scans=int(training["scans"]),
            slices=int(training["slices"]),
            steps=int(training["steps"]),
            seconds=float(training["seconds"]),
            date=_text(training["date"]),
            seed=int(training["seed"]),
            held_out_dsc=None if held_out is None else float(held_out),
        ),
        numbers=numbers,
    )


def _text(value: Any) -> str:
    """Text of a file from anywhere, which will be shown: no control characters, which could steer a terminal."""
    if not isinstance(value, str) or not _is_printable(value):
        raise ValueError(f"{value!r} is no printable text")
    return value


def checked_name(name: str) -> str:
    """A class name fit for a file and a screen; InputError when it is empty, long or has control characters."""
    name = name.strip()
    if not name or len(name) > _MAX_NAME or not _is_printable(name):
        raise InputError(f"a class needs a name of 1 to {_MAX_NAME} printable characters: give one with --name")
    return name


def _is_printable(text: str) -> bool:
    # Unlike str.isprintable, this lets through the joiners and wide spaces that some languages write with.
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)
