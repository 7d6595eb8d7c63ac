"""Contrastive prototype assignment: every part on a case that can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from PromptSegLib.learning.pretraining.assignment import (
    AssignmentOptions,
    Placed,
    assignment_loss,
    assignments,
    matches,
    position_weights,
    soft_k_means,
)

OPTIONS = AssignmentOptions()
FINE = replace(OPTIONS, reduction=1, seed_reduction=2)
"""Every pixel is compared and every other one is a seed."""


def points(*values: tuple[float, ...]) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def along(*columns: float) -> Tensor:
    """Positions (1, V, 3) in one row of one slice."""
    return torch.tensor([[(0.0, column, 0.0) for column in columns]])


def test_position_weights_halve_at_half_of_the_width() -> None:
    weights = position_weights(along(0, 5, 10, -20), along(0, 10), 10.0)
    expected = [[1, 1 / 16], [1 / 2, 1 / 2], [1 / 16, 1], [2**-16, 2**-36]]
    assert torch.allclose(weights[0], torch.tensor(expected), rtol=1e-4)


def test_assignments_are_a_softmax_of_cosines() -> None:
    """At 60 degrees the cosine is 1/2; lengths do not matter."""
    embeddings = points((3, 0), (0.5, math.sqrt(0.75)))
    found = assignments(embeddings, points((1, 0), (0, 0.1)), 0.5)
    cosines = [(1, 0), (0.5, math.sqrt(0.75))]
    for row, (a, b) in zip(found[0], cosines, strict=True):
        assert float(row[0]) == pytest.approx(1 / (1 + math.exp((b - a) / 0.5)), rel=1e-5)
    assert torch.allclose(found.sum(-1), torch.ones(1, 2))


def test_known_clusters_are_found() -> None:
    """Seeds well off the two clusters end on their means."""
    embeddings = points((1, 0), (1, 0.2), (0, 1), (0.2, 1))
    seeds = points((1, 0.5), (0.5, 1))
    far = replace(OPTIONS, width=1e6)
    found = soft_k_means(embeddings, along(0, 1, 2, 3), seeds, along(0, 3), far)
    assert torch.allclose(found, points((1, 0.1), (0.1, 1)), atol=1e-3)
    sharp = assignments(embeddings, found, OPTIONS.teacher_temperature)
    assert sharp.argmax(-1).tolist() == [[0, 0, 1, 1]] and sharp.amax(-1).min() > 0.999


def test_prototypes_take_from_their_surroundings() -> None:
    """Left and right look almost alike; only the place keeps their prototypes apart."""
    embeddings, seeds = points((1, 0.1), (1, -0.1)), points((1, 0.1), (1, -0.1))
    places = along(0, 100)
    near = soft_k_means(embeddings, places, seeds, places, replace(OPTIONS, width=20.0))
    assert torch.allclose(near, embeddings, atol=1e-5)
    everywhere = soft_k_means(embeddings, places, seeds, places, replace(OPTIONS, width=1e6))
    assert float((everywhere[0, 0] - everywhere[0, 1]).norm()) < 0.15


def test_a_prototype_moves_along() -> None:
    """One prototype has everything assigned to it, so two iterations are two weighted means."""
    options = replace(OPTIONS, width=4.0, iterations=2)
    found = soft_k_means(points((1, 0), (0, 1)), along(0, 4), points((1, 1)), along(0), options)
    center = 4 / 17  # after weights of 1 and 1/16
    weights = [2 ** -((2 * distance / 4) ** 2) for distance in (center, 4 - center)]
    assert torch.allclose(found, points((weights[0], weights[1])) / sum(weights), rtol=1e-5)


def test_the_nearest_within_reach() -> None:
    candidates = torch.tensor([[(0.0, 0.0, 0.0), (3.0, 4.0, 0.0), (0.0, 0.0, 10.0)]])
    positions = torch.tensor([[(0.0, 1.0, 0.0), (3.0, 4.0, 1.0), (0.0, 0.0, 6.0), (0.0, 0.0, 5.9)]])
    index, near = matches(positions, candidates, 4.0)
    assert index.tolist() == [[0, 1, 2, 2]] and near.tolist() == [[True, True, True, False]]


def test_matching_is_exact_far_from_the_origin() -> None:
    places = along(*np.arange(4000.0, 4100.0, 0.5))
    index, near = matches(places, places, 0.0)
    assert index.tolist() == [list(range(200))] and near.all()


def halves(left: int = 0, move: float = 0.0, depth: int | None = None) -> Placed:
    """4 x 4 pixels, 8 pixels of the frame apart and ``move`` to the right, whose halves are two unit vectors."""
    embedding = torch.zeros(1, 2, 4, 4)
    embedding[0, left, :, :2] = embedding[0, 1 - left, :, 2:] = 1
    rows, columns = torch.meshgrid(torch.arange(4.0) * 8, torch.arange(4.0) * 8 + move, indexing="ij")
    positions = torch.stack([rows, columns, torch.zeros(4, 4)])[None]
    if depth is None:
        return Placed(embedding, positions)
    return Placed(*(part[..., None].expand(*part.shape, depth) for part in (embedding, positions)))


LN2, STEP = math.log(2), 1 / OPTIONS.student_temperature


def loss_of(*students: Placed, teacher: Placed | None = None) -> float:
    found = assignment_loss(students, teacher or halves(), np.random.default_rng(0), FINE)
    return float(found)


@pytest.mark.parametrize("depth", [None, 2])
def test_loss_by_hand(depth: int | None) -> None:
    """Two of the four prototypes are one half, two the other: what is right is split in two, what is wrong costs
    1 / temperature more."""
    teacher = halves(depth=depth)
    assert loss_of(halves(depth=depth), teacher=teacher) == pytest.approx(LN2, abs=1e-3)
    assert loss_of(halves(left=1, depth=depth), teacher=teacher) == pytest.approx(LN2 + STEP, abs=1e-2)
    both = loss_of(halves(depth=depth), halves(left=1, depth=depth), teacher=teacher)
    assert both == pytest.approx(2 * LN2 + STEP, abs=1e-2), "students add up"


def test_only_matching_positions_count() -> None:
    """From half a pixel on, a column meets the other half; the last one then lies beyond the teacher's reach."""
    assert loss_of(halves(move=3)) == pytest.approx(LN2, abs=1e-3)
    assert loss_of(halves(move=5)) == pytest.approx(LN2 + STEP / 3, abs=1e-2)
    assert loss_of(halves(move=8)) == pytest.approx(LN2 + STEP / 3, abs=1e-2)
    embedding = halves().embedding.requires_grad_()
    nowhere = assignment_loss([Placed(embedding, halves(move=500).positions)], halves(), np.random.default_rng(0), FINE)
    nowhere.backward()
    assert nowhere.item() == 0 and embedding.grad is not None and not embedding.grad.any()


