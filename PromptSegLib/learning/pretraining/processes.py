"""One pre-training run in several processes, on one machine or several, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

Item = TypeVar("Item")

_PATIENCE = timedelta(hours=12)
"""How long processes wait for each other: one may be preparing scans meanwhile. torchrun ends all when one fails."""


@dataclass(frozen=True)
class Processes:
    """This process's number among ``count``, and what all of them do together. One alone waits for nobody."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes files and reports."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """Which of ``total`` things are this process's."""
        return range(self.rank, total, self.count)

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.count > 1:
            distributed.barrier()

    def add(self, numbers: Tensor) -> None:
        """Add up ``numbers``, in place, over all processes."""
        if self.count > 1:
            distributed.all_reduce(numbers)

    def gather(self, item: Item) -> list[Item]:
        """What each process passes, in the order of their ranks, in all of them."""
        if self.count == 1:
            return [item]
        found: list[Item] = [item] * self.count
        distributed.all_gather_object(found, item)
        return found

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients, in one message. One that no process has stays None, so that the optimizer passes by."""
        if self.count == 1:
            return
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=parameters[0].device)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        message = torch.cat([present, *(g.flatten() for g in gradients)])
        self.add(message)
        sums = message[len(parameters) :].split([p.numel() for p in parameters])
        for parameter, anywhere, total in zip(parameters, message[: len(parameters)].tolist(), sums, strict=True):
            parameter.grad = total.view_as(parameter) if anywhere else None


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """The processes that ``torchrun`` started together with this one; this one alone where it did not."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """With several GPUs in a machine, that of this process."""
    if device.type != "cuda":
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


class BatchStatistics:
    """Running statistics of batch norms over a step that consists of several batches.

    Each batch is normalized by itself alone and goes on from the statistics of before the step; what remains is the
    mean of what the batches left. So it does not matter in which process a batch was seen.
    """

    def __init__(self, networks: Iterable[nn.Module]):
        modules = [module for network in networks for module in network.modules()]
        norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self.buffers = [buffer for norm in norms for buffer in norm.buffers()]

    @contextmanager
    def step(self, processes: Processes, batches: int) -> Iterator[Callable[[], None]]:
        """Around the batches of a step, of which there are ``batches`` in all processes; yields what to call after
        each of this process."""
        before = self._read()
        total = torch.zeros_like(before)

        def seen() -> None:
            total.add_(self._read())
            self._write(before)

        yield seen
        processes.add(total)
        self._write(total / batches)

    def _read(self) -> Tensor:
        return torch.cat([buffer.flatten().float() for buffer in self.buffers]) if self.buffers else torch.zeros(0)

    def _write(self, numbers: Tensor) -> None:
        parts = numbers.split([buffer.numel() for buffer in self.buffers])
        for buffer, part in zip(self.buffers, parts, strict=True):
            buffer.copy_(part.view_as(buffer))
