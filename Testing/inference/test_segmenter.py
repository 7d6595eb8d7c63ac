"""Segmenting: classes do not disturb each other, drawings are kept, and nothing moves on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN, Annotation
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.imaging.window import Window
from PromptSegLib.inference import neighborhood
from PromptSegLib.inference import predictor as predictor_module
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.inference.segmenter import Segmentation, Segmenter
from PromptSegLib.inference.surrounding_logits import SurroundingLogits
from PromptSegLib.learning.anatomy import level
from PromptSegLib.learning.shapes import shape_of
from PromptSegLib.networks.backbone import Features, Prompts
from PromptSegLib.tokens.class_token import Calibration, ClassToken
from PromptSegLib.tokens.height import Height
from PromptSegLib.tokens.size import Size
from Testing.support import drawn_labels, dsc, random_token, reoriented, scan, tiny_backbone, tuned_token


def segment(image: Volume, *tokens: ClassToken, drawn: Drawn | None = None, **options: bool) -> Segmentation:
    all_pieces = options.pop("all_pieces", False)
    return Segmenter(tiny_backbone(), tokens or [tuned_token()], all_pieces=all_pieces).segment(image, drawn, **options)


def another(seed: int = 1, spacing_mm: float | None = None, prompting: str = "decoder") -> ClassToken:
    """Another class, of random numbers, which looks at axial CT slices as the tuned one does."""
    like = tuned_token()
    token = random_token(tiny_backbone(), f"Other {seed}", prompting, seed)
    spacing_mm = spacing_mm or like.spacing_mm
    return replace(token, plane=like.plane, window=like.window, spacing_mm=spacing_mm, calibration=Calibration())


def test_finds_the_organ_on_its_own_scan_and_on_another() -> None:
    for seed in (0, 9):
        image, truth = scan(seed=seed)
        result = segment(image)
        assert result.labels.array.dtype == np.uint8 and result.probabilities == ()
        assert dsc(result.labels.array == 1, truth) > 0.8
        assert set(np.unique(result.labels.array)) == {0, 1}


@pytest.mark.parametrize("spacing_mm", [None, 2.0])
@pytest.mark.parametrize("prompting", ["decoder", "full"])
def test_another_class_changes_no_bit_of_the_first(spacing_mm: float | None, prompting: str) -> None:
    image, _ = scan()
    token, other = tuned_token(), another(1, spacing_mm, prompting)
    (alone,) = segment(image, token, probabilities=True).probabilities
    assert alone.array.dtype == np.float32 and alone.geometry == image.geometry
    assert 0 <= alone.array.min() < 0.1 and 0.9 < alone.array.max() <= 1
    first, _ = segment(image, token, other, probabilities=True).probabilities
    _, second = segment(image, other, token, probabilities=True).probabilities
    assert np.array_equal(first.array, alone.array)
    assert np.array_equal(second.array, alone.array)


@pytest.mark.parametrize("tiled", [False, True])
def test_classes_without_deep_prompts_share_the_decoder(monkeypatch: pytest.MonkeyPatch, tiled: bool) -> None:
    image, _ = scan()
    if tiled:
        monkeypatch.setattr(predictor_module, "WHOLE_PLANE", 96)
        monkeypatch.setattr(predictor_module, "TILE", 96)
    tokens = (tuned_token(prompting="end"), another(2), another(prompting="end"))
    decode, slices = tiny_backbone().decode, list[int]()

    def count(features: Features, *rest: Prompts) -> Tensor:
        slices.append(len(features))
        return decode(features, *rest)

    monkeypatch.setattr(tiny_backbone(), "decode", count)
    alone = [segment(image, token, probabilities=True).probabilities[0].array for token in tokens]
    each = sum(slices) // len(tokens)
    slices.clear()
    together = [found.array for found in segment(image, *tokens, probabilities=True).probabilities]
    assert sum(slices) == 2 * each, "once for both, once for the one in between"
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert alone[0].max() > 0.9 and not np.array_equal(alone[0], alone[2])


def test_each_voxel_goes_to_a_class_that_claims_it_alone() -> None:
    image, _ = scan()
    tokens = (tuned_token(), another(1), another(2, 2.0))
    claims = np.stack([segment(image, token, all_pieces=True).labels.array == 1 for token in tokens])
    labels = segment(image, *tokens, all_pieces=True).labels.array
    assert (claims.sum(0) > 1).any(), "classes are at odds somewhere"
    assert np.array_equal(labels > 0, claims.any(0))
    voxels = np.nonzero(labels)
    assert claims[(labels[voxels] - 1, *voxels)].all()


def drawing_of(labels: np.ndarray, image: Volume, **slices: tuple[int, ...]) -> Drawn:
    known = {int(name.removeprefix("label")): (0, frozenset(indices)) for name, indices in slices.items()}
    return Drawn(image.with_array(labels), known)


def test_drawn_slices_stay_as_drawn() -> None:
    """Also where the drawing is not what the network finds: half of the organ, and a square beside it."""
    image, truth = scan()
    labels = drawn_labels(truth, [3, 6, 9])
    labels[6, :29] = 0
    labels[6, 40:44, 10:14] = 1
    result = segment(image, drawn=drawing_of(labels, image, label1=(3, 6, 9))).labels.array
    for index in (3, 6, 9):
        assert np.array_equal(result[index] == 1, labels[index] == 1)
    assert (result[7] == 1).any(), "slices in between are segmented"


def test_what_is_unknown_on_a_drawn_slice_is_segmented() -> None:
    image, truth = scan()
    labels = np.full(truth.shape, UNKNOWN, np.uint8)
    labels[6, :29] = 0
    result = segment(image, drawn=drawing_of(labels, image, label1=(6,))).labels.array
    assert not result[6, :29].any()
    assert dsc(result[6, 29:] == 1, truth[6, 29:]) > 0.8


def test_strokes_stay_as_painted() -> None:
    image, truth = scan()
    labels = np.zeros(truth.shape, np.uint8)
    labels[6, 29, 38:42], labels[5, 20:24, 10] = 2, 1
    drawn = Drawn(image.with_array(labels), {})
    result = segment(image, tuned_token(), another(), drawn=drawn).labels.array
    assert np.array_equal(result[labels > 0], labels[labels > 0])


def test_a_drawing_of_one_class_leaves_the_other_alone() -> None:
    image, truth = scan()
    labels = np.zeros(truth.shape, np.uint8)
    labels[6, 30:34, 12:16] = 2
    alone = segment(image).labels.array
    both = segment(image, tuned_token(), another(), drawn=drawing_of(labels, image, label2=(6,))).labels.array
    assert np.array_equal(both[6] == 2, labels[6] == 2)
    assert np.array_equal(alone[6] == 1, both[6] == 1)


def test_tiles_give_what_whole_slices_give(monkeypatch: pytest.MonkeyPatch) -> None:
    image, truth = scan()
    whole = segment(image).labels.array == 1
    monkeypatch.setattr(predictor_module, "WHOLE_PLANE", 96)
    monkeypatch.setattr(predictor_module, "TILE", 96)
    seen: list[tuple[int, ...]] = []
    encode = tiny_backbone().encode

    def spy(images: Tensor, prompts: Prompts | None = None) -> Features:
        seen.append(tuple(images.shape[2:]))
        return encode(images, prompts)

    monkeypatch.setattr(tiny_backbone(), "encode", spy)
    tiled = segment(image).labels.array == 1
    assert set(seen) == {(96, 96)}
    assert dsc(tiled, whole) > 0.9 and dsc(tiled, truth) > 0.8


def test_kept_features_are_made_once_and_change_hardly_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image, _ = scan()
    expected = segment(image).labels.array
    for features in (ScanFeatures(), ScanFeatures(memory_bytes=100_000, folder=tmp_path)):
        worker = Segmenter(tiny_backbone(), [tuned_token()], kept=features)
        first = worker.segment(image).labels.array
        assert dsc(first == 1, expected == 1) > 0.995 and len(features) > 0
        with monkeypatch.context() as patch:
            patch.setattr(tiny_backbone(), "encode", Cramped(AssertionError("encoded twice"), most=0))
            assert np.array_equal(worker.segment(image).labels.array, first)
    assert not list(tmp_path.iterdir()), "the file has no name that a crash could leave behind"


def test_a_preview_is_what_the_network_finds_on_these_slices() -> None:
    image, _ = scan()
    worker = Segmenter(tiny_backbone(), [tuned_token()], all_pieces=True, kept=ScanFeatures())
    planes = worker.preview(image, 5)
    assert 5 in planes
    (whole,) = worker.segment(image, probabilities=True).probabilities
    for index, plane in planes.items():
        assert np.array_equal(plane, whole.array[index] > 0.5)


def test_confidence_and_doubt_are_per_token() -> None:
    image, _ = scan()
    found = segment(image)
    (confidence,), (doubt,) = found.confidences, found.doubts
    assert 0.5 < confidence <= 1
    assert doubt.shape == (image.array.shape[0],) and doubt.max() > 0


class Cramped:
    """A backbone's `encode` on a machine whose memory holds two slices."""

    def __init__(self, error: Exception, most: int = 2) -> None:
        self.encode, self.error, self.most = tiny_backbone().encode, error, most
        self.sizes: list[int] = []

    def __call__(self, images: Tensor, prompts: Prompts | None = None) -> Features:
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise self.error
        return self.encode(images, prompts)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    ],
)
def test_fewer_slices_at_once_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    image, _ = scan()
    expected = segment(image).labels.array
    cramped = Cramped(error)
    monkeypatch.setattr(predictor_module, "SLICES_AT_ONCE", 8)
    monkeypatch.setattr(tiny_backbone(), "encode", cramped)
    assert np.array_equal(segment(image).labels.array, expected)
    assert cramped.sizes == [8, 4, 2, 2, 2, 2, 2, 2]


