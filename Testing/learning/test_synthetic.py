"""Synthetic anatomy: what is drawn is what the labels say, and what is learned is what two views have in common."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor

from PromptSegLib.apps.cli import main
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.learning.pretraining import synthetic_anatomy
from PromptSegLib.learning.pretraining import trainer as trainer_module
from PromptSegLib.learning.pretraining.objectives import REGION_TEMPERATURE, Drawn
from PromptSegLib.learning.pretraining.recipe import Recipe, pretrain
from PromptSegLib.learning.pretraining.scans import ScanCache, find_scans
from PromptSegLib.learning.pretraining.synthetic import (
    TEMPERATURE,
    Mixture,
    SyntheticObjective,
    SyntheticSampler,
    multi_positive_loss,
    pixels_of_each,
)
from PromptSegLib.learning.pretraining.synthetic_anatomy import LabelEnsemble, draw_anatomy
from PromptSegLib.learning.pretraining.synthetic_rendering import render
from PromptSegLib.learning.pretraining.synthetic_shapes import Outlines, smooth_noise
from PromptSegLib.learning.pretraining.trainer import Progress, Schedule
from PromptSegLib.networks import presets
from PromptSegLib.networks.catalog import read_info
from PromptSegLib.networks.presets import PUNetPreset
from PromptSegLib.networks.punet import PUNet
from Testing.support import TINY, loss_of, scan

SMALL = replace(TINY, name="paper-2d")
BLOCKS = PUNetPreset("tiny-3d", (32, 32, 4), (4, 4, 2), channels=TINY.channels, heads=2, prompt_tokens=4)
PLANE, VOLUME = ((96, 96), 1.0), ((64, 64, 8), 2.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans with a round organ (1) and a box (2)."""
    folder = tmp_path_factory.mktemp("scans")
    for number in range(2):
        image, truth = scan(seed=number)
        labels = truth.astype(np.uint8)
        labels[4:8, 20:30, 12:20] = 2
        (folder / f"scan{number}").mkdir()
        write_image(image, folder / f"scan{number}" / "ct.nii.gz")
        write_image(image.with_array(labels), folder / f"scan{number}" / "oar.nii.gz")
    return folder


@pytest.fixture(scope="module")
def scans(data: Path, tmp_path_factory: pytest.TempPathFactory) -> ScanCache:
    return ScanCache(find_scans(data, "ct.nii.gz", "oar.nii.gz"), tmp_path_factory.mktemp("cache"))


def ensembles(shape: tuple[int, ...], spacing: float, count: int = 12) -> list[LabelEnsemble]:
    return [draw_anatomy(np.random.default_rng(seed), shape, None, spacing) for seed in range(count)]


def around(mask: np.ndarray) -> np.ndarray:
    """The pixels next to a mask, corners included."""
    return ndimage.binary_dilation(mask, np.ones((3,) * mask.ndim)) & ~mask


def test_a_seed_is_a_sample(scans: ScanCache) -> None:
    """Whatever was drawn before, by whichever sampler."""
    sampler = SyntheticSampler(Outlines(scans, [1, 2]))
    first = sampler.sample(7, (64, 64))
    other = sampler.sample(8, (64, 64))
    again = SyntheticSampler(Outlines(scans, [1, 2])).sample(7, (64, 64))
    assert torch.equal(first.labels, again.labels) and not torch.equal(first.labels, other.labels)
    for one, same, different in zip(first.images, again.images, other.images, strict=True):
        assert torch.equal(one, same) and not torch.equal(one, different)


def test_a_batch() -> None:
    batch = SyntheticSampler().paired(np.random.default_rng(0), 3, (64, 64))
    assert all(image.shape == (3, 1, 64, 64) and image.dtype == torch.float32 for image in batch.images)
    assert all(torch.isfinite(image).all() and image.abs().max() <= 1.5 for image in batch.images)
    assert batch.labels.shape == (3, 64, 64) and batch.labels.dtype == torch.int64
    assert not torch.equal(batch.labels[0], batch.labels[1])
    again = SyntheticSampler().paired(np.random.default_rng(0), 3, (64, 64))
    assert all(torch.equal(a, b) for a, b in zip(batch.images, again.images, strict=True))


def label_means(image: np.ndarray, ensemble: LabelEnsemble) -> np.ndarray:
    return np.asarray(ndimage.mean(image, ensemble.labels, np.arange(len(ensemble.kinds))))


