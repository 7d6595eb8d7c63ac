"""Views: each pixel shows what lies where it claims to lie, whatever was cropped, mirrored, turned or scaled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from PromptSegLib.imaging.formats import write_image
from PromptSegLib.learning.augmentation import augment
from PromptSegLib.learning.pretraining.scans import ScanCache, find_scans
from PromptSegLib.learning.pretraining.views import (
    STUDENT_RANGES,
    TEACHER_RANGES,
    Placement,
    Ranges,
    ViewBatch,
    ViewSampler,
    ViewSizes,
    random_placement,
    render,
    student_contrast,
    teacher_contrast,
)
from PromptSegLib.networks.presets import PRESETS
from Testing.support import reoriented, scan

STILL = Ranges(turn=0.0, scale=0.0, shear=0.0, chance=0.0)
SIZES = ViewSizes(((64, 64), (48, 48)), (72, 72))
BLOCKS = ViewSizes(((64, 64, 4), (48, 48, 4)), (72, 72, 4))


def placement_of(size: tuple[int, ...], matrix: list[list[float]], center: tuple[float, float, float]) -> Placement:
    return Placement(size, torch.tensor([matrix]), torch.tensor([center]))


STRAIGHT = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]
MIRRORED = [[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 2.0]]
COARSE = [[1.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0]]
QUARTER_TURN = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]


def test_sizes_of_the_paper() -> None:
    sizes = {name: ViewSizes.of(preset) for name, preset in PRESETS.items()}
    assert sizes["paper-2d"] == ViewSizes(((224, 224), (160, 160)), (256, 256))
    assert sizes["paper-3d-flat"] == ViewSizes(((112, 112, 4), (80, 80, 4)), (128, 128, 4))
    assert sizes["paper-3d-aniso"] == ViewSizes(((56, 56, 8), (40, 40, 8)), (64, 64, 8))
    assert sizes["paper-3d-large"] == ViewSizes(((112, 112, 8), (80, 80, 8)), (128, 128, 8))


@pytest.mark.parametrize(
    ("matrix", "rows", "columns"),
    [
        (STRAIGHT, [8.5, 9.5, 10.5, 11.5], [-20.5, -19.5]),
        (MIRRORED, [8.5, 9.5, 10.5, 11.5], [-19.5, -20.5]),
        (COARSE, [7.75, 9.25, 10.75, 12.25], [-20.25, -19.75]),
    ],
)
def test_positions_after_crop_mirror_and_scale(
    matrix: list[list[float]], rows: list[float], columns: list[float]
) -> None:
    positions = placement_of((4, 2), matrix, (10.0, -20.0, 0.0)).positions()
    assert positions.shape == (1, 3, 4, 2)
    assert positions[0, 0, :, 0].tolist() == rows and positions[0, 1, 0, :].tolist() == columns
    assert not positions[0, 2].any()


def test_positions_after_a_turn() -> None:
    positions = placement_of((3, 3), QUARTER_TURN, (0.0, 0.0, 0.0)).positions()
    assert positions[0, :2, 0, 2].tolist() == [-1, -1], "what was at the upper right"
    assert positions[0, :2, 1, 0].tolist() == [1, 0]


def test_positions_of_an_embedding() -> None:
    """A pixel of half the resolution lies between the four that it stands for."""
    placement = placement_of((4, 4), STRAIGHT, (0.0, 0.0, 0.0))
    assert placement.positions((2, 2))[0, 0].tolist() == [[-1, -1], [1, 1]]


def test_a_step_across_slices_counts_double() -> None:
    positions = placement_of((2, 2, 3), STRAIGHT, (0.0, 0.0, 0.0)).positions()
    assert positions.shape == (1, 3, 2, 2, 3) and positions[0, 2, 0, 0].tolist() == [-2, 0, 2]


def ramps(shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Per axis a stack in which every voxel holds its own index along it."""
    return [np.broadcast_to(i, shape).astype(np.float32) for i in np.indices(shape)]


@pytest.mark.parametrize("size", [(16, 12), (16, 12, 2)])
@pytest.mark.parametrize(
    "matrix", [STRAIGHT, MIRRORED, COARSE, QUARTER_TURN, [[0.8, -0.6, 0], [0.5, 0.9, 0], [0, 0, 2]]]
)
def test_a_pixel_shows_its_own_place(size: tuple[int, ...], matrix: list[list[float]]) -> None:
    """Rendered from ramps, each pixel holds the voxel that its position names."""
    placement = placement_of(size, matrix, (1.25, -2.5, 0.0))
    per_pixel, middle = np.array([0.5, 1.0, 0.75]), np.array([6.0, 20.0, 24.0])
    row, column, across = placement.positions()[0].numpy()
    expected = [m + s * p for m, s, p in zip(middle, per_pixel, (across, row, column), strict=True)]
    turned, moved = (part[0].numpy()[[2, 0, 1]] for part in (placement.matrix, placement.center))
    for ramp, values in zip(ramps((12, 40, 48)), expected, strict=True):
        found = render(ramp, turned * per_pixel[:, None], middle + moved * per_pixel, size, fill=-1.0)
        assert np.allclose(found, values, atol=2e-3)


