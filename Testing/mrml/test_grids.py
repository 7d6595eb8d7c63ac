"""Voxels of one grid seen on another."""

from __future__ import annotations

import numpy as np
import slicer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from PromptSegLib.mrml.applying import apply_results
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.grids import Region, box_on_grid
from PromptSegLib.mrml.nodes import matrix_from_array
from PromptSegLib.mrml.segments import region_on_volume
from Testing.mrml.builders import Editor, add_transform, add_volume
from Testing.mrml.test_applying import result
from Testing.mrml.test_volumes import rotation

SHAPE = (6, 7, 8)
WHOLE = (slice(0, 6), slice(0, 7), slice(0, 8))
IJK_TO_RAS = rotation(10, 20, 30) @ np.diag([1.5, -2.0, 3.0, 1.0])
masks = st.binary(min_size=42, max_size=42).map(
    lambda data: np.unpackbits(np.frombuffer(data, np.uint8)).reshape(SHAPE).astype(bool)
)
quiet = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quiet
@given(
    mask=masks,
    order=st.permutations(range(3)),
    flips=st.tuples(*[st.booleans()] * 3),
    start=st.tuples(*[st.integers(-3, 3)] * 3),
    moved=st.booleans(),
)
def test_the_same_voxels_stored_along_other_axes_are_read_and_written_exactly(
    scene, mask, order, flips, start, moved
) -> None:
    scene.Clear()
    volume = add_volume(np.zeros(SHAPE, np.int16), IJK_TO_RAS)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    # Axis k of the other grid is axis order[k] of the volume's, counted from its other end if flipped.
    to_volume = np.eye(4)[:, [*order, 3]]
    for k, flip in enumerate(flips):
        if flip:
            to_volume[order[k], k] = -1
            to_volume[order[k], 3] = SHAPE[::-1][order[k]] - 1
    extent = [SHAPE[::-1][axis] for axis in order]
    to_volume = to_volume @ np.block([[np.eye(3), -np.array(start)[:, None]], [np.zeros(3), 1]])
    image = slicer.vtkOrientedImageData()
    image.SetImageToWorldMatrix(matrix_from_array(IJK_TO_RAS @ to_volume))
    image.SetExtent([edge for at, size in zip(start, extent, strict=True) for edge in (at, at + size - 1)])
    text = slicer.vtkSegmentationConverter.SerializeImageGeometry(image)
    segmentation.GetSegmentation().SetConversionParameter("Reference image geometry", text)
    segmentation.GetSegmentation().AddEmptySegment("organ")
    if moved:
        add_transform(rotation(-5, 15, 25), volume, segmentation)

    editor, drawings = Editor(segmentation, volume), Drawings(segmentation, volume)
    apply_results(segmentation, volume, editor.node, [result("organ", mask)], drawings, editor.logic.SaveStateForUndo)

    region = region_on_volume(segmentation, "organ", volume)
    assert np.array_equal(mask, np.zeros(SHAPE, bool) if region is None else region.within(WHOLE))


@given(noise=st.lists(st.floats(-1e-6, 1e-6), min_size=12, max_size=12))
def test_rounding_errors_do_not_enlarge_a_box(noise: list[float]) -> None:
    to_grid = np.eye(4)
    to_grid[:3] += np.reshape(noise, (3, 4))
    assert box_on_grid(WHOLE, to_grid) == WHOLE


@quiet
@given(mask=masks, value=st.integers(1, 3))
def test_a_region_holds_one_label_in_the_smallest_box(mask: np.ndarray, value: int) -> None:
    labels = mask * np.random.default_rng(0).integers(1, 4, SHAPE).astype(np.uint8)
    region = Region.where(labels, value, tuple(slice(5, 5 + n) for n in SHAPE))
    if region is None:
        assert not (labels == value).any()
        return
    at = tuple(slice(span.start - 5, span.stop - 5) for span in region.box)
    there = np.zeros(SHAPE, bool)
    there[at] = region.mask
    assert np.array_equal(there, labels == value)
    for axis in range(3):
        ends = np.moveaxis(region.mask, axis, 0)[[0, -1]]
        assert ends.any(axis=(1, 2)).all()
        others = tuple(other for other in range(3) if other != axis)
        assert region.occupied[axis].tolist() == np.flatnonzero(region.mask.any(axis=others)).tolist()
