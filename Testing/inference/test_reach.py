"""How far a scan is looked at: as far as a piece that touches its drawing can reach, and no farther."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.reach import Reach, visits
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.inference.sight import BLOCK_SLICES
from Testing.support import drawn_labels, scan, tiny_backbone, tuned_token


def looked_at(found: dict[int, np.ndarray], needed: Mapping[int, slice | None]) -> list[tuple[int, list[int]]]:
    """Starts of blocks, each with the classes that were looked for; found: by class, bool per slice."""
    slices = len(next(iter(found.values())))
    reaches = {number: Reach(slices, needed[number]) for number in found}
    seen = []
    for start, numbers in visits(reaches, slices):
        seen.append((start, numbers))
        part = slice(start, min(start + BLOCK_SLICES, slices))
        for number in numbers:
            reaches[number].saw(part, np.where(found[number][part], 1.0, -1.0)[:, None, None])
    return seen


def alone(found: np.ndarray, needed: slice | None) -> list[int]:
    return [start for start, _ in looked_at({0: found}, {0: needed})]


def test_without_bounds_everything_is_looked_at_from_the_first_slice_on() -> None:
    assert alone(np.zeros(30, bool), None) == [0, 8, 16, 24]


def test_it_ends_where_the_class_has_ended() -> None:
    none, long = np.zeros(80, bool), np.zeros(80, bool)
    long[20:70] = True
    assert alone(none, slice(34, 38)) == [32]
    assert alone(none, slice(30, 38)) == [24, 32]
    assert alone(none, slice(32, 40)) == [32]
    assert alone(long, slice(34, 38)) == [32, 40, 48, 56, 64, 24, 16]
    long[:] = True
    assert alone(long, slice(34, 38)) == [32, 40, 48, 56, 64, 72, 24, 16, 8, 0]


def test_each_class_is_looked_for_where_it_may_be() -> None:
    none, long = np.zeros(48, bool), np.zeros(48, bool)
    long[10:26] = True
    assert looked_at({0: none, 1: long}, {0: slice(18, 34), 1: slice(18, 20)}) == [
        (16, [0, 1]),
        (24, [0, 1]),
        (32, [0]),
        (8, [1]),
    ]


def test_crumbs_do_not_lead_on() -> None:
    for crumbs, goes_on in ((0.0, True), (0.05, True), (0.1, False)):
        reach = Reach(40, slice(16, 24), crumbs)
        logits = np.full((8, 10, 10), -1.0)
        logits[4] = logits[7, 0] = 1
        reach.saw(slice(16, 24), logits)
        assert reach.wants(24) == goes_on and not reach.wants(8)


def test_what_was_left_out_can_be_looked_at_later() -> None:
    reach = Reach(40, slice(16, 24))
    assert [start for start in range(0, 40, 8) if reach.wants(start)] == [16]
    reach.saw(slice(16, 24), np.full((8, 1, 1), -1.0))
    reach.extend()
    assert [start for start in range(0, 40, 8) if reach.wants(start)] == [0, 8, 24, 32]


@given(
    st.lists(st.lists(st.booleans(), min_size=50, max_size=50), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 49), st.integers(1, 50)), min_size=3, max_size=3),
)
@settings(max_examples=200)
def test_no_run_of_slices_that_touches_the_needed_ones_is_cut(
    found: list[list[bool]], ranges: list[tuple[int, int]]
) -> None:
    needed = {number: slice(first, min(50, first + count)) for number, (first, count) in enumerate(ranges)}
    classes = {number: np.array(where) for number, where in enumerate(found)}
    visited = looked_at(classes, needed)
    for number, where in classes.items():
        starts = [start for start, numbers in visited if number in numbers]
        assert len(starts) == len(set(starts))
        assert sorted(starts) == sorted(alone(where, needed[number])), "whatever other classes there are"
        seen = {index for start in starts for index in range(start, min(start + BLOCK_SLICES, 50))}
        assert set(range(50)[needed[number]]) <= seen
        above, below = needed[number].stop - 1, needed[number].start
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
