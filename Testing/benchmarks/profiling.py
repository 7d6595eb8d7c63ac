"""``python -m Testing.benchmarks.profiling``: where the time goes, and how far the network is from its limit."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from PromptSegLib.apps.demo import draw_slices
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.interpolation import DrawnShape
from PromptSegLib.imaging.phantom import LABELS, make_phantom
from PromptSegLib.imaging.working_grid import WorkingGrid
from PromptSegLib.inference import components, neighborhood
from PromptSegLib.inference.drawn import Drawn, fuse
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.prototypes import kmeans
from PromptSegLib.learning.tuning import TuningOptions, tune
from PromptSegLib.networks.device import keep_freed_memory
from PromptSegLib.networks.head import class_logits
from PromptSegLib.networks.punet import PUNet
from PromptSegLib.networks.weights import DEFAULT_BACKBONE, find_backbone, load_backbone
from Testing.benchmarks.speed import matmul_rate, seconds

SHAPE, SPACING = (100, 200, 200), (3.0, 1.8, 1.8)
DRAWN_SLICES = 5
CLASSES = (1, 2, 4, 8)
HEAD_ALONE = "end"
"""The prompting without deep prompts."""

STAGES: dict[str, tuple[Callable[..., Any], ...]] = {
    "encoder": (PUNet.encode,),
    "decoder, forward": (PUNet.decode_levels,),
    "scores": (class_logits,),
    "backward": (torch.autograd.backward,),
    "prototypes": (kmeans,),
    "to and from the working grid": (WorkingGrid.to_working, WorkingGrid.from_working),
    "shape between drawn slices": (DrawnShape.__init__, fuse),
    "random walk": (neighborhood.random_walk,),
    "pieces": (components.keep_pieces,),
}
"""Functions none of which calls another one of them."""


def shares(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of each stage; of everything else; and of all together."""
    profile = cProfile.Profile()
    profile.runcall(work)
    statistics = pstats.Stats(profile)
    by_code = {key: found[3] for key, found in statistics.stats.items()}  # type: ignore[attr-defined]
    spent = {
        name: sum(by_code.get((c.co_filename, c.co_firstlineno, c.co_name), 0.0) for c in map(_code, functions))
        for name, functions in STAGES.items()
    }
    total = statistics.total_tt  # type: ignore[attr-defined]
    return {**spent, "everything else": total - sum(spent.values()), "together": total}


def _code(function: Callable[..., Any]) -> Any:
    plain = getattr(function, "__func__", function)
    return getattr(plain, "__wrapped__", plain).__code__


def gigaflops(work: Callable[[], object], repeats: int = 5) -> tuple[float, float]:
    """Of one call: billions of multiplications and additions in convolutions and matrix products, and least seconds."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9, min(seconds(work) for _ in range(repeats))


def main() -> None:
    keep_freed_memory()
    console, network = Console(), load_backbone(find_backbone(DEFAULT_BACKBONE))
    phantom = make_phantom(0, SHAPE, SPACING)
    drawing, _ = draw_slices(phantom.labels.array == LABELS["left kidney"], DRAWN_SLICES)
    labels = phantom.image.with_array(drawing)
    annotation = Annotation.from_label_map(labels, 1, axis=0)
    scan = DrawnScan(phantom.image, annotation)
    drawn = Drawn(labels, {1: (annotation.axis, annotation.drawn)})
    # Whatever is made once in the life of a process is not of interest here.
    tune([scan], "Kidney", network, TuningOptions(steps=1, probe_steps=1))
    tokens = []
    learning = shares(lambda: tokens.append(tune([scan], "Kidney", network, TuningOptions("decoder", seconds=600))))
    segmenting = shares(lambda: Segmenter(network, tokens).segment(phantom.image, drawn))

    table = Table("", "learning, s", "share", "segmenting, s", "share", title="200 x 200 x 100 voxels, 5 drawn slices")
    for name in learning:
        cells = [(spent[name], spent[name] / spent["together"]) for spent in (learning, segmenting)]
        table.add_row(name, *(text for s, share in cells for text in (f"{s:.2f}", f"{share:.0%}")))
    console.print(table)

    image = torch.rand(1, 1, *network.preset.patch) * 2 - 1
    prompts = {name: torch.from_numpy(n)[None] for name, n in tokens[0].numbers.items()}
    rate = matmul_rate()
    table = Table("one slice", "GFLOP", "s", "GFLOP/s", "of the machine's", title=f"{rate:.0f} GFLOP/s in a product")
    with torch.no_grad():
        features = network.encode(image)
        works = {"encoder": lambda: network.encode(image), "decoder": lambda: network.decode(features, prompts)}
        for name, work in works.items():
            count, least = gigaflops(work)
            table.add_row(name, f"{count:.1f}", f"{least:.3f}", f"{count / least:.0f}", f"{count / least / rate:.0%}")
    console.print(table)

    # The same token several times: what a class costs does not depend on which one it is.
    tokens.append(tune([scan], "Kidney", network, TuningOptions(prompting=HEAD_ALONE, seconds=600)))
    table = Table("classes", title="looked for in another scan, at one working spacing")
    other, columns = make_phantom(1, SHAPE, SPACING).image, []
    for token in tokens:
        spent = [seconds(partial(Segmenter(network, [token] * n).segment, other)) for n in CLASSES]
        columns.append([(f"{one:.1f}", f"{one / spent[0]:.2f}") for one in spent])
        table.add_column(f"{token.prompting}, s")
        table.add_column("to one class")
    for count, *cells in zip(CLASSES, *columns, strict=True):
        table.add_row(str(count), *(text for pair in cells for text in pair))
    console.print(table)


if __name__ == "__main__":
    main()
