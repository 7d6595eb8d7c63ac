"""The working grid: nothing moves on the way to the backbone and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from PromptSegLib.imaging.working_grid import BLOCK, SPACINGS_MM, Box, WorkingGrid, body_box, working_spacing

sizes = st.integers(16, 70)
spacings = st.floats(0.4, 4.0)


def center_of_mass(image: Tensor) -> tuple[float, float]:
    """In pixels, where the first pixel's center is 0.5, so that halves of an image are halves at any size."""
    rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in image.shape)
    weights = image.double() / image.double().sum()
    return float((weights.sum(1) * rows).sum()), float((weights.sum(0) * columns).sum())


def blob(shape: tuple[int, int], center: tuple[float, float], sigma: tuple[float, float]) -> Tensor:
    rows, columns = (
        torch.exp(-((torch.arange(n) + 0.5 - c) ** 2) / (2 * s**2))
        for n, c, s in zip(shape, center, sigma, strict=True)
    )
    return rows[:, None] * columns[None]


@given(shape=st.tuples(sizes, sizes), spacing=st.tuples(spacings, spacings), target=st.sampled_from(SPACINGS_MM))
@example(shape=(70, 47), spacing=(0.7, 1.3), target=2.0)
@example(shape=(40, 32), spacing=(4.0, 4.0), target=1.0)
@settings(max_examples=60, deadline=None)
def test_a_blob_stays_where_it_is(shape: tuple[int, int], spacing: tuple[float, float], target: float) -> None:
    grid = WorkingGrid(shape, spacing, target)
    # Wide enough for the coarser of both grids, and far from the edges, where a blob would be cut off.
    sigma = tuple(max(1.5, 1.5 * n / m) for n, m in zip(shape, grid.size, strict=True))
    center = tuple(n * 0.5 + 0.37 for n in shape)
    assume(all(4.5 * s <= c <= n - 4.5 * s for c, s, n in zip(center, sigma, shape, strict=True)))
    image = blob(shape, (center[0], center[1]), (sigma[0], sigma[1]))
    expected = center_of_mass(image)
    working = grid.to_working(image[None])
    assert working.shape[1:] == grid.size
    there = center_of_mass(working[0])
    there = there[0] * shape[0] / grid.size[0], there[1] * shape[1] / grid.size[1]
    back = grid.from_working(working)
    assert back.shape[1:] == shape
    for found in (there, center_of_mass(back[0])):
        assert found == pytest.approx(expected, abs=0.05)


@given(length=sizes, spacing=spacings, target=st.sampled_from(SPACINGS_MM))
@settings(max_examples=60, deadline=None)
def test_a_ramp_stays_a_ramp(length: int, spacing: float, target: float) -> None:
    """Position in mm, resampled, is the position in mm of the other grid's pixels, but for the edges."""
    grid = WorkingGrid((length, 20), (spacing, target), target)
    ramp = ((torch.arange(length) + 0.5) * spacing)[None, :, None].expand(1, length, 20)
    working = grid.to_working(ramp)[0, :, 10]
    edge = length * spacing / grid.size[0]
    positions = (torch.arange(grid.size[0]) + 0.5) * edge
    inner = (positions > 2 * max(edge, spacing)) & (positions < length * spacing - 2 * max(edge, spacing))
    # Averaging weighs a handful of pixels by a triangle that is cut at whole pixels: a tenth of a pixel at most.
    assert torch.allclose(working[inner], positions[inner].to(working.dtype), atol=0.1 * max(edge, spacing))


def test_the_same_spacing_changes_nothing() -> None:
    grid = WorkingGrid((21, 34), (1.5, 1.5), 1.5)
    image = torch.randn(2, 21, 34)
    assert grid.size == (21, 34)
    assert torch.equal(grid.to_working(image), image) and torch.equal(grid.from_working(image), image)
    assert torch.equal(grid.known(image > 0), image > 0)


@given(shape=st.tuples(sizes, sizes), spacing=st.tuples(spacings, spacings), target=st.sampled_from(SPACINGS_MM))
@settings(max_examples=40, deadline=None)
def test_resampling_keeps_constants_and_bounds(
    shape: tuple[int, int], spacing: tuple[float, float], target: float
) -> None:
    grid = WorkingGrid(shape, spacing, target)
    assert torch.allclose(grid.to_working(torch.full((1, *shape), 0.25)), torch.tensor(0.25), atol=1e-5)
    noise = torch.rand(1, *shape)
    for image in (grid.to_working(noise), grid.from_working(grid.to_working(noise))):
        assert image.min() > -1e-5 and image.max() < 1 + 1e-5
    assert grid.known(torch.ones(1, *shape) > 0).all() and not grid.known(torch.zeros(1, *shape) > 0).any()


