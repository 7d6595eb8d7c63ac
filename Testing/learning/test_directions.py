"""Directions in closed form: pixels are told apart by what tells them, seen just where the head sees them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from PromptSegLib.learning.directions import Points, at_pixels, changed, fit_directions, is_dark, sample_body
from PromptSegLib.learning.drawing import WorkingSlice
from PromptSegLib.networks.head import class_logits, direction_name, head_shapes, similarity_logits
from PromptSegLib.tokens.class_token import Calibration

CHANNELS = (4, 6)


def make_points(count: int = 400, inside: float = 0.5, seed: int = 0) -> Points:
    """Of two maps: the last channel of the second is larger by 3 on the structure, all else is noise of many sizes."""
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.rand(count, generator=generator) < inside).float()
    levels = torch.randn(count, sum(CHANNELS), generator=generator)
    levels[:, -1] += 3 * truth
    levels = levels * torch.logspace(-2, 2, sum(CHANNELS)) + 7
    return Points(torch.nn.functional.normalize(levels[:, :4], dim=1), levels, CHANNELS, truth)


def logits(points: Points, directions: dict[str, Tensor], offset: Tensor) -> Tensor:
    return points.along(directions) + offset


def make_head(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = head_shapes(CHANNELS[0], CHANNELS)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def telling(directions: dict[str, Tensor], points: Points) -> int:
    """Which channel says most."""
    weights = torch.cat([directions[direction_name(level)] for level in range(2)]) * points.levels.std(0)
    return int(weights.abs().argmax())


def test_what_tells_the_structure_is_found() -> None:
    directions, offset = fit_directions(make_points())
    unseen = make_points(2000, seed=1)
    right = (logits(unseen, directions, offset) > 0) == unseen.inside
    # A threshold in the middle of two normal distributions 3 apart errs one time in 15.
    assert right[unseen.inside].float().mean() > 0.85 and right[~unseen.inside].float().mean() > 0.85
    assert telling(directions, unseen) == sum(CHANNELS) - 1


def test_of_a_small_structure_the_same_is_found() -> None:
    """It weighs as much as all that surrounds it; only how likely it is, is less."""
    often, seldom = (fit_directions(make_points(4000, inside))[0] for inside in (0.5, 0.05))
    unseen = make_points(2000, seed=1)
    a, b = (unseen.along(directions) for directions in (often, seldom))
    assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.95
    assert telling(often, unseen) == telling(seldom, unseen) == sum(CHANNELS) - 1


def test_no_channel_counts_by_its_size() -> None:
    points = make_points()
    scales, shifts = torch.logspace(3, -1, sum(CHANNELS)), torch.linspace(-5, 5, sum(CHANNELS))
    expected = logits(points, *fit_directions(points))
    other = replace(points, levels=points.levels * scales + shifts)
    assert torch.allclose(logits(other, *fit_directions(other)), expected, atol=0.02)


def test_where_all_pixels_are_told_apart_the_threshold_lies_between_them() -> None:
    """Then logistic regression would be as sure as it may."""
    points = make_points(500, 0.05)
    points.levels[:, -1] += 1e4 * points.truth
    found = logits(points, *fit_directions(points)) > 0
    assert torch.equal(found, points.inside)


def test_a_channel_that_never_changes_does_no_harm() -> None:
    points = make_points()
    points.levels[:, 2] = 5
    assert logits(points, *fit_directions(points)).isfinite().all()


def test_a_pixel_of_each_kind_is_enough() -> None:
    points = make_points()
    chosen = [int(points.inside.nonzero()[0]), int((~points.inside).nonzero()[0])]
    two = Points(points.embedding[chosen], points.levels[chosen], CHANNELS, points.truth[chosen])
    found = logits(two, *fit_directions(two))
    assert found[0] > 0 > found[1]


@given(rows=st.integers(2, 9), columns=st.integers(2, 9), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_pixels_are_seen_where_the_head_sees_them(rows: int, columns: int, seed: int) -> None:
    """Maps of half and a quarter of the image's size, as a decoder makes them."""
    generator = torch.Generator().manual_seed(seed)
    size = (4 * rows, 4 * columns)
    maps = [
        torch.randn(1, channels, rows * factor, columns * factor, generator=generator)
        for channels, factor in zip(CHANNELS, (2, 1), strict=True)
    ]
    pixels = torch.stack([torch.randint(n, (20,), generator=generator) for n in size], dim=1)
    embedding, levels = at_pixels(maps, size, pixels)
    points = Points(embedding, levels, CHANNELS, torch.zeros(20))
    head = make_head(seed)
    whole = class_logits(maps, {name: value[None] for name, value in head.items()}, size)[0]
    expected = whole[pixels[:, 0], pixels[:, 1]]
    found = points.similar({name: value[None] for name, value in head.items()})[0] + points.along(head)
    assert torch.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("under", [Calibration(), Calibration(0.5, 1.0)])
