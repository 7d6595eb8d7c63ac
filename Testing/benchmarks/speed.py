"""How much faster PUNet is than its plain formulation: both in one run, in turn, on the same weights and images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from PromptSegLib.learning.losses import known_dice_focal
from PromptSegLib.learning.pretraining.objectives import BaseClasses
from PromptSegLib.networks.backbone import freeze
from PromptSegLib.networks.head import class_logits, head_shapes, similarity_logits
from PromptSegLib.networks.presets import PRESETS
from PromptSegLib.networks.punet import PUNet
from Testing.benchmarks.plots import plot_bars
from Testing.benchmarks.results import write_csv
from Testing.networks.plain_punet import PlainPUNet, plain_logits

BATCH = 4
PRETRAINING_PATCH = (128, 128)
PRETRAINING = f"pre-training step of {BATCH} slices, {' × '.join(map(str, PRETRAINING_PATCH))}, all weights"


@dataclass(frozen=True)
class Row:
    """One comparison: median seconds of each side, and the ratio that is asked of the fast one."""

    name: str
    plain_seconds: float
    fast_seconds: float
    required: float | None

    @property
    def ratio(self) -> float:
        return self.plain_seconds / self.fast_seconds


def matmul_rate() -> float:
    """GFLOP/s of a 2048^3 product in fp32: what the machine can do at best, to judge the times by."""
    a, b = torch.randn(2, 2048, 2048)
    return max(2 * 2048**3 / seconds(lambda: a @ b) for _ in range(5)) / 1e9


def seconds(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def compare(
    name: str, plain: Callable[[], object], fast: Callable[[], object], required: float | None, repeats: int
) -> Row:
    """In turn, so that whatever else the machine does meets both; the first turn warms up and does not count."""
    times = [(seconds(plain), seconds(fast)) for _ in range(repeats + 1)][1:]
    plain_times, fast_times = zip(*times, strict=True)
    return Row(name, median(plain_times), median(fast_times), required)


def run(repeats: int = 5) -> list[Row]:
    """The comparisons for the 2-D preset on all cores: at its patch size, and a step of pre-training at its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        return _run(repeats)
    finally:
        torch.set_num_threads(threads)


def _run(repeats: int) -> list[Row]:
    torch.manual_seed(0)
    preset = PRESETS["paper-2d"]
    network = PUNet(preset)
    freeze(network)
    plain = PlainPUNet.of(network)
    images = torch.rand(BATCH, 1, *preset.patch) * 2 - 1
    target = (torch.rand(BATCH, *preset.patch) > 0.9).float()

    def make_prompts(variant: str) -> dict[str, Tensor]:
        shapes = network.prompt_shapes(variant) | head_shapes(network.embedding_channels)
        return {name: (0.1 * torch.randn(1, *shape)).requires_grad_() for name, shape in shapes.items()}

    full, decoder = make_prompts("full"), make_prompts("decoder")

    def fast_logits(image: Tensor, prompts: dict[str, Tensor]) -> Tensor:
        return class_logits(network.decode_levels(network.encode(image, prompts), prompts), prompts, preset.patch)

    def slow_logits(image: Tensor, prompts: dict[str, Tensor]) -> Tensor:
        return plain_logits(plain.decode(plain.encode(image, prompts), prompts), prompts, preset.patch)

    def tune(logits: Callable[[Tensor, dict[str, Tensor]], Tensor], prompts: dict[str, Tensor]) -> None:
        """Forward and backward down to the prompts; the optimizer's own step is the same for both, and tiny."""
        for tensor in prompts.values():
            tensor.grad = None
        F.binary_cross_entropy_with_logits(logits(images, prompts), target).backward()

    with torch.no_grad():
        kept = network.encode(images)

    def kept_logits(image: Tensor, prompts: dict[str, Tensor]) -> Tensor:
        """On features that were made once, before tuning."""
        return class_logits(network.decode_levels(kept, prompts), prompts, preset.patch)

    rows = []
    with torch.no_grad():
        slice_name = "forward of one slice"
        one = images[:1]
        rows.append(compare(slice_name, lambda: slow_logits(one, full), lambda: fast_logits(one, full), 2.5, repeats))
    step = f"tuning step of {BATCH} slices"
    rows.append(
        compare(f"{step}, full prompts", lambda: tune(slow_logits, full), lambda: tune(fast_logits, full), 2.5, repeats)
    )
    kept_step = f"{step}, decoder prompts on kept features"
    rows.append(
        compare(
            f"{kept_step} (plain: full prompts)",
            lambda: tune(slow_logits, full),
            lambda: tune(kept_logits, decoder),
            5,
            repeats,
        )
    )
    rows.append(
        compare(
            f"{kept_step} (plain: decoder prompts)",
            lambda: tune(slow_logits, decoder),
            lambda: tune(kept_logits, decoder),
            None,
            repeats,
        )
    )
    rows.append(_pretraining(repeats))
    return rows


