"""The command that pre-trains a backbone. Heavy imports wait until it runs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from PromptSegLib.apps.console import output, progress_bar
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import require_folder


def pretrain(
    data: Annotated[Path, typer.Option(help="Folder with scans: image files, or folders of DICOM slices.")],
    out: Annotated[Path, typer.Option(help="Backbone file to write, NAME.safetensors.")],
    classes: Annotated[str, typer.Option(help="Base classes, as 1:Brainstem,2:SpinalCord; empty without labels.")] = "",
    labels: Annotated[
        Path | None, typer.Option(help="Folder with label maps, called as their images are; by default beside them.")
    ] = None,
    image_name: Annotated[
        str | None, typer.Option(help="File name of each scan's image; ct.nii.gz by default, or all if there is none.")
    ] = None,
    labels_name: Annotated[str, typer.Option(help="File name of each scan's label map.")] = "oar.nii.gz",
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 2000,
    rate: Annotated[
        float, typer.Option(min=1e-6, max=1, help="Highest learning rate of the network; base classes keep theirs.")
    ] = 1e-3,
    active: Annotated[int, typer.Option(min=1, help="Base classes active in a step.")] = 2,
    per_class: Annotated[int, typer.Option(min=1, help="Labelled samples of each.")] = 2,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs of unlabelled views in a step; 0: labels alone.")] = 2,
    mode: Annotated[
        str, typer.Option(help="regions, or as in arXiv 2211.09233: self (no labels), meta (labels alone), meta_self.")
    ] = "regions",
    preset: Annotated[str, typer.Option(help="Family and sizes of the network, see backbones presets.")] = "paper-2d",
    samples: Annotated[int, typer.Option(min=1, help="Places seen in a step, in modes other than regions.")] = 4,
    prompts: Annotated[
        str,
        typer.Option(help="Where the prompts of base classes go in those: full, none, or mixed with decoder alone."),
    ] = "mixed",
    assignment_weight: Annotated[
        float, typer.Option(min=0, help="Of prototype assignment beside segmentation, in the mode meta_self.")
    ] = 0.3,
    across: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the pairs that show a base class in two patients.")
    ] = 0.0,
    synthetic: Annotated[
        float, typer.Option(min=0, max=1, help="Share of steps on synthetic anatomy instead of unlabelled scans.")
    ] = 0.0,
    start: Annotated[str | None, typer.Option(help="Backbone to go on from, by name or file.")] = None,
    held: Annotated[
        int | None,
        typer.Option(
            min=0, help="First steps in which only base classes learn; with --start and --classes a tenth of all."
        ),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(min=1, help="Batches whose mean gradient makes a step, in all processes; one each by default."),
    ] = None,
    precision: Annotated[str, typer.Option(help="What the network computes in: 32, bf16 or 16.")] = "32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Processes on this machine, one for each GPU.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Further processes that draw samples ahead of time.")] = 0,
    log: Annotated[Path | None, typer.Option(help="Folder for TensorBoard: losses, rates, similarity maps.")] = None,
    keep_every: Annotated[
        int, typer.Option(min=0, help="Steps after which the backbone is kept as it is then, NAME-stepN; 0: never.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared scans; beside the output by default.")] = None,
    card: Annotated[Path | None, typer.Option(help="JSON file with what the model card shall say of the data.")] = None,
) -> None:
    """Pre-train a backbone; run the same command again to go on after an interruption. No finished one is replaced.

    On several machines, torchrun starts it: torchrun --nnodes 2 … -m -- PromptSegLib.apps.cli pretrain …
    """
    if devices > 1 and "WORLD_SIZE" not in os.environ:
        _start(devices)
        return
    from PromptSegLib.learning.pretraining.processes import joined, own_device
    from PromptSegLib.learning.pretraining.recipe import Recipe, Schedule
    from PromptSegLib.learning.pretraining.recipe import pretrain as pretrain_backbone
    from PromptSegLib.networks.catalog import SUFFIX
    from PromptSegLib.networks.device import find_device, keep_freed_memory

    keep_freed_memory()
    if out.suffix != SUFFIX:
        raise InputError(f"a backbone's file must end in {SUFFIX}: write {out.stem}{SUFFIX} instead of {out.name}")
    text = {} if card is None else _read_card(card)
    cache = cache or out.with_suffix(".cache")
    require_folder(cache, "prepared scans")
    if log is not None:
        require_folder(log, "logs")
    if held is None:
        held = steps // 10 if start is not None and classes else 0
    chosen = own_device(find_device(device))
    with joined(chosen) as processes:
        recipe = Recipe(
            data=data,
            name=out.stem,
            classes=_parse_classes(classes),
            schedule=Schedule(
                steps,
                body_rate=rate,
                seed=seed,
                accumulate=accumulate or processes.count,
                precision=precision,
                held=held,
            ),
            image_name=image_name,
            labels_name=labels_name,
            labels=labels,
            active=active,
            per_class=per_class,
            pairs=pairs,
            mode=mode,
            preset=preset,
            samples=samples,
            prompted=prompts,
            assignment_weight=assignment_weight,
            across=across,
            synthetic=synthetic,
            start=start,
        )
        quiet = not processes.leads
        with progress_bar("Preparing", quiet) as prepared, progress_bar("Pre-training", quiet) as show:
            pretrain_backbone(
                recipe,
                out,
                cache,
                text,
                report=lambda p: show(p.step / p.steps, _losses(p.losses)),
                prepared=lambda number, total: prepared(number / total, f"{number} of {total} scans"),
                device=chosen,
                processes=processes,
                workers=workers,
                log=log,
                keep_every=keep_every,
            )
    if processes.leads:
        output.print(f"{out} and its model card {out.with_suffix('.md').name}", markup=False)


def _start(count: int) -> None:
    """This very command again, in ``count`` processes that work together; its exit code if one of them fails."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # What follows two dashes is not torchrun's to understand.
    command = ["--standalone", f"--nproc-per-node={count}", "--module", "--", "PromptSegLib.apps.cli", *sys.argv[1:]]
    try:
        run.main(command)
    except ChildFailedError as error:
        raise typer.Exit(max(1, *(failure.exitcode for failure in error.failures.values()))) from None
    except SignalException:
        raise KeyboardInterrupt from None


def _losses(losses: dict[str, float]) -> str:
    return "  ".join(f"{key} {value:.3f}" for key, value in losses.items())


def _parse_classes(text: str) -> dict[int, str]:
    result = dict[int, str]()
    for part in filter(None, text.split(",")):
        number, _, name = part.partition(":")
        if not number.strip().isdecimal() or not name.strip():
            raise InputError(f"'{part}' is no base class: write them as NUMBER:NAME, separated by commas")
        if int(number) in result or name.strip() in result.values():
            raise InputError(f"'{part}' repeats a number or a name of --classes: give each base class its own")
        result[int(number)] = name.strip()
    return result


def _read_card(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"there is no model card {path}: check --card")
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): mend it") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} must hold one JSON object of texts: mend it")
    return data