def test_other_errors_and_no_memory_at_all_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = scan()
    tuned_token()
    monkeypatch.setattr(tiny_backbone(), "encode", Cramped(RuntimeError("shapes do not match"), most=0))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        segment(image)
    monkeypatch.undo()
    monkeypatch.setattr(tiny_backbone(), "encode", Cramped(torch.OutOfMemoryError("out of memory"), most=0))
    with pytest.raises(torch.OutOfMemoryError):
        segment(image)


@pytest.mark.parametrize(
    "order, flips",
    [
        ((0, 1, 2), (False, False, True)),
        ((0, 1, 2), (False, True, False)),
        ((0, 1, 2), (True, False, False)),
        ((2, 1, 0), (False, False, False)),
        ((1, 2, 0), (True, True, False)),
    ],
)
def test_however_stored_the_result_is_the_same(order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    image, _ = scan((12, 60, 64), seed=3)
    expected = image.with_array(segment(image).labels.array)
    turned = reoriented(image, order, flips)
    result = segment(turned).labels
    assert result.geometry == turned.geometry
    assert np.array_equal(result.array, reoriented(expected, order, flips).array)


def test_an_oblique_flipped_volume_keeps_its_grid() -> None:
    """A gantry turned by some degrees about every axis, stored from the other end."""
    image, _ = scan()
    rotation = np.eye(3)
    for axis, angle in enumerate((0.2, -0.15, 0.1)):
        turn = np.eye(3)
        first, second = (i for i in range(3) if i != axis)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    flipped = reoriented(image, (0, 1, 2), (False, True, True))
    direction = rotation @ np.array(flipped.geometry.direction)
    geometry = Geometry(image.geometry.shape, image.geometry.spacing, (10.1, -20.2, 30.3), tuple(map(tuple, direction)))
    result = segment(Volume(flipped.array, geometry), probabilities=True)
    assert result.labels.geometry == geometry and result.probabilities[0].geometry == geometry
    assert np.array_equal(result.labels.array, np.flip(segment(image).labels.array, (1, 2)))


@pytest.mark.parametrize("spacing", [(3.0, 2.0, 2.0), (3.0, 1.7, 1.3)])
def test_the_result_is_not_shifted(spacing: tuple[float, float, float]) -> None:
    image, truth = scan(spacing=spacing)
    found = segment(image).labels.array == 1
    for axis in range(3):
        there, here = (np.nonzero(mask)[axis].mean() for mask in (truth, found))
        # A random network's borders are ragged, but nothing may be off by a pixel.
        assert abs(there - here) < 0.75


def test_says_how_far_it_is_and_stops_when_told() -> None:
    image, _ = scan()
    seen: list[float] = []
    worker = Segmenter(tiny_backbone(), [tuned_token(), another(1, 2.0)])
    worker.segment(image, report=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1 and len(seen) == 4
    seen.clear()
    with pytest.raises(InterruptedError):
        worker.segment(image, report=seen.append, cancelled=lambda: len(seen) >= 1)
    assert len(seen) == 1


def two_pieces() -> tuple[Volume, np.ndarray]:
    """The scan with a second, smaller piece as bright as the organ."""
    image, truth = scan()
    piece = np.zeros_like(truth)
    piece[5:8, 22:34, 8:18] = True
    image.array[piece & ~truth] += 160
    return image, piece


def test_pieces_apart_from_the_organ() -> None:
    image, piece = two_pieces()
    one = replace(tuned_token(), pieces="one")
    kept = segment(image, one).labels.array
    assert not kept[piece].any() and kept.any()
    for result in (segment(image, one, all_pieces=True), segment(image, replace(one, pieces="many"))):
        assert result.labels.array[piece].mean() > 0.7
    labels = np.zeros(piece.shape, np.uint8)
    labels[6][piece[6]] = 1
    drawn = segment(image, one, drawn=drawing_of(labels, image, label1=(6,))).labels.array
    assert drawn[piece].mean() > 0.5
    assert not drawn[8:, :, 32:].any() and not drawn[:4, :, 32:].any(), "the piece that was not drawn on is gone"


def test_a_larger_look_alike_on_the_other_side_is_left_alone() -> None:
    image, truth = scan()
    other = np.zeros_like(truth)
    other[1:11, 20:46, 6:18] = True
    image.array[other] = 200
    knows, knows_not = tuned_token(), replace(tuned_token(), place=None)
    assert not segment(image, knows).labels.array[other].any()
    assert segment(image, knows_not).labels.array[other].mean() > 0.7, "it would have been taken for the organ"
    assert dsc(segment(image, knows).labels.array == 1, truth) > 0.8


def two_alike() -> tuple[Volume, np.ndarray, np.ndarray, ClassToken]:
    """A body that gets wider downwards, an organ in it, a larger one that looks like it below, and a token that knows
    the organ's height."""
    image, _ = scan((36, 64, 64), (10.0, 2.0, 2.0))
    image.array[:] = np.where(image.array > 120, 40, image.array)
    y, x = np.ogrid[-1:1:64j, -1:1:64j]
    for index, plane in enumerate(image.array):
        plane[(y / 0.9) ** 2 + (x / 0.95) ** 2 > (1 - index / 60) ** 2] = -1000
    organ, other = np.zeros((2, *image.array.shape), dtype=bool)
    organ[20:24, 24:40, 28:44] = True
    other[3:9, 24:40, 28:44] = True
    image.array[organ | other] = 200
    drawn = Annotation.from_label_map(image.with_array(organ.astype(np.uint8)), 1, complete=True, axis=0)
    lies = level(image, drawn, Window("ct"))
    assert lies is not None
    token = replace(tuned_token(), pieces="one", place=None, size=Size(41.0, 0.3), height=Height.of([lies]))
    return image, organ, other, token


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (False, False, False)), ((2, 0, 1), (True, True, False))])
def test_a_larger_look_alike_at_another_height_is_left_alone(order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    """Below the organ; however the scan is stored, and on a cut one, too."""
    image, organ, other, knows = two_alike()
    for first in (0, 2):
        part = Volume(image.array[first:], Geometry((36 - first, 64, 64), (10.0, 2.0, 2.0)))
        stored, where = reoriented(part, order, flips), reoriented(part.with_array(other[first:]), order, flips).array
        meant = reoriented(part.with_array(organ[first:]), order, flips).array
        found = segment(stored, knows).labels.array == 1
        assert found[meant].mean() > 0.7 and not found[where].any()
        found = segment(stored, replace(knows, height=None)).labels.array == 1
        assert found[where].mean() > 0.7 and not found[meant].any(), "it would have been taken for the organ"


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (False, False, False)), ((2, 0, 1), (True, True, False))])
def test_a_look_alike_that_joins_the_organ_is_cut_off_at_its_ends(
    order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    image, organ, _, sure = two_alike()
    knows = replace(sure, calibration=Calibration(sure.calibration.scale / 12, 0.0))
    joined = np.zeros_like(organ)
    joined[24:32, 24:40, 28:44] = True
    image.array[joined] = 200
    stored = reoriented(image, order, flips)
    meant, beyond = (reoriented(image.with_array(mask), order, flips).array for mask in (organ, joined))
    found = segment(stored, knows).labels.array == 1
    assert found[meant].mean() > 0.7 and found[beyond].mean() < 0.5
    for everywhere in (segment(stored, replace(knows, height=None)), segment(stored, knows, all_pieces=True)):
        assert (everywhere.labels.array == 1)[beyond].mean() > 0.7, "it would have been taken for the organ"


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (False, False, False)), ((2, 0, 1), (True, True, False))])
def test_what_joins_the_organ_is_cut_off_by_its_shape(order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    image, organ, other, sure = two_alike()
    image.array[other] = 40
    joined = np.zeros_like(organ)
    joined[24:32, 24:32, 36:44] = True
    image.array[joined] = 200
    shape = shape_of(organ, image.geometry)
    assert shape is not None
    calibration = Calibration(sure.calibration.scale / 12, 0.0)
    knows = replace(sure, calibration=calibration, height=None, size=None, shapes=(shape,))
    stored = reoriented(image, order, flips)
    meant, beyond = (reoriented(image.with_array(mask), order, flips).array for mask in (organ, joined))
    found = segment(stored, knows).labels.array == 1
    assert found[meant].mean() > 0.7 and found[beyond].mean() < 0.5
    plain = segment(stored, replace(knows, shapes=()))
    many = replace(knows, pieces="many")
    for everywhere in (plain, segment(stored, knows, all_pieces=True), segment(stored, many)):
        assert (everywhere.labels.array == 1)[beyond].mean() > 0.7, "it would have been taken for the organ"


def correction(image: Volume, planes: dict[int, np.ndarray]) -> Drawn:
    """Slices that correct what a token of other scans finds."""
    labels = np.full(image.array.shape, UNKNOWN, np.uint8)
    for index, plane in planes.items():
        labels[index] = plane
    return Drawn(image.with_array(labels), {1: (0, frozenset(planes))}, corrects=frozenset({1}))


def with_shape(organ: np.ndarray, image: Volume) -> ClassToken:
    shape = shape_of(organ, image.geometry)
    assert shape is not None
    return replace(tuned_token(), pieces="one", shapes=(shape,))


def test_previews_do_not_shrink_what_is_only_corrected() -> None:
    """To the shape between the slices that correct it, which say nothing of the rest."""
    image, truth = scan(seed=3)
    drawn = correction(image, {6: truth[6].astype(np.uint8)})
    knowing = Segmenter(tiny_backbone(), [with_shape(truth, image)])
    assert knowing.drawn_shape(image, drawn) is None
    assert knowing.drawn_shape(image, replace(drawn, corrects=frozenset())) is not None
    assert Segmenter(tiny_backbone(), [tuned_token()]).drawn_shape(image, drawn) is not None, "it knows no shape"


def test_where_two_are_equally_sure_the_drawn_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighborhood, "random_walk", lambda values, prior, *rest: (prior > 0.5).astype(np.float32))
    image, truth = scan(seed=3)
    labels = np.full(image.array.shape, UNKNOWN, np.uint8)
    for index in (4, 6, 8):
        labels[index] = 2 * truth[index]
    drawn = Drawn(image.with_array(labels), {2: (0, frozenset({4, 6, 8}))})
    found = segment(image, tuned_token(), tuned_token(), drawn=drawn).labels.array
    between = truth & np.isin(np.arange(len(truth)), (5, 7))[:, None, None]
    assert (found[between] == 2).mean() > 0.9


