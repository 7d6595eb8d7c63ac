"""What a drawing says, and what it leaves open."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Geometry, Volume

SHAPE = (12, 14, 16)


def volume(array: np.ndarray, spacing: tuple[float, float, float] = (3.0, 1.0, 1.0)) -> Volume:
    return Volume(array, Geometry(array.shape, spacing))


def ball(center: tuple[int, int, int], radius: float) -> np.ndarray:
    offsets = np.indices(SHAPE) - np.array(center).reshape(3, 1, 1, 1)
    return (offsets**2).sum(axis=0) <= radius**2


def drawn_on(structure: np.ndarray, axis: int, indices: list[int], label: int = 1) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    target, source = np.moveaxis(array, axis, 0), np.moveaxis(structure, axis, 0)
    target[indices] = source[indices] * label
    return array


BALL = ball((6, 6, 6), 5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("indices", [[6], [4, 8], [3, 5, 7], [2, 3, 8]])
def test_axis_of_sparse_drawings(axis: int, indices: list[int]) -> None:
    annotation = Annotation.from_label_map(volume(drawn_on(BALL, axis, indices)), 1)
    assert annotation.axis == axis
    assert annotation.slices == tuple(indices)
    for index in range(SHAPE[axis]):
        assert annotation.known(index).all() == (index in indices)
        assert annotation.known(index).any() == (index in indices)
        assert np.array_equal(annotation.foreground(index), np.take(annotation.label_map, index, axis) == 1)


@pytest.mark.parametrize("spacing, axis", [((3.0, 1.0, 1.0), 0), ((1.0, 3.0, 1.0), 1), ((1.0, 1.0, 3.0), 2)])
def test_fully_drawn_structure_is_taken_across_the_thickest_slices(
    spacing: tuple[float, float, float], axis: int
) -> None:
    annotation = Annotation.from_label_map(volume(BALL.astype(np.uint8), spacing), 1)
    assert annotation.axis == axis
    assert annotation.slices == tuple(range(1, 12))


@pytest.mark.parametrize("indices", [[4, 5, 6, 7], [3, 5, 7], [6]])
def test_the_gap_between_paired_organs_is_not_a_drawn_gap(indices: list[int]) -> None:
    pair = ball((6, 6, 3), 3.2) | ball((6, 6, 12), 3.2)
    annotation = Annotation.from_label_map(volume(drawn_on(pair, 0, indices)), 1)
    assert annotation.axis == 0
    assert annotation.slices == tuple(indices)


def test_single_voxels_are_taken_across_the_thickest_slices() -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[[2, 6, 10], 5, 5] = 1
    assert Annotation.from_label_map(volume(array), 1).slices == (2, 6, 10)


def test_the_given_axis_is_kept() -> None:
    annotation = Annotation.from_label_map(volume(drawn_on(BALL, 0, [4, 8])), 1, axis=2)
    assert annotation.axis == 2
    assert annotation.slices == tuple(range(2, 11))


def test_other_labels_are_known_background_where_they_are_painted() -> None:
    array = drawn_on(BALL, 0, [4, 8])
    array[6, 2:4, 2:4] = 7
    annotation = Annotation.from_label_map(volume(array), 1)
    assert annotation.slices == (4, 6, 8)
    assert annotation.drawn == {4, 8}
    assert np.array_equal(annotation.known(6), array[6] == 7)
    assert not annotation.foreground(6).any()


def test_unknown_value_marks_what_is_unknown_and_nothing_else() -> None:
    array = drawn_on(BALL, 0, [4, 8])
    array[5:8] = 255
    array[4, :3] = 255
    annotation = Annotation.from_label_map(volume(array), 1)
    assert annotation.slices == (0, 1, 2, 3, 4, 8, 9, 10, 11)
    assert np.array_equal(annotation.known_mask(), array != 255)


def test_complete_drawing_is_known_everywhere() -> None:
    annotation = Annotation.from_label_map(volume(drawn_on(BALL, 1, [4, 8])), 1, complete=True)
    assert annotation.axis == 0
    assert annotation.slices == tuple(range(SHAPE[0]))
    assert annotation.known_mask().all()


def test_scribbles_are_known_only_where_painted() -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[5, 6, 4:8] = 1
    array[5, 2, 2:12] = 2
    array[9, 1:8, 3] = 3
    array[10] = 255
    annotation = Annotation.from_label_map(volume(array), 1, scribbles=True)
    assert annotation.axis == 0
    assert annotation.slices == (5, 9)
    assert annotation.drawn == frozenset()
    assert np.array_equal(annotation.known_mask(), (array > 0) & (array < 255))


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([[0, 1], [0, 0, 0, 1, 2], [0, 1, 2, 255], [0, 255, 1]]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0, 1, 2]),
)
@settings(max_examples=50, deadline=None)
def test_known_agrees_with_its_definition(
    seed: int, values: list[int], scribbles: bool, complete: bool, axis: int | None
) -> None:
    rng = np.random.default_rng(seed)
    array = rng.choice(np.array(values, np.uint8), size=(4, 5, 3))
    array[rng.random(array.shape) < rng.random()] = 0
    complete = complete and not scribbles
    try:
        annotation = Annotation.from_label_map(volume(array), 1, scribbles=scribbles, complete=complete, axis=axis)
    except InputError:
        return
    if scribbles:
        expected = (array != 0) & (array != 255)
    elif complete or (array == 255).any():
        expected = array != 255
    else:
        others = tuple(k for k in range(3) if k != annotation.axis)
        expected = (array != 0) | (array == 1).any(axis=others, keepdims=True)
    assert np.array_equal(annotation.known_mask(), expected)
    assert annotation.label_map is array
    planes = np.moveaxis(expected, annotation.axis, 0)
    assert annotation.slices == tuple(i for i in range(len(planes)) if planes[i].any())
    for index, plane in enumerate(planes):
        assert np.array_equal(annotation.known(index), plane)
        assert not (annotation.foreground(index) & ~annotation.known(index)).any()


def test_whole_numbers_in_floats_are_labels() -> None:
    array = drawn_on(BALL, 0, [4, 8]).astype(np.float32)
    assert Annotation.from_label_map(volume(array), 1).slices == (4, 8)


def test_mask_is_label_one() -> None:
    assert Annotation.from_label_map(volume(drawn_on(BALL, 0, [4]).astype(bool)), 1).slices == (4,)


def test_one_slice_image() -> None:
    array = np.zeros((1, 8, 8), np.uint8)
    array[0, 2:5, 2:5] = 1
    annotation = Annotation.from_label_map(volume(array), 1)
    assert (annotation.axis, annotation.slices) == (0, (0,))
    assert annotation.known(0).all()


def _sparse() -> np.ndarray:
    return drawn_on(BALL, 0, [4, 8], label=3)


def _with_fraction() -> np.ndarray:
    array = _sparse().astype(np.float32)
    array[0, 0, 0] = 0.5
    return array


def _only_strokes_on_the_structure() -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array[4, 4, 4:9] = 3
    return array


def _all_known_is_foreground() -> np.ndarray:
    array = np.full(SHAPE, 255, np.uint8)
    array[BALL] = 3
    return array


def _with_another_label() -> np.ndarray:
    array = _sparse()
    array[0, 0, 0] = 9
    return array


@pytest.mark.parametrize(
    "array, label, arguments, says",
    [
        (np.zeros(SHAPE, np.uint8), 3, {}, "nothing painted"),
        (np.full(SHAPE, 255, np.uint8), 3, {}, "nothing painted"),
        (_sparse(), 4, {}, "label 4 is not in case.nrrd, which holds label 3:"),
        (_with_another_label(), 4, {}, "which holds labels 3, 9:"),
        (np.full(SHAPE, 3, np.uint8), 3, {}, "leave some background"),
        (np.full(SHAPE, 3, np.uint8), 3, {"complete": True}, "leave some background"),
        (_all_known_is_foreground(), 3, {}, "leave some background"),
        (_only_strokes_on_the_structure(), 3, {"scribbles": True}, "strokes of another label"),
        (_with_fraction(), 3, {}, "whole numbers"),
        (np.full(SHAPE, np.nan, np.float32), 3, {}, "whole numbers"),
        (_sparse().astype(np.complex64), 3, {}, "whole numbers"),
        (_sparse(), 0, {}, "label 0 cannot be learned"),
        (_sparse(), 255, {}, "label 255 cannot be learned"),
        (_sparse(), 3, {"scribbles": True, "complete": True}, "not as both"),
        (_sparse(), 3, {"axis": 3}, "axis 3"),
    ],
)
def test_errors_are_one_sentence(array: np.ndarray, label: int, arguments: dict[str, bool], says: str) -> None:
    with pytest.raises(InputError) as caught:
        Annotation.from_label_map(volume(array), label, source="case.nrrd", **arguments)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert "case.nrrd" in message or label in (0, 255)
