"""The command that pre-trains a backbone. Heavy imports wait until it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from PromptSegLib.apps.console import output, progress_bar
from PromptSegLib.errors import InputError


def pretrain(
    data: Annotated[Path, typer.Option(help="Folder whose subfolders hold the scans.")],
    out: Annotated[Path, typer.Option(help="Backbone file to write, NAME.safetensors.")],
    classes: Annotated[str, typer.Option(help="Base classes, as 1:Brainstem,2:SpinalCord; empty without labels.")] = "",
    image_name: Annotated[str, typer.Option(help="File name of each scan's image.")] = "ct.nii.gz",
    labels_name: Annotated[str, typer.Option(help="File name of each scan's label map.")] = "oar.nii.gz",
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 2000,
    active: Annotated[int, typer.Option(min=1, help="Base classes active in a step.")] = 2,
    per_class: Annotated[int, typer.Option(min=1, help="Labelled samples of each.")] = 2,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs of unlabelled views in a step; 0: labels alone.")] = 2,
    mode: Annotated[
        str, typer.Option(help="regions, or as in arXiv 2211.09233: self (no labels), meta (labels alone), meta_self.")
    ] = "regions",
    preset: Annotated[str, typer.Option(help="Sizes of the network; those for blocks need another mode.")] = "paper-2d",
    samples: Annotated[int, typer.Option(min=1, help="Places seen in a step, in modes other than regions.")] = 4,
    prompts: Annotated[
        str,
        typer.Option(help="Where the prompts of base classes go in those: full, none, or mixed with decoder alone."),
    ] = "mixed",
    assignment_weight: Annotated[
        float, typer.Option(min=0, help="Of prototype assignment beside segmentation, in the mode meta_self.")
    ] = 0.3,
    synthetic: Annotated[
        float, typer.Option(min=0, max=1, help="Share of steps on synthetic anatomy instead of unlabelled scans.")
    ] = 0.0,
    start: Annotated[str | None, typer.Option(help="Backbone to go on from, by name or file.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared scans; beside the output by default.")] = None,
    card: Annotated[Path | None, typer.Option(help="JSON file with what the model card shall say of the data.")] = None,
) -> None:
    """Pre-train a backbone; run the same command again to go on after an interruption."""
    from PromptSegLib.learning.pretraining.recipe import Recipe, Schedule
    from PromptSegLib.learning.pretraining.recipe import pretrain as pretrain_backbone
    from PromptSegLib.networks.catalog import SUFFIX
    from PromptSegLib.networks.device import keep_freed_memory

    keep_freed_memory()
    if out.suffix != SUFFIX:
        raise InputError(f"a backbone's file must end in {SUFFIX}: write {out.stem}{SUFFIX} instead of {out.name}")
    recipe = Recipe(
        data=data,
        name=out.stem,
        classes=_parse_classes(classes),
        schedule=Schedule(steps, seed=seed),
        image_name=image_name,
        labels_name=labels_name or None,
        active=active,
        per_class=per_class,
        pairs=pairs,
        mode=mode,
        preset=preset,
        samples=samples,
        prompted=prompts,
        assignment_weight=assignment_weight,
        synthetic=synthetic,
        start=start,
    )
    text = {} if card is None else _read_card(card)
    with progress_bar("Preparing", False) as prepared, progress_bar("Pre-training", False) as show:
        pretrain_backbone(
            recipe,
            out,
            cache or out.with_suffix(".cache"),
            text,
            report=lambda p: show(p.step / p.steps, "  ".join(f"{key} {value:.3f}" for key, value in p.losses.items())),
            prepared=lambda number, total: prepared(number / total, f"{number} of {total} scans"),
        )
    output.print(f"{out} and its model card {out.with_suffix('.md').name}", markup=False)


def _parse_classes(text: str) -> dict[int, str]:
    result = {}
    for part in filter(None, text.split(",")):
        number, _, name = part.partition(":")
        if not number.strip().isdigit() or not name.strip():
            raise InputError(f"'{part}' is no base class: write them as NUMBER:NAME, separated by commas")
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
