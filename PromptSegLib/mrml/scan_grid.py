"""The voxels that a segmentation was drawn on, which may be those of a scan that was cropped since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from PromptSegLib.engine.messages import SliceDrawing
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.volume import GRID_TOLERANCE
from PromptSegLib.mrml.nodes import parent_to_world
from PromptSegLib.mrml.volumes import index_to_world


@dataclass(frozen=True, eq=False)
class ScanGrid:
    """shape: (slices, rows, columns); places: 4x4 from the voxel (i, j, k) to the segmentation's own RAS mm."""

    shape: tuple[int, int, int]
    places: np.ndarray

    @classmethod
    def of(
        cls, segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLScalarVolumeNode
    ) -> ScanGrid:
        """The grid of a scan.

        Raises:
            InputError: if a node was deleted or lies under a non-linear transform.
        """
        columns, rows, slices = volume_node.GetImageData().GetDimensions()
        places = np.linalg.inv(parent_to_world(segmentation_node)) @ index_to_world(volume_node)
        return cls((slices, rows, columns), places)

    @classmethod
    def from_record(cls, record: Any) -> ScanGrid | None:
        """The grid that `to_record` wrote; None if the record is damaged or older than this entry."""
        try:
            slices, rows, columns = (int(length) for length in record["shape"])
            places = np.array(record["places"], dtype=float).reshape(4, 4)
        except (KeyError, TypeError, ValueError):
            return None
        is_sound = min(slices, rows, columns) > 0 and np.isfinite(places).all() and abs(np.linalg.det(places)) > 0
        return cls((slices, rows, columns), places) if is_sound else None

    def to_record(self) -> dict[str, Any]:
        """Something that JSON can hold."""
        return {"shape": self.shape, "places": self.places.ravel().tolist()}

    def seen_on(self, target: ScanGrid) -> GridMap | None:
        """Which of its voxels lie at those of another grid, None if the grids are turned against each other."""
        from_target = (np.linalg.inv(self.places) @ target.places)[[2, 1, 0, 3]][:, [2, 1, 0, 3]]
        scales, steps = np.diag(from_target)[:3], from_target[:3, :3]
        if np.abs((steps - np.diag(scales)) * target.shape).max() > GRID_TOLERANCE:
            return None
        indices = []
        for axis in range(3):
            nearest = np.rint(scales[axis] * np.arange(target.shape[axis]) + from_target[axis, 3]).astype(int)
            indices.append(np.where((nearest >= 0) & (nearest < self.shape[axis]), nearest, -1))
        return GridMap((indices[0], indices[1], indices[2]))


@dataclass(frozen=True, eq=False)
class GridMap:
    """For each index along the array axes of one grid the nearest one of another grid, -1 where that ends."""

    indices: tuple[np.ndarray, np.ndarray, np.ndarray]

    def slices(self, axis: int, drawn: Mapping[int, object]) -> dict[int, int]:
        """The slices at which there are drawn ones of the other grid, and which these are."""
        return {at: int(index) for at, index in enumerate(self.indices[axis]) if index in drawn}

    def carried(self, drawing: SliceDrawing) -> SliceDrawing:
        """A drawing of the other grid on this one; what lies beyond the other grid is unknown."""
        rows, columns = (indices for axis, indices in enumerate(self.indices) if axis != drawing.axis)
        beyond = (rows < 0)[:, None] | (columns < 0)
        planes = {
            at: np.where(beyond, UNKNOWN, drawing.planes[index][np.ix_(rows, columns)]).astype(np.uint8)
            for at, index in self.slices(drawing.axis, drawing.planes).items()
        }
        return SliceDrawing(drawing.axis, planes)
