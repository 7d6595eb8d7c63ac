"""What results rest on."""

from __future__ import annotations

from dataclasses import dataclass

from PromptSegLib.engine.messages import SegmentedClass
from PromptSegLib.mrml.volumes import VoxelGrid


@dataclass(frozen=True)
class Basis:
    """How scan and drawing were when a work began: read otherwise, a result would lie elsewhere or have holes.

    grid: the scan's voxels; scribbles: only painted ones were known.
    """

    grid: VoxelGrid
    scribbles: bool


@dataclass(frozen=True)
class Applied:
    """results: what was applied; bases: what these rest on; content: how the segments were right after."""

    results: dict[str, SegmentedClass]
    bases: dict[str, Basis]
    content: tuple[object, ...]
