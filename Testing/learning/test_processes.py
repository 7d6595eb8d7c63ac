"""Pre-training in several processes, of accumulated batches and in half precision."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from PromptSegLib.apps.cli import main
from PromptSegLib.errors import InputError
from PromptSegLib.learning.pretraining import trainer as trainer_module
from PromptSegLib.learning.pretraining.contrast import Teacher, ViewObjective
from PromptSegLib.learning.pretraining.objectives import (
    BaseClasses,
    Objective,
    RegionObjective,
    SegmentationObjective,
)
from PromptSegLib.learning.pretraining.processes import Processes
from PromptSegLib.learning.pretraining.recipe import Recipe, pretrain
from PromptSegLib.learning.pretraining.samples import ScanSampler, SliceSampler
from PromptSegLib.learning.pretraining.scans import ScanCache, find_scans
from PromptSegLib.learning.pretraining.synthetic import Mixture, SyntheticObjective, SyntheticSampler
from PromptSegLib.learning.pretraining.trainer import Pretrainer, Progress, Schedule
from PromptSegLib.learning.pretraining.views import ViewSampler, ViewSizes
from PromptSegLib.networks import presets
from PromptSegLib.networks.punet import PUNet
from Testing.support import TINY, write_scans

ROOT = Path(__file__).resolve().parents[2]
SMALL = replace(TINY, name="paper-2d", patch=(48, 48))
PATCHES = (64,)
SCHEDULE = Schedule(2, checkpoint_seconds=-1.0, accumulate=2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, SMALL.name, SMALL)
    monkeypatch.setattr(trainer_module, "PATCHES", PATCHES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def trainer_of(
    data: Path, cache: Path, mode: str, schedule: Schedule = SCHEDULE, processes: Processes | None = None
) -> Pretrainer:
    """Of slices, in half of the batches synthetic ones, or of views with a teacher."""
    scans = ScanCache(find_scans(data, "ct.nii.gz", "oar.nii.gz"), cache)
    torch.manual_seed(0)
    network = PUNet(SMALL, "small-1")
    base = BaseClasses(network, ["organ"])
    teacher, objectives = None, list[Objective]()
    if mode == "regions":
        slices = SliceSampler(scans, [1])
        index(slices)
        synthetic = SyntheticObjective(SyntheticSampler(), 1, keep_statistics=True)
        objectives += [Mixture(SegmentationObjective(slices, base, 1, 1), synthetic, 0.5), RegionObjective(slices, 1)]
    else:
        views = ViewSampler(scans, [1], ViewSizes.of(SMALL))
        index(views)
        teacher = Teacher(network, base)
        objectives.append(ViewObjective(mode, views, base, teacher, 1))
    trainer = Pretrainer(network, base, objectives, schedule, teacher, processes=processes)
    for group in trainer.optimizer.param_groups:
        # Adam divides by the size of a gradient: where that is zero, it would make steps of what was rounded.
        group["eps"] = 1e-2
    return trainer


def index(sampler: ScanSampler) -> None:
    for number in range(len(sampler.scans)):
        sampler.index(number)


def recipe_of(data: Path) -> Recipe:
    return Recipe(data, "small-1", {1: "organ"}, Schedule(1, accumulate=2), active=1, per_class=1, pairs=1)


SHARED = """
import sys
from pathlib import Path
import torch
from PromptSegLib.learning.pretraining import trainer
from PromptSegLib.learning.pretraining.processes import joined
from PromptSegLib.learning.pretraining.recipe import pretrain
from PromptSegLib.networks import presets
from Testing.learning.test_processes import PATCHES, SMALL, recipe_of, trainer_of
data, cache, out = map(Path, sys.argv[1:])
torch.set_num_threads(1)
presets.PRESETS[SMALL.name] = SMALL
trainer.PATCHES = PATCHES
with joined(torch.device("cpu")) as processes:
    assert processes.count == 2
    for mode in ("regions", "meta_self"):
        trainer_of(data, cache, mode, processes=processes).run(out / f"{mode}.checkpoint")
    pretrain(recipe_of(data), out / "small-1.safetensors", out / "cache", {}, processes=processes)