def test_the_other_part_of_what_is_corrected_stays() -> None:
    """Of a long structure that is missed between them, farther than the drawing alone would be looked around."""
    image, truth = scan((80, 64, 64), (3.0, 2.0, 2.0), seed=3)
    array, missed = image.array.copy(), slice(18, 42)
    array[missed][truth[missed]] -= 160
    seen, token = image.with_array(array), with_shape(truth, image)
    before = segment(seen, token).labels.array == 1
    assert before[44:66].any(axis=(1, 2)).all(), "the larger part is found"
    found = segment(seen, token, drawn=correction(seen, {12: truth[12]})).labels.array == 1
    assert np.array_equal(found[12], truth[12])
    assert dsc(found[44:66], before[44:66]) > 0.9


def test_what_was_found_stays_where_the_structure_is_drawn_farther_along_it() -> None:
    """No piece was found there, farther away than what is looked around, and nearer than the structure is long."""
    image, truth = scan((80, 64, 64), (3.0, 2.0, 2.0), seed=3)
    array = image.array.copy()
    array[:42][truth[:42]] -= 160
    seen, token = image.with_array(array), with_shape(truth, image)
    before = segment(seen, token).labels.array == 1
    assert not before[:38].any() and before[44:66].any(axis=(1, 2)).all()
    found = segment(seen, token, drawn=correction(seen, {24: truth[24]})).labels.array == 1
    assert np.array_equal(found[24], truth[24])
    assert dsc(found[44:66], before[44:66]) > 0.9


