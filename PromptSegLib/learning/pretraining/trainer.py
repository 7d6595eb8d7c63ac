"""The pre-training loop: objectives in, backbone out; resumable after any interruption, in any number of processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import write_bytes
from PromptSegLib.learning.pretraining.contrast import Teacher
from PromptSegLib.learning.pretraining.objectives import BaseClasses, Drawn, Objective
from PromptSegLib.learning.pretraining.processes import BatchStatistics, Processes
from PromptSegLib.networks.backbone import BackboneModule

PATCHES = (96, 128, 128, 160, 224)
"""Patch edges in pixels, drawn per step: inference sees whole slices, so deep windows must know more than 128."""

PRECISIONS: dict[str, torch.dtype | None] = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}
"""What the network computes in, by name; weights and losses are of single precision in all of them."""


@dataclass(frozen=True)
class Schedule:
    """steps: optimizer steps; rates are peaks of a one-cycle schedule for the body and for the tokens.

    accumulate: batches whose mean gradient makes a step, in all processes together; precision: one of PRECISIONS;
    held: steps at the beginning in which the body stays as it is: tokens that know nothing yet would spoil one that was
    trained before.
    """

    steps: int
    body_rate: float = 1e-3
    token_rate: float = 3e-3
    weight_decay: float = 1e-2
    seed: int = 0
    checkpoint_seconds: float = 120.0
    accumulate: int = 1
    precision: str = "32"
    held: int = 0


@dataclass(frozen=True)
class Progress:
    """After a step. rates: by what they are for; samples: images seen in the step, by all processes, in ``seconds``."""

    step: int
    steps: int
    losses: dict[str, float]
    seconds_left: float
    rates: dict[str, float]
    samples: int
    seconds: float


@dataclass(frozen=True)
class _Batch:
    """One of a step's batches: its number, per objective what was drawn, and the generator as that left it."""

    number: int
    drawn: list[Drawn[Any]]
    rng: np.random.Generator


class _Steps(Dataset[list[_Batch]]):
    """The batches of each step that are this process's, drawn when asked for."""

    def __init__(self, objectives: Sequence[Objective], schedule: Schedule, processes: Processes):
        self.objectives, self.schedule, self.processes = objectives, schedule, processes

    def __getitem__(self, step: int) -> list[_Batch]:
        first = np.random.default_rng((self.schedule.seed, step))
        # One size for all batches of a step, so that no process waits for one with larger patches.
        patch = int(first.choice(PATCHES))
        batches = []
        for number in self.processes.share(self.schedule.accumulate):
            rng = np.random.default_rng((self.schedule.seed, step, number)) if number else first
            batches.append(_Batch(number, [objective.draw(rng, patch) for objective in self.objectives], rng))
        return batches


