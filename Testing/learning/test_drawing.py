"""Working slices: what tuning sees of a drawing."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations, product

import numpy as np
import pytest
import torch

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN, Annotation
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.imaging.working_grid import BLOCK
from PromptSegLib.learning.drawing import MAX_SLICES, MIN_BOX, Drawing, DrawnScan, prepare_drawing
from PromptSegLib.learning.holding_out import dice, split
from PromptSegLib.tokens.size import Size
from Testing.support import SPACING, drawing, drawn_labels, drawn_scan, reoriented, scan


def with_labels(labels: np.ndarray, image: Volume | None = None, *, scribbles: bool = False) -> Drawing:
    image = image or scan()[0]
    annotation = Annotation.from_label_map(image.with_array(labels), 1, scribbles=scribbles, axis=0)
    return prepare_drawing([DrawnScan(image, annotation)])


def test_shapes_and_ranges() -> None:
    found = prepare_drawing([drawn_scan()])
    assert (found.plane, found.pieces, found.scans, len(found.slices)) == ("axial", "one", 1, 3)
    for part in found.slices:
        height, width = part.image.shape[1:]
        assert part.image.shape == part.target.shape == part.known.shape == (1, height, width)
        assert height % BLOCK == 0 and width % BLOCK == 0 and min(height, width) >= MIN_BOX
        assert part.known.dtype == torch.bool
        assert part.image.min() >= -1 and part.image.max() <= 1
        assert part.target.min() >= 0 and part.target.max() <= 1


def test_the_structures_area_is_kept() -> None:
    _, truth = scan()
    found = prepare_drawing([drawn_scan([3, 6])])
    for part, index in zip(found.slices, (3, 6), strict=True):
        area = float((part.target * part.known).sum()) * found.spacing_mm**2
        assert area == pytest.approx(float(truth[index].sum()) * SPACING[1] * SPACING[2], rel=0.02)
        assert part.image[part.target > 0.9].mean() > part.image[(part.target < 0.1) & (part.image > -0.5)].mean() + 0.2


def test_beyond_the_image_nothing_is_known() -> None:
    image, truth = scan((12, 40, 40))
    found = prepare_drawing([DrawnScan(image, drawing(image, truth, [6]))])
    (part,) = found.slices
    assert not part.known.all()
    assert int(part.known.sum()) == round(40 * 2 / found.spacing_mm) ** 2
    assert (part.image[~part.known] == -1).all() and (part.target[~part.known] == 0).all()


@pytest.mark.parametrize("spacing", [(3.0, 2.0, 2.0), (3.0, 0.6, 0.6), (3.0, 0.7, 2.3)])
def test_unknown_stays_unknown(spacing: tuple[float, float, float]) -> None:
    """Half of the slice, and half of the organ, is unknown: it is neither structure nor background."""
    image, truth = scan(spacing=spacing)
    labels = np.full(image.array.shape, UNKNOWN, np.uint8)
    columns = np.flatnonzero(truth[6].any(0))
    middle = int(columns.mean())
    labels[6, :, :middle] = truth[6, :, :middle]
    found = with_labels(labels, image)
    (part,) = found.slices
    share = float(part.known.sum()) * found.spacing_mm**2 / (64 * spacing[1] * middle * spacing[2])
    assert 0.93 < share < 1.07
    assert not part.known[0, :, int(part.known[0].any(0).nonzero().max()) + 1 :].any()
    # The organ is cut in its middle, where all of the known column belongs to it, not half of it.
    last = int(part.known[0].any(0).nonzero().max())
    assert part.target[0][:, last].max() > 0.95


def test_a_slice_that_is_known_in_part_has_the_target_of_a_wholly_known_one() -> None:
    _, truth = scan()
    whole = with_labels(drawn_labels(truth, [6]))
    labels = np.full(truth.shape, UNKNOWN, np.uint8)
    labels[6] = truth[6]
    labels[6, 40:] = UNKNOWN
    part, other = with_labels(labels).slices[0], whole.slices[0]
    deep_inside = torch.nn.functional.avg_pool2d(part.known.float(), 5, 1, 2) > 0.999
    assert torch.allclose(part.target[deep_inside], other.target[deep_inside], atol=1e-5)
    assert torch.equal(part.image, other.image)


@pytest.mark.parametrize("spacing", [(3.0, 2.0, 2.0), (3.0, 1.0, 1.0), (3.0, 0.5, 0.5), (3.0, 0.4, 1.1)])
@pytest.mark.parametrize("row, column", [(30, 41), (31, 40), (30, 40), (31, 41)])
def test_a_one_pixel_scribble_survives(spacing: tuple[float, float, float], row: int, column: int) -> None:
    image, _ = scan(spacing=spacing)
    labels = np.zeros(image.array.shape, np.uint8)
    labels[6, row, column], labels[6, 10, 33] = 1, 2
    (part,) = with_labels(labels, image, scribbles=True).slices
    inside, outside = part.known & (part.target > 0.5), part.known & (part.target <= 0.5)
    assert inside.any() and outside.any()
    # What is known does not spread either: some pixels each, at most.
    pixels = max(4.0, 9 * spacing[1] * spacing[2] / 1.0)
    assert inside.sum() <= pixels and outside.sum() <= pixels


def test_a_background_stroke_in_the_air_may_lie_anywhere() -> None:
    """A slice on which nothing but air was painted, as background, teaches nothing and breaks nothing."""
    image, truth = scan()
    air = Volume(image.array.copy(), image.geometry)
    air.array[0] = -1000
    labels = drawn_labels(truth, [6])
    labels[0, 30, 30] = 2
    found = with_labels(labels, air)
    assert any(part.target.max() > 0.5 for part in found.slices)


def test_a_complete_drawing_with_slices_of_air() -> None:
    image, truth = scan()
    image.array[:2] = -1000
    annotation = Annotation.from_label_map(
        image.with_array((truth & (image.array > -500)).astype(np.uint8)), 1, complete=True
    )
    found = prepare_drawing([DrawnScan(image, annotation)])
    assert sum(part.target.max() > 0.5 for part in found.slices) == 9


ORIENTATIONS = [(order, flips) for order, flips in product(permutations(range(3)), product((False, True), repeat=3))]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_however_stored_the_images_are_the_same(axis: int) -> None:
    """Axial, coronal and sagittal drawings, in every one of the 48 ways to store a volume."""
    image, truth = scan((12, 40, 44))
    middle = [int(np.flatnonzero(truth.any(tuple({0, 1, 2} - {axis}))).mean())]
    labels = image.with_array(drawn_labels(truth, middle, axis))
    expected = prepare_drawing([DrawnScan(image, Annotation.from_label_map(labels, 1, axis=axis))])
    assert expected.plane == ("axial", "coronal", "sagittal")[axis]
    for order, flips in ORIENTATIONS[axis::3]:
        turned, turned_labels = reoriented(image, order, flips), reoriented(labels, order, flips)
        annotation = Annotation.from_label_map(turned_labels, 1, axis=order.index(axis))
        found = prepare_drawing([DrawnScan(turned, annotation)])
        assert (found.plane, found.spacing_mm) == (expected.plane, expected.spacing_mm)
        for a, b in zip(found.slices, expected.slices, strict=True):
            assert torch.equal(a.image, b.image) and torch.equal(a.target, b.target) and torch.equal(a.known, b.known)


def test_scans_of_different_spacing_share_a_working_spacing() -> None:
    coarse = drawn_scan([6])
    image, truth = scan(spacing=(3.0, 1.0, 1.5))
    found = prepare_drawing([coarse, DrawnScan(image, drawing(image, truth, [3, 6]))])
    assert len(found.slices) == 3 and found.scans == 2
    for part, (index, volume) in zip(found.slices, ((6, coarse.image), (3, image), (6, image)), strict=True):
        _, rows, columns = volume.geometry.spacing
        area = float((part.target * part.known).sum()) * found.spacing_mm**2
        mask = truth[index] if volume is image else scan()[1][index]
        assert area == pytest.approx(float(mask.sum()) * rows * columns, rel=0.05)


def test_one_piece_or_many() -> None:
    _, truth = scan()
    labels = drawn_labels(truth, [6])
    labels[6, 30:34, 10:16] = 1
    assert with_labels(labels).pieces == "many"
    labels = drawn_labels(truth, [6])
    labels[6, 30, 10] = 1
    assert with_labels(labels).pieces == "one", "a crumb is no piece"


def test_the_size_is_known_where_nothing_was_left_out() -> None:
    image, truth = scan()
    ml = float(np.prod(SPACING)) / 1000
    showing = np.flatnonzero(truth.any(axis=(1, 2)))

    def size_of(labels: np.ndarray, complete: bool = False) -> Size | None:
        annotation = Annotation.from_label_map(image.with_array(labels.astype(np.uint8)), 1, complete=complete, axis=0)
        return prepare_drawing([DrawnScan(image, annotation)]).size

    whole = truth.copy()
    whole[[0, -1]] = False
    expected = Size.of([whole.sum() * ml])
    assert size_of(whole) == expected and len(showing) > 8
    assert size_of(whole & (np.arange(12) % 2 == 0)[:, None, None]) is None, "slices were left out"
    short = whole & ((np.arange(12) > 3) & (np.arange(12) < 7))[:, None, None]
    assert size_of(short) is None, "three slices, and nothing is known beyond"
    assert size_of(short, complete=True) == Size.of([short.sum() * ml])
    cut = whole.copy()
    cut[0] = whole[5]
    cut[1:5] = whole[5]
    assert size_of(cut, complete=True) is None, "it goes on where the scan ends"


def test_the_height_is_known_as_far_as_ends_were_drawn() -> None:
    image, truth = scan((20, 64, 64))
    truth[[0, 1, 18, 19]] = False
    showing = np.flatnonzero(truth.any(axis=(1, 2)))
    assert (showing[0], showing[-1]) == (2, 17)

    def ends(slices: Iterable[int], axis: int = 0, **options: bool) -> tuple[float | None, float | None] | None:
        labels = drawn_labels(truth, slices, axis)
        found = Annotation.from_label_map(image.with_array(labels), 1, axis=axis, **options)
        height = prepare_drawing([DrawnScan(image, found)]).height
        return None if height is None else (height.levels[0].low_mm, height.levels[0].high_mm)

    assert ends(range(20)) == (6, 51), "16 slices of 3 mm without a gap"
    assert ends(range(20), complete=True) == (3, 54), "it ends before the next slices, which show nothing"
    assert ends((5, 9, 13)) is None and ends((9,)) is None, "it may go on on either side"
    assert ends(range(6, 12)) is None, "18 mm may lie amid a long structure"
    across = np.flatnonzero(truth.any(axis=(0, 2)))
    assert ends(across, axis=1) == (6, 51), "slices that run along the body show both ends together"
    assert ends(across[::4], axis=1) is None, "between them it may reach higher"

    labels = drawn_labels(truth, (5, 9, 13))
    labels[[index for index in range(20) if index not in (5, 9, 13, 17)]] = UNKNOWN
    found = Annotation.from_label_map(image.with_array(labels), 1, axis=0)
    height = prepare_drawing([DrawnScan(image, found)]).height
    assert height is not None and (height.levels[0].low_mm, height.levels[0].high_mm) == (None, 51), "17 shows nothing"


def test_the_height_of_scribbles_and_of_what_the_scan_cuts_off_is_open() -> None:
    image, truth = scan((20, 64, 64))
    labels = drawn_labels(truth, range(20))
    labels[:, 4:8] = 2
    scribbled = Annotation.from_label_map(image.with_array(labels), 1, axis=0, scribbles=True)
    assert prepare_drawing([DrawnScan(image, scribbled)]).height is None
    cut_labels = drawn_labels(truth, range(20))[4:]
    part = Volume(image.array[4:], Geometry((16, 64, 64), image.geometry.spacing))
    whole = Annotation.from_label_map(Volume(cut_labels, part.geometry), 1, axis=0, complete=True)
    height = prepare_drawing([DrawnScan(part, whole)]).height
    assert height is not None and height.levels[0].low_mm is None and height.levels[0].high_mm is not None


def test_the_size_is_the_mean_of_all_scans_that_tell_it() -> None:
    image, truth = scan()
    parts = [drawing(image, truth, slices) for slices in (range(1, 10), range(2, 10), (3, 6, 9))]
    volumes = [truth[first:10].sum() * float(np.prod(SPACING)) / 1000 for first in (1, 2)]
    assert prepare_drawing([DrawnScan(image, part) for part in parts]).size == Size.of(volumes)


def test_a_bow_is_one_piece_where_it_was_drawn_without_a_gap() -> None:
    """Two branches on each slice but the last, as of a jaw."""
    labels = np.zeros(scan()[0].array.shape, np.uint8)
    labels[3:8, 20:40, 20:24] = labels[3:8, 20:40, 40:44] = 1
    labels[8, 20:40, 20:44] = 1
    assert with_labels(labels).pieces == "one"
    gap = labels.copy()
    gap[5] = 0
    assert with_labels(gap).pieces == "many", "what lies between is not known"
    labels[8] = 0
    assert with_labels(labels).pieces == "many", "nothing joins them"
    assert with_labels(labels * (np.arange(64) < 30).astype(np.uint8)).pieces == "one"


def test_many_slices_are_thinned_out_evenly() -> None:
    image, truth = scan((200, 32, 32), (1.0, 4.0, 4.0))
    found = prepare_drawing([DrawnScan(image, drawing(image, truth, np.flatnonzero(truth.any((1, 2)))))])
    assert MAX_SLICES // 2 < len(found.slices) <= MAX_SLICES


def test_one_slice_of_each_of_many_scans_lies_at_another_height() -> None:
    drawn = drawn_scan(range(2, 10))
    found = prepare_drawing([drawn] * 8, most_slices=8)
    different = {part.image.numpy().tobytes() for part in found.slices}
    assert len(found.slices) == 8 and len(different) >= 6


def test_refusals() -> None:
    with pytest.raises(InputError, match="no drawn scan"):
        prepare_drawing([])
    image, truth = scan()
    coronal = DrawnScan(image, drawing(image, truth, [28], axis=1))
    with pytest.raises(InputError, match=r"different planes \(axial, coronal\)"):
        prepare_drawing([drawn_scan(), coronal])
    magnetic = image.with_array((image.array + 1000).astype(np.int16))
    with pytest.raises(InputError, match="CT scans and others are mixed"):
        prepare_drawing([drawn_scan(), DrawnScan(magnetic, drawing(magnetic, truth))])
    other, other_truth = scan((12, 32, 32))
    with pytest.raises(InputError, match="grid of its image"):
        DrawnScan(image, drawing(other, other_truth, [6]))


def test_structure_and_background_in_one_working_pixel() -> None:
    image, _ = scan(spacing=(3.0, 0.25, 0.25))
    labels = np.zeros(image.array.shape, np.uint8)
    labels[6, 32, 32], labels[6, 32, 33] = 1, 2
    with pytest.raises(InputError, match="too small to be seen"):
        with_labels(labels, image, scribbles=True)


def test_slices_without_the_structure_stand_for_all_of_them() -> None:
    image, truth = scan((48, 64, 64))
    showing = int(truth.any(axis=(1, 2)).sum())
    annotation = Annotation.from_label_map(image.with_array(truth.astype(np.uint8)), 1, complete=True, axis=0)
    whole = DrawnScan(image, annotation)
    for share in (1 / 3, 0.6):
        found = prepare_drawing([whole], most_slices=12, empty_share=share).slices
        inside = [bool(part.target.any()) for part in found]
        assert len(found) == 12 and inside.count(False) == int(12 * share)
        assert {part.stands_for for part, shows in zip(found, inside, strict=True) if shows} == {1.0}
        empty = sum(part.stands_for for part, shows in zip(found, inside, strict=True) if not shows)
        assert empty / inside.count(True) == pytest.approx((48 - showing) / showing)


def test_held_out_slices_count_for_those_they_stand_for() -> None:
    logits, target = torch.tensor([1.0, 1.0, -1.0, 1.0]), torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert dice(logits, target, torch.ones(4)) == pytest.approx(2 * 2 / (3 + 3))
    assert dice(logits, target, torch.tensor([1.0, 1.0, 1.0, 5.0])) == pytest.approx(2 * 2 / (7 + 3))
    image, truth = scan((48, 64, 64))
    annotation = Annotation.from_label_map(image.with_array(truth.astype(np.uint8)), 1, complete=True, axis=0)
    slices = prepare_drawing([DrawnScan(image, annotation)], most_slices=36).slices
    for empty_too in (False, True):
        held_out = split(slices, torch.Generator().manual_seed(0), empty_too)[1]
        aside = [part for part, known in zip(slices, held_out, strict=True) if known.any()]
        assert any(part.target.any() for part in aside)
        assert any(not part.target.any() for part in aside) == empty_too
