"""A class token: every trained number of one class, in a file of about 0.2 MB. No torch: Slicer can list them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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
from PromptSegLib.tokens.shape import Shape, parse_shapes, split_shapes
from PromptSegLib.tokens.shape import numbers_of as numbers_of_shapes
from PromptSegLib.tokens.size import Size
from PromptSegLib.tokens.token_file import (
    CENTERS,
    DIRECTION,
    FORMAT,
    LARGEST_BYTES,
    LEVELS,
    PLAIN,
    SHAPES,
    TokenFormat,
    in_order,
    read_metadata,
)

SUFFIX = ".promptseg"
PLANES = ("axial", "coronal", "sagittal")


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
        shapes: what it looks like in space in some scans, likewise.
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
    shapes: tuple[Shape, ...] = ()
    profile: Profile | None = None
    centers: tuple[Center, ...] = ()

    @property
    def has_directions(self) -> bool:
        """Whether its head has directions of the backbone's levels. That of earlier PromptSegs has none; beside deep
        prompts, they are for other scans alone."""
        return any(name.startswith(DIRECTION) for name in self.numbers)

    @property
    def is_head_alone(self) -> bool:
        """Whether it has no deep prompts."""
        return all(name.startswith("head") for name in self.numbers)

    def at_center(self, name: str | None) -> ClassToken:
        """The token as this center uses it, or its base, without centers; InputError if there is none of this name."""
        if name is None:
            return replace(self, centers=())
        center = self.centers[find_center(self.centers, name, self.name)]
        return replace(self, numbers=center.applied(self.numbers), centers=())

    def is_of_others(self, profile: Profile) -> bool:
        """Whether it was learned from other scans than those of this profile."""
        return self.profile is not None and self.profile != profile

    def knows_from_others(self, profile: Profile) -> bool:
        """Whether it knows from them what the structure looks like in space."""
        return bool(self.shapes) and self.is_of_others(profile)

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
        kind = LEVELS if self.has_directions else SHAPES if self.shapes else CENTERS if self.centers else PLAIN
        metadata = {"format": FORMAT, "version": kind.version, "token": json.dumps(self.describe())}
        numbers = {name: np.ascontiguousarray(n, dtype=np.float32) for name, n in self.numbers.items()}
        deltas = {name: np.ascontiguousarray(n, dtype=np.float16) for name, n in numbers_of(self.centers).items()}
        data = in_order(save(numbers | deltas | numbers_of_shapes(self.shapes), metadata))
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
        if self.shapes:
            described["shapes"] = [shape.describe() for shape in self.shapes]
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


def knowing_from_others(tokens: Sequence[ClassToken | None], profile: Profile) -> frozenset[int]:
    """Labels, 1, 2, … in the order of the tokens, of those that know from other scans than those of this profile what
    their structure looks like: a drawing corrects what these find."""
    numbered = enumerate(tokens, start=1)
    return frozenset(label for label, token in numbered if token is not None and token.knows_from_others(profile))


def load_token(path: str | Path) -> ClassToken:
    """Read and check a token file; InputError says which check failed. Nothing of it is ever executed."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no class token {path}: check the path")
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise InputError(
            f"{path} has {size} bytes, and a class token has at most {LARGEST_BYTES}: this is another kind of file"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): choose another file") from error
    return parse_token(data, str(path))


def parse_token(data: bytes, source: str = "the class token") -> ClassToken:
    """As `load_token`, from the content of a file; ``source`` is what a message calls it."""
    if len(data) > LARGEST_BYTES:
        raise InputError(f"{source} has {len(data)} bytes, more than a class token's {LARGEST_BYTES}: choose another")
    kind, metadata = read_metadata(data, source)
    try:
        numbers = load(data)
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{source} is damaged or cut off ({error}): get the file again") from error
    for name, array in numbers.items():
        if array.dtype not in kind.types:
            raise InputError(f"{source}: {name!r:.80} is {array.dtype}, not float32: the file is damaged")
        if not np.isfinite(array).all():
            raise InputError(f"{source}: {name!r:.80} holds values that are not finite: train the class again")
    try:
        return _from_description(json.loads(metadata["token"]), numbers, kind)
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{source} has a damaged description ({error}): get the file again") from error


def _from_description(data: dict[str, Any], numbers: dict[str, np.ndarray], kind: TokenFormat) -> ClassToken:
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
    may_have_shapes = kind in (SHAPES, LEVELS)
    centers = data["centers"] if kind is CENTERS else data.get("centers", []) if may_have_shapes else []
    trained, stored_shapes = split_shapes(numbers) if may_have_shapes else (numbers, {})
    base, deltas = split_numbers(trained, len(centers))
    has_shapes = kind is SHAPES or (kind is LEVELS and ("shapes" in data or bool(stored_shapes)))
    if kind is CENTERS and not deltas:
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
        shapes=parse_shapes(data["shapes"], stored_shapes) if has_shapes else (),
        centers=parse_centers(centers, deltas),
    )
