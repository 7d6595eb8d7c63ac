"""From a preset to a network of its family."""

from __future__ import annotations

from PromptSegLib.networks.backbone import BackboneModule
from PromptSegLib.networks.presets import Preset, PUNetPreset, SwinUNETRPreset, UNETRPreset
from PromptSegLib.networks.punet import PUNet


def build_backbone(preset: Preset, name: str = "untrained") -> BackboneModule:
    """A network of random weights."""
    if isinstance(preset, PUNetPreset):
        return PUNet(preset, name)
    # MONAI's networks take seconds to import.
    if isinstance(preset, UNETRPreset):
        from PromptSegLib.networks.unetr import PromptedUNETR

        return PromptedUNETR(preset, name)
    if isinstance(preset, SwinUNETRPreset):
        from PromptSegLib.networks.swin_unetr import PromptedSwinUNETR

        return PromptedSwinUNETR(preset, name)
    raise TypeError(f"no network is made from a {type(preset).__name__}")
