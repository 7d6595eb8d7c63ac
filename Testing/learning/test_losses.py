"""The loss on what is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from PromptSegLib.learning.losses import known_dice_focal


def random_batch(known_share: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 6, 7, generator=generator).requires_grad_()
    target = torch.rand(3, 6, 7, generator=generator)
    return logits, target, (torch.rand(3, 6, 7, generator=generator) < known_share).float()


def test_unknown_pixels_change_nothing() -> None:
    logits, target, known = random_batch()
    loss = known_dice_focal(logits, target, known)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[known == 0] == 0).all() and (logits.grad[known == 1] != 0).all()
    other = torch.where(known > 0, logits.detach(), 50 * torch.randn_like(target))
    assert torch.equal(known_dice_focal(other, torch.where(known > 0, target, 1 - target), known), loss.detach())


def test_by_hand() -> None:
    """Two known pixels, p = 1/2 and t = 1, p = 3/4 and t = 0, and a third that nobody knows."""
    logits = torch.tensor([[0.0, math.log(3), 9.0]])
    target, known = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    dice = 1 - (2 * 0.5 + 1) / (1.25 + 1 + 1)
    focal = (0.5**2 * math.log(2) + 0.75**2 * math.log(4)) / 2
    assert float(known_dice_focal(logits, target, known)) == pytest.approx(dice + 10 * focal, rel=1e-5)


def test_an_image_that_knows_nothing_does_not_count() -> None:
    logits, target, known = random_batch()
    known[1] = 0
    expected = known_dice_focal(logits[[0, 2]], target[[0, 2]], known[[0, 2]])
    assert torch.allclose(known_dice_focal(logits, target, known), expected)
    nothing = known_dice_focal(logits, target, torch.zeros_like(known))
    nothing.backward()
    assert float(nothing.detach()) == 0 and logits.grad is not None and (logits.grad == 0).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_very_sure_logits_stay_finite(sign: int) -> None:
    logits = torch.full((1, 4, 4), 200.0 * sign, requires_grad=True)
    target = torch.zeros(1, 4, 4)
    target[0, :2] = 1
    loss = known_dice_focal(logits, target, torch.ones_like(target))
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_better_is_less() -> None:
    target = torch.zeros(1, 8, 8)
    target[0, 2:5, 2:5] = 1
    known = torch.ones_like(target)
    losses = [float(known_dice_focal(sure * (2 * target - 1), target, known)) for sure in (-3.0, 0.0, 1.0, 3.0, 9.0)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.01
