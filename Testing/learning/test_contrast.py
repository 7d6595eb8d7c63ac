"""Pre-training on views: teacher and student, the modes, and a run that goes on as if it had never been killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import write_image
from PromptSegLib.learning.pretraining.contrast import Teacher, ViewObjective
from PromptSegLib.learning.pretraining.objectives import BaseClasses
from PromptSegLib.learning.pretraining.recipe import Recipe, pretrain
from PromptSegLib.learning.pretraining.scans import ScanCache, find_scans
from PromptSegLib.learning.pretraining.trainer import Pretrainer, Progress, Schedule
from PromptSegLib.learning.pretraining.views import ViewSampler, ViewSizes
from PromptSegLib.networks import presets
from PromptSegLib.networks.catalog import read_info
from PromptSegLib.networks.punet import PUNet
from PromptSegLib.networks.weights import load_backbone
from Testing.support import TINY, TINY_SWIN, TINY_UNETR, loss_of, scan

ROOT = Path(__file__).resolve().parents[2]
SMALL = replace(TINY, name="paper-2d", patch=(48, 48))
BLOCK = replace(TINY, name="paper-3d-flat", patch=(48, 48, 4), window=(4, 4, 2))
SCHEDULE = Schedule(4, checkpoint_seconds=-1.0)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for preset in (SMALL, BLOCK, TINY_UNETR, TINY_SWIN):
        monkeypatch.setitem(presets.PRESETS, preset.name, preset)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans with an organ; the last one without labels."""
    folder = tmp_path_factory.mktemp("scans")
    for number in range(3):
        image, truth = scan(seed=number)
        (folder / f"scan{number}").mkdir()
        write_image(image, folder / f"scan{number}" / "ct.nii.gz")
        if number < 2:
            write_image(image.with_array(truth.astype(np.uint8)), folder / f"scan{number}" / "oar.nii.gz")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def objective_of(
    data: Path, cache: Path, mode: str = "meta_self", prompted: str = "full", samples: int = 2
) -> tuple[PUNet, BaseClasses, ViewObjective]:
    labels = [] if mode == "self" else [1]
    scans = ScanCache(find_scans(data, "ct.nii.gz", "oar.nii.gz"), cache)
    sampler = ViewSampler(scans, labels, ViewSizes.of(SMALL), unlabelled=mode != "meta")
    for number in range(len(scans)):
        sampler.index(number)
    torch.manual_seed(0)
    network = PUNet(SMALL, "small-1").train()
    base = BaseClasses(network, ["organ"])
    teacher = None if mode == "meta" else Teacher(network, base)
    return network, base, ViewObjective(mode, sampler, base, teacher, samples, prompted=prompted)


def test_the_teacher_follows() -> None:
    torch.manual_seed(0)
    network = PUNet(SMALL, "small-1")
    base = BaseClasses(network, ["organ"])
    teacher = Teacher(network, base, momentum=0.9)
    for own, other in zip(teacher.network.parameters(), network.parameters(), strict=True):
        assert torch.equal(own, other) and own.data_ptr() != other.data_ptr() and not own.requires_grad
    with torch.no_grad():
        for parameter in (*network.parameters(), *base.parameters()):
            parameter.fill_(2.0)
        for parameter in teacher.parameters():
            parameter.fill_(1.0)
    for expected in (1.1, 1.19):
        teacher.follow(network, base)
        for name, own in teacher.named_parameters():
            assert torch.allclose(own, torch.tensor(expected)), name
    assert all(bool((p == 2).all()) for p in (*network.parameters(), *base.parameters()))


@pytest.mark.parametrize(
    ("mode", "names"),
    [("self", {"assignment"}), ("meta", {"segmentation"}), ("meta_self", {"segmentation", "assignment"})],
)
@pytest.mark.parametrize("prompted", ["full", "none"])
def test_what_each_mode_trains(data: Path, cache: Path, mode: str, names: set[str], prompted: str) -> None:
    """The body always; prompts if they are seen; the head if something is segmented; the teacher never."""
    network, base, objective = objective_of(data, cache, mode, prompted)
    losses = loss_of(objective, network, np.random.default_rng(0))
    assert set(losses) == names and all(loss.item() > 0 for loss in losses.values())
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    assert all(p.grad is not None and p.grad.any() for n, p in network.named_parameters() if "stem" in n)
    for name, numbers in base.numbers.items():
        trained = mode != "self" if name.startswith("head") else prompted == "full"
        assert trained == (numbers.grad is not None and bool(numbers.grad.any())), name
    if objective.teacher is not None:
        assert all(p.grad is None for p in objective.teacher.parameters())


def test_mixed_prompts_spare_the_encoder_in_half_of_the_steps(data: Path, cache: Path) -> None:
    network, base, objective = objective_of(data, cache, "self", "mixed")
    spared = 0
    for seed in range(12):
        base.zero_grad()
        torch.autograd.backward(loss_of(objective, network, np.random.default_rng(seed))["assignment"])
        assert base.numbers["decoder/0/tokens"].grad is not None
        spared += base.numbers["encoder/0/tokens"].grad is None
    assert 2 <= spared <= 10


def test_nothing_is_segmented_where_nothing_was_drawn(data: Path, cache: Path) -> None:
    network, _, objective = objective_of(data, cache)
    objective.sampler.shown = {2: []}
    losses = loss_of(objective, network, np.random.default_rng(0))
    assert losses["segmentation"].item() == 0 and losses["assignment"].item() > 0