def test_outside_is_the_fill_value() -> None:
    found = render(np.ones((3, 4, 4), np.float32), np.eye(3)[[2, 0, 1]], np.array([1.0, 1.5, 5.5]), (4, 8), fill=-1.0)
    assert found[:, :2].eq(1).all() and found[:, 2:].eq(-1).all()
    away = render(np.ones((3, 4, 4), np.float32), np.eye(3)[[2, 0, 1]], np.array([1.0, 900.0, 5.5]), (4, 8), fill=-1.0)
    assert away.eq(-1).all()


def test_a_coarse_view_is_averaged_and_a_label_is_its_share() -> None:
    labels = np.zeros((1, 8, 8), np.uint8)
    labels[0, :, ::2], labels[0, :, 1::4] = 3, 2
    matrix, center = np.eye(3)[[2, 0, 1]] * 4, np.array([0.0, 3.5, 3.5])
    assert torch.allclose(render(labels, matrix, center, (2, 2), fill=0.0, label=3), torch.tensor(0.5))
    assert torch.allclose(render(labels, matrix, center, (2, 2), fill=0.0, label=2), torch.tensor(0.25))


@pytest.mark.parametrize("size", [(64, 48), (64, 48, 4)])
def test_random_crops_stay_in_their_field(size: tuple[int, ...]) -> None:
    field = (80, 80, 4)[: len(size)]
    placement = random_placement(np.random.default_rng(0), 200, size, field, STILL)
    positions = placement.positions()
    row, column = (positions[:, axis].flatten(1) for axis in (0, 1))
    for axis in (row, column):
        assert axis.min() >= -39.5 and axis.max() <= 39.5
        assert axis.min() < -38 and axis.max() > 38, "crops reach the edges"
    assert torch.allclose(row.amax(1) - row.amin(1), torch.tensor(63.0))
    assert torch.allclose(column.amax(1) - column.amin(1), torch.tensor(47.0))
    across = positions[:, 2]
    assert across.unique().tolist() == ([0] if len(size) == 2 else [-3, -1, 1, 3])


def test_random_changes_stay_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    for ranges, changed in ((STUDENT_RANGES, 0.8), (TEACHER_RANGES, 0.5)):
        plane = random_placement(rng, 400, (8, 8), (8, 8), ranges).matrix[:, :2, :2]
        area = torch.det(plane)
        assert (area > 0).all(), "nothing is mirrored"
        assert area.min() > (1 - ranges.scale) ** 2 - 0.01 and area.max() < (1 + ranges.scale) ** 2 + 0.01
        turn = torch.atan2(plane[:, 1, 0], plane[:, 0, 0])
        assert 0.9 * ranges.turn < turn.abs().max() <= ranges.turn
        assert float((turn != 0).float().mean()) == pytest.approx(changed, abs=0.08)


def test_the_field_is_changed_before_it_is_cropped() -> None:
    placement = random_placement(np.random.default_rng(0), 400, (48, 48), (80, 80), STUDENT_RANGES)
    in_field = torch.linalg.solve(placement.matrix, placement.center)[:, :2].abs()
    assert 15 < in_field.max() <= 16 + 1e-4


def test_mirrored_if_asked_to() -> None:
    mirrored = random_placement(np.random.default_rng(0), 400, (8, 8), (8, 8), Ranges(0, 0, 0, 0, mirror=0.5))
    assert float((torch.det(mirrored.matrix) < 0).float().mean()) == pytest.approx(0.5, abs=0.1)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> ScanCache:
    """Two scans with the organ (1), the second without the other structure (2), and one without labels."""
    folder = tmp_path_factory.mktemp("scans")
    for number in range(3):
        image, truth = scan(seed=number)
        (folder / f"scan{number}").mkdir()
        write_image(image, folder / f"scan{number}" / "ct.nii.gz")
        labels = truth.astype(np.uint8)
        if number == 0:
            labels[4:8, 20:30, 12:20] = 2
        if number < 2:
            write_image(image.with_array(labels), folder / f"scan{number}" / "oar.nii.gz")
    return ScanCache(find_scans(folder, "ct.nii.gz", "oar.nii.gz"), tmp_path_factory.mktemp("cache"))


def sampler_of(scans: ScanCache, labels: list[int], sizes: ViewSizes = SIZES, unlabelled: bool = True) -> ViewSampler:
    sampler = ViewSampler(scans, labels, sizes, unlabelled=unlabelled)
    for number in range(len(scans)):
        sampler.index(number)
    return sampler


def drawn(sampler: ViewSampler, count: int = 24, seed: int = 0) -> ViewBatch:
    return sampler.draw(np.random.default_rng(seed), count)


