"""UNETR and Swin UNETR: without prompts they are MONAI's, and prompts of one class are nothing to another."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
import torch
from monai.networks.nets.swin_unetr import compute_mask, window_partition
from torch import Tensor, nn

from PromptSegLib.errors import InputError
from PromptSegLib.learning.prototypes import deep_prompts
from PromptSegLib.networks.backbone import Backbone, Prompts, count_parameters, freeze
from PromptSegLib.networks.catalog import read_info
from PromptSegLib.networks.families import build_backbone
from PromptSegLib.networks.head import class_logits, head_shapes
from PromptSegLib.networks.presets import PRESETS, TransformerPreset
from PromptSegLib.networks.swin_unetr import PromptedSwinUNETR, prompted_block
from PromptSegLib.networks.transformer import PromptedTransformer
from PromptSegLib.networks.unetr import PromptedUNETR
from PromptSegLib.networks.weights import load_backbone, save_backbone
from PromptSegLib.tokens.token_file import MAX_BYTES
from Testing.support import TINY_SWIN, TINY_UNETR, random_token

FULL = [name for name, preset in PRESETS.items() if isinstance(preset, TransformerPreset)]
TINIES = [TINY_UNETR, TINY_SWIN]
VARIANTS = ["shallow", "deep"]


def make_network(preset: TransformerPreset) -> PromptedTransformer:
    """Frozen, with batch-norm statistics that fit its random weights."""
    torch.manual_seed(0)
    network = build_backbone(preset, "tiny-1")
    assert isinstance(network, PromptedTransformer)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        network.decode(network.encode(torch.rand(3, 1, 64, 64) * 2 - 1))
    freeze(network)
    return network


def make_prompts(network: Backbone, variant: str, classes: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = network.prompt_shapes(variant) | head_shapes(network.embedding_channels)
    return {name: torch.randn(classes, *shape, generator=generator) for name, shape in shapes.items()}


def embed(network: Backbone, image: Tensor, prompts: Prompts | None = None, paired: bool = False) -> Tensor:
    with torch.no_grad():
        return network.decode(network.encode(image, prompts, paired=paired), prompts)


def only(prompts: Prompts, number: int) -> Prompts:
    return {name: value[number : number + 1] for name, value in prompts.items()}


# Sizes


@pytest.mark.parametrize(("name", "weights"), [("unetr-2d", 6_503_424), ("swin-unetr-2d", 6_312_674)])
def test_a_class_trains_less_than_one_percent(name: str, weights: int, tmp_path: Path) -> None:
    network = build_backbone(PRESETS[name], name)
    assert count_parameters(network) == weights
    for variant in VARIANTS:
        shapes = network.prompt_shapes(variant) | head_shapes(network.embedding_channels)
        assert sum(prod(shape) for shape in shapes.values()) < 0.01 * weights
        assert len(random_token(network, "x" * 100, variant).to_bytes()) < MAX_BYTES
    file = tmp_path / f"{name}.safetensors"
    save_backbone(network, file, {})
    assert file.stat().st_size < 14e6


@pytest.mark.parametrize("preset", TINIES, ids=lambda preset: preset.name)
def test_variants(preset: TransformerPreset) -> None:
    network = make_network(preset)
    blocks = 12 if preset is TINY_UNETR else 8
    assert isinstance(network, Backbone)
    assert (network.prompting_variants, network.default_prompting) == (("shallow", "deep"), "deep")
    assert list(network.prompt_shapes("shallow")) == ["encoder.0.tokens"]
    assert list(network.prompt_shapes("deep")) == [f"encoder.{n}.tokens" for n in range(blocks)]
    with pytest.raises(InputError, match=f"a {preset.family} has no prompting 'decoder': choose one of shallow, deep"):
        network.prompt_shapes("decoder")


# Without prompts


@pytest.mark.parametrize("preset", TINIES, ids=lambda preset: preset.name)
@pytest.mark.parametrize("training", [False, True])
def test_is_monais_network(preset: TransformerPreset, training: bool) -> None:
    network = make_network(preset).train(training)
    assert isinstance(network, (PromptedUNETR, PromptedSwinUNETR))
    image = torch.rand(2, 1, *preset.patch) * 2 - 1
    with torch.no_grad():
        expected = network.net(image)
    assert expected.std() > 0
    torch.testing.assert_close(embed(network, image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", TINIES, ids=lambda preset: preset.name)
def test_a_head_alone_changes_nothing(preset: TransformerPreset) -> None:
    network = make_network(preset)
    image = torch.rand(2, 1, 64, 96) * 2 - 1
    head = {name: value for name, value in make_prompts(network, "deep", 3).items() if name.startswith("head")}
    embedding = embed(network, image)
    assert torch.equal(embed(network, image, head), embedding.repeat(3, 1, 1, 1))
    paired = embed(network, image.repeat(3, 1, 1, 1), head, paired=True)
    torch.testing.assert_close(paired, embedding.repeat(3, 1, 1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", TINIES, ids=lambda preset: preset.name)
def test_any_size(preset: TransformerPreset) -> None:
    """Sizes of no fitting multiple are those of an image with air beside it."""
    network = make_network(preset)
    image = torch.rand(1, 1, 96, 160) * 2 - 1
    assert embed(network, image).shape == (1, 12, 96, 160)
    image[..., 90:, :], image[..., 150:] = -1, -1
    whole = embed(network, image)
    for rows, columns in ((90, 160), (96, 150), (90, 150)):
        assert torch.equal(embed(network, image[..., :rows, :columns]), whole[..., :rows, :columns])


def test_positions_are_those_learned_stretched_to_the_image() -> None:
    network = make_network(TINY_UNETR)
    assert isinstance(network, PromptedUNETR)
    learned = network.net.vit.patch_embedding.position_embeddings
    with torch.no_grad():
        learned.copy_(torch.linspace(-1, 1, 4).repeat(4)[None, :, None].expand(1, 16, 24))  # by column
    assert torch.equal(network._positions((4, 4)).flatten(2).transpose(1, 2), learned)
    wide = network._positions((3, 8))[0, 0]
    assert (wide.diff(dim=1) > 0).all() and wide.diff(dim=0).abs().max() < 1e-6


# With prompts


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", TINIES, ids=lambda preset: preset.name)
def test_classes_know_nothing_of_each_other(preset: TransformerPreset, variant: str) -> None:
    network = make_network(preset)
    image = torch.rand(2, 1, 64, 96) * 2 - 1
    prompts = make_prompts(network, variant, 3)
    together = embed(network, image, prompts)
    paired = embed(network, image.repeat(3, 1, 1, 1), prompts, paired=True)
    plain = embed(network, image)
    for number in range(3):
        alone = embed(network, image, only(prompts, number))
        rows = slice(2 * number, 2 * number + 2)
        torch.testing.assert_close(together[rows], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(paired[rows], alone, rtol=1e-4, atol=1e-5)
        assert (alone - plain).abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", TINIES, ids=lambda preset: preset.name)
def test_every_prompt_learns_and_no_weight_changes(preset: TransformerPreset, variant: str) -> None:
    network = make_network(preset)
    before = network.fingerprint()
    prompts = {name: value.requires_grad_() for name, value in make_prompts(network, variant, 1).items()}
    image = torch.rand(2, 1, 64, 64) * 2 - 1
    optimizer = torch.optim.Adam(prompts.values(), lr=1e-2)
    losses = []
    for _ in range(4):
        features = network.encode(image, prompts)
        logits = class_logits(network.decode_levels(features, prompts), prompts, features.size)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, (image[:, 0] > 0.3).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    for name, value in prompts.items():
        assert value.grad is not None and (value.grad != 0).any(), name
    assert losses[-1] < losses[0]
    assert network.fingerprint() == before


def test_unetr_with_deep_prompts_is_its_blocks_in_turn() -> None:
    """Before each block, what the one before made of its prompts makes room for the block's own."""
    network = make_network(TINY_UNETR)
    assert isinstance(network, PromptedUNETR)
    image, prompts = torch.rand(2, 1, 64, 64) * 2 - 1, make_prompts(network, "deep", 1)
    vit = network.net.vit
    with torch.no_grad():
        x = vit.patch_embedding(image)
        for number, block in enumerate(vit.blocks):
            own = prompts[f"encoder.{number}.tokens"][0].expand(2, -1, -1)
            x = block(torch.cat([own, x], 1))[:, own.shape[1] :]
        deepest = network.encode(image, prompts).maps[-1]
        expected = vit.norm(x).transpose(1, 2).reshape(deepest.shape)
    torch.testing.assert_close(deepest, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 12), (6, 10), (3, 4)])
