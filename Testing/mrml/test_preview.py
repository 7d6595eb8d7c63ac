"""The preview shows what would be found, and touches nothing of the user's."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import slicer

from PromptSegLib.engine.messages import Preview, SegmentedClass
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.nodes import matrix_from_array
from PromptSegLib.mrml.preview import PreviewNode
from PromptSegLib.mrml.segments import region_on_volume
from Testing.mrml.builders import (
    SHAPE,
    Editor,
    add_segmentation,
    add_transform,
    add_volume,
    checksum,
    ellipsoid,
    on_slices,
    reload,
)
from Testing.mrml.test_applying import result
from Testing.mrml.test_volumes import rotation

WHOLE = (slice(0, SHAPE[0]), slice(0, SHAPE[1]), slice(0, SHAPE[2]))


class Desk:
    def __init__(self) -> None:
        self.volume = add_volume(ijk_to_ras=rotation(4, 5, 6) @ np.diag([1.5, -2.0, 3.0, 1.0]))
        add_transform(rotation(7, 8, 9), self.volume)
        self.segmentation = add_segmentation(self.volume, "organ", "bone")
        self.preview = PreviewNode(self.segmentation, self.volume)

    def shown(self, segment_id: str) -> np.ndarray:
        """bool on the scan's voxels, by way of the world."""
        region = region_on_volume(self.preview.node, segment_id, self.volume)
        return np.zeros(SHAPE, bool) if region is None else region.within(WHOLE)


@pytest.fixture
def desk(scene: slicer.vtkMRMLScene) -> Desk:
    return Desk()


def planes(mask: np.ndarray, indices: tuple[int, ...], axis: int = 0) -> dict[int, np.ndarray]:
    return {index: np.moveaxis(mask, axis, 0)[index] for index in indices}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_appear_where_they_belong_and_stay(desk: Desk, axis: int) -> None:
    first, second = ellipsoid(radius=0.4), ellipsoid(radius=0.2)
    desk.preview.update(Preview("organ", axis, planes(first, (5, 7), axis)))
    desk.preview.update(Preview("organ", axis, planes(second, (7, 10), axis)))
    expected = on_slices(first, [5], axis) | on_slices(second, [7, 10], axis)
    assert (desk.shown("organ") == expected).all()


def test_planes_across_different_axes_share_a_layer(desk: Desk) -> None:
    found = ellipsoid(radius=0.4)
    desk.preview.update(Preview("organ", 0, planes(found, (5,))))
    desk.preview.update(Preview("organ", 2, planes(found, (10,), 2)))
    assert (desk.shown("organ") == on_slices(found, [5]) | on_slices(found, [10], 2)).all()


def test_an_empty_plane_clears_what_was_there(desk: Desk) -> None:
    desk.preview.update(Preview("organ", 0, {5: np.zeros(SHAPE[1:], bool)}))
    assert not desk.shown("organ").any()
    desk.preview.update(Preview("organ", 0, {5: np.ones(SHAPE[1:], bool)}))
    desk.preview.update(Preview("organ", 0, {5: np.zeros(SHAPE[1:], bool), 900: np.zeros(SHAPE[1:], bool)}))
    assert not desk.shown("organ").any()


def test_a_result_replaces_the_class_and_leaves_the_others(desk: Desk) -> None:
    organ, bone = ellipsoid(radius=0.3), ellipsoid(center=(0.2, 0.2, 0.2), radius=0.15)
    desk.preview.update(Preview("organ", 0, planes(np.ones(SHAPE, bool), (0, 11))))
    desk.preview.show([result("organ", organ), result("bone", bone)])
    assert (desk.shown("organ") == organ).all()
    desk.preview.show([result("organ", bone)])
    assert (desk.shown("organ") == bone).all()
    assert (desk.shown("bone") == bone).all()
    assert (desk.preview.mask("bone").within(WHOLE) == bone).all()
    desk.preview.show([result("organ", np.zeros(SHAPE, bool))])
    assert desk.preview.mask("organ") is None
    desk.preview.clear()
    assert desk.preview.mask("bone") is None


def test_it_follows_the_scan(desk: Desk) -> None:
    organ = ellipsoid(radius=0.3)
    desk.preview.show([result("organ", organ)])
    desk.preview.show_3d = True
    transform = add_transform(rotation(1, 2, 3), desk.volume)
    assert (desk.shown("organ") == organ).all()
    desk.volume.SetAndObserveTransformNodeID(None)
    assert (desk.shown("organ") == organ).all()
    moved = np.eye(4)
    moved[:3, 3] = 30, 20, 10
    desk.volume.SetAndObserveTransformNodeID(transform.GetID())
    transform.SetMatrixTransformToParent(matrix_from_array(moved))
    assert (desk.shown("organ") == organ).all()
    before = surface_center(desk)
    desk.volume.HardenTransform()
    assert (desk.shown("organ") == organ).all()
    assert np.allclose(surface_center(desk), before + moved[:3, 3], atol=0.1)
    desk.preview.show([result("bone", organ)])
    assert (desk.shown("bone") == organ).all()
    before = surface_center(desk)
    origin = desk.volume.GetOrigin()
    desk.volume.SetOrigin([place + 50 for place in origin])
    assert (desk.shown("organ") == organ).all(), "as by Center volume"
    assert np.allclose(surface_center(desk), before + 50, atol=0.1)