def test_views_share_the_map_and_not_the_contrast() -> None:
    explained, correlations = [], []
    for seed, ensemble in enumerate(ensembles(*PLANE)):
        rng = np.random.default_rng(seed)
        sizes = np.bincount(ensemble.labels.ravel(), minlength=len(ensemble.kinds))
        shown = np.flatnonzero(sizes > 30)
        shown = shown[shown > 0]
        views = [render(rng, ensemble) for _ in range(2)]
        means = [label_means(view, ensemble) for view in views]
        explained += [float(np.var(m[ensemble.labels]) / np.var(v)) for m, v in zip(means, views, strict=True)]
        if len(shown) > 3:
            correlations.append(float(np.corrcoef(means[0][shown], means[1][shown])[0, 1]))
    assert np.median(explained) > 0.6, "the labels are in the image"
    assert len(correlations) > 8 and abs(np.mean(correlations)) < 0.3, "which of them is bright is not"


def test_the_body_stands_out_from_air() -> None:
    differences = []
    for seed, ensemble in enumerate(ensembles(*PLANE)):
        cavity = ensemble.kinds.index("cavity")
        means = [label_means(render(np.random.default_rng((seed, n)), ensemble), ensemble) for n in range(16)]
        if min((ensemble.labels == n).sum() for n in (0, cavity)) > 100:
            differences += [abs(m[cavity] - m[0]) for m in means]
    assert len(differences) > 100 and np.mean(np.array(differences) < 0.1) < 0.03


def test_the_two_sides_of_a_pair_look_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """They differ in place, not in brightness."""
    # Other look-alikes are left out.
    monkeypatch.setattr(synthetic_anatomy._Scene, "known_tissue", lambda self: None)
    same, different = [], []
    for seed, ensemble in enumerate(ensembles(*PLANE)):
        image = render(np.random.default_rng(seed), ensemble)
        means, tissues = label_means(image, ensemble), ensemble.tissues
        organs = [n for n, kind in enumerate(ensemble.kinds) if kind == "organ" and (ensemble.labels == n).sum() > 40]
        for a in organs:
            for b in organs:
                if a < b:
                    (same if tissues[a] == tissues[b] else different).append(abs(means[a] - means[b]))
    assert len(same) > 4 and np.median(same) < 0.25 * np.median(different)


@pytest.mark.parametrize(("shape", "spacing"), [PLANE, VOLUME])
def test_labels_are_what_was_drawn(shape: tuple[int, ...], spacing: float) -> None:
    tubes, lumens, coats = 0, 0, 0
    for ensemble in ensembles(shape, spacing):
        labels, kinds = ensemble.labels, np.array(ensemble.kinds)
        assert labels.shape == shape and labels.max() < len(kinds) == len(ensemble.tissues)
        for number in np.flatnonzero(kinds == "tube"):
            assert ndimage.label(labels == number, np.ones((3,) * len(shape)))[1] == 1, "a tube in pieces"
            tubes += 1
        for lumen, wall in ensemble.lumens.items():
            neighbors = labels[around(labels == lumen)]
            assert set(kinds[neighbors[neighbors != wall]]) <= {"tube"}, "a hole in the wall"
            lumens += 1
        if kinds[1] == "layer":
            inner = np.isin(labels, np.flatnonzero(~np.isin(kinds, ("air", "layer", "tube"))))
            assert "air" not in kinds[labels[around(inner)]], "a hole in the skin"
            coats += 1
    assert tubes > 8 and lumens > 8 and coats > 4


def test_noise_is_smooth_and_standard() -> None:
    fields = np.array([smooth_noise(np.random.default_rng(seed), (40, 30), (8.0, 4.0)) for seed in range(60)])
    assert fields.shape == (60, 40, 30) and abs(fields.mean()) < 0.1
    assert fields.std(axis=0) == pytest.approx(1, abs=0.4) and fields.std() == pytest.approx(1, abs=0.06)
    steps = [np.abs(np.diff(fields, axis=axis)).mean() for axis in (1, 2)]
    assert steps[0] < 0.65 * steps[1] < 0.3