@pytest.mark.parametrize("number", [0, 1])
def test_swin_block_with_no_prompt_is_monais(size: tuple[int, int], number: int) -> None:
    network = make_network(TINY_SWIN)
    assert isinstance(network, PromptedSwinUNETR)
    block = network.stages()[0].blocks[number]
    assert any(block.shift_size) == bool(number)
    x = torch.randn(2, *size, 12)
    window = [min(4, n) for n in size]
    shift = [0 if n <= 4 else 2 for n in size]
    mask = compute_mask([n + -n % w for n, w in zip(size, window, strict=True)], window, shift, x.device)
    with torch.no_grad():
        found, prompts = prompted_block(block, x, mask, torch.zeros(2, 0, 12))
        expected = block(x, mask)
    assert prompts.shape == (2, 0, 12)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_swin_prompts_are_in_every_window() -> None:
    """A window by hand: its pixels and the prompts attend to each other, with a position bias among pixels alone."""
    network = make_network(TINY_SWIN)
    assert isinstance(network, PromptedSwinUNETR)
    block = network.stages()[0].blocks[0]
    attention, heads = block.attn, 2
    with torch.no_grad():
        attention.relative_position_bias_table.normal_()
        x, prompts = torch.randn(1, 8, 8, 12), torch.randn(1, 3, 12)
        found, carried = prompted_block(block, x, torch.zeros(4, 16, 16), prompts)
        windows, results = window_partition(block.norm1(x), (4, 4)), []
        bias = torch.zeros(heads, 19, 19)
        index = attention.relative_position_index.flatten()
        bias[:, :16, :16] = attention.relative_position_bias_table[index].reshape(16, 16, heads).movedim(-1, 0)
        for window in windows:
            tokens = torch.cat([window, block.norm1(prompts[0])])
            query, key, value = attention.qkv(tokens).reshape(19, 3, heads, 6).permute(1, 2, 0, 3)
            weights = (query @ key.mT / 6**0.5 + bias).softmax(-1)
            results.append(attention.proj((weights @ value).transpose(0, 1).reshape(19, 12)))
        first = x[0, :4, :4].reshape(16, 12) + results[0][:16]
        expected = first + block.mlp(block.norm2(first))
        kept = prompts[0] + torch.stack([r[16:] for r in results]).mean(0)
    torch.testing.assert_close(found[0, :4, :4].reshape(16, 12), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(carried[0], kept + block.mlp(block.norm2(kept)), rtol=1e-4, atol=1e-5)


# First prompts


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("preset", TINIES, ids=lambda preset: preset.name)
def test_first_prompts_are_what_blocks_see_of_the_structure(preset: TransformerPreset, variant: str) -> None:
    network = make_network(preset)
    image, target = -torch.ones(1, 64, 64), torch.zeros(1, 64, 64)
    image[:, 16:48, 16:48] = 1
    target[:, 16:48, 16:48] = 1
    inputs = network.prompt_inputs(image[None])
    assert [f"{block}.tokens" for block in inputs] == list(network.prompt_shapes("deep"))
    known = torch.ones(1, 64, 64, dtype=torch.bool)
    prompts = deep_prompts(network, [image], [target], [known], variant, torch.Generator().manual_seed(0))
    assert {name: tuple(value.shape) for name, value in prompts.items()} == network.prompt_shapes(variant)
    (seen,) = inputs["encoder.0"]
    side = seen.shape[1]
    inside = seen[0, side // 4 : side * 3 // 4, side // 4 : side * 3 // 4].flatten(0, 1)
    (tokens,) = prompts["encoder.0.tokens"]
    half = preset.prompt_tokens // 2
    distance = torch.cdist(tokens, inside).amin(1)
    assert distance[:half].max() < distance[half:].min()


# Files


@pytest.mark.parametrize("preset", TINIES, ids=lambda preset: preset.name)
def test_file_round_trip(preset: TransformerPreset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, preset.name, preset)
    network, path = make_network(preset), tmp_path / "tiny-1.safetensors"
    save_backbone(network, path, {})
    assert read_info(path).family == preset.family
    loaded = load_backbone(path)
    assert type(loaded) is type(network) and loaded.preset == preset and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    image = torch.rand(1, 1, 64, 64) * 2 - 1
    assert (embed(loaded, image) - embed(network, image)).abs().max() < 0.02 * embed(network, image).abs().max()