def test_a_change_moves_pixels_to_their_side(under: Calibration) -> None:
    points, head = make_points(1000), make_head()
    directions, offset = fit_directions(points)
    # Tokens that say next to nothing, and an offset that finds too little.
    head |= directions | {"head.log_scale": torch.tensor([-7.0]), "head.offset": offset - 6}
    new = changed(head, points, under)

    def wrong(numbers: dict[str, Tensor]) -> int:
        found = under.scale * logits(points, numbers, numbers["head.offset"]) + under.offset
        return int(((found > 0) != points.inside).sum())

    assert wrong(new) < 0.9 * wrong(head)
    assert set(new) == set(head) and torch.equal(new["head.foreground"], head["head.foreground"])


def test_pixels_that_lie_well_on_their_side_change_nothing() -> None:
    points, head = make_points(), make_head()
    directions, offset = fit_directions(points)
    head |= directions | {"head.log_scale": torch.tensor([-9.0]), "head.offset": offset}
    beyond = logits(points, head, offset) * (2 * points.truth - 1) > 2.1
    assert beyond.sum() > 100
    some = Points(points.embedding[beyond], points.levels[beyond], CHANNELS, points.truth[beyond])
    same = changed(head, some, Calibration())
    assert all(torch.equal(same[name], head[name]) for name in head)


def test_tokens_alone_are_what_they_were() -> None:
    """The head of tokens of earlier PromptSegs."""
    maps = [torch.randn(1, channels, 6, 6) for channels in CHANNELS]
    numbers = {name: value[None] for name, value in make_head().items() if "direction" not in name}
    assert torch.equal(class_logits(maps, numbers, (12, 12)), similarity_logits(maps[0], numbers, (12, 12)))
    points = make_points()
    assert not points.along({}).any()


def make_slice(air: float = -1.0) -> WorkingSlice:
    image = torch.full((1, 96, 96), air)
    image[:, 8:88, 8:88] = 0.1
    target = torch.zeros(1, 96, 96)
    target[:, 60:70, 60:70] = 1
    return WorkingSlice(image, target, torch.ones(1, 96, 96, dtype=torch.bool))


def test_pixels_lie_inside_around_and_elsewhere_in_the_body() -> None:
    part = make_slice()
    pixels = sample_body(part, part.known[0], 50, torch.Generator().manual_seed(0))
    inside, around, elsewhere = pixels[:50], pixels[50:100], pixels[100:]
    assert len(elsewhere) == 50
    assert (part.target[0][inside[:, 0], inside[:, 1]] == 1).all()
    assert not part.target[0][pixels[50:, 0], pixels[50:, 1]].any()
    assert (part.image[0][pixels[:, 0], pixels[:, 1]] > 0).all(), "none in the air"
    far = torch.maximum((around - 65).abs()[:, 0], (around - 65).abs()[:, 1])
    assert far.max() <= 26 < torch.maximum((elsewhere - 65).abs()[:, 0], (elsewhere - 65).abs()[:, 1]).max()
    assert len(pixels.unique(dim=0)) == 150


def test_unknown_pixels_are_never_chosen() -> None:
    part = make_slice()
    known = part.known[0].clone()
    known[:, 50:] = False
    pixels = sample_body(part, known, 50, torch.Generator().manual_seed(0))
    assert len(pixels) and (pixels[:, 1] < 50).all()


def test_what_is_dark_itself_is_told_from_the_air() -> None:
    part = make_slice()
    part.image[:, 60:70, 60:70] = -1
    assert is_dark([part]) and not is_dark([make_slice()])
    pixels = sample_body(part, part.known[0], 200, torch.Generator().manual_seed(0), with_air=True)
    outside = pixels[part.target[0][pixels[:, 0], pixels[:, 1]] == 0]
    assert (part.image[0][outside[:, 0], outside[:, 1]] < 0).any()


def test_where_all_known_background_is_air_it_counts() -> None:
    part = make_slice()
    known = (part.target[0] > 0) | (part.image[0] < 0)
    pixels = sample_body(part, known, 50, torch.Generator().manual_seed(0))
    assert (part.target[0][pixels[:, 0], pixels[:, 1]] == 0).sum() >= 50