def test_outlines_of_base_classes_only(scans: ScanCache) -> None:
    """A class that is kept for testing must not be met here. The box fills its own bounding box, the organ does not."""
    rng = np.random.default_rng(0)

    def fillings(labels: list[int], dimensions: int) -> list[float]:
        outlines = Outlines(scans, labels)
        found = [outlines.organ(rng, dimensions) for _ in range(12)]
        return [float((o.inside > 0.5)[(slice(2, -2),) * dimensions].mean()) for o in found if o is not None]

    for dimensions in (2, 3):
        box, organ = fillings([2], dimensions), fillings([1], dimensions)
        assert len(box) == 12 and min(box) > 0.9
        assert len(organ) > 6 and max(organ) < 0.87
    assert Outlines(scans, []).organ(rng, 2) is None
    body = Outlines(scans, []).body(rng, 2)
    assert body is not None and 0.5 < (body.inside > 0.5).mean() < 0.9


def test_real_outlines_are_mixed_in(scans: ScanCache) -> None:
    for shape, spacing in (PLANE, VOLUME):
        with_them, without = (
            draw_anatomy(np.random.default_rng(3), shape, o, spacing) for o in (Outlines(scans, [1, 2]), None)
        )
        assert with_them.labels.shape == shape and len(with_them.kinds) > 3
        assert not np.array_equal(with_them.labels, without.labels)


def test_a_sample_in_3d() -> None:
    sample = SyntheticSampler().sample(1, (64, 64, 8))
    assert all(image.shape == (1, 1, 64, 64, 8) and torch.isfinite(image).all() for image in sample.images)
    assert sample.labels.shape == (1, 64, 64, 8) and len(sample.labels.unique()) > 3


def test_multi_positive_loss_by_hand() -> None:
    """Cosines are 1 or 0, so scores are 10 or 0."""
    assert TEMPERATURE == 0.1
    a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 0.5])

    def loss(embeddings: list[Tensor], labels: list[int]) -> float:
        return float(multi_positive_loss(torch.stack(embeddings), torch.tensor(labels)))

    # The third has no positive: it is what the others must not be, and no anchor.
    assert loss([a, a, b], [5, 5, 2]) == pytest.approx(math.log1p(math.exp(-10)), rel=1e-2)
    # Two positives each, equally likely.
    assert loss([a, a, a, b], [0, 0, 0, 1]) == pytest.approx(math.log(2 + math.exp(-10)), rel=1e-5)
    # The first prefers the stranger, for the second both are as good.
    assert loss([a, b, a], [0, 0, 1]) == pytest.approx((10 + math.log1p(math.exp(-10)) + math.log(2)) / 2, rel=1e-5)
    assert REGION_TEMPERATURE == TEMPERATURE, "the weights of the two objectives are meant alike"


def test_each_label_has_its_pixels() -> None:
    labels = torch.tensor([0] * 500 + [1] * 10 + [2] * 2 + [3] * 3)[torch.randperm(515)]
    pixels = pixels_of_each(labels, np.random.default_rng(0), 8)
    assert len(pixels.unique()) == len(pixels)
    assert torch.bincount(labels[pixels]).tolist() == [8, 8, 0, 3]
    assert not torch.equal(pixels, pixels_of_each(labels, np.random.default_rng(1), 8))


def network_of(seed: int = 0) -> PUNet:
    torch.manual_seed(seed)
    return PUNet(SMALL, "small-1").train()


def contrast(network: PUNet, sampler: SyntheticSampler) -> float:
    """By how much the same structure is more alike in two views than another one; over samples never trained on."""
    differences = []
    for seed in range(1000, 1006):
        sample = sampler.sample(seed, (64, 64))
        with torch.no_grad():
            embedding = network.decode(network.encode(torch.cat(sample.images)))
        labels = sample.labels[0, 1::2, 1::2].flatten()
        first, second = (torch.nn.functional.normalize(e.flatten(1), dim=0) for e in embedding)
        cosines, same = first.T @ second, labels[:, None] == labels
        differences.append(float(cosines[same].mean() - cosines[~same].mean()))
    return float(np.mean(differences))