def test_centers_follow_the_orientation(tmp_path: Path) -> None:
    """An organ in one corner of a scan that is stored the other way around along every axis."""
    image, _ = scan()
    labels = np.zeros(image.array.shape, np.uint8)
    labels[1:4, 8:14, 12:18] = 1
    (tmp_path / "scan").mkdir()
    for volume, name in ((image, "ct.nii.gz"), (image.with_array(labels), "oar.nii.gz")):
        write_image(reoriented(volume, (0, 1, 2), (True, True, True)), tmp_path / "scan" / name)
    sampler = sampler_of(ScanCache(find_scans(tmp_path, "ct.nii.gz", "oar.nii.gz"), tmp_path / "cache"), [1])
    batch = drawn(sampler, 40)
    distances = batch.students[0].placement.positions()[:, :2].norm(dim=1)
    nearest = distances.masked_fill(batch.targets[0] < 0.5, torch.inf).flatten(1).amin(1)
    assert float((nearest < 12).float().mean()) > 0.6, "three of four samples are centered on their organ"


def middle_of(mask: Tensor, positions: Tensor) -> Tensor | None:
    """Mean position (3,) of a mask (*size), None if it is small or reaches the view's edge."""
    inner = torch.zeros_like(mask)
    inner[2:-2, 2:-2] = 1
    if mask.sum() < 30 or (mask * (1 - inner)).sum() > 0:
        return None
    return (positions * mask).flatten(1).sum(1) / mask.sum()


@pytest.mark.parametrize("sizes", [SIZES, BLOCKS])
def test_students_agree_where_the_organ_lies(scans: ScanCache, sizes: ViewSizes) -> None:
    batch = drawn(sampler_of(scans, [1], sizes), 40)
    compared = 0
    for number in range(40):
        middles = [
            middle_of(target[number], views.placement.positions()[number])
            for views, target in zip(batch.students, batch.targets, strict=True)
        ]
        if middles[0] is not None and middles[1] is not None:
            compared += 1
            assert float((middles[0] - middles[1]).norm()) < 0.7
    assert compared > 5


def test_targets_lie_on_the_organ(scans: ScanCache) -> None:
    """200 HU stand out among 40, in whatever contrast."""
    batch = drawn(sampler_of(scans, [1]), 40)
    views, target = batch.students[0], batch.targets[0]
    brighter = [
        image[mask > 0.9].median() > image[mask < 0.1].median()
        for image, mask in zip(views.images[:, 0], target, strict=True)
        if (mask > 0.9).sum() > 20
    ]
    assert len(brighter) > 10 and np.mean(brighter) > 0.8


@pytest.mark.parametrize("sizes", [SIZES, BLOCKS])
def test_a_batch_of_views(scans: ScanCache, sizes: ViewSizes) -> None:
    sampler = sampler_of(scans, [1, 2], sizes)
    batch, again, other = drawn(sampler, 3), drawn(sampler, 3), drawn(sampler, 3, seed=1)
    assert [v.images.shape for v in (*batch.students, batch.teacher)] == [
        (3, 1, *size) for size in (*sizes.students, sizes.teacher)
    ]
    for parts in (batch.targets, batch.known):
        assert [part.shape for part in parts] == [(3, *size) for size in sizes.students]
    for one, same, different in zip(
        (*batch.students, batch.teacher),
        (*again.students, again.teacher),
        (*other.students, other.teacher),
        strict=True,
    ):
        assert torch.equal(one.images, same.images) and not torch.equal(one.images, different.images)
        assert one.images.isfinite().all() and one.images.abs().max() <= 1.5
        assert torch.equal(one.placement.positions(), same.placement.positions())


def test_what_was_not_drawn_is_not_background(scans: ScanCache) -> None:
    """A structure is active in scans that show it; where nothing is drawn, no target is known."""
    batch = drawn(sampler_of(scans, [1, 2]), 60)
    assert set(batch.classes.tolist()) == {0, 1}
    labelled = batch.known[0].flatten(1).all(1)
    assert 0.15 < 1 - float(labelled.float().mean()) < 0.55, "a third of the scans has no labels"
    assert not batch.known[0][~labelled].any() and not batch.targets[0][~labelled].any()
    assert sampler_of(scans, [1, 2]).shown == {0: [0, 1], 1: [0], 2: []}
    assert drawn(sampler_of(scans, [1, 2], unlabelled=False), 60).known[0].all()
    only = drawn(sampler_of(scans, [2], unlabelled=False), 20)
    assert only.classes.tolist() == [0] * 20 and only.targets[0].amax() > 0.9


def test_without_base_classes(scans: ScanCache) -> None:
    batch = drawn(sampler_of(scans, []), 10)
    assert batch.classes.tolist() == [0] * 10 and not batch.known[0].any()


def test_only_students_are_masked() -> None:
    """Changes of contrast leave a smooth picture smooth; masked and shuffled regions tear it."""
    picture = torch.linspace(-0.8, 0.8, 96).repeat(1, 1, 96, 1)

    def torn(transform: object) -> int:
        images = (augment(transform, picture.clone(), seed)[0, 0] for seed in range(100))  # type: ignore[arg-type]
        return sum(bool(image.diff(dim=0).abs().max() > 0.15) for image in images)

    assert 10 < torn(student_contrast(96)) < 55
    assert torn(teacher_contrast()) == 0