def test_one_pixel_images() -> None:
    grid = WorkingGrid((1, 3), (0.4, 0.4), 4.0)
    assert grid.size == (1, 1)
    assert grid.from_working(grid.to_working(torch.ones(2, 1, 3))).shape == (2, 1, 3)


@given(
    shape=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    corner=st.tuples(st.integers(-40, 40), st.integers(-40, 40)),
    blocks=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
@settings(max_examples=100, deadline=None)
def test_cut_and_put_are_inverse(shape: tuple[int, int], corner: tuple[int, int], blocks: tuple[int, int]) -> None:
    box = Box(*corner, BLOCK * blocks[0], BLOCK * blocks[1])
    assume(corner[0] < shape[0] and corner[1] < shape[1])
    assume(corner[0] + box.height > 0 and corner[1] + box.width > 0)
    images = torch.arange(2.0 * shape[0] * shape[1]).reshape(2, *shape)
    part = box.cut(images, -7.0)
    assert part.shape == (2, box.height, box.width)
    whole = torch.full_like(images, -9.0)
    box.put(part, whole)
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[max(corner[0], 0) : corner[0] + box.height, max(corner[1], 0) : corner[1] + box.width] = True
    assert torch.equal(whole[:, inside], images[:, inside])
    assert (whole[:, ~inside] == -9).all()
    assert int((part != -7).sum()) == 2 * int(inside.sum())


@given(diameter=st.floats(0.1, 500), native=st.floats(0.1, 10))
@settings(max_examples=200, deadline=None)
def test_working_spacing_is_bounded(diameter: float, native: float) -> None:
    spacing = working_spacing(diameter, native)
    assert spacing in SPACINGS_MM
    nearest = [min(SPACINGS_MM, key=lambda s: abs(np.log(s / limit))) for limit in (native / 2, max(1.5, 2 * native))]
    assert nearest[0] <= spacing <= nearest[1]
    assert working_spacing(diameter * 2, native) >= spacing


def test_working_spacing_by_hand() -> None:
    assert working_spacing(24, 1.0) == 1.0
    assert working_spacing(48, 1.0) == 2.0
    assert working_spacing(400, 1.0) == 2.0
    assert working_spacing(400, 0.5) == 1.5
    assert working_spacing(5, 4.0) == 2.0


def body(shape: tuple[int, int], top: int, left: int, bottom: int, right: int) -> Tensor:
    images = torch.full((2, *shape), -1.0)
    images[1, top:bottom, left:right] = 0.1
    return images


@given(
    shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    place=st.tuples(*[st.floats(0, 0.99)] * 4),
    least=st.sampled_from([32, 128]),
)
@settings(max_examples=100, deadline=None)
def test_the_box_holds_the_body(shape: tuple[int, int], place: tuple[float, float, float, float], least: int) -> None:
    (top, bottom), (left, right) = (
        sorted((int(a * n), int(b * n))) for a, b, n in ((place[0], place[1], shape[0]), (place[2], place[3], shape[1]))
    )
    images = body(shape, top, left, bottom + 1, right + 1)
    box = body_box(images, least)
    assert box is not None
    assert box.height % BLOCK == 0 and box.width % BLOCK == 0 and min(box.height, box.width) >= least
    assert box.top <= top and bottom < box.top + box.height
    assert box.left <= left and right < box.left + box.width
    assert int((box.cut(images, -1.0) > 0).sum()) == int((images > 0).sum())


def test_air_has_no_box() -> None:
    air = torch.full((3, 40, 40), -1.0)
    assert body_box(air, BLOCK) is None
    also = torch.zeros(3, 40, 40) > 0
    also[2, 10, 30] = True
    box = body_box(air, BLOCK, also)
    assert box is not None and box.top <= 10 < box.top + box.height and box.left <= 30 < box.left + box.width


@given(
    shape=st.tuples(sizes, sizes),
    place=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    spacing=st.tuples(spacings, spacings),
    target=st.sampled_from(SPACINGS_MM),
)
@settings(max_examples=80, deadline=None)
def test_one_known_pixel_stays_known(
    shape: tuple[int, int], place: tuple[float, float], spacing: tuple[float, float], target: float
) -> None:
    grid = WorkingGrid(shape, spacing, target)
    row, column = (int(p * n) for p, n in zip(place, shape, strict=True))
    known = torch.zeros(1, *shape) > 0
    known[0, row, column] = True
    found = torch.nonzero(grid.known(known)[0])
    assert len(found)
    for axis, (index, n, m) in enumerate(zip((row, column), shape, grid.size, strict=True)):
        assert ((found[:, axis] + 0.5) * n / m - (index + 0.5)).abs().max() <= max(1.0, 0.5 * n / m + 0.5) + 1e-4