@pytest.mark.slow
def test_positives_are_pulled_together() -> None:
    network, sampler = network_of(), SyntheticSampler()
    objective = SyntheticObjective(sampler, 1, keep_statistics=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    before, losses = contrast(network, sampler), []
    for step in range(30):
        optimizer.zero_grad()
        loss = loss_of(objective, network, np.random.default_rng(step))
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < np.mean(losses[:8])
    assert contrast(network, sampler) > before + 0.05


def test_blocks_of_slices() -> None:
    torch.manual_seed(0)
    network = PUNet(BLOCKS, "small-1").train()
    objective = SyntheticObjective(SyntheticSampler(), 1, keep_statistics=True, block=BLOCKS.patch)
    loss = loss_of(objective, network, np.random.default_rng(0))
    torch.autograd.backward(loss)
    assert math.isfinite(float(loss.detach())) and float(loss.detach()) > 0
    assert all(p.grad is not None for p in network.stem.parameters())


def test_statistics_stay_those_of_real_scans() -> None:
    for kept in (True, False):
        network = network_of()
        before = {name: buffer.clone() for name, buffer in network.named_buffers() if "running" in name}
        loss_of(SyntheticObjective(SyntheticSampler(), 1, kept), network, np.random.default_rng(0))
        changed = [
            name for name, buffer in network.named_buffers() if name in before and not buffer.equal(before[name])
        ]
        assert len(changed) == (0 if kept else len(before))
        assert {m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_ratio_holds(share: float) -> None:
    class Counted:
        def __init__(self, name: str):
            self.name, self.calls = name, 0

        def draw(self, rng: np.random.Generator, patch: int) -> Drawn[str]:
            return Drawn(self.name, 1)

        def __call__(self, network: PUNet, drawn: Drawn[str], rng: np.random.Generator) -> Tensor:
            assert drawn.batch == self.name
            self.calls += 1
            return torch.zeros(())

    real, synthetic = Counted("regions"), Counted("synthetic")
    mixture, network = Mixture(real, synthetic, share), network_of()
    for step in range(2000):
        calls = synthetic.calls
        losses = loss_of(mixture, network, np.random.default_rng((0, step)))
        assert list(losses) == ["synthetic" if synthetic.calls > calls else "regions"]
    assert real.calls + synthetic.calls == 2000
    assert synthetic.calls / 2000 == pytest.approx(share, abs=0 if share in (0, 1) else 0.03)


@pytest.fixture
def recipe(data: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """At a size that takes no time."""
    monkeypatch.setitem(presets.PRESETS, SMALL.name, SMALL)
    monkeypatch.setattr(trainer_module, "PATCHES", (64,))
    schedule = Schedule(4, checkpoint_seconds=-1.0)
    return Recipe(data, "small-1", {1: "organ"}, schedule, active=1, per_class=1, pairs=1, synthetic=0.5)


@pytest.mark.parametrize("mode", ["regions", "meta_self"])
def test_resumed_it_sees_the_same_samples(recipe: Recipe, scans: ScanCache, tmp_path: Path, mode: str) -> None:
    recipe = replace(recipe, mode=mode, samples=1)

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise InterruptedError

    histories: list[list[dict[str, float]]] = [[], []]
    whole, killed = (tmp_path / f"{name}.safetensors" for name in ("whole", "killed"))
    pretrain(recipe, whole, scans.folder, {}, lambda progress: histories[0].append(progress.losses))
    with pytest.raises(InterruptedError):
        pretrain(recipe, killed, scans.folder, {}, stop)
    with pytest.raises(InputError, match="repeat its options"):
        pretrain(replace(recipe, synthetic=0.25), killed, scans.folder, {})
    pretrain(recipe, killed, scans.folder, {}, lambda progress: histories[1].append(progress.losses))
    assert histories[1] == histories[0][-len(histories[1]) :]
    assert any("synthetic" in losses for losses in histories[0]), "no step was synthetic"
    assert any("synthetic" not in losses for losses in histories[0]), "no step was real"
    expected = load_file(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(killed).items())


def test_the_command_takes_a_share(recipe: Recipe, scans: ScanCache, tmp_path: Path) -> None:
    out = tmp_path / "small-1.safetensors"
    command = ["pretrain", "--data", str(recipe.data), "--out", str(out), "--cache", str(scans.folder), "--steps", "2"]
    with pytest.raises(SystemExit) as refused:
        main([*command, "--classes", "1:organ", "--pairs", "0", "--synthetic", "0.5"])
    assert refused.value.code == 2 and not out.exists()
    with pytest.raises(SystemExit) as done:
        main([*command, "--pairs", "1", "--synthetic", "1"])
    assert done.value.code == 0
    card = read_info(out).card
    assert card["synthetic share"] == 1 and card["objectives"] == ["regions or synthetic"]
    assert list(card["final losses"]) == ["synthetic"]
