"""The similarity head: what a class's tokens make of an embedding."""

from __future__ import annotations

from math import exp, sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.networks.head import HEAD_TOKENS, class_logits, head_shapes, similarity, similarity_logits
from Testing.networks.plain_punet import plain_logits


def make_head(classes: int, channels: int = 8) -> dict[str, Tensor]:
    return {name: torch.randn(classes, *shape).requires_grad_() for name, shape in head_shapes(channels).items()}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_similarity_lies_between_zero_and_one() -> None:
    embedding = 50 * torch.randn(3, 8, 500)
    result = similarity(embedding, 100 * torch.randn(3, 2, 16, 8))
    assert result.shape == (3, 2, 500)
    assert result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize(("sign", "expected"), [(1, 1.0), (-1, 0.0)])
def test_similarity_reaches_both_ends(sign: int, expected: float) -> None:
    embedding = F.normalize(torch.randn(1, 8, 1), dim=1)
    result = similarity(embedding, sign * 3 * embedding.transpose(1, 2).expand(-1, 4, -1)[:, None])
    assert result.item() == pytest.approx(expected, abs=1e-6)


def test_similarity_by_hand() -> None:
    # Along x; tokens along x, y and at 45 degrees: cosines 1, 0, 0.7071, similarities 1, 0.5, 0.8536.
    embedding = torch.tensor([[[1.0], [0.0]]])
    tokens = torch.tensor([[[2.0, 0.0], [0.0, 5.0], [1.0, 1.0]]])
    similarities = [1.0, 0.5, (1 + sqrt(0.5)) / 2]
    weights = [exp(s / 0.1) for s in similarities]
    expected = sum(w * s for w, s in zip(weights, similarities, strict=True)) / sum(weights)
    assert expected == pytest.approx(0.969, abs=1e-3)
    assert similarity(embedding, tokens[:, None]).item() == pytest.approx(expected, abs=1e-6)


def test_logits_by_hand() -> None:
    """Foreground along the embedding, background against it: difference 1, scale 20, offset -3."""
    channels = 4
    embedding = torch.zeros(1, channels, 2, 2)
    embedding[:, 0] = 7
    direction = torch.tensor([1.0, 0, 0, 0]).expand(1, HEAD_TOKENS, channels)
    prompts = {
        "head.foreground": direction,
        "head.background": -direction,
        "head.log_scale": torch.tensor([[20.0]]).log(),
        "head.offset": torch.tensor([[-3.0]]),
    }
    assert torch.allclose(similarity_logits(embedding, prompts, (4, 4)), torch.full((1, 4, 4), 17.0), atol=1e-5)


@pytest.mark.parametrize("size", [(13, 9), (13, 9, 3)])
@pytest.mark.parametrize(("classes", "repeats"), [(1, 1), (1, 3), (3, 1), (3, 2)])
def test_logits_of_classes_and_images(classes: int, repeats: int, size: tuple[int, ...]) -> None:
    prompts = make_head(classes)
    half = (7, 5, *size[2:])
    embedding = torch.randn(classes * repeats, 8, *half)
    logits = similarity_logits(embedding, prompts, size)
    assert logits.shape == (classes * repeats, *size)
    expected = plain_logits(embedding if len(size) == 3 else embedding.unsqueeze(-1), prompts, size)
    assert torch.allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("trained", ["both", "embedding", "tokens"])
def test_gradients_of_logits(trained: str) -> None:
    """Against those of the plain formulation, also where only one side is trained."""
    prompts, embedding = make_head(2), torch.randn(4, 8, 7, 5)
    embedding.requires_grad_(trained != "tokens")
    if trained == "embedding":
        prompts = {name: tensor.detach() for name, tensor in prompts.items()}
    weight = torch.randn(4, 13, 9)
    inputs = [tensor for tensor in (embedding, *prompts.values()) if tensor.requires_grad]
    found = torch.autograd.grad((similarity_logits(embedding, prompts, (13, 9)) * weight).sum(), inputs)
    plain = plain_logits(embedding[..., None], prompts, (13, 9))
    for mine, theirs in zip(found, torch.autograd.grad((plain * weight).sum(), inputs), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_an_embedding_without_a_direction_does_no_harm() -> None:
    prompts, embedding = make_head(1), torch.zeros(1, 8, 6, 6, requires_grad=True)
    logits = similarity_logits(embedding, prompts, (6, 6))
    assert torch.allclose(logits, prompts["head.offset"].reshape(1, 1, 1).expand_as(logits))
    logits.sum().backward()
    for tensor in (embedding, *prompts.values()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


def test_half_precision_around_it_changes_no_digit() -> None:
    prompts, embedding = make_head(2), torch.randn(4, 8, 7, 5, requires_grad=True)

    def found() -> tuple[Tensor, ...]:
        logits = similarity_logits(embedding, prompts, (13, 9))
        return logits, *torch.autograd.grad(logits.square().sum(), [embedding, *prompts.values()])

    expected = found()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found(), expected, strict=True))


def test_logits_of_half_precision_features() -> None:
    logits = similarity_logits(torch.randn(1, 8, 4, 4).half(), make_head(1), (8, 8))
    assert logits.dtype == torch.float32


def test_directions_by_hand() -> None:
    """Two maps, of which the second is half as large: what lies along their directions is added up."""
    fine, coarse = torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 2, 2)
    fine[0, :, 0, 0] = torch.tensor([1.0, 2.0])
    coarse[0, 1] = torch.tensor([[4.0, 8.0], [12.0, 16.0]])
    prompts = make_head(1, 2) | {
        "head.direction.0": torch.tensor([[10.0, 100.0]]),
        "head.direction.1": torch.tensor([[0.0, 0.25, 0.0]]),
    }
    along = class_logits([fine, coarse], prompts, (4, 4)) - similarity_logits(fine, prompts, (4, 4))
    # Half way from the middle of one coarse pixel to the next: a quarter and three quarters.
    expected = torch.tensor([1.0, 1.25, 1.75, 2.0]) + torch.tensor([0.0, 0.5, 1.5, 2.0])[:, None]
    expected[0, 0] += 210
    assert torch.allclose(along[0], expected, atol=1e-4)


@pytest.mark.parametrize(("classes", "repeats"), [(3, 1), (2, 3)])
def test_directions_of_classes_and_images(classes: int, repeats: int) -> None:
    maps = [torch.randn(classes * repeats, channels, 8 // stride, 6 // stride) for channels, stride in ((8, 1), (5, 2))]
    shapes = head_shapes(8, (8, 5))
    prompts = {name: torch.randn(classes, *shape) for name, shape in shapes.items()}
    found = class_logits(maps, prompts, (16, 12))
    for number in range(classes * repeats):
        own = {name: value[number // repeats][None] for name, value in prompts.items()}
        alone = class_logits([x[number : number + 1] for x in maps], own, (16, 12))[0]
        assert torch.allclose(found[number], alone, atol=1e-4)


def test_every_token_gets_a_gradient() -> None:
    prompts = make_head(2)
    similarity_logits(torch.randn(2, 8, 6, 6), prompts, (12, 12)).square().sum().backward()
    for name, tensor in prompts.items():
        assert tensor.grad is not None
        assert (tensor.grad.flatten(2).abs().sum(-1) > 0).all() if tensor.dim() == 3 else tensor.grad.all(), name