def test_the_weight_scales_the_assignment(data: Path, cache: Path) -> None:
    losses = []
    for weight in (1e-2, 1.0):
        network, _, objective = objective_of(data, cache)
        objective.weight = weight
        losses.append(loss_of(objective, network, np.random.default_rng(0)))
    assert losses[1]["assignment"].item() == pytest.approx(100 * losses[0]["assignment"].item(), rel=1e-4)
    assert losses[1]["segmentation"].item() == pytest.approx(losses[0]["segmentation"].item(), rel=1e-4)


def trainer_of(data: Path, cache: Path, schedule: Schedule = SCHEDULE, samples: int = 2) -> Pretrainer:
    network, base, objective = objective_of(data, cache, prompted="mixed", samples=samples)
    return Pretrainer(network, base, [objective], schedule, objective.teacher, {"samples": samples})


@pytest.mark.slow
def test_both_losses_fall(data: Path, cache: Path, tmp_path: Path) -> None:
    trainer = trainer_of(data, cache, Schedule(40, checkpoint_seconds=1000.0), samples=3)
    trainer.run(tmp_path / "a.checkpoint")
    for name in ("segmentation", "assignment"):
        losses = [entry[name] for entry in trainer.history]
        assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10]), name


class PowerCutError(Exception):
    """Stands in for a power cut in the middle of a step."""


def test_resumed_it_is_as_if_never_interrupted(data: Path, cache: Path, tmp_path: Path) -> None:
    whole = trainer_of(data, cache)
    assert whole.teacher is not None
    start = [parameter.clone() for parameter in whole.teacher.network.parameters()]
    whole.run(tmp_path / "whole.checkpoint")
    for before, own, other in zip(start, whole.teacher.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(before, own) == torch.equal(before, other), "the teacher follows what the student learns"

    def stop(progress: Progress) -> None:
        if progress.step > 2:
            raise PowerCutError

    checkpoint = tmp_path / "killed.checkpoint"
    with pytest.raises(PowerCutError):
        trainer_of(data, cache).run(checkpoint, stop)
    resumed = trainer_of(data, cache)
    resumed.run(checkpoint)
    assert resumed.history == whole.history and resumed.teacher is not None
    for one, other in (
        (whole.network, resumed.network),
        (whole.base, resumed.base),
        (whole.teacher, resumed.teacher),
    ):
        for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b), name


def test_a_checkpoint_of_other_settings(data: Path, cache: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.checkpoint"
    trainer_of(data, cache, Schedule(1)).run(checkpoint)
    with pytest.raises(InputError, match="repeat its options"):
        trainer_of(data, cache, Schedule(1), samples=3).run(checkpoint)


def recipe_of(data: Path, mode: str = "meta_self", preset: str = SMALL.name) -> Recipe:
    classes = {} if mode == "self" else {1: "organ"}
    return Recipe(data, "small-1", classes, SCHEDULE, preset, mode=mode, samples=2)


KILLED = """
import sys, time
from pathlib import Path
import torch
from PromptSegLib.learning.pretraining.recipe import pretrain
from PromptSegLib.networks import presets
from Testing.learning.test_contrast import SMALL, recipe_of
torch.set_num_threads(int(sys.argv[4]))
presets.PRESETS[SMALL.name] = SMALL
def report(progress):
    if progress.step == 3:
        print("killable", flush=True)
        time.sleep(600)
pretrain(recipe_of(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), {}, report)
"""


@pytest.mark.slow
def test_a_killed_process_goes_on(data: Path, cache: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "small-1.safetensors", tmp_path / "other.safetensors"
    arguments = [str(data), str(out), str(cache), str(torch.get_num_threads())]
    with subprocess.Popen([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"killable\n"
        process.send_signal(signal.SIGKILL)
    curves: list[list[Progress]] = [[], []]
    pretrain(recipe_of(data), out, cache, {}, curves[0].append)
    pretrain(recipe_of(data), other, cache, {}, curves[1].append)
    assert [progress.step for progress in curves[0]] == [3, 4]
    assert [p.losses for p in curves[0]] == [p.losses for p in curves[1][2:]]
    expected = load_file(other)
    for name, tensor in load_file(out).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    ("mode", "preset"),
    [
        *((mode, preset.name) for mode in ("self", "meta", "meta_self") for preset in (SMALL, BLOCK)),
        *(("meta_self", preset.name) for preset in (TINY_UNETR, TINY_SWIN)),
    ],
)
def test_writes_a_backbone(data: Path, cache: Path, tmp_path: Path, mode: str, preset: str) -> None:
    out = tmp_path / "small-1.safetensors"
    pretrain(replace(recipe_of(data, mode, preset), schedule=Schedule(1)), out, cache, {})
    info = read_info(out)
    assert info.preset == preset and info.card["objectives"] == [mode] and info.card["prompts"] == "mixed"
    assert info.card["samples per step"] == {"views": 2}
    assert load_backbone(out).preset == presets.PRESETS[preset]


def test_refusals(data: Path, cache: Path, tmp_path: Path) -> None:
    recipe, out = recipe_of(data), tmp_path / "small-1.safetensors"
    for wrong, match in (
        (replace(recipe, mode="other"), "no mode 'other'"),
        (replace(recipe, prompted="other"), "cannot go 'other'"),
        (replace(recipe, mode="self"), "without labels"),
        (replace(recipe, classes={}), "meta_self learns from labels"),
        (replace(recipe, mode="meta", classes={}), "meta learns from labels"),
        (replace(recipe, classes={7: "liver"}), "has the base class liver"),
    ):
        with pytest.raises(InputError, match=match):
            pretrain(wrong, out, cache, {})
    assert not list(tmp_path.iterdir())