class Pretrainer:
    """Trains a network and its base classes on a list of objectives.

    Every batch of a step is drawn from a generator seeded by (seed, step, number), so a run that was killed and resumed
    from its checkpoint goes on with the samples, the rates and the moments that it would have had, and so does one that
    is spread over several processes: each takes its share of the batches.

    teacher: follows after each step. settings: what else a checkpoint must have been made with to go on from it.
    workers: processes that draw samples ahead of time; with 0, the training itself does.
    """

    def __init__(
        self,
        network: BackboneModule,
        base: BaseClasses,
        objectives: Sequence[Objective],
        schedule: Schedule,
        teacher: Teacher | None = None,
        settings: Mapping[str, object] | None = None,
        processes: Processes | None = None,
        workers: int = 0,
    ):
        self.network, self.base, self.objectives, self.schedule = network, base, list(objectives), schedule
        self.teacher, self.settings = teacher, json.dumps(settings or {}, sort_keys=True)
        self.processes, self.workers = processes or Processes(), workers
        if schedule.accumulate % self.processes.count:
            raise InputError(
                f"{self.processes.count} processes cannot share {schedule.accumulate} batches a step equally: "
                f"let --accumulate be a multiple of {self.processes.count}"
            )
        groups = [
            {"params": list(network.parameters()), "max_lr": schedule.body_rate},
            {"params": list(base.parameters()), "max_lr": schedule.token_rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.body_rate, weight_decay=schedule.weight_decay)
        # OneCycleLR divides by the length of each phase: of ten steps, the first tenth is a single one, of length 0.
        self.rates = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            [schedule.body_rate, schedule.token_rate],
            total_steps=schedule.steps,
            pct_start=0.11 if schedule.steps == 10 else 0.1,
        )
        self.dtype = PRECISIONS[schedule.precision]
        # Gradients in 16 bits vanish unless they are scaled; bf16 has the range of single precision.
        self.scaler = torch.amp.GradScaler(network.device.type, enabled=self.dtype is torch.float16)
        self.statistics = BatchStatistics([network] if teacher is None else [network, teacher])
        self.step = 0
        self.history: list[dict[str, float]] = []

    def run(self, checkpoint: Path, report: Callable[[Progress], None] = lambda progress: None) -> None:
        """Train to the end of the schedule, writing ``checkpoint`` every ``checkpoint_seconds`` and at the end.

        Of several processes, the leading one writes and reports.
        """
        if checkpoint.is_file():
            self._restore(checkpoint)
        if len(set(self.processes.gather(self.step))) > 1:
            raise InputError(f"not every process finds {checkpoint}: write --out to a folder that all of them share")
        self.network.train()
        started, first, saved = time.monotonic(), self.step, time.monotonic()
        before = started
        steps = _Steps(self.objectives, self.schedule, self.processes)
        order = range(self.step, self.schedule.steps)
        for batches in DataLoader(steps, batch_size=None, sampler=order, num_workers=self.workers):
            rates = {name: float(rate) for name, rate in zip(("body", "tokens"), self.rates.get_last_lr(), strict=True)}
            losses, samples = self._advance(batches)
            self.history.append({"step": self.step, **losses})
            now = time.monotonic()
            left = (now - started) / (self.step - first) * (self.schedule.steps - self.step)
            if self.processes.leads:
                report(Progress(self.step, self.schedule.steps, losses, left, rates, samples, now - before))
                if now - saved > self.schedule.checkpoint_seconds or self.step == self.schedule.steps:
                    self._save(checkpoint)
                    saved = time.monotonic()
            before = now

    def _advance(self, batches: Sequence[_Batch]) -> tuple[dict[str, float], int]:
        """Mean of each loss over the batches that had it, and the number of samples, of all processes."""
        self.optimizer.zero_grad(set_to_none=True)
        found: list[tuple[str, float]] = []
        with self.statistics.step(self.processes, self.schedule.accumulate) as seen:
            for batch in batches:
                torch.manual_seed(self.schedule.seed * 1_000_003 + self.step + (batch.number << 40))
                for objective, drawn in zip(self.objectives, batch.drawn, strict=True):
                    found += self._backward(objective, drawn, batch.rng)
                seen()
        if self.step < self.schedule.held:
            self.network.zero_grad()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.processes.add_gradients(parameters)
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.rates.step()
        if self.teacher is not None:
            self.teacher.follow(self.network, self.base)
        self.step += 1
        samples = sum(drawn.samples for batch in batches for drawn in batch.drawn)
        everywhere = self.processes.gather((found, samples))
        losses: dict[str, list[float]] = {}
        for name, loss in (pair for pairs, _ in everywhere for pair in pairs):
            losses.setdefault(name, []).append(loss)
        return {name: sum(values) / len(values) for name, values in losses.items()}, sum(n for _, n in everywhere)

    def _backward(self, objective: Objective, drawn: Drawn[Any], rng: np.random.Generator) -> list[tuple[str, float]]:
        """Add to the gradients, and return the losses."""
        with torch.autocast(self.network.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            found = objective(self.network, drawn, rng)
        parts = {objective.name: found} if isinstance(found, Tensor) else found
        loss = torch.stack(list(parts.values())).sum() / self.schedule.accumulate
        torch.autograd.backward(self.scaler.scale(loss))
        return [(name, float(part.detach())) for name, part in parts.items()]

    def _rates(self) -> dict[str, object]:
        """Where the one-cycle schedule stands, as JSON can hold it."""
        plain = (bool, int, float, str, list, type(None))
        return {
            "schedule": {key: value for key, value in self.rates.state_dict().items() if isinstance(value, plain)},
            "groups": [{"lr": g["lr"], "betas": list(g["betas"])} for g in self.optimizer.param_groups],
        }

    def _named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [
            *((f"network.{n}", p) for n, p in self.network.named_parameters()),
            *((f"base.{n}", p) for n, p in self.base.named_parameters()),
        ]

    def _save(self, path: Path) -> None:
        tensors: dict[str, Tensor] = {f"network.{n}": t for n, t in self.network.state_dict().items()}
        tensors |= {f"base.{n}": t for n, t in self.base.state_dict().items()}
        if self.teacher is not None:
            tensors |= {f"teacher.{n}": t for n, t in self.teacher.state_dict().items()}
        for name, parameter in self._named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        metadata = {
            "step": str(self.step),
            "rates": json.dumps(self._rates()),
            "schedule": json.dumps(asdict(self.schedule)),
            "settings": self.settings,
            "scaler": json.dumps(self.scaler.state_dict()),
            "history": json.dumps(self.history),
        }
        write_bytes(save(contiguous, metadata), path)

    def _restore(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            found = replace(
                Schedule(**json.loads(metadata["schedule"])), checkpoint_seconds=self.schedule.checkpoint_seconds
            )
            if found != self.schedule or metadata.get("settings") != self.settings:
                raise InputError(f"{path} is a checkpoint of another schedule: remove it or repeat its options")
            names: list[str] = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names}
        self.step, self.history = int(metadata["step"]), json.loads(metadata["history"])

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self.base.load_state_dict(part("base."))
        if self.teacher is not None:
            self.teacher.load_state_dict(part("teacher."))
        for name, parameter in self._named_parameters():
            if f"optimizer.step.{name}" in tensors:
                moments = {k: tensors[f"optimizer.{k}.{name}"].to(parameter) for k in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[parameter] = {"step": tensors[f"optimizer.step.{name}"], **moments}
        rates = json.loads(metadata["rates"])
        self.rates.load_state_dict(rates["schedule"])
        for group, saved in zip(self.optimizer.param_groups, rates["groups"], strict=True):
            group.update(saved)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(json.loads(metadata["scaler"]))
