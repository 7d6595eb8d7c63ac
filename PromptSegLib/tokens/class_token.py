"""A class token: every trained number of one class, in a file of about 0.2 MB. No torch: Slicer can list them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import write_bytes
from PromptSegLib.imaging.window import Window
from PromptSegLib.tokens.centers import Center, find_center, numbers_of, parse_centers, split_numbers
from PromptSegLib.tokens.height import Height
from PromptSegLib.tokens.place import Place
from PromptSegLib.tokens.recognition import Profile, Recognition, recognize
from PromptSegLib.tokens.records import (
    BackboneReference,
    Calibration,
    Terminology,
    Training,
    checked_name,
    printable,
)
from PromptSegLib.tokens.size import Size

FORMAT = "promptseg-class-token"
FORMAT_VERSION = 1
CENTERS_VERSION = 2
"""Of files with centers; a token without any is written as version 1, which earlier PromptSegs read."""

SUFFIX = ".promptseg"
MAX_BYTES = 256 * 1024
MAX_BYTES_WITH_CENTERS = 512 * 1024
PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class _Format:
    """A version of the file, and how many bytes it and its description take at most."""

    version: int
    most_bytes: int
    most_description: int


_WITHOUT_CENTERS = _Format(FORMAT_VERSION, MAX_BYTES, 16 * 1024)
_WITH_CENTERS = _Format(CENTERS_VERSION, MAX_BYTES_WITH_CENTERS, 128 * 1024)


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
        place: where in the body's cross sections it lies; None if that was not recorded or could not be told.
        height: at which height in the body; None likewise.
        size: how large it is; None if that was not recorded, or no scan was wholly drawn.
        profile: what the scans that it was learned from are like; None if that was not recorded.
        centers: for other hospitals or scanners; the token itself, without any of them, is their base.
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
    place: Place | None = None
    height: Height | None = None
    size: Size | None = None
    profile: Profile | None = None
    centers: tuple[Center, ...] = ()

    def at_center(self, name: str | None) -> ClassToken:
        """The token as this center uses it, or its base, without centers; InputError if there is none of this name."""
        if name is None:
            return replace(self, centers=())
        center = self.centers[find_center(self.centers, name, self.name)]
        return replace(self, numbers=center.applied(self.numbers), centers=())

    def recognize(self, statistics: Mapping[str, float]) -> Recognition | None:
        """Which center a scan with these statistics is of; None if the token has no centers."""
        if not self.centers:
            return None
        profiles: dict[str | None, Profile] = {center.name: center.profile for center in self.centers}
        return recognize(statistics, profiles if self.profile is None else {None: self.profile, **profiles})

    def save(self, path: str | Path) -> None:
        """Write atomically. InputError if the folder is missing or full, or the name of the file is not a token's."""
        path = Path(path)
        if path.suffix != SUFFIX:
            raise InputError(f"a class token's file must end in {SUFFIX}: rename {path.name} to {path.stem}{SUFFIX}")
        write_bytes(self.to_bytes(), path)

    def to_bytes(self) -> bytes:
        """The content of the token's file, the same bytes for equal tokens; `parse_token` is the inverse."""
        kind = _WITH_CENTERS if self.centers else _WITHOUT_CENTERS
        metadata = {"format": FORMAT, "version": str(kind.version), "token": json.dumps(self.describe())}
        numbers = {name: np.ascontiguousarray(n, dtype=np.float32) for name, n in self.numbers.items()}
        deltas = {name: np.ascontiguousarray(n, dtype=np.float16) for name, n in numbers_of(self.centers).items()}
        data = _in_order(save(numbers | deltas, metadata))
        if len(data) > kind.most_bytes or sum(map(len, metadata.values())) > kind.most_description:
            advice = "remove or merge some of its centers" if self.centers else "shorten its name"
            raise InputError(
                f"the token '{self.name}' would take {len(data)} bytes, more than it may "
                f"({kind.most_bytes}, {kind.most_description} of them for its description): {advice}"
            )
        return data

    def describe(self) -> dict[str, Any]:
        """All but the numbers, ready for JSON."""
        described: dict[str, Any] = {
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
        if self.place is not None:
            described["place"] = self.place.describe()
        if self.height is not None:
            described["height"] = self.height.describe()
        if self.size is not None:
            described["size"] = self.size.describe()
        if self.profile is not None:
            described["profile"] = self.profile.describe()
        if self.centers:
            described["centers"] = [center.describe() for center in self.centers]
        return described

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
    if size > MAX_BYTES_WITH_CENTERS:
        raise InputError(
            f"{path} has {size} bytes, and a class token has at most {MAX_BYTES_WITH_CENTERS}: "
            "this is another kind of file"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): choose another file") from error
    return parse_token(data, str(path))


def parse_token(data: bytes, source: str = "the class token") -> ClassToken:
    """As `load_token`, from the content of a file; ``source`` is what a message calls it."""
    if len(data) > MAX_BYTES_WITH_CENTERS:
        raise InputError(
            f"{source} has {len(data)} bytes, more than a class token's {MAX_BYTES_WITH_CENTERS}: choose another"
        )
    metadata = _metadata(data, source)
    with_centers = metadata["version"] == str(CENTERS_VERSION)
    try:
        numbers = load(data)
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{source} is damaged or cut off ({error}): get the file again") from error
    for name, array in numbers.items():
        if array.dtype != np.float32 and not (with_centers and array.dtype == np.float16):
            raise InputError(f"{source}: {name!r:.80} is {array.dtype}, not float32: the file is damaged")
        if not np.isfinite(array).all():
            raise InputError(f"{source}: {name!r:.80} holds values that are not finite: train the class again")
    try:
        return _from_description(json.loads(metadata["token"]), numbers, with_centers)
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
    with_centers = metadata.get("version") == str(CENTERS_VERSION)
    kind = _WITH_CENTERS if with_centers else _WITHOUT_CENTERS
    if metadata.get("version") != str(kind.version):
        raise InputError(
            f"{source} has token format {metadata.get('version')!r:.20}, not '{FORMAT_VERSION}' "
            f"or '{CENTERS_VERSION}': update PromptSeg"
        )
    if len(data) > kind.most_bytes:
        raise InputError(
            f"{source} has {len(data)} bytes, and a class token without centers at most {kind.most_bytes}: "
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
    if declared * (2 if with_centers else 4) > kind.most_bytes:
        raise InputError(f"{source} declares more numbers than a class token can hold: the file is damaged")
    return dict(metadata)


def _from_description(data: dict[str, Any], numbers: dict[str, np.ndarray], with_centers: bool) -> ClassToken:
    color = tuple(int(c) for c in data["color"])
    if len(color) != 3 or not all(0 <= c <= 255 for c in color):
        raise ValueError("color is not three numbers from 0 to 255")
    spacing = float(data["spacing_mm"])
    if not 0.5 <= spacing <= 10:
        raise ValueError(f"spacing of {spacing} mm")
    if data["plane"] not in PLANES or data["pieces"] not in ("one", "many"):
        raise ValueError("unknown plane or pieces")
    window = Window.from_json(data["window"])
    if not (math.isfinite(window.lower) and math.isfinite(window.upper)):
        raise ValueError("window is not finite")
    terminology = data["terminology"]
    place, height, size, profile = (data.get(key) for key in ("place", "height", "size", "profile"))
    base, deltas = split_numbers(numbers, len(data["centers"])) if with_centers else (numbers, [])
    if with_centers and not deltas:
        raise ValueError("no centers")
    if any(array.dtype != np.float32 for array in base.values()):
        raise ValueError("a number of the token itself is not float32")
    return ClassToken(
        name=checked_name(printable(data["name"])),
        color=(color[0], color[1], color[2]),
        terminology=Terminology(**{key: printable(value) for key, value in terminology.items()})
        if terminology
        else None,
        backbone=BackboneReference(
            **{key: printable(data["backbone"][key]) for key in ("name", "fingerprint", "preset")}
        ),
        prompting=printable(data["prompting"]),
        plane=data["plane"],
        spacing_mm=spacing,
        window=window,
        calibration=Calibration.parse(data["calibration"]),
        pieces=data["pieces"],
        training=Training.parse(data["training"]),
        numbers=base,
        place=None if place is None else Place.parse(place),
        height=None if height is None else Height.parse(height),
        size=None if size is None else Size.parse(size),
        profile=None if profile is None else Profile.parse(profile),
        centers=parse_centers(data["centers"], deltas) if with_centers else (),
    )