def test_once_given_up_it_follows_no_more(desk: Desk) -> None:
    node = desk.preview.node
    desk.preview.remove()
    add_transform(rotation(1, 2, 3), desk.volume)
    assert node.GetTransformNodeID() != desk.volume.GetTransformNodeID()
    other = PreviewNode(desk.segmentation, desk.volume)
    alive = weakref.ref(other)
    del other
    gc.collect()
    assert alive() is None


def test_what_is_shown_is_a_copy(desk: Desk) -> None:
    found = result("organ", ellipsoid())
    desk.preview.show([found])
    found.mask[...] = False
    assert (desk.shown("organ") == ellipsoid()).all()


def test_names_and_colors_follow_the_segments(desk: Desk) -> None:
    segment = desk.segmentation.GetSegmentation().GetSegment("organ")
    for name, color in (("Liver", (0.1, 0.2, 0.3)), ("Spleen", (0.9, 0.2, 0.3))):
        segment.SetName(name)
        segment.SetColor(color)
        desk.preview.update(Preview("organ", 0, planes(ellipsoid(), (5,))))
        shown = desk.preview.node.GetSegmentation().GetSegment("organ")
        assert (shown.GetName(), shown.GetColor()) == (name, color)


def test_it_is_neither_listed_nor_saved_and_the_user_s_segments_stay(desk: Desk, tmp_path: Path) -> None:
    Editor(desk.segmentation, desk.volume).paint("organ", ellipsoid(radius=0.1))
    before = checksum(desk.segmentation, "organ")
    desk.preview.show([result("organ", ellipsoid(radius=0.4))])
    assert desk.preview.node.GetHideFromEditors()
    assert desk.preview.node.GetDisplayNode().GetVisibility()
    assert checksum(desk.segmentation, "organ") == before
    reload(str(tmp_path / "scene.mrb"))
    (saved,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert saved.GetName() == "Segmentation"
    assert len(list(slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode"))) == 1


def surface(desk: Desk, segment_id: str = "organ") -> int:
    polygons = desk.preview.node.GetClosedSurfaceInternalRepresentation(segment_id)
    return 0 if polygons is None else polygons.GetNumberOfPoints()


def surface_center(desk: Desk) -> np.ndarray:
    """RAS mm in the preview's own coordinates."""
    return np.array(desk.preview.node.GetClosedSurfaceInternalRepresentation("organ").GetCenter())


def test_surfaces_are_made_only_when_asked_for(desk: Desk) -> None:
    desk.preview.show([result("organ", ellipsoid())])
    assert not desk.preview.show_3d and surface(desk) == 0
    desk.preview.show_3d = True
    first = surface(desk)
    assert first > 0
    desk.preview.show([result("organ", ellipsoid(radius=0.15))])
    assert 0 < surface(desk) < first
    desk.preview.update(Preview("organ", 0, planes(ellipsoid(), (5,))))
    assert surface(desk) == 0
    desk.preview.show([result("organ", ellipsoid(radius=0.15))])
    assert surface(desk) > 0
    desk.preview.show([result("bone", ellipsoid(radius=0.2))])
    assert surface(desk, "bone") > 0 and surface(desk) > 0
    desk.preview.clear()
    desk.preview.update(Preview("organ", 0, {5: np.zeros(SHAPE[1:], bool)}))
    desk.preview.show([result("bone", ellipsoid(radius=0.2))])
    assert surface(desk, "bone") > 0 and surface(desk) == 0
    desk.preview.show_3d = False
    assert surface(desk, "bone") == 0


def test_looks_can_be_changed(desk: Desk) -> None:
    display = desk.preview.node.GetDisplayNode()
    assert desk.preview.visible and desk.preview.opacity == 1
    assert display.GetOpacity2DFill() == pytest.approx(0.5)
    desk.preview.visible, desk.preview.opacity = False, 0.3
    assert not desk.preview.visible and not display.GetVisibility()
    assert desk.preview.opacity == pytest.approx(0.3)


def test_removal_leaves_nothing_and_may_come_twice(desk: Desk) -> None:
    displays = len(list(slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode")))
    desk.preview.remove()
    desk.preview.remove()
    assert list(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == [desk.segmentation]
    assert len(list(slicer.util.getNodesByClass("vtkMRMLSegmentationDisplayNode"))) == displays - 1


def every_call(desk: Desk) -> list:
    preview = desk.preview
    return [
        lambda: preview.update(Preview("organ", 0, planes(ellipsoid(), (5,)))),
        lambda: preview.show([result("organ", ellipsoid())]),
        lambda: preview.mask("organ"),
        lambda: preview.clear(),
        lambda: preview.visible,
        lambda: preview.opacity,
        lambda: setattr(preview, "visible", True),
        lambda: setattr(preview, "opacity", 0.5),
        lambda: setattr(preview, "show_3d", True),
    ]


def test_after_the_scene_was_closed_every_call_says_so(desk: Desk) -> None:
    slicer.mrmlScene.Clear()
    for call in every_call(desk):
        with pytest.raises(InputError, match="no longer in the scene"):
            call()
    desk.preview.remove()


def test_a_deleted_segment_is_named(desk: Desk) -> None:
    desk.segmentation.GetSegmentation().RemoveSegment("organ")
    for call in every_call(desk)[:2]:
        with pytest.raises(InputError, match='the segment "organ"'):
            call()


def test_a_deleted_scan_is_named(desk: Desk) -> None:
    slicer.mrmlScene.RemoveNode(desk.volume)
    found = SegmentedClass("bone", (slice(0, 2),) * 3, np.ones((2, 2, 2), bool))
    with pytest.raises(InputError, match="the scan is no longer"):
        desk.preview.show([found])
