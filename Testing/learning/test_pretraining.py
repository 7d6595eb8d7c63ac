"""Pre-training: it learns only from what is drawn, and goes on after any interruption as if there had been none."""

from __future__ import annotations

import csv
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import UNKNOWN
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.learning.pretraining import log as log_module
from PromptSegLib.learning.pretraining import recipe as recipe_module
from PromptSegLib.learning.pretraining import samples
from PromptSegLib.learning.pretraining import trainer as trainer_module
from PromptSegLib.learning.pretraining.log import similarity_picture
from PromptSegLib.learning.pretraining.objectives import (
    REGION_TEMPERATURE,
    BaseClasses,
    RegionObjective,
    SegmentationObjective,
    images_for,
    region_loss,
)
from PromptSegLib.learning.pretraining.recipe import Recipe, pretrain, seen_classes
from PromptSegLib.learning.pretraining.record import loss_table
from PromptSegLib.learning.pretraining.samples import SliceSampler
from PromptSegLib.learning.pretraining.scans import ScanCache, find_scans
from PromptSegLib.learning.pretraining.trainer import Pretrainer, Progress, Schedule
from PromptSegLib.learning.pretraining.views import Placement, ViewBatch, Views, ViewSampler, ViewSizes
from PromptSegLib.networks import presets
from PromptSegLib.networks.catalog import read_info
from PromptSegLib.networks.punet import PUNet
from PromptSegLib.networks.weights import load_backbone, save_backbone
from Testing.support import TINY, loss_of, scan

ROOT = Path(__file__).resolve().parents[2]
SMALL = replace(TINY, name="paper-2d")
PATCHES = (64,)
SCHEDULE = Schedule(4, checkpoint_seconds=-1.0)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only preset that pre-training takes, at a size that takes no time."""
    monkeypatch.setitem(presets.PRESETS, SMALL.name, SMALL)
    monkeypatch.setattr(trainer_module, "PATCHES", PATCHES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans with the organ (1) and a second structure (2), which was not drawn in the last of them."""
    folder = tmp_path_factory.mktemp("scans")
    for number in range(3):
        image, truth = scan(seed=number)
        labels = truth.astype(np.uint8)
        labels[4:8, 20:30, 12:20] = 2
        image.array[4:8, 20:30, 12:20] -= 130
        if number == 2:
            labels[labels == 2] = 0
        (folder / f"scan{number}").mkdir()
        write_image(image, folder / f"scan{number}" / "ct.nii.gz")
        write_image(image.with_array(labels), folder / f"scan{number}" / "oar.nii.gz")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def sampler_of(data: Path, cache: Path, labels: list[int]) -> SliceSampler:
    sampler = SliceSampler(ScanCache(find_scans(data, "ct.nii.gz", "oar.nii.gz"), cache), labels)
    for number in range(len(sampler.scans)):
        sampler.index(number)
    return sampler


def trainer_of(data: Path, cache: Path, schedule: Schedule = SCHEDULE) -> Pretrainer:
    sampler = sampler_of(data, cache, [1, 2])
    torch.manual_seed(schedule.seed)
    network = PUNet(SMALL, "small-1")
    base = BaseClasses(network, ["organ", "other"])
    objectives = [SegmentationObjective(sampler, base, 2, 1), RegionObjective(sampler, 1)]
    return Pretrainer(network, base, objectives, schedule)


def weights_of(trainer: Pretrainer) -> dict[str, Tensor]:
    return {
        **{f"network.{k}": v.clone() for k, v in trainer.network.state_dict().items()},
        **{f"base.{k}": v.clone() for k, v in trainer.base.state_dict().items()},
    }


class PowerCutError(Exception):
    """Stands in for a power cut in the middle of a step."""


