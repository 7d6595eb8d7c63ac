"""Backbone files: safetensors in half precision with a JSON description; no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import write_bytes
from PromptSegLib.networks.backbone import BackboneModule, freeze
from PromptSegLib.networks.catalog import DEFAULT_BACKBONE, FORMAT, FORMAT_VERSION, find_backbone, read_info
from PromptSegLib.networks.device import find_device, keep_freed_memory
from PromptSegLib.networks.families import build_backbone
from PromptSegLib.networks.presets import find_preset


def save_backbone(network: BackboneModule, path: Path, card: dict[str, Any]) -> None:
    """Write atomically, floating-point numbers as fp16."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in network.state_dict().items()
    }
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "name": network.name, "preset": network.preset.name}
    write_bytes(save(tensors, metadata | {"card": json.dumps(card)}), path)


def load_backbone(path: Path, device: torch.device | str = "cpu") -> BackboneModule:
    """The frozen network of a backbone file, in fp32 on ``device``.

    Raises:
        InputError: if the file is damaged, or its weights are not those of its preset, or not finite.
    """
    info = read_info(path)
    network = build_backbone(find_preset(info.preset), info.name)
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
            if not tensors[name].isfinite().all():
                raise InputError(f"{path}: '{name}' holds numbers that are not finite: get the file again")
    network.load_state_dict(tensors)
    return freeze(network).to(device)


def load_network(name: str | None, device: str) -> BackboneModule:
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
            "choose a backbone of preset paper-2d, unetr-2d or swin-unetr-2d"
        )
    return network
