"""PUNet against its plain formulation, what classes share and what they do not, and that frozen means frozen."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product
from math import prod

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from PromptSegLib.errors import InputError
from PromptSegLib.networks.backbone import Backbone, Features, Prompts, count_parameters, freeze
from PromptSegLib.networks.head import class_logits, head_shapes
from PromptSegLib.networks.presets import PRESETS, PUNetPreset, find_preset
from PromptSegLib.networks.punet import PUNet
from PromptSegLib.networks.window_attention import Groups, PromptKeys, _fused_attention, window_attention
from PromptSegLib.networks.windows import Rearrange, window_plan
from Testing.networks.plain_punet import PlainPUNet, deepen, plain_logits

# Odd sizes: maps of 27x23, 14x12, 7x6, 4x3 and 2x2 pad, shift, shift along one axis only, and shrink the window.
SMALL_2D = PUNetPreset("small-2d", (54, 46), (4, 4), (8, 16, 24, 32, 40), heads=4, prompt_tokens=3)
SMALL_3D = PUNetPreset("small-3d", (38, 30, 5), (4, 4, 2), (8, 16, 24, 32, 40), heads=4, prompt_tokens=3)
SMALL = [pytest.param(preset, id=preset.name) for preset in (SMALL_2D, SMALL_3D)]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are fastest on one thread, and a test must not take the machine's other cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def make_network(preset: PUNetPreset) -> PUNet:
    """In eval mode, with running statistics as after training."""
    network = PUNet(preset).eval()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network


def make_prompts(network: PUNet, variant: str, classes: int) -> dict[str, Tensor]:
    shapes = network.prompt_shapes(variant) | head_shapes(network.embedding_channels)
    return {name: torch.randn(classes, *shape).requires_grad_() for name, shape in shapes.items()}


def pick(prompts: Prompts, classes: list[int]) -> dict[str, Tensor]:
    return {name: tensor[classes] for name, tensor in prompts.items()}


def logits_of(network: PUNet, image: Tensor, prompts: Prompts) -> Tensor:
    features = network.encode(image, prompts)
    return class_logits(network.decode_levels(features, prompts), prompts, features.size)


def plain_logits_of(plain: PlainPUNet, image: Tensor, prompts: Prompts, paired: bool = False) -> Tensor:
    features = plain.encode(image, prompts, paired=paired)
    return plain_logits(plain.decode(features, prompts), prompts, features.size)


def assert_near(actual: Tensor | None, expected: Tensor | None, name: str = "", tolerance: float = 1e-4) -> None:
    """Equal up to ``tolerance`` of the largest magnitude; nothing may be all zero."""
    assert actual is not None and expected is not None, name
    magnitude = expected.detach().abs().max().item()
    assert magnitude > 0, f"{name} is zero"
    assert (actual - expected).detach().abs().max().item() <= tolerance * magnitude, name


# Sizes


def test_backbone_has_the_papers_size() -> None:
    assert count_parameters(PUNet(PRESETS["paper-2d"])) == 6_758_304


def test_a_class_trains_less_than_the_paper_allows() -> None:
    network = PUNet(PRESETS["paper-2d"])
    deep, head = network.prompt_shapes("full"), head_shapes(network.embedding_channels)
    tokens = sum(prod(shape) for name, shape in deep.items() if name.endswith(".tokens"))
    scores = sum(prod(shape) for name, shape in deep.items() if name.endswith(".scores"))
    assert tokens == 43_008  # 2 layers of 16 tokens in each of nine blocks
    assert scores == 2_304  # one number per token and attention head
    trained = tokens + scores + sum(prod(shape) for shape in head.values())
    assert trained == 46_338 <= 57_344
    assert trained / count_parameters(network) < 0.0086


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if isinstance(preset, PUNetPreset)])
def test_presets_run_at_their_patch_size(name: str) -> None:
    network = freeze(PUNet(PRESETS[name]))
    assert isinstance(network, PUNet) and isinstance(network, Backbone)
    with torch.no_grad():
        prompts = make_prompts(network, "full", 1)
        logits = logits_of(network, torch.rand(1, 1, *PRESETS[name].patch) * 2 - 1, prompts)
    assert logits.shape == (1, *PRESETS[name].patch)
    assert logits.isfinite().all()


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="no preset 'huge': choose one of paper-2d, paper-3d-flat"):
        find_preset("huge")


def test_prompting_variants_steer_their_blocks() -> None:
    network = PUNet(SMALL_2D)
    encoder, decoder = [f"encoder.{i}" for i in range(5)], [f"decoder.{i}" for i in range(4)]
    expected = {"start": encoder[:1], "end": [], "encoder": encoder, "decoder": decoder, "full": encoder + decoder}
    assert set(expected) == set(PUNetPreset.prompting_variants)
    for variant, blocks in expected.items():
        shapes = network.prompt_shapes(variant)
        assert list(shapes) == [f"{block}.{kind}" for block in blocks for kind in ("tokens", "scores")]
    with pytest.raises(InputError, match="no prompting 'middle': choose one of start, end"):
        network.prompt_shapes("middle")
    full = network.prompt_shapes("full")
    assert full["encoder.4.tokens"] == (2, 3, 40) and full["decoder.0.tokens"] == (2, 3, 32)
    assert full["encoder.4.scores"] == full["decoder.0.scores"] == (2, 3, 4)


# Fast against plain


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("preset", SMALL)
def test_agrees_with_the_plain_formulation(preset: PUNetPreset, classes: int) -> None:
    network = make_network(preset)
    plain = PlainPUNet.of(network)
    image = torch.randn(2, 1, *preset.patch)
    prompts = make_prompts(network, "full", classes)
    copies = {name: tensor.detach().clone().requires_grad_() for name, tensor in prompts.items()}

    logits, expected = logits_of(network, image, prompts), plain_logits_of(plain, image, copies)
    assert_near(logits, expected)

    weights = torch.randn_like(logits)
    logits.backward(weights)
    expected.backward(weights)
    for name, tensor in prompts.items():
        assert_near(tensor.grad, copies[name].grad, name)
    for name, parameter in network.named_parameters():
        gradient = plain.get_parameter(name).grad
        assert parameter.grad is not None and gradient is not None
        assert_near(parameter.grad.reshape(gradient.shape), gradient, name)


@pytest.mark.parametrize("variant", PUNetPreset.prompting_variants)
@pytest.mark.parametrize("preset", SMALL)
def test_every_prompt_of_a_frozen_network_gets_its_gradient(preset: PUNetPreset, variant: str) -> None:
    """With frozen weights, the queries of the first steered layer need no gradient; its prompts still do."""
    network = make_network(preset)
    freeze(network)
    plain = PlainPUNet.of(network)
    image = torch.randn(2, 1, *preset.patch)
    prompts = make_prompts(network, variant, 2)
    copies = {name: tensor.detach().clone().requires_grad_() for name, tensor in prompts.items()}
    logits, expected = logits_of(network, image, prompts), plain_logits_of(plain, image, copies)
    weights = torch.randn_like(logits)
    logits.backward(weights)
    expected.backward(weights)
    for name, tensor in prompts.items():
        assert tensor.grad is not None
        assert_near(tensor.grad, copies[name].grad, name)
        if name.endswith((".tokens", ".scores")):
            assert (tensor.grad.abs().sum((2, 3)) > 0).all(), name


@pytest.mark.parametrize("preset", SMALL)
def test_agrees_in_training_mode(preset: PUNetPreset) -> None:
    """Pre-training: batch statistics, each image with the prompts of its own class."""
    network = make_network(preset).train()
    plain = PlainPUNet.of(network)
    image = torch.randn(2 * 3, 1, *preset.patch)
    prompts = make_prompts(network, "full", 2)
    features = network.encode(image, prompts, paired=True)
    logits = class_logits(network.decode_levels(features, prompts), prompts, features.size)
    assert_near(logits, plain_logits_of(plain, image, prompts, paired=True))
    expected = plain.state_dict()
    for name, buffer in network.named_buffers():
        assert_near(buffer.float(), expected[name].float(), name)


@pytest.mark.parametrize("preset", SMALL)
def test_runs_without_prompts(preset: PUNetPreset) -> None:
    network = make_network(preset)
    plain = PlainPUNet.of(network)
    image = torch.randn(1, 1, *preset.patch)
    with torch.no_grad():
        embedding, expected = network.decode(network.encode(image)), plain.decode(plain.encode(image))
    assert_near(deepen(embedding), expected)


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.parametrize("variant", ["none", "decoder", "full"])
def test_levels_of_the_decoder_and_the_features_below_it(preset: PUNetPreset, variant: str) -> None:
    network = make_network(preset)
    image = torch.randn(3, 1, *preset.patch)
    prompts = None if variant == "none" else make_prompts(network, variant, 2)
    classes = 1 if prompts is None else 2
    with torch.no_grad():
        features = network.encode(image, prompts)
        levels = network.decode_levels(features, prompts)
        assert torch.equal(levels[0], network.decode(features, prompts))
    assert tuple(x.shape[1] for x in levels) == network.level_channels
    assert all(len(x) == 3 * classes for x in levels)
    count = len(levels) // 2
    for decoded, encoded, before in zip(
        levels[:count], levels[count:], features.for_classes(classes).maps, strict=True
    ):
        assert decoded.shape == encoded.shape
        assert torch.equal(encoded, before), "what was encoded is not written over"
    assert all(a.shape[-1] >= b.shape[-1] for a, b in pairwise(levels[:count]))


def test_paired_images_see_their_own_class() -> None:
    network = make_network(SMALL_2D)
    image = torch.randn(4, 1, *SMALL_2D.patch)
    with torch.no_grad():
        prompts = make_prompts(network, "full", 2)
        paired = network.decode(network.encode(image, prompts, paired=True), prompts)
        for number in range(2):
            own, rows = pick(prompts, [number]), slice(2 * number, 2 * number + 2)
            assert_near(paired[rows], network.decode(network.encode(image[rows], own), own), tolerance=1e-5)


# What classes share


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.parametrize("variant", ["decoder", "end"])
def test_decoder_prompts_leave_the_encoder_alone(
    preset: PUNetPreset, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_network(preset)
    image = torch.randn(2, 1, *preset.patch)
    with torch.no_grad():
        prompts = make_prompts(network, variant, 3)
        kept, prompted = network.encode(image), network.encode(image, prompts)
        assert kept.classes == prompted.classes == 1 and len(prompted) == 2
        for one, other in zip(kept.maps, prompted.maps, strict=True):
            assert torch.equal(one, other)

        def refuse(*_: object) -> Tensor:
            raise AssertionError("decode ran the encoder")

        for level in (network.stem, *network.encoder):
            monkeypatch.setattr(level, "forward", refuse)
        assert len(network.decode(kept, prompts)) == 3 * 2


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.parametrize("variant", PUNetPreset.prompting_variants)
def test_many_classes_at_once_equal_each_alone(preset: PUNetPreset, variant: str) -> None:
    network = make_network(preset)
    image = torch.randn(2, 1, *preset.patch)
    with torch.no_grad():
        prompts = make_prompts(network, variant, 3)
        together = logits_of(network, image, prompts).reshape(3, 2, *preset.patch)
        for number, logits in enumerate(together):
            assert_near(logits, logits_of(network, image, pick(prompts, [number])), tolerance=1e-5)


@pytest.mark.parametrize("preset", SMALL)
@pytest.mark.parametrize("variant", ["decoder", "full"])
def test_a_class_is_bit_identical_whatever_is_beside_it(preset: PUNetPreset, variant: str) -> None:
    """Exact for a fixed number of classes in one call: the sizes of matrix products, and with them the order in which a
    library adds up, depend on that number only. So segmentation decodes the same number of classes in each call."""
    network = make_network(preset)
    image = torch.randn(2, 1, *preset.patch)
    with torch.no_grad():
        prompts = make_prompts(network, variant, 3)
        for name in (name for name in prompts if name.endswith("scores")):
            prompts[name][2] += 100
        alone = logits_of(network, image, pick(prompts, [0]))
        beside_one = logits_of(network, image, pick(prompts, [0, 1]))[:2]
        beside_other = logits_of(network, image, pick(prompts, [0, 2]))[:2]
        behind_one = logits_of(network, image, pick(prompts, [1, 0]))[2:]
        logits_of(network, image, prompts)
        again = logits_of(network, image, pick(prompts, [0]))
    assert torch.equal(alone, again)
    assert torch.equal(beside_one, beside_other)
    assert torch.equal(beside_one, behind_one)


def test_classes_get_no_gradient_from_each_other() -> None:
    network = make_network(SMALL_2D)
    prompts = make_prompts(network, "full", 2)
    logits = logits_of(network, torch.randn(1, 1, *SMALL_2D.patch), prompts)
    logits[0].sum().backward()
    for name, tensor in prompts.items():
        assert tensor.grad is not None
        assert not tensor.grad[1].any(), name


def test_features_of_some_images() -> None:
    network = make_network(SMALL_2D)
    image = torch.randn(3, 1, *SMALL_2D.patch)
    with torch.no_grad():
        prompts = make_prompts(network, "decoder", 2)
        features = network.encode(image)
        some = network.decode(features[torch.tensor([2, 0])], prompts)
        every = network.decode(features, prompts)
    assert_near(some, every[[2, 0, 5, 3]], tolerance=1e-5)


def test_features_in_half_precision_keep_their_size() -> None:
    features = Features((torch.ones(2, 3, 4, 4),), (8, 8)).to(torch.float16)
    assert features.maps[0].dtype == torch.float16
    assert features.size == (8, 8) and len(features) == 2


def test_can_be_tuned_after_inference_mode() -> None:
    """What is kept between calls, plans and biases, must not carry inference mode into tuning."""
    preset = PUNetPreset("other", (50, 42), (4, 4), (8, 16, 24, 32, 40), heads=4, prompt_tokens=3)
    network = make_network(preset)
    freeze(network)
    window_plan.cache_clear()
    image = torch.randn(1, 1, *preset.patch)
    for variant in ("start", "full"):
        prompts = make_prompts(network, variant, 1)
        with torch.inference_mode():
            logits_of(network, image, prompts)
        logits_of(network, image, prompts).sum().backward()
        assert prompts["encoder.0.tokens"].grad is not None


# Parts


@pytest.mark.parametrize("size", [(8, 12), (7, 10)])
def test_rearrange_gradient(size: tuple[int, ...]) -> None:
    plan = window_plan(size, (4, 4), True, 2, 2, CPU)
    rows = torch.randn(2 * 2 * prod(size), 3, dtype=torch.float64, requires_grad=True)
    scale = torch.randn(len(plan.index), 1, dtype=torch.float64)

    def there_and_back(x: Tensor) -> Tensor:
        windows: Tensor = Rearrange.apply(x, plan.index, plan.inverse, None)
        result: Tensor = Rearrange.apply((windows * scale).tanh(), plan.inverse, plan.index, plan.padding)
        return result

    assert (plan.padding is not None) == (size == (7, 10))
    assert torch.autograd.gradcheck(there_and_back, (rows,))


# Windows of two classes; of each, one that sees everything and two whose halves do not see each other.
HALVES = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)
GROUPS: Groups = ((1, None), (2, HALVES))


def attention_inputs(dtype: torch.dtype, frozen: str = "") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """qkv of 6 windows of 4 voxels, 2 heads of 5 channels, bias, and keys, values and scores of 2 tokens per class."""
    shapes = {"qkv": (6, 4, 3, 2, 5), "bias": (2, 4, 4), "prompts": (2, 2, 2, 2, 5), "scores": (2, 2, 2)}
    made = {name: torch.randn(shape, dtype=dtype, requires_grad=name not in frozen) for name, shape in shapes.items()}
    return made["qkv"], made["bias"], made["prompts"], made["scores"]


def plain_attention(qkv: Tensor, bias: Tensor, prompts: Tensor | None, scores: Tensor | None) -> Tensor:
    """Window by window."""
    masks = [mask for count, mask in GROUPS for _ in range(count)]
    results = []
    for number, window in enumerate(qkv):
        mask = masks[number % len(masks)]
        query, key, value = window.permute(1, 2, 0, 3)
        full = bias if mask is None else bias.masked_fill(mask, float("-inf"))
        if prompts is not None and scores is not None:
            prompt_key, prompt_value = prompts[number // len(masks)].permute(1, 2, 0, 3)
            key, value = torch.cat([key, prompt_key], dim=1), torch.cat([value, prompt_value], dim=1)
            full = torch.cat([full, scores[number // len(masks)].T[:, None].expand(-1, 4, -1)], dim=2)
        results.append((query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + full).softmax(-1) @ value)
    return torch.stack(results).transpose(1, 2)


def attend(qkv: Tensor, bias: Tensor, prompts: Tensor, scores: Tensor) -> Tensor:
    return window_attention(qkv, bias, GROUPS, PromptKeys(prompts, scores))


@pytest.mark.parametrize("chunk", [1, 400_000])
@pytest.mark.parametrize("frozen", ["", "qkv", "bias", "qkv bias", "prompts", "scores", "prompts scores"])
def test_window_attention_gradient(frozen: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PromptSegLib.networks.window_attention._CHUNK_ELEMENTS", chunk)
    inputs = attention_inputs(torch.float64, frozen)
    assert torch.autograd.gradcheck(attend, inputs)
    assert_near(attend(*inputs), plain_attention(*inputs))


def test_window_attention_without_prompts() -> None:
    qkv, bias, *_ = attention_inputs(torch.float64)
    groups = (*GROUPS, *GROUPS)
    assert torch.autograd.gradcheck(lambda q, b: window_attention(q, b, groups), (qkv, bias))
    assert_near(window_attention(qkv, bias, groups), plain_attention(qkv, bias, None, None))


def test_fused_attention_is_the_same() -> None:
    inputs = qkv, bias, prompts, scores = attention_inputs(torch.float32)
    found, expected = _fused_attention(qkv, bias, GROUPS, PromptKeys(prompts, scores)), attend(*inputs)
    assert_near(found, expected)
    assert_same_gradients(found, expected, inputs)
    without = _fused_attention(qkv, bias, (*GROUPS, *GROUPS), None)
    assert_near(without, plain_attention(qkv, bias, None, None))


def assert_same_gradients(found: Tensor, expected: Tensor, inputs: tuple[Tensor, ...]) -> None:
    weight = torch.randn_like(found)
    for mine, theirs in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        assert_near(mine, theirs)


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_attention_stays_exact_for_logits_small_and_large(size: float) -> None:
    inputs = attention_inputs(torch.float32)
    with torch.no_grad():
        inputs[0][:, :, 0] *= size
    found, expected = attend(*inputs), plain_attention(*inputs)
    assert_near(found, expected)
    assert_same_gradients(found, expected, inputs)


PLANS = [
    ((8, 12), (4, 4)),
    ((7, 10), (4, 4)),
    ((27, 23), (8, 8)),
    ((4, 3), (4, 4)),
    ((2, 9), (4, 4)),
    ((5, 7, 3), (4, 4, 2)),
    ((6, 6, 1), (4, 3, 2)),
]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("size", "window"), PLANS)
def test_every_voxel_lies_in_one_window(size: tuple[int, ...], window: tuple[int, ...], shifted: bool) -> None:
    classes, repeats = 2, 3
    plan = window_plan(size, window, shifted, classes, repeats, CPU)
    images, voxels, length = classes * repeats, prod(size), prod(plan.window)
    assert plan.window == tuple(min(w, s) for w, s in zip(window, size, strict=True))
    assert len(plan.index) == images * plan.windows * length
    assert sum(count for count, _ in plan.groups) == plan.windows

    real = np.ones(len(plan.index), dtype=bool)
    if plan.padding is not None:
        real[plan.padding.numpy()] = False
    assert sorted(plan.index.numpy()[real]) == list(range(images * voxels))
    assert torch.equal(plan.index[plan.inverse], torch.arange(images * voxels))
    assert real[plan.inverse.numpy()].all()

    # The order is class, window, image of the class; a window holds voxels of one image.
    image = (plan.index // voxels).reshape(classes, plan.windows, repeats, length)
    expected = torch.arange(images).reshape(classes, 1, repeats, 1).expand_as(image)
    inside = torch.from_numpy(real).reshape(image.shape)
    assert torch.equal(image[inside], expected[inside])


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("size", "window"), PLANS)
def test_voxels_see_exactly_their_own_window(size: tuple[int, ...], window: tuple[int, ...], shifted: bool) -> None:
    """Two voxels see each other when they lie in the same cell of the shifted grid: neither through the border that a
    roll closes, nor padding."""
    plan = window_plan(size, window, shifted, 1, 1, CPU)
    length = prod(plan.window)
    real = np.ones(len(plan.index), dtype=bool)
    if plan.padding is not None:
        real[plan.padding.numpy()] = False
    positions = np.stack(np.unravel_index(plan.index.numpy(), size), axis=-1)
    shift = [w // 2 if shifted and s > w else 0 for w, s in zip(window, size, strict=True)]
    cells = (positions - shift) // plan.window

    seen = set()
    masks = [mask for count, mask in plan.groups for _ in range(count)]
    for number, mask in enumerate(masks):
        rows = range(number * length, (number + 1) * length)
        for i, j in product(range(length), repeat=2):
            visible = mask is None or not mask[i, j]
            assert real[rows[i]] == real[rows[j]] or not visible
            if real[rows[i]] and real[rows[j]]:
                assert visible == (cells[rows[i]] == cells[rows[j]]).all()
                if visible:
                    seen.add((int(plan.index[rows[i]]), int(plan.index[rows[j]])))
        if mask is not None:
            assert not mask.all(1).any(), "a row that sees nothing becomes NaN"

    cell = {int(row): tuple(c) for row, c, r in zip(plan.index, cells, real, strict=True) if r}
    assert len(seen) == sum(cell[a] == cell[b] for a, b in product(cell, repeat=2))


# Frozen


def test_tuning_changes_no_weight() -> None:
    network = make_network(SMALL_2D)
    freeze(network)
    before = network.fingerprint()
    prompts = make_prompts(network, "full", 1)
    optimizer = torch.optim.AdamW(prompts.values(), lr=0.01)
    image = torch.randn(2, 1, *SMALL_2D.patch)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = logits_of(network, image, prompts).sigmoid().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert network.fingerprint() == before
    assert all(parameter.grad is None for parameter in network.parameters())


def test_fingerprint_sees_every_number() -> None:
    network = make_network(SMALL_2D)
    prints = {network.fingerprint()}
    with torch.no_grad():
        network.stem.first.conv.weight[0, 0, 0, 0] += 1e-6
    prints.add(network.fingerprint())
    mean = network.encoder[2].norm.running_mean
    assert isinstance(mean, Tensor)
    mean[3] += 1e-6
    prints.add(network.fingerprint())
    assert len(prints) == 3
    assert all(len(text) == 64 for text in prints)


def test_changed_weights_are_not_answered_from_the_cache() -> None:
    """The position bias of a frozen network is kept; loading other weights must renew it."""
    network = make_network(SMALL_2D)
    freeze(network)
    image = torch.randn(1, 1, *SMALL_2D.patch)
    with torch.no_grad():
        network.decode(network.encode(image))
        other = make_network(SMALL_2D)
        network.load_state_dict(other.state_dict())
        assert torch.equal(network.decode(network.encode(image)), other.decode(other.encode(image)))


def test_half_precision_leaves_nothing_in_the_cache() -> None:
    """What is found in single precision does not depend on whether the first call was made in half."""
    network, other = make_network(SMALL_2D), make_network(SMALL_2D)
    other.load_state_dict(network.state_dict())
    freeze(network)
    freeze(other)
    image = torch.randn(1, 1, *SMALL_2D.patch)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            other.decode(other.encode(image))
        assert torch.equal(network.decode(network.encode(image)), other.decode(other.encode(image)))