"""


@pytest.mark.slow
def test_two_processes_are_as_one(data: Path, cache: Path, tmp_path: Path) -> None:
    """Weights, statistics, teacher, moments and losses; the second run was begun by one process alone."""

    def stop(progress: Progress) -> None:
        if progress.step > 1:
            raise InterruptedError

    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    trainers = {mode: trainer_of(data, cache, mode) for mode in ("regions", "meta_self")}
    for mode, trainer in trainers.items():
        trainer.run(one / f"{mode}.checkpoint")
    with pytest.raises(InterruptedError):
        trainer_of(data, cache, "meta_self").run(two / "meta_self.checkpoint", stop)
    script = tmp_path / "shared.py"
    script.write_text(SHARED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(script), str(data), str(cache), str(two)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=240)
    for mode, trainer in trainers.items():
        expected, found = (load_file(folder / f"{mode}.checkpoint") for folder in (one, two))
        assert found.keys() == expected.keys() and any(name.endswith("running_var") for name in found)
        for name, tensor in expected.items():
            torch.testing.assert_close(
                found[name], tensor, rtol=1e-3, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
            )
        again = trainer_of(data, cache, mode)
        again.run(two / f"{mode}.checkpoint", lambda progress: pytest.fail("there was nothing left to do"))
        for entry, wanted in zip(again.history, trainer.history, strict=True):
            assert entry == pytest.approx(wanted, rel=1e-3)
    assert {path.name for path in two.iterdir()} >= {"small-1.safetensors", "small-1.md"}
    assert not (two / "small-1.checkpoint").exists()
    pretrain(recipe_of(data), one / "small-1.safetensors", cache, {})
    backbones = [load_file(folder / "small-1.safetensors") for folder in (one, two)]
    for name, tensor in backbones[0].items():
        torch.testing.assert_close(backbones[1][name], tensor, rtol=2e-3, atol=2e-3)


def test_one_batch_is_what_the_first_of_several_is(data: Path, cache: Path, tmp_path: Path) -> None:
    """A step of several batches has the mean loss, and leaves the mean statistics, of steps of each of them."""

    class One(Processes):
        def share(self, total: int) -> range:
            return range(int(self.rank), int(self.rank) + 1)

    singles = []
    for number in range(2):
        trainer = trainer_of(data, cache, "meta_self", Schedule(1))
        trainer.processes = One(number)
        trainer.run(tmp_path / f"{number}.checkpoint")
        singles.append(trainer)
    both = trainer_of(data, cache, "meta_self", Schedule(1, accumulate=2))
    both.run(tmp_path / "both.checkpoint")
    alone = trainer_of(data, cache, "meta_self", Schedule(1))
    alone.run(tmp_path / "alone.checkpoint")
    assert alone.history == singles[0].history != singles[1].history
    for name, loss in both.history[0].items():
        assert loss == pytest.approx((singles[0].history[0][name] + singles[1].history[0][name]) / 2, rel=1e-5)
    states = [trainer.network.state_dict() for trainer in (*singles, both)]
    running = [name for name in states[0] if "running" in name]
    assert running
    for name in running:
        torch.testing.assert_close(states[2][name], (states[0][name] + states[1][name]) / 2)


def test_unequal_shares_are_refused(data: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="2 processes cannot share 3 batches"):
        trainer_of(data, cache, "regions", Schedule(1, accumulate=3), Processes(0, 2))


def test_workers_draw_the_same(data: Path, cache: Path, tmp_path: Path) -> None:
    histories = []
    for workers in (0, 2):
        trainer = trainer_of(data, cache, "regions", Schedule(3))
        trainer.workers = workers
        trainer.run(tmp_path / f"{workers}.checkpoint")
        histories.append(trainer.history)
    assert histories[0] == histories[1]


@pytest.mark.parametrize("mode", ["regions", "meta_self"])
@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_half_precision(data: Path, cache: Path, tmp_path: Path, mode: str, precision: str) -> None:
    """Losses as in single precision, to a few digits; weights stay in it."""
    whole, half = (trainer_of(data, cache, mode, Schedule(1, precision=name)) for name in ("32", precision))
    before = [parameter.clone() for parameter in half.network.parameters()]
    for number, trainer in enumerate((whole, half)):
        trainer.run(tmp_path / f"{number}.checkpoint")
    assert half.history[0] == pytest.approx(whole.history[0], rel=0.05)
    assert half.history != whole.history, "it was not computed in half precision"
    parameters = list(half.network.parameters())
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in parameters)
    # Where scaled gradients overflow 16 bits, the step is left out and the scale is halved.
    overflown = precision == "16" and half.scaler.get_scale() < 2**16
    assert any(not torch.equal(p, old) for p, old in zip(parameters, before, strict=True)) != overflown
    again = trainer_of(data, cache, mode, Schedule(1, precision=precision))
    again.run(tmp_path / "1.checkpoint", lambda progress: pytest.fail("there was nothing left to do"))
    assert again.scaler.state_dict() == half.scaler.state_dict()
    with pytest.raises(InputError, match="another schedule"):
        whole.run(tmp_path / "1.checkpoint")


def test_one_command_starts_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own options, of which torchrun would take --log and --start for its own; its exit code is theirs."""
    arguments = ["pretrain", "--data", ".", "--out", "a.safetensors", "--log", "log", "--start", "b", "--devices", "2"]
    monkeypatch.setattr(sys, "argv", ["promptseg", *arguments])
    started = []

    def fail(command: list[str]) -> None:
        started.append(run.parse_args(command))
        raise ChildFailedError("promptseg", {1: ProcessFailure(local_rank=1, pid=1, exitcode=2, error_file="")})

    monkeypatch.setattr(run, "main", fail)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (options,) = started
    assert options.module and options.training_script == "PromptSegLib.apps.cli" and options.nproc_per_node == "2"
    assert options.training_script_args == arguments
