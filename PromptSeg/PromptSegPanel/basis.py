"""What results rest on."""

from __future__ import annotations

from dataclasses import dataclass

from PromptSegLib.mrml.volumes import VoxelGrid


@dataclass(frozen=True)
class Basis:
    """How scan and drawing were when a work began. grid: the scan's voxels; scribbles: only painted ones were known."""

    grid: VoxelGrid
    scribbles: bool
