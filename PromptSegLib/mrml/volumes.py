"""Scalar volume nodes as volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.mrml.nodes import array_from_matrix, parent_to_world, require_volume, voxels

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class VoxelGrid:
    """Which voxels a volume node had at some time.

    extent: of the image; places: from the voxel (i, j, k) to the node's own RAS mm; image_time: when it was modified.
    """

    extent: tuple[int, ...]
    places: tuple[float, ...]
    image_time: int

    @classmethod
    def of(cls, node: slicer.vtkMRMLVolumeNode) -> VoxelGrid:
        """Those that it has now.

        Raises:
            InputError: if the node was deleted or is empty.
        """
        image, matrix = require_volume(node).GetImageData(), vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        return cls(tuple(image.GetExtent()), tuple(array_from_matrix(matrix).ravel()), image.GetMTime())

    def is_that_of(self, later: VoxelGrid) -> bool:
        """Whether a voxel still is the same part of the patient: in a moved scan it is, in a cropped one it is not."""
        if self.extent != later.extent:
            return False
        # Hardening a transform or centering the volume moves the scan with its voxels; cropping replaces these, too.
        return self.image_time == later.image_time or np.allclose(self.places, later.places)


def volume_from_node(node: slicer.vtkMRMLScalarVolumeNode | None) -> Volume:
    """The voxels of a volume node, sharing its memory, at their places in the world.

    Raises:
        InputError: if the node was deleted, is empty, has several values per voxel (color, vectors, time) or lies under
            a non-linear transform.
    """
    node = require_volume(node)
    components = node.GetImageData().GetNumberOfScalarComponents()
    if components != 1:
        raise InputError(
            f'the volume "{node.GetName()}" has {components} values per voxel, such as colors or time points: '
            "choose one with a single value"
        )
    return Volume(voxels(node.GetImageData()), geometry_from_node(node))


def geometry_from_node(node: slicer.vtkMRMLScalarVolumeNode | None) -> Geometry:
    """The grid of a volume node in LPS mm, with the linear transforms that are applied to it.

    Raises:
        InputError: if the node was deleted, is empty or lies under a non-linear transform.
    """
    node = require_volume(node)
    affine = (_RAS_TO_LPS @ index_to_world(node))[:, [2, 1, 0, 3]]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not spacing.all():
        raise InputError(f'the voxels of the volume "{node.GetName()}" have no extent along one of their axes')
    columns, rows, slices = node.GetImageData().GetDimensions()
    x, y, z = (tuple(row) for row in affine[:3, :3] / spacing)
    return Geometry((slices, rows, columns), tuple(spacing), tuple(affine[:3, 3]), (x, y, z))


def index_to_world(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """4x4 matrix from the voxel (i, j, k) of a volume node to RAS mm in the world."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    index_to_world: np.ndarray = parent_to_world(node) @ array_from_matrix(matrix)
    return index_to_world


def revision(node: slicer.vtkMRMLScalarVolumeNode | None) -> str:
    """A text that changes whenever the voxels or their places do.

    Raises:
        InputError: if the node was deleted, is empty or lies under a non-linear transform.
    """
    node = require_volume(node)
    places = ",".join(f"{value:.9g}" for value in index_to_world(node)[:3].ravel())
    return f"{node.GetID()}/{node.GetImageData().GetMTime()}/{places}"
