"""A volume node and the volume made of it say the same of every voxel."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from PromptSegLib.errors import InputError
from PromptSegLib.mrml.volumes import revision, volume_from_node
from Testing.mrml.builders import add_transform, add_volume

angles = st.floats(-180, 180)
spacings = st.tuples(*[st.floats(0.1, 10)] * 3)
offsets = st.tuples(*[st.floats(-1000, 1000)] * 3)


def rotation(x: float, y: float, z: float) -> np.ndarray:
    transform = vtk.vtkTransform()
    transform.RotateZ(z)
    transform.RotateX(x)
    transform.RotateY(y)
    return slicer.util.arrayFromVTKMatrix(transform.GetMatrix())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turn=st.tuples(angles, angles, angles),
    spacing=spacings,
    origin=offsets,
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    parent_turn=st.none() | st.tuples(angles, angles, angles),
    parent_scale=spacings,
    voxel=st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6)),
)
def test_every_voxel_lies_where_the_node_says(
    scene, turn, spacing, origin, order, signs, parent_turn, parent_scale, voxel
) -> None:
    scene.Clear()
    ijk_to_ras = rotation(*turn)
    ijk_to_ras[:3, :3] = ijk_to_ras[:3, :3][:, order] * signs * spacing
    ijk_to_ras[:3, 3] = origin
    node = add_volume(np.zeros((5, 6, 7), np.int16), ijk_to_ras)
    if parent_turn is not None:
        add_transform(rotation(*parent_turn) @ np.diag([*parent_scale, 1.0]), node)

    volume = volume_from_node(node)

    k, j, i = voxel
    local = (ijk_to_ras @ (i, j, k, 1))[:3]
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(local, world)
    lps = (volume.geometry.affine @ (k, j, i, 1))[:3]
    assert np.allclose(lps * (-1, -1, 1), world, rtol=0, atol=1e-6 * max(1, np.abs(world).max()))


def test_memory_is_shared(scene: slicer.vtkMRMLScene) -> None:
    node = add_volume()
    volume_from_node(node).array[3, 4, 5] = 1234
    assert node.GetImageData().GetScalarComponentAsDouble(5, 4, 3, 0) == 1234


def test_the_array_outlives_the_node(scene: slicer.vtkMRMLScene) -> None:
    array = volume_from_node(add_volume()).array
    scene.Clear()
    assert array[0, 0].tolist() == [10 * column for column in range(24)]


def empty() -> slicer.vtkMRMLScalarVolumeNode:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")


def colored() -> slicer.vtkMRMLVectorVolumeNode:
    return slicer.util.addVolumeFromArray(np.zeros((3, 4, 5, 3), np.uint8), nodeClassName="vtkMRMLVectorVolumeNode")


def warped() -> slicer.vtkMRMLScalarVolumeNode:
    node = add_volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    spline = vtk.vtkThinPlateSplineTransform()
    for points, shift in (("SetSourceLandmarks", 0.0), ("SetTargetLandmarks", 3.0)):
        landmarks = vtk.vtkPoints()
        for at in ((0, 0, 0), (10, 0, 0), (0, 10, 0), (0, 0, 10 + shift)):
            landmarks.InsertNextPoint(at)
        getattr(spline, points)(landmarks)
    spline.SetBasisToR()
    transform.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node


def flat() -> slicer.vtkMRMLScalarVolumeNode:
    node = add_volume()
    add_transform(np.diag([1.0, 0.0, 1.0, 1.0]), node)
    return node


def cut_out() -> slicer.vtkMRMLScalarVolumeNode:
    node, cut = add_volume(), vtk.vtkExtractVOI()
    cut.SetInputData(node.GetImageData())
    cut.SetVOI(1, 2, 1, 2, 1, 2)
    cut.Update()
    node.SetAndObserveImageData(cut.GetOutput())
    return node


def deleted() -> slicer.vtkMRMLScalarVolumeNode:
    node = add_volume()
    slicer.mrmlScene.RemoveNode(node)
    return node


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (empty, "holds no voxels"),
        (colored, "3 values per voxel"),
        (warped, "non-linear transform"),
        (flat, "no extent"),
        (cut_out, "not counted from 0"),
        (deleted, "no longer in the scene"),
        (lambda: None, "no longer in the scene"),
    ],
)
def test_what_is_no_scan_is_refused(scene: slicer.vtkMRMLScene, make, says: str) -> None:
    with pytest.raises(InputError, match=says):
        volume_from_node(make())


def test_revision_changes_with_voxels_and_places_only(scene: slicer.vtkMRMLScene) -> None:
    node = add_volume()
    first = revision(node)
    node.SetName("other")
    node.CreateDefaultDisplayNodes()
    assert revision(node) == first
    slicer.util.arrayFromVolume(node)[0] = 7
    slicer.util.arrayFromVolumeModified(node)
    second = revision(node)
    node.SetSpacing(1, 1, 1)
    third = revision(node)
    transform = add_transform(np.eye(4), node)
    assert revision(node) == third
    moved = np.eye(4)
    moved[0, 3] = 5
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    assert len({first, second, third, revision(node)}) == 4