@pytest.mark.parametrize("last", [1, 3])
def test_resumed_it_is_as_if_never_interrupted(data: Path, cache: Path, tmp_path: Path, last: int) -> None:
    whole = trainer_of(data, cache)
    whole.run(tmp_path / "whole.checkpoint")
    assert [entry["step"] for entry in whole.history] == [1, 2, 3, 4]

    def stop(progress: Progress) -> None:
        if progress.step > last:
            raise PowerCutError

    checkpoint = tmp_path / "killed.checkpoint"
    killed = trainer_of(data, cache)
    with pytest.raises(PowerCutError):
        killed.run(checkpoint, stop)
    seen: list[int] = []
    resumed = trainer_of(data, cache, replace(SCHEDULE, checkpoint_seconds=1000.0))
    resumed.run(checkpoint, lambda progress: seen.append(progress.step))
    assert seen == list(range(last + 1, 5))
    assert resumed.history == whole.history
    for name, tensor in weights_of(whole).items():
        assert torch.equal(weights_of(resumed)[name], tensor), name
    again = trainer_of(data, cache)
    again.run(checkpoint, lambda progress: pytest.fail("there was nothing left to do"))
    assert again.history == whole.history


def test_a_checkpoint_of_another_schedule(data: Path, cache: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.checkpoint"
    trainer_of(data, cache, Schedule(1)).run(checkpoint)
    for schedule in (Schedule(5), Schedule(1, seed=1), Schedule(1, body_rate=1e-4)):
        with pytest.raises(InputError, match="another schedule"):
            trainer_of(data, cache, schedule).run(checkpoint)


@pytest.mark.parametrize("steps", range(1, 13))
def test_any_number_of_steps(tmp_path: Path, steps: int) -> None:
    """The rates alone: nothing is learned from."""
    network = PUNet(SMALL, "small-1")
    trainer = Pretrainer(network, BaseClasses(network, ["organ"]), [], Schedule(steps))
    rates: list[float] = []
    trainer.run(tmp_path / "a.checkpoint", lambda progress: rates.append(progress.rates["body"]))
    assert len(rates) == steps and all(0 < rate <= trainer.schedule.body_rate for rate in rates)


def recipe_of(data: Path) -> Recipe:
    return Recipe(data, "small-1", {1: "organ", 2: "other"}, SCHEDULE, active=2, per_class=1, pairs=1)


KILLED = """
import sys, time
from pathlib import Path
import torch
from PromptSegLib.learning.pretraining import trainer
from PromptSegLib.learning.pretraining.recipe import pretrain
from PromptSegLib.networks import presets
from Testing.learning.test_pretraining import PATCHES, SMALL, recipe_of
torch.set_num_threads(int(sys.argv[4]))
presets.PRESETS[SMALL.name] = SMALL
trainer.PATCHES = PATCHES
def report(progress):
    if progress.step == 3:
        print("killable", flush=True)
        time.sleep(600)
pretrain(recipe_of(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), {}, report)
"""


@pytest.mark.slow
def test_a_killed_process_goes_on(data: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "small-1.safetensors"
    arguments = [str(data), str(out), str(cache), str(torch.get_num_threads())]
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"killable\n"
        process.send_signal(signal.SIGKILL)
    assert not out.exists() and out.with_suffix(".checkpoint").is_file()
    steps: list[int] = []
    pretrain(recipe_of(data), out, cache, {}, lambda progress: steps.append(progress.step))
    assert steps == [3, 4]
    other = tmp_path / "other.safetensors"
    pretrain(recipe_of(data), other, cache, {})
    expected = load_file(other)
    for name, tensor in load_file(out).items():
        assert torch.equal(tensor, expected[name]), name


def test_writes_a_backbone_and_its_card(
    data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it was killed while it wrote them; what is finished is not begun anew."""

    def kill(*arguments: object) -> str:
        raise PowerCutError

    out = tmp_path / "small-1.safetensors"
    prepared: list[tuple[int, int]] = []
    recipe = replace(recipe_of(data), schedule=Schedule(1))
    with monkeypatch.context() as patch, pytest.raises(PowerCutError):
        patch.setattr(recipe_module, "model_card", kill)
        pretrain(recipe, out, cache, {"source": "made up"}, prepared=lambda n, total: prepared.append((n, total)))
    assert out.is_file() and out.with_suffix(".checkpoint").is_file()
    pretrain(recipe, out, cache, {"source": "made up"}, lambda progress: pytest.fail("there was nothing left to do"))
    with pytest.raises(InputError, match="is finished already"):
        pretrain(recipe, out, cache, {})
    assert prepared == [(1, 3), (2, 3), (3, 3)]
    assert {path.name for path in tmp_path.iterdir()} == {"small-1.safetensors", "small-1.md", "small-1.losses.csv"}
    info = read_info(out)
    assert info.name == "small-1" and info.preset == "paper-2d"
    assert info.card["source"] == "made up" and info.card["scans"] == 3
    assert info.card["base classes"] == ["organ", "other"] and info.card["objectives"] == ["segmentation", "regions"]
    assert info.card["schedule"] == asdict(recipe.schedule)
    assert all(math.isfinite(loss) for loss in info.card["final losses"].values())
    text = out.with_suffix(".md").read_text()
    assert load_backbone(out).fingerprint() in text and "made up" in text
    assert str(tmp_path) not in text and str(data) not in text


def test_goes_on_from_an_earlier_backbone(data: Path, cache: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "small-1.safetensors", tmp_path / "small-2.safetensors"
    pretrain(replace(recipe_of(data), schedule=Schedule(1)), first, cache, {})
    still = Schedule(1, body_rate=0.0, token_rate=0.0, weight_decay=0.0)
    recipe = replace(recipe_of(data), name="small-2", schedule=still, start=str(first))
    kept = shutil.copy(first, tmp_path / "small-2-step1.safetensors")
    with pytest.raises(InputError, match="would be written over"):
        pretrain(replace(recipe, start=str(kept)), second, cache, {}, keep_every=1)
    pretrain(recipe, second, cache, {})
    before, after = dict(load_backbone(first).named_parameters()), dict(load_backbone(second).named_parameters())
    assert all(torch.equal(after[name], parameter) for name, parameter in before.items())
    info = read_info(second)
    assert info.card["went on from"] == "small-1" and str(tmp_path) not in str(info.card)
    assert info.card["base classes before"] == read_info(first).card["base classes"] == seen_classes(info)


def test_the_body_waits_until_base_classes_know_something(data: Path, cache: Path, tmp_path: Path) -> None:
    trainer = trainer_of(data, cache, replace(SCHEDULE, held=2))
    bodies, tokens = [], []

    def note(progress: Progress) -> None:
        weights = weights_of(trainer)
        parameters = {f"network.{name}" for name, _ in trainer.network.named_parameters()}
        bodies.append({name: value for name, value in weights.items() if name in parameters})
        tokens.append({name: value for name, value in weights.items() if name.startswith("base.")})

    trainer.run(tmp_path / "held.checkpoint", note)

    def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
        return all(torch.equal(value, second[name]) for name, value in first.items())

    assert equal(bodies[0], bodies[1]) and not equal(bodies[1], bodies[2]) and not equal(bodies[2], bodies[3])
    assert not any(equal(a, b) for a, b in pairwise(tokens))


def test_the_earlier_backbone_may_be_named_otherwise(data: Path, cache: Path, tmp_path: Path) -> None:
    """On resuming, it must be the same file, whatever its path; its weights are not needed again."""

    def stop(progress: Progress) -> None:
        if progress.step == 2:
            raise InterruptedError

    first, other = tmp_path / "small-1.safetensors", tmp_path / "moved" / "renamed.safetensors"
    pretrain(replace(recipe_of(data), schedule=Schedule(1)), first, cache, {})
    other.parent.mkdir()
    out = tmp_path / "small-2.safetensors"
    recipe = replace(recipe_of(data), name="small-2", schedule=replace(SCHEDULE, steps=2), start=str(first))
    with pytest.raises(InterruptedError):
        pretrain(recipe, out, cache, {}, stop)
    save_backbone(PUNet(SMALL, "small-1"), other, {})
    with pytest.raises(InputError, match="another schedule"):
        pretrain(replace(recipe, start=str(other)), out, cache, {})
    shutil.copy(first, other)
    steps: list[int] = []
    pretrain(replace(recipe, start=str(other)), out, cache, {}, lambda progress: steps.append(progress.step))
    assert steps == [2] and read_info(out).card["went on from"] == "small-1"


def test_backbones_are_kept_along_the_way(data: Path, cache: Path, tmp_path: Path) -> None:
    """As they were after their steps, whether or not the run was interrupted; keeping them changes nothing."""
    out, checkpoint = tmp_path / "small-1.safetensors", tmp_path / "small-1.checkpoint"
    losses: dict[int, dict[str, float]] = {}
    states: dict[int, dict[str, Tensor]] = {}

    def watch(progress: Progress) -> None:
        losses[progress.step] = progress.losses
        if progress.step > 1:
            states[progress.step - 1] = load_file(checkpoint)

    def stop(progress: Progress) -> None:
        watch(progress)
        if progress.step == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        pretrain(recipe_of(data), out, cache, {}, stop, keep_every=2)
    pretrain(recipe_of(data), out, cache, {}, watch, keep_every=1)
    kept = {step: tmp_path / f"small-1-step{step}.safetensors" for step in (2, 3, 4)}
    assert set(tmp_path.glob("*-step*")) == set(kept.values())
    for step in (2, 3):
        for name, tensor in load_backbone(kept[step]).state_dict().items():
            expected = states[step][f"network.{name}"]
            assert torch.equal(tensor, expected.half().to(expected.dtype)), name
        info = read_info(kept[step])
        assert info.name == "small-1" and info.card["step"] == step and info.card["base classes"] == ["organ", "other"]
    assert load_backbone(kept[4]).fingerprint() == load_backbone(out).fingerprint()

    with out.with_suffix(".losses.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows == [{"step": step, **losses[step]} for step in (1, 2, 3, 4)]

    other = tmp_path / "other.safetensors"
    pretrain(recipe_of(data), other, cache, {})
    assert load_backbone(other).fingerprint() == load_backbone(out).fingerprint()
    assert other.with_suffix(".losses.csv").read_text() == out.with_suffix(".losses.csv").read_text()


def test_a_loss_that_a_step_did_not_have_is_empty() -> None:
    history = [{"step": 1, "segmentation": 0.5}, {"step": 2, "segmentation": 0.25, "synthetic": 2.0}]
    assert loss_table(history) == "step,segmentation,synthetic\n1,0.5,\n2,0.25,2.0\n"


def test_without_labels(data: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "small-1.safetensors"
    pretrain(replace(recipe_of(data), classes={}, schedule=Schedule(1)), out, cache, {})
    assert read_info(out).card["objectives"] == ["regions"]


def test_tensorboard_shows_the_run(data: Path, cache: Path, tmp_path: Path) -> None:
    """Also after it was interrupted; the pictures change nothing of what is learned."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise InterruptedError

    recipe = replace(recipe_of(data), schedule=replace(SCHEDULE, steps=3))
    out, log, progress = tmp_path / "small-1.safetensors", tmp_path / "log", list[Progress]()
    with pytest.raises(InterruptedError):
        pretrain(recipe, out, cache, {}, stop, log=log)
    pretrain(recipe, out, cache, {}, progress.append, log=log)
    plain = tmp_path / "plain.safetensors"
    pretrain(recipe, plain, cache, {})
    expected = load_file(plain)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(out).items())
    found = accumulators.EventAccumulator(str(log))
    found.Reload()
    for name in ("segmentation", "regions"):
        scalars = found.Scalars(f"loss/{name}")
        assert [s.step for s in scalars] == [1, 2, 3]
        assert scalars[-1].value == pytest.approx(progress[-1].losses[name])
    assert found.Scalars("rate/body")[-1].value == pytest.approx(progress[-1].rates["body"], rel=1e-4)
    # Of regions, 2 labelled and 2 of a pair; four times as many of 64 pixels as of 128.
    assert progress[-1].samples == 2 * 4 + 2 * 4
    assert found.Scalars("samples per second")[-1].value == pytest.approx(16 / progress[-1].seconds, rel=1e-4)
    assert [image.step for image in found.Images("alike")] == [1, 2, 3]
    assert (found.Images("alike")[0].width, found.Images("alike")[0].height) == (4 * 64, 4 * 64)


def test_similarity_pictures_show_what_is_alike() -> None:
    """A network that passes on what it sees finds the bright half that its point is in, and not the dark one."""

    class Passing(torch.nn.Module):
        device = torch.device("cpu")

        def encode(self, image: Tensor) -> Tensor:
            return image

        def decode(self, image: Tensor) -> Tensor:
            return torch.cat([image, 1 - image], dim=1)

    image = torch.zeros(1, 1, 20, 20)
    image[..., 10:] = 1
    placement = Placement((20, 20), torch.eye(3)[None], torch.zeros(1, 3))
    views = (Views(image, placement), Views(image.flip(3), placement))
    batch = ViewBatch(views[:1], (), (), views[1], torch.zeros(1))
    red, green, blue = similarity_picture(cast(PUNet, Passing()), batch)
    assert red.shape == (20, 80)
    assert (red[10, 10], green[10, 10], blue[10, 10]) == (1, 1, 0), "the point is marked"
    alike = (red - green > 0.5)[0]
    assert alike.reshape(4, 20).tolist() == [
        [side] * 10 + [other] * 10 for side, other in ((False, False), (False, True), (False, False), (True, False))
    ]


def test_refusals(data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = recipe_of(data), tmp_path / "small-1.safetensors"
    for wrong, target, match in (
        (replace(recipe, preset="paper-3d-flat"), out, "needs one of the presets paper-2d, unetr-2d"),
        (recipe, tmp_path / "missing" / out.name, "does not exist"),
        (replace(recipe, classes={}, pairs=0), out, "nothing to learn from"),
        (replace(recipe, data=tmp_path / "missing"), out, "data folder .* does not exist"),
        (replace(recipe, image_name="mr.nii.gz"), out, "no file named mr.nii.gz"),
        (replace(recipe, classes={1: "organ", 7: "liver"}), out, "has the base class liver"),
        (replace(recipe, schedule=Schedule(1, precision="8")), out, "no precision '8'"),
        (replace(recipe, start="no-such-backbone"), out, "there is no backbone 'no-such-backbone'"),
    ):
        with pytest.raises(InputError, match=match):
            pretrain(wrong, target, cache, {})
    monkeypatch.setattr(log_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="TensorBoard is not installed"):
        pretrain(recipe, out, tmp_path / "cache", {}, log=tmp_path / "log")
    assert not list(tmp_path.iterdir())


def test_an_absent_organ_is_never_background(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last scan does not show structure 2, which may only mean that nobody drew it."""
    sampler = sampler_of(data, cache, [1, 2])
    assert sampler.holding == {0: [0, 1, 2], 1: [0, 1]}
    opened: list[int] = []
    known = ScanCache.__getitem__
    monkeypatch.setattr(ScanCache, "__getitem__", lambda self, number: (opened.append(number), known(self, number))[1])
    monkeypatch.setattr(sampler, "holding", {1: sampler.holding[1]})
    batch = sampler.labelled(np.random.default_rng(0), 1, 24, 64)
    assert set(opened) == {0, 1} and batch.classes.tolist() == [1]
    assert batch.target.amax((1, 2)).max() > 0.9


def test_what_is_unknown_counts_for_nothing(tmp_path: Path) -> None:
    """Half of the organ, in the labels 255 of a map whose other labels do not fit in a byte."""
    for number in range(2):
        image, truth = scan(seed=number)
        labels = truth.astype(np.uint16) * 1034
        labels[:, : truth.shape[1] // 2] = UNKNOWN
        (tmp_path / f"scan{number}").mkdir()
        write_image(image, tmp_path / f"scan{number}" / "ct.nii.gz")
        write_image(image.with_array(labels), tmp_path / f"scan{number}" / "oar.nii.gz")
    sampler = sampler_of(tmp_path, tmp_path / "cache", [1034])
    assert sampler.holding == {0: [0, 1]} and set(sampler.scans[0].organs) == {1034}
    network = PUNet(SMALL, "small-1").train()
    objective = SegmentationObjective(sampler, BaseClasses(network, ["organ"]), 1, 2)
    drawn = objective.draw(np.random.default_rng(0), 64)
    batch = drawn.batch
    assert batch.known.any() and not batch.known.all() and batch.target[batch.known].max() > 0.9
    other = replace(drawn, batch=replace(batch, target=torch.where(batch.known, batch.target, 1 - batch.target)))
    losses = [objective(network, one, np.random.default_rng(0)) for one in (drawn, other)]
    assert torch.equal(*losses)

    pair = sampler.paired(np.random.default_rng(0), 2, 64, across=1.0)
    shared = [set(a.unique().tolist()) & set(b.unique().tolist()) - {0} for a, b in zip(*pair.regions, strict=True)]
    assert len(set.union(*shared)) == 1

    viewer = ViewSampler(sampler.scans, [1034], ViewSizes.of(SMALL))
    viewer.index(0)
    views = viewer.draw(np.random.default_rng(0), 4)
    assert all(known.any() and not known.all() for known in views.known)
    assert max(target[known].max() for target, known in zip(views.targets, views.known, strict=True)) > 0.9


def test_a_labelled_batch(data: Path, cache: Path) -> None:
    sampler = sampler_of(data, cache, [1, 2])
    batch = sampler.labelled(np.random.default_rng(0), 2, 3, 64)
    assert batch.image.shape == (6, 1, 64, 64) and batch.target.shape == (6, 64, 64)
    assert sorted(batch.classes.tolist()) == [0, 1]
    assert batch.target.min() >= 0 and batch.target.max() <= 1 and batch.image.abs().max() <= 1.5
    again = sampler.labelled(np.random.default_rng(0), 2, 3, 64)
    assert torch.equal(batch.image, again.image) and torch.equal(batch.target, again.target)
    assert len(sampler.labelled(np.random.default_rng(0), 5, 1, 32).classes) == 5, "more classes than there are"


def test_thick_slices_are_not_averaged_across(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A coronal patch of 4 mm, of slices of 5 mm with pixels of 1 mm: every second one is the structure."""
    monkeypatch.setattr(samples, "random_axis", lambda rng: 1)
    monkeypatch.setattr(samples, "SPACING_RANGE_MM", (4.0, 4.0))
    image, truth = scan((12, 64, 64), (5.0, 1.0, 1.0))
    write_image(image, tmp_path / "ct.nii.gz")
    write_image(image.with_array((np.indices(truth.shape)[0] % 2).astype(np.uint8)), tmp_path / "oar.nii.gz")
    target = sampler_of(tmp_path, tmp_path / "cache", [1]).labelled(np.random.default_rng(0), 1, 4, 64).target
    assert target.amax((1, 2)).min() > 0.9


def test_a_paired_batch(data: Path, cache: Path) -> None:
    sampler = sampler_of(data, cache, [])
    batch = sampler.paired(np.random.default_rng(0), 2, 64)
    assert all(image.shape == (2, 1, 64, 64) for image in batch.images)
    assert all(region.shape == (2, 64, 64) and region.dtype == torch.int64 for region in batch.regions)
    for first, second in zip(*batch.regions, strict=True):
        assert set(first.unique().tolist()) & set(second.unique().tolist()) - {0}, "the views share no region"


def test_pairs_across_patients_share_their_base_classes_and_nothing_else(data: Path, cache: Path) -> None:
    sampler = sampler_of(data, cache, [2])
    holding = set(sampler.holding[0])
    assert len(holding) > 1
    batch = sampler.paired(np.random.default_rng(0), 6, 64, across=1.0)
    assert not torch.equal(batch.images[0], batch.images[1])
    shared = [set(a.unique().tolist()) & set(b.unique().tolist()) - {0} for a, b in zip(*batch.regions, strict=True)]
    assert all(len(numbers) == 1 for numbers in shared) and len(set.union(*shared)) == 1
    assert all(len(regions.unique()) > 3 for side in batch.regions for regions in side), "nothing to tell it from"
    objective = RegionObjective(sampler, 4, across=1.0)
    assert 0 < loss_of(objective, PUNet(SMALL, "small-1"), np.random.default_rng(0)) < 3


def test_prepared_scans_are_used_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = find_scans(data, "ct.nii.gz", "oar.nii.gz")[:1]
    first = ScanCache(pairs, tmp_path)[0]
    monkeypatch.setattr(ScanCache, "_prepare", lambda *arguments: pytest.fail("it was prepared already"))
    second = ScanCache(pairs, tmp_path)[0]
    assert np.array_equal(first.image, second.image) and first.organs.keys() == second.organs.keys() == {1, 2}
    image, _ = scan(seed=0)
    assert second.geometry.spacing == image.geometry.spacing
    assert (second.regions[0][image.array < -500] == 0).all()
    assert len(np.unique(second.regions[0])) > len(np.unique(second.regions[1])) > 2


def test_base_classes_train(data: Path, cache: Path) -> None:
    """Every prompt of an active class gets a gradient, an inactive class none."""
    sampler = sampler_of(data, cache, [1, 2])
    monotone = np.random.default_rng(0)
    torch.manual_seed(0)
    network = PUNet(SMALL, "small-1").train()
    base = BaseClasses(network, ["organ", "other"])
    sampler.holding = {1: sampler.holding[1]}
    objective = SegmentationObjective(sampler, base, 1, 2)
    for _ in range(4):
        torch.autograd.backward(loss_of(objective, network, monotone))
    for name, numbers in base.numbers.items():
        assert numbers.grad is not None
        assert (numbers.grad[0] == 0).all(), name
        assert (numbers.grad[1] != 0).any(), name
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in network.named_parameters() if "stem" in n)


def images(first: list[int], second: list[int]) -> Iterator[Tensor]:
    """Embeddings (2, 4, 6) that are one unit vector per row's number, and the numbers as regions."""
    for rows in (first, second):
        regions = torch.tensor(rows)[:, None].expand(4, 6)
        embedding = torch.zeros(2, 4, 6)
        embedding[0][regions == 1], embedding[1][regions == 2] = 1, 1
        yield embedding * 3
        yield regions


def test_region_loss_by_hand() -> None:
    """Equal regions have cosine 1, others 0."""
    arguments = list(images([1, 1, 2, 2], [2, 1, 1, 0]))
    loss = region_loss(*arguments, np.random.default_rng(0))
    assert loss is not None
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1 / REGION_TEMPERATURE)), rel=1e-3)
    mistaken = region_loss(arguments[0], arguments[1], arguments[2].flip(0), arguments[3], np.random.default_rng(0))
    assert mistaken is not None and float(mistaken) == pytest.approx(1 / REGION_TEMPERATURE, rel=1e-3)


def test_region_loss_needs_regions_in_both_views() -> None:
    for first, second in (([1, 1, 1, 1], [1, 1, 1, 2]), ([0, 0, 0, 0], [1, 1, 2, 2]), ([1, 1, 2, 2], [3, 3, 3, 0])):
        assert region_loss(*images(first, second), np.random.default_rng(0)) is None


def test_region_loss_pulls_alike_together() -> None:
    source, regions, target, _ = images([1, 1, 2, 2], [1, 1, 2, 2])
    mixed = (target + 1.5 * target.flip(0)).requires_grad_()
    loss = region_loss(source, regions, mixed, regions, np.random.default_rng(0))
    assert loss is not None
    loss.backward()
    assert mixed.grad is not None
    better = region_loss(source, regions, (mixed - 5 * mixed.grad).detach(), regions, np.random.default_rng(0))
    assert better is not None and float(better) < float(loss.detach())


def test_larger_patches_are_fewer() -> None:
    assert [images_for(4, patch) for patch in (96, 128, 160, 224)] == [7, 4, 3, 1]
    assert images_for(1, 224) == 1
