"""The random walk solves the system that it says it solves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.inference import random_walk as module
from PromptSegLib.inference.random_walk import random_walk


def unsure(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 0.5, dtype=np.float32)


def test_between_fixed_ends_of_a_flat_image_it_is_a_ramp() -> None:
    prior, fixed = unsure((9, 1, 1)), np.zeros((9, 1, 1), bool)
    prior[0], prior[-1] = 0, 1
    fixed[[0, -1]] = True
    found = random_walk(np.zeros((9, 1, 1), np.float32), prior, fixed, (1, 1, 1))
    assert found[:, 0, 0] == pytest.approx(np.linspace(0, 1, 9), abs=0.02)


def test_it_changes_where_the_image_does() -> None:
    image = np.zeros((9, 3, 3), np.float32)
    image[6:] = 1
    prior, fixed = unsure(image.shape), np.zeros(image.shape, bool)
    prior[0], prior[-1] = 0, 1
    fixed[[0, -1]] = True
    found = random_walk(image, prior, fixed, (1, 1, 1))
    assert found[:6].max() < 0.2 and found[6:].min() > 0.8


def test_what_is_farther_apart_says_less() -> None:
    prior, fixed = unsure((3, 3, 3)), np.zeros((3, 3, 3), bool)
    prior[0], fixed[0] = 1, True
    prior[:, 0], fixed[:, 0] = 0, True
    image = np.zeros((3, 3, 3), np.float32)
    near, far = (random_walk(image, prior, fixed, (mm, 1, 1))[1, 2, 1] for mm in (1, 4))
    assert far < near


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.floats(0.5, 5)] * 3))
def test_as_a_dense_solver(seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=shape).astype(np.float32)
    fixed = rng.random(shape) < 0.3
    prior = np.where(fixed, rng.integers(0, 2, shape), rng.random(shape)).astype(np.float32)
    count = image.size
    trust = module.PRIOR_WEIGHT * (np.abs(2 * prior - 1) + module._UNSURE).ravel()
    matrix, wanted = np.diag(trust).astype(float), trust * prior.ravel()
    pairs = [
        (int(np.ravel_multi_index(at, shape)), int(np.ravel_multi_index(to, shape)), axis, image[at] - image[to])
        for axis in range(3)
        for at in np.ndindex(shape)
        if (to := (*at[:axis], at[axis] + 1, *at[axis + 1 :]))[axis] < shape[axis]
    ]
    usual = np.mean([step**2 for *_, step in pairs]) if pairs else 1.0
    for i, j, axis, step in pairs:
        weight = max(np.exp(-module.CONTRAST * step**2 / usual), module._LEAST_WEIGHT)
        weight *= (min(spacing) / spacing[axis]) ** 2
        matrix[[i, j], [i, j]] += weight
        matrix[i, j] -= weight
        matrix[j, i] -= weight
    flat = fixed.ravel()
    matrix[flat], wanted[flat] = np.eye(count)[flat], prior.ravel()[flat]
    expected = np.linalg.solve(matrix, wanted).reshape(shape)
    found = random_walk(image, prior, fixed, spacing)
    assert found == pytest.approx(expected, abs=0.02)
    assert np.array_equal(found[fixed], prior[fixed])


def test_it_can_be_ended() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        random_walk(np.zeros((3, 3, 3), np.float32), unsure((3, 3, 3)), np.zeros((3, 3, 3), bool), (1, 1, 1), stop)
