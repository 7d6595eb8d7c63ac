"""Prototypes: cluster centers, and the prompts that start from them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from PromptSegLib.learning import prototypes
from PromptSegLib.learning import tuner as module
from PromptSegLib.learning.drawing import prepare_drawing
from PromptSegLib.learning.prototypes import INITIAL_PROMPT_SCORE, deep_prompts, kmeans
from Testing.support import FAST, drawn_scan, tiny_backbone


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(count: int, points: int = 50, channels: int = 5) -> tuple[Tensor, Tensor]:
    """Centers (count, C) that lie far apart, and points around them in random order."""
    centers = 10 * torch.eye(count, channels) - 5
    offsets = 0.05 * torch.randn(points, count, channels, generator=seeded(7))
    around = (centers + offsets).reshape(-1, channels)
    return centers, around[torch.randperm(len(around), generator=seeded(8))]


@pytest.mark.parametrize("seed", range(5))
def test_finds_known_clusters(seed: int) -> None:
    centers, points = clusters(4)
    found = kmeans(points, 4, seeded(seed))
    distances = torch.cdist(centers, found)
    assert sorted(distances.argmin(1).tolist()) == [0, 1, 2, 3]
    # The noise that is added is a hundredth of the points' spread, which is about 4.
    assert distances.amin(1).max() < 0.3


def test_more_points_than_are_used() -> None:
    centers, points = clusters(3, points=3000)
    assert torch.cdist(centers, kmeans(points, 3, seeded())).amin(1).max() < 0.3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_points_than_clusters(count: int) -> None:
    points = 3 * torch.eye(count, 6) + 1
    found = kmeans(points, 8, seeded())
    assert found.shape == (8, 6) and found.isfinite().all()
    assert torch.cdist(found, points).amin(1).max() < 0.5
    assert (torch.cdist(found, found) + 9 * torch.eye(8)).min() > 0, "two centers are equal"


def test_equal_points() -> None:
    found = kmeans(torch.ones(20, 4), 3, seeded())
    assert torch.allclose(found, torch.ones(3, 4), atol=1e-3)


def test_the_seed_decides() -> None:
    _, points = clusters(4)
    assert torch.equal(kmeans(points, 6, seeded(3)), kmeans(points, 6, seeded(3)))
    assert not torch.equal(kmeans(points, 6, seeded(3)), kmeans(points, 6, seeded(4)))


@pytest.mark.parametrize("variant", ["start", "end", "encoder", "decoder", "full"])
def test_deep_prompts_have_the_backbones_shapes(variant: str) -> None:
    network, parts = tiny_backbone(), prepare_drawing([drawn_scan([6])]).slices
    arguments = ([p.image for p in parts], [p.target for p in parts], [p.known for p in parts], variant)
    prompts = deep_prompts(network, *arguments, seeded())
    assert {name: tuple(value.shape) for name, value in prompts.items()} == network.prompt_shapes(variant)
    assert all(value.isfinite().all() for value in prompts.values())
    assert all((value == INITIAL_PROMPT_SCORE).all() for name, value in prompts.items() if name.endswith("scores"))
    again = deep_prompts(network, *arguments, seeded())
    assert all(torch.equal(prompts[name], again[name]) for name in prompts)


def test_deep_prompts_without_known_background() -> None:
    """A slice that is nothing but structure still gives prompts."""
    network, (part, *_) = tiny_backbone(), prepare_drawing([drawn_scan([6])]).slices
    everything = torch.ones_like(part.target)
    prompts = deep_prompts(network, [part.image], [everything], [everything > 0], "start", seeded())
    assert all(value.isfinite().all() for value in prompts.values())


class OnCard(Tensor):
    """Stands for a tensor on a graphics card, as does whatever is made of it."""

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)


@pytest.mark.parametrize("has_background", [True, False])
def test_what_a_graphics_card_sees_is_clustered_where_the_generator_is(
    has_background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, (part, *_) = tiny_backbone(), prepare_drawing([drawn_scan([6])]).slices
    seen = {
        name: [m.as_subclass(OnCard) for m in maps] for name, maps in network.prompt_inputs(part.image[None]).items()
    }
    monkeypatch.setattr(network, "prompt_inputs", lambda image: seen)
    clustered: list[Tensor] = []
    monkeypatch.setattr(
        prototypes, "kmeans", lambda points, *rest: (clustered.append(points), kmeans(points, *rest))[1]
    )
    target = part.target if has_background else torch.ones_like(part.target)
    prompts = deep_prompts(network, [part.image], [target], [part.known], "start", seeded())
    assert clustered and not any(isinstance(x, OnCard) for x in (*clustered, *prompts.values()))


def test_prompts_are_tuned_where_the_network_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network, drawing = tiny_backbone(), prepare_drawing([drawn_scan([6])])
    tuner = module.Tuner(drawing, network, network.encode, FAST, "decoder", 0.0, lambda: False)
    monkeypatch.setattr(module, "deep_prompts", lambda *_: {"tokens": torch.zeros(1)})
    tuner.device = torch.device("meta")
    assert tuner._deep_prompts()["tokens"].device == tuner.device