def test_images_without_a_match_are_left_out() -> None:
    seen, unseen = halves(left=1), halves(move=500)
    student = Placed(torch.cat([seen.embedding, unseen.embedding]), torch.cat([seen.positions, unseen.positions]))
    teacher = Placed(halves().embedding.repeat(2, 1, 1, 1), halves().positions.repeat(2, 1, 1, 1))
    assert loss_of(student, teacher=teacher) == pytest.approx(LN2 + STEP, abs=1e-2)


def test_the_student_learns_and_the_teacher_does_not() -> None:
    torch.manual_seed(0)
    teacher = halves()
    target = Placed(teacher.embedding.requires_grad_(), teacher.positions)
    embedding = torch.randn(1, 2, 4, 4, requires_grad=True)
    optimizer = torch.optim.SGD([embedding], lr=1.0)
    losses = []
    for _ in range(60):
        loss = assignment_loss([Placed(embedding, teacher.positions)], target, np.random.default_rng(0), FINE)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] == pytest.approx(LN2, abs=0.05) and losses[0] > 2
    assert target.embedding.grad is None


def test_a_coarser_grid_lies_between() -> None:
    fine = halves()
    coarse = fine.reduced(2)
    assert coarse.positions[0, 1].tolist() == [[4, 20], [4, 20]]
    assert coarse.embedding[0].tolist() == [[[1, 0], [1, 0]], [[0, 1], [0, 1]]]
    assert fine.reduced(8).positions[0, :, 0, 0].tolist() == [12, 12, 0], "at least one point is left"


def test_jitter_moves_the_grid() -> None:
    """Of 4 rows and columns, 2 to 4 are left, wherever they begin; values stay where they were."""
    seen = set()
    for seed in range(100):
        part = halves().jittered(2, np.random.default_rng(seed))
        rows, columns = part.positions.shape[2:]
        assert part.embedding.shape == (1, 2, rows, columns) and {rows, columns} <= {2, 3, 4}
        assert torch.equal(part.embedding[0, 0], (part.positions[0, 1] < 16).float())
        seen.add((rows, columns, float(part.positions[0, 0, 0, 0]), float(part.positions[0, 1, 0, 0])))
    assert len(seen) == 16
