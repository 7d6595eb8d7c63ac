"""Backbone files: safetensors in half precision with a JSON description; no pickle."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import write_bytes
from PromptSegLib.networks.device import find_device, keep_freed_memory
from PromptSegLib.networks.punet import PUNet, find_preset, freeze

FORMAT = "promptseg-backbone"
FORMAT_VERSION = 1
SUFFIX = ".safetensors"
DEFAULT_BACKBONE = "punet-headneck-1"
SHIPPED_FOLDERS = (
    Path(__file__).resolve().parents[2] / "Resources" / "Backbones",
    Path(sys.prefix) / "share" / "promptseg" / "Backbones",
)


@dataclass(frozen=True)
class BackboneInfo:
    """Description of a backbone file. ``card``: how it was made (data, licenses, classes, schedule)."""

    name: str
    preset: str
    card: dict[str, Any]
    path: Path


def save_backbone(network: PUNet, path: Path, card: dict[str, Any]) -> None:
    """Write atomically, floating-point numbers as fp16."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in network.state_dict().items()
    }
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "name": network.name, "preset": network.preset.name}
    write_bytes(save(tensors, metadata | {"card": json.dumps(card)}), path)


def read_info(path: Path) -> BackboneInfo:
    """Description without the weights; InputError when the file is no backbone of a version known here."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the backbone {path}: {error}") from error
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is not a PromptSeg backbone: choose a file written by 'promptseg pretrain'")
    if metadata.get("version") != str(FORMAT_VERSION):
        raise InputError(
            f"{path} has backbone format {metadata.get('version')}, not {FORMAT_VERSION}: update PromptSeg"
        )
    try:
        return BackboneInfo(metadata["name"], metadata["preset"], json.loads(metadata["card"]), Path(path))
    except (KeyError, ValueError) as error:
        raise InputError(f"{path} has a damaged description ({error}): get the file again") from error


def load_backbone(path: Path, device: torch.device | str = "cpu") -> PUNet:
    """The frozen network of a backbone file, in fp32 on ``device``."""
    info = read_info(path)
    network = PUNet(find_preset(info.preset), info.name)
    expected = network.state_dict()
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        if names != set(expected):
            raise InputError(f"{path} does not hold the weights of preset {info.preset}: get the file again")
        tensors: dict[str, Tensor] = {}
        for name, like in expected.items():
            shape = tuple(file.get_slice(name).get_shape())
            if shape != tuple(like.shape):
                raise InputError(f"{path}: '{name}' has shape {shape}, not {tuple(like.shape)}: get the file again")
            tensors[name] = file.get_tensor(name).to(like.dtype)
    network.load_state_dict(tensors)
    frozen: nn.Module = freeze(network)
    assert isinstance(frozen, PUNet)
    return frozen.to(device)


def load_network(name: str | None, device: str) -> PUNet:
    """The backbone of this name or file, the shipped one for None, ready on a device to learn and find classes with.

    Raises:
        InputError: if there is no such backbone or device, or the backbone works on blocks of slices.
    """
    keep_freed_memory()
    chosen = find_device(device)
    network = load_backbone(find_backbone(name or DEFAULT_BACKBONE), chosen)
    if network.preset.dimensions != 2:
        raise InputError(
            f"the backbone {network.name} works on blocks of slices, and classes are learned on slices: "
            "choose a backbone of preset paper-2d"
        )
    return network


def backbone_folders() -> list[Path]:
    """Where backbones are looked for: the folder named by PROMPTSEG_BACKBONES, then where they are shipped."""
    named = os.environ.get("PROMPTSEG_BACKBONES")
    return ([Path(named)] if named else []) + list(SHIPPED_FOLDERS)


def list_backbones() -> list[BackboneInfo]:
    found: dict[str, BackboneInfo] = {}
    for folder in backbone_folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            info = read_info(path)
            found.setdefault(info.name, info)
    return list(found.values())


def find_backbone(name_or_path: str) -> Path:
    """Path of a backbone given by its file or by its name."""
    path = Path(name_or_path)
    if path.suffix == SUFFIX or path.exists():
        if not path.is_file():
            raise InputError(f"there is no backbone file {path}: check the path")
        return path
    for folder in backbone_folders():
        for candidate in sorted(folder.glob(f"*{SUFFIX}")):
            # A damaged file must not stand in the way of the others; asked for itself, it says what is wrong with it.
            if candidate.stem == name_or_path or _name_of(candidate) == name_or_path:
                return candidate
    known = list_backbones()
    raise InputError(
        f"there is no backbone '{name_or_path}': choose one of {', '.join(i.name for i in known) or 'none'}"
    )


def _name_of(path: Path) -> str | None:
    """The name of a backbone file, None for a damaged one."""
    try:
        return read_info(path).name
    except InputError:
        return None