def test_a_corrected_slice_that_nothing_touches_takes_nothing_away() -> None:
    """The last slice of a structure, of which a few voxels beside what was found are left by the user."""
    image, truth = scan(seed=3)
    token = with_shape(truth, image)
    before = segment(image, token).labels.array == 1
    last = int(np.flatnonzero(before.any(axis=(1, 2)))[-1])
    few = np.zeros_like(truth[last])
    rows, columns = np.nonzero(before[last - 1])
    few[rows.min() - 3, columns.min() - 3] = True
    found = segment(image, token, drawn=correction(image, {last: few})).labels.array == 1
    assert np.array_equal(found[last], few) and dsc(found[:last], before[:last]) > 0.9


@pytest.mark.parametrize("painted", [True, False])
def test_a_corrected_slice_is_kept_and_the_rest_is_found_as_before(painted: bool) -> None:
    image, truth = scan(seed=3)
    token = with_shape(truth, image)
    before = segment(image, token).labels.array == 1
    half = truth[6] & (np.arange(truth.shape[2]) < 40) & painted
    found = segment(image, token, drawn=correction(image, {6: half})).labels.array == 1
    assert half.any() == painted and np.array_equal(found[6], half)
    others = np.arange(len(truth)) != 6
    if painted:
        assert dsc(found[others], before[others]) > 0.9
    else:
        # One piece is kept, on one side of the slice that shows nothing.
        assert max(dsc(found[:6], before[:6]), dsc(found[7:], before[7:])) > 0.8


