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
class Found:
    """A result and what it rests on."""

    result: SegmentedClass
    basis: Basis


@dataclass(frozen=True)
class Applied:
    """found: what was applied, by segment ID; content: how the segments were right after."""

    found: dict[str, Found]
    content: tuple[object, ...]
