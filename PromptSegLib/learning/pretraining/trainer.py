"""The pre-training loop: objectives in, backbone out; resumable after any interruption."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import write_bytes
from PromptSegLib.learning.pretraining.contrast import Teacher
from PromptSegLib.learning.pretraining.objectives import BaseClasses, Objective
from PromptSegLib.networks.backbone import BackboneModule

PATCHES = (96, 128, 128, 160, 224)
"""Patch edges in pixels, drawn per step: inference sees whole slices, so deep windows must know more than 128."""


@dataclass(frozen=True)
class Schedule:
    """steps: optimizer steps; rates are peaks of a one-cycle schedule for the body and for the tokens."""

    steps: int
    body_rate: float = 1e-3
    token_rate: float = 3e-3
    weight_decay: float = 1e-2
    seed: int = 0
    checkpoint_seconds: float = 120.0


@dataclass(frozen=True)
class Progress:
    step: int
    steps: int
    losses: dict[str, float]
    seconds_left: float


class Pretrainer:
    """Trains a network and its base classes on a list of objectives.

    Every step draws its samples from a generator seeded by (seed, step), so a run that was killed and resumed from its
    checkpoint goes on with the samples, the rates and the moments that it would have had.

    teacher: follows after each step. settings: what else a checkpoint must have been made with to go on from it.
    """

    def __init__(
        self,
        network: BackboneModule,
        base: BaseClasses,
        objectives: Sequence[Objective],
        schedule: Schedule,
        teacher: Teacher | None = None,
        settings: Mapping[str, object] | None = None,
    ):
        self.network, self.base, self.objectives, self.schedule = network, base, list(objectives), schedule
        self.teacher, self.settings = teacher, json.dumps(settings or {}, sort_keys=True)
        groups = [
            {"params": list(network.parameters()), "max_lr": schedule.body_rate},
            {"params": list(base.parameters()), "max_lr": schedule.token_rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=schedule.body_rate, weight_decay=schedule.weight_decay)
        self.rates = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, [schedule.body_rate, schedule.token_rate], total_steps=schedule.steps, pct_start=0.1
        )
        self.step = 0
        self.history: list[dict[str, float]] = []

    def run(self, checkpoint: Path, report: Callable[[Progress], None] = lambda progress: None) -> None:
        """Train to the end of the schedule, writing ``checkpoint`` every ``checkpoint_seconds`` and at the end."""
        if checkpoint.is_file():
            self._restore(checkpoint)
        self.network.train()
        started, first, saved = time.monotonic(), self.step, time.monotonic()
        while self.step < self.schedule.steps:
            losses = self._advance()
            self.history.append({"step": self.step, **losses})
            left = (time.monotonic() - started) / (self.step - first) * (self.schedule.steps - self.step)
            report(Progress(self.step, self.schedule.steps, losses, left))
            if time.monotonic() - saved > self.schedule.checkpoint_seconds or self.step == self.schedule.steps:
                self._save(checkpoint)
                saved = time.monotonic()

    def _advance(self) -> dict[str, float]:
        rng = np.random.default_rng((self.schedule.seed, self.step))
        torch.manual_seed(self.schedule.seed * 1_000_003 + self.step)
        patch = int(rng.choice(PATCHES))
        self.optimizer.zero_grad(set_to_none=True)
        losses: dict[str, float] = {}
        for objective in self.objectives:
            found = objective(self.network, rng, patch)
            parts = {objective.name: found} if isinstance(found, Tensor) else found
            torch.autograd.backward(torch.stack(list(parts.values())).sum())
            losses |= {name: float(loss.detach()) for name, loss in parts.items()}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimizer.step()
        self.rates.step()
        if self.teacher is not None:
            self.teacher.follow(self.network, self.base)
        self.step += 1
        return losses

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
            "history": json.dumps(self.history),
        }
        write_bytes(save(contiguous, metadata), path)

    def _restore(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            wanted = {k: v for k, v in asdict(self.schedule).items() if k != "checkpoint_seconds"}
            found = {k: v for k, v in json.loads(metadata["schedule"]).items() if k != "checkpoint_seconds"}
            if wanted != found or metadata.get("settings") != self.settings:
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
            state = {key: tensors.get(f"optimizer.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if all(value is not None for value in state.values()):
                self.optimizer.state[parameter] = state
        rates = json.loads(metadata["rates"])
        self.rates.load_state_dict(rates["schedule"])
        for group, saved in zip(self.optimizer.param_groups, rates["groups"], strict=True):
            group.update(saved)
