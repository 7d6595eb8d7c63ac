"""How far a scan is looked at: as far as a piece that touches its drawing can reach, and no farther."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.reach import Reach
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.inference.sight import BLOCK_SLICES
from Testing.support import drawn_labels, scan, tiny_backbone, tuned_token


def looked_at(found: dict[int, np.ndarray], needed: slice | None) -> list[int]:
    """Starts of blocks; found: by class, bool per slice."""
    slices = len(next(iter(found.values())))
    reach = Reach(slices, needed, found.keys())
    starts = []
    for start in reach:
        starts.append(start)
        part = slice(start, min(start + BLOCK_SLICES, slices))
        for number, where in found.items():
            reach.saw(number, part, np.where(where[part], 1.0, -1.0)[:, None, None])
    return starts


def test_without_a_drawing_everything_is_looked_at_from_the_first_slice_on() -> None:
    assert looked_at({0: np.zeros(30, bool)}, None) == [0, 8, 16, 24]


def test_it_ends_where_all_classes_have_ended() -> None:
    none, long = np.zeros(80, bool), np.zeros(80, bool)
    long[20:70] = True
    assert looked_at({0: none}, slice(34, 38)) == [32]
    assert looked_at({0: none}, slice(30, 38)) == [24, 32]
    assert looked_at({0: none, 1: long}, slice(34, 38)) == [32, 40, 48, 56, 64, 24, 16]
    long[:] = True
    assert looked_at({0: none, 1: long}, slice(34, 38)) == [32, 40, 48, 56, 64, 72, 24, 16, 8, 0]


@given(
    st.lists(st.lists(st.booleans(), min_size=50, max_size=50), min_size=1, max_size=3),
    st.integers(0, 49),
    st.integers(1, 50),
)
@settings(max_examples=200)
def test_no_run_of_slices_that_touches_the_needed_ones_is_cut(found: list[list[bool]], first: int, count: int) -> None:
    needed = slice(first, min(50, first + count))
    classes = {number: np.array(where) for number, where in enumerate(found)}
    starts = looked_at(classes, needed)
    assert len(starts) == len(set(starts))
    seen = {index for start in starts for index in range(start, min(start + BLOCK_SLICES, 50))}
    assert set(range(needed.start, needed.stop)) <= seen
    for where in classes.values():
        above, below = needed.stop, needed.start - 1
        while above < 50 and where[above]:
            assert above in seen
            above += 1
        while below >= 0 and where[below]:
            assert below in seen
            below -= 1


def tall_scan() -> tuple[Volume, np.ndarray]:
    return scan((60, 64, 64), (3.0, 2.0, 2.0))


def test_a_drawn_scan_is_segmented_the_same_and_not_looked_at_everywhere() -> None:
    image, truth = tall_scan()
    truth[:24] = truth[34:] = False
    image.array[:24][image.array[:24] > 120] = 40
    image.array[34:54][image.array[34:54] > 120] = 40
    labels = drawn_labels(truth, [25, 29, 33])
    unknown = np.full(image.array.shape, UNKNOWN, np.uint8)
    unknown[[25, 29, 33]] = labels[[25, 29, 33]]
    drawn = Drawn(image.with_array(unknown), {1: (0, frozenset([25, 29, 33]))})
    blocks: list[int] = []
    encode = tiny_backbone().encode

    def count(images, *rest):  # type: ignore[no-untyped-def]
        blocks.append(len(images))
        return encode(images, *rest)

    segmenter = Segmenter(tiny_backbone(), [tuned_token()])
    tiny_backbone().encode = count  # type: ignore[method-assign]
    try:
        progress: list[float] = []
        quick = segmenter.segment(image, drawn, report=progress.append)
        some = sum(blocks)
        blocks.clear()
        whole = segmenter.segment(image, drawn, probabilities=True)
    finally:
        del tiny_backbone().encode
    assert np.array_equal(quick.labels.array, whole.labels.array) and (quick.labels.array == 1).any()
    assert quick.confidences == whole.confidences
    assert sum(blocks) == 60 and some <= 40
    assert progress == sorted(progress) and progress[-1] <= 1
    (doubt,) = quick.doubts
    assert len(doubt) == 60