def test_what_lies_around_counts_where_a_token_was_drawn_and_not_where_it_is_corrected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, truth = scan()
    token, planes = with_shape(truth, image), {index: truth[index] for index in (3, 8)}
    corrected = correction(image, planes)
    drawn = replace(corrected, corrects=frozenset())

    def found() -> list[np.ndarray]:
        return [segment(image, token, drawn=each).labels.array for each in (drawn, corrected)]

    before = found()
    always = SurroundingLogits((slice(0, truth.shape[0]), slice(None), slice(None)), *nothing_anywhere(truth.shape))
    monkeypatch.setattr(SurroundingLogits, "of", lambda *_: always)
    after = found()
    assert not np.array_equal(before[0], after[0]) and np.array_equal(before[1], after[1])


def nothing_anywhere(shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Against the structure everywhere, as loud as can be."""
    across, down, along = (np.ones((n, 1), np.float32) for n in shape)
    return np.full((1, 1, 1), -100, np.float32), (across, down, along)


def test_a_correction_somewhere_else_is_followed() -> None:
    """What was found is a look-alike; a slice of the organ is drawn."""
    image, organ, other, sure = two_alike()
    token = replace(sure, height=None, size=None, shapes=with_shape(organ, image).shapes)
    found = segment(image, token).labels.array == 1
    assert found[other].mean() > 0.7 and not found[organ].any()
    found = segment(image, token, drawn=correction(image, {21: organ[21]})).labels.array == 1
    assert found[organ].mean() > 0.7 and not found[other].any()


def test_only_where_it_is_not_found_at_its_height_all_of_the_scan_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    image, organ, other, knows = two_alike()
    image.array[other] = 40
    encode, slices = tiny_backbone().encode, list[int]()

    def count(images: Tensor, *rest: Prompts) -> Features:
        slices.append(len(images))
        return encode(images, *rest)

    def seen(token: ClassToken, **options: bool) -> tuple[int, np.ndarray]:
        slices.clear()
        found = segment(image, token, **options).labels.array
        return sum(slices), found

    monkeypatch.setattr(tiny_backbone(), "encode", count)
    (some, found), (most, same) = seen(knows), seen(knows, probabilities=True)
    assert (some, most) == (24, 36) and np.array_equal(found, same)
    far_more_than_there_is = replace(knows, size=Size(1000.0, 0.3))
    assert seen(far_more_than_there_is)[0] == 36
    assert seen(replace(knows, size=None))[0] == 36, "nobody could say whether it was found"
    assert seen(knows, all_pieces=True)[0] == 36
    image.array[organ] = 40
    assert seen(knows)[0] == 36


def test_asking_for_probabilities_changes_nothing_that_is_found() -> None:
    """What lies elsewhere would have been taken for it, had it been looked for there."""
    image, organ, other, knows = two_alike()
    image.array[organ] = image.array[7:9, 24:40, 28:44] = 40
    other[7:9] = False
    image.array[20:23, 26:38, 30:42] = 200
    little = replace(knows, size=Size(1.0, 0.3))
    alone, asked = segment(image, little), segment(image, little, probabilities=True)
    assert alone.labels.array[20:23].any() and not alone.labels.array[other].any()
    assert np.array_equal(alone.labels.array, asked.labels.array) and alone.confidences == asked.confidences
    assert asked.probabilities[0].array[other].mean() > 0.5


def test_air_holds_nothing() -> None:
    image, _ = scan()
    air = image.with_array(np.full_like(image.array, -1000))
    result = segment(air, probabilities=True)
    assert not result.labels.array.any() and result.probabilities[0].array.max() < 1e-3


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 20, 100), (2, 7, 5)])
def test_any_shape(shape: tuple[int, int, int]) -> None:
    image, _ = scan((12, 64, 64))
    array = np.resize(image.array[6], shape).astype(np.int16)
    volume = Volume(array, Geometry(shape, (3.0, 2.0, 2.0)))
    result = segment(volume, probabilities=True)
    assert result.labels.array.shape == shape and np.isfinite(result.probabilities[0].array).all()


def test_refusals() -> None:
    network, token = tiny_backbone(), random_token(tiny_backbone())
    with pytest.raises(InputError, match="no class token"):
        Segmenter(network, [])
    with pytest.raises(InputError, match="255 classes are more than"):
        Segmenter(network, [token] * 255)
    with pytest.raises(InputError, match="belongs to the backbone tiny-1"):
        Segmenter(tiny_backbone(1, "tiny-2"), [token])
    with pytest.raises(InputError, match="no prompting 'sideways'"):
        Segmenter(network, [replace(token, prompting="sideways")])
    with pytest.raises(InputError, match="missing or unknown numbers"):
        Segmenter(network, [replace(token, prompting="full")])


def test_where_nothing_was_drawn_the_size_to_be_expected_counts() -> None:
    image, _ = scan(seed=9)
    blurred = image.with_array(gaussian_filter(image.array.astype(np.float32), (0, 4, 4)).astype(np.int16))

    def volume_ml(token: ClassToken, drawn: Drawn | None = None) -> float:
        found = segment(blurred, token, drawn=drawn).labels.array == 1
        return float(found.sum()) * blurred.geometry.voxel_volume_mm3 / 1000

    plain = volume_ml(tuned_token())
    smaller, larger = (replace(tuned_token(), size=Size(plain * factor, 0.35)) for factor in (0.3, 3))
    assert 0 < volume_ml(smaller) < plain < volume_ml(larger)
    _, truth = scan()
    drawn = drawing_of(drawn_labels(truth, [3, 6, 9]), image, label1=(3, 6, 9))
    assert volume_ml(smaller, drawn) == volume_ml(tuned_token(), drawn), "a drawing says more"
    part = blurred.geometry
    cut = Volume(blurred.array[4:9], Geometry((5, *part.shape[1:]), part.spacing))
    as_found, cut_back, filled_up = (segment(cut, t).labels.array.sum() for t in (tuned_token(), smaller, larger))
    assert 0 < cut_back < as_found and filled_up == as_found, "what is cut off is not filled up"