def _pretraining(repeats: int) -> Row:
    """Forward and backward down to all weights and to the prompts of a class per slice, in all blocks; again without
    the optimizer's own step, and with one loss for both."""
    network = PUNet(PRESETS["paper-2d"]).train()
    plain = PlainPUNet.of(network)
    base = BaseClasses(network, [str(number) for number in range(BATCH)])
    images = torch.rand(BATCH, 1, *PRETRAINING_PATCH) * 2 - 1
    target = (torch.rand(BATCH, *PRETRAINING_PATCH) > 0.9).float()

    def step(body: nn.Module, logits: Callable[[dict[str, Tensor]], Tensor]) -> None:
        body.zero_grad()
        base.zero_grad()
        known_dice_focal(logits(base.prompts(torch.arange(BATCH))), target, torch.ones_like(target)).backward()

    def fast_logits(prompts: dict[str, Tensor]) -> Tensor:
        embedding = network.decode(network.encode(images, prompts, paired=True), prompts)
        return similarity_logits(embedding, prompts, PRETRAINING_PATCH)

    def slow_logits(prompts: dict[str, Tensor]) -> Tensor:
        embedding = plain.decode(plain.encode(images, prompts, paired=True), prompts)
        return plain_logits(embedding, prompts, PRETRAINING_PATCH)

    return compare(PRETRAINING, lambda: step(plain, slow_logits), lambda: step(network, fast_logits), 2.5, repeats)


def main(repeats: int = typer.Option(5, help="Timed turns of each side; the median counts.")) -> None:
    """Time PUNet against its plain formulation and print a table."""
    report(Console(), repeats)


def report(console: Console, repeats: int, out: Path | None = None, plot_folder: Path | None = None) -> None:
    """Time both, print a table; out, plot_folder: where to write speed.csv and speed.png."""
    rows = run(repeats)
    if out is not None:
        write_csv(out / "speed.csv", [astuple(row) for row in rows], [f.name for f in fields(Row)])
    if plot_folder is not None:
        sides = {r.name: [("plain", 1000 * r.plain_seconds), ("fast", 1000 * r.fast_seconds)] for r in rows}
        plot_bars(plot_folder / "speed.png", "PUNet, 224 × 224", {"ms": sides})
    cores = os.cpu_count() or 1
    torch.set_num_threads(cores)
    rates = next((BATCH / r.plain_seconds, BATCH / r.fast_seconds) for r in rows if r.name == PRETRAINING)
    table = Table(
        title="PUNet, 224 × 224",
        caption=f"{cores} cores, {matmul_rate():.0f} GFLOP/s in a 2048³ fp32 product; median of {repeats}. "
        f"Pre-training: {rates[0]:.2f} samples per second plain, {rates[1]:.2f} fast",
    )
    table.add_column("")
    for heading in ("plain, ms", "fast, ms", "ratio", "required"):
        table.add_column(heading, justify="right")
    for row in rows:
        color = "green" if row.required is None or row.ratio >= row.required else "red"
        table.add_row(
            row.name,
            f"{1000 * row.plain_seconds:.0f}",
            f"{1000 * row.fast_seconds:.0f}",
            f"[{color}]{row.ratio:.1f}[/]",
            "" if row.required is None else f"{row.required:g}",
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
