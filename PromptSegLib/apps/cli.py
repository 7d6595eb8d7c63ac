"""The command line. Heavy imports wait until a command needs them, so that help and listings come at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from PromptSegLib import __version__
from PromptSegLib.apps import center_commands, token_commands
from PromptSegLib.apps.console import (
    BAD_INPUT,
    INTERRUPTED,
    Interruption,
    Json,
    accept_all_characters,
    errors,
    output,
    print_description,
    print_json,
    progress_bar,
    remark,
    spread_lists,
)
from PromptSegLib.apps.pretraining import pretrain
from PromptSegLib.errors import InputError
from PromptSegLib.threads import let_threads_sleep

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
backbones_app = typer.Typer(no_args_is_help=True, help="Look at backbones.")
app.add_typer(token_commands.tokens_app, name="tokens")
app.add_typer(backbones_app, name="backbones")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
BackboneOption = Annotated[str | None, typer.Option(help="Name or file of the backbone; the shipped one by default.")]
Series = Annotated[str | None, typer.Option(help="Which series of a DICOM folder, by number or id.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: exit code 0, 2 for bad input (one sentence on standard error), 130 when interrupted."""
    accept_all_characters()
    let_threads_sleep()
    try:
        app(spread_lists(sys.argv[1:] if arguments is None else arguments), prog_name="promptseg")
    except InputError as error:
        errors.print(f"promptseg: {error}", markup=False)
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, InterruptedError):
        errors.print("promptseg: interrupted")
        sys.exit(INTERRUPTED)
    except OSError as error:
        # Of files nobody looked at before: names too long, folders one may not enter, disks that fail.
        said = error.strerror or str(error)
        errors.print(f"promptseg: {said if error.filename is None else f'{error.filename}: {said}'}", markup=False)
        sys.exit(BAD_INPUT)


def _show_version(wanted: bool) -> None:
    if wanted:
        output.print(f"promptseg {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Segment medical images with class tokens, learned from a few drawn slices."""


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo")) -> None:
    """Draw three slices of an organ in a generated scan, learn it, and segment the rest."""
    from PromptSegLib.apps.demo import run_demo

    run_demo(out)


@app.command()
def tune(
    image: Annotated[list[Path], typer.Option(help="Scan(s): NIfTI, NRRD, MetaImage, or a DICOM folder.")],
    labels: Annotated[list[Path], typer.Option(help="Label map(s) with what was drawn, one per image, same order.")],
    label: Annotated[int, typer.Option(help="The value of the structure in the label maps.")],
    name: Annotated[str, typer.Option(help="Name of the class.")],
    out: Annotated[Path, typer.Option(help="Token file to write, NAME.promptseg.")],
    backbone: BackboneOption = None,
    prompting: Annotated[
        str | None,
        typer.Option(
            help="end (default for the rest of a scan of which two or more slices were drawn), decoder (default "
            "otherwise), full, encoder or start; for transformers deep (default) or shallow."
        ),
    ] = None,
    device: Device = "auto",
    seconds: Annotated[float, typer.Option(min=1, help="Time limit of the tuning.")] = 90.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    scribbles: Annotated[bool, typer.Option("--scribbles", help="Only painted voxels are known.")] = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="All of the structure is drawn in the whole scan.")
    ] = False,
    color: Annotated[str, typer.Option(help="Color of the class, #RRGGBB.")] = "#E69F00",
    terminology: Annotated[str | None, typer.Option(help="SCHEME:CODE:MEANING, such as SCT:64033007:Kidney.")] = None,
    series: Series = None,
    as_json: Json = False,
) -> None:
    """Learn the class token of one structure from drawn slices."""
    from PromptSegLib.apps.jobs import TuneJob, tune_files
    from PromptSegLib.learning.tuning import TuningOptions, TuningProgress

    job = TuneJob(
        images=image,
        drawings=labels,
        label=label,
        name=name,
        out=out,
        scribbles=scribbles,
        complete=complete,
        series=series,
        color=_parse_color(color),
        terminology=_parse_terminology(terminology),
        backbone=backbone,
        device=device,
    )
    options = TuningOptions(prompting=prompting, seconds=seconds, seed=seed)
    with progress_bar(f"Learning {name}", as_json) as show, Interruption() as interruption:

        def report(progress: TuningProgress) -> None:
            dsc = "" if progress.held_out_dsc is None else f"held-out DSC {progress.held_out_dsc:.3f}"
            show(progress.step / progress.steps, f"loss {progress.loss:.3f}  {dsc}")

        def looking(fraction: float) -> None:
            show(1.0, f"looking how large it is: {100 * fraction:.0f} %")

        token = tune_files(job, options, report, interruption, looking, remark)
    if as_json:
        print_json({"token": str(out), "training": asdict(token.training), "interrupted": interruption.requested})
    else:
        training = token.training
        dsc = (
            ""
            if training.held_out_dsc is None
            else f", DSC on the held-out part of the drawing {training.held_out_dsc:.3f}"
        )
        output.print(
            f"{out}: '{token.name}' from {training.slices} slices of {training.scans} scan(s) "
            f"in {training.seconds:.0f} s{dsc}",
            markup=False,
        )
    if interruption.requested:
        errors.print("promptseg: interrupted; the best token so far was written")
        raise typer.Exit(INTERRUPTED)


def _parse_color(text: str) -> tuple[int, int, int]:
    digits = text.removeprefix("#")
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        raise InputError(f"'{text}' is no color: write it as #RRGGBB") from None
    return red, green, blue


def _parse_terminology(text: str | None) -> Any:
    from PromptSegLib.tokens.class_token import Terminology

    if text is None:
        return None
    parts = text.split(":", 2)
    if len(parts) != 3 or not all(parts):
        raise InputError(f"'{text}' is no terminology: write it as SCHEME:CODE:MEANING")
    return Terminology(*parts)


app.command()(center_commands.adapt)


@app.command()
def segment(
    image: Annotated[list[Path], typer.Option(help="Scan: NIfTI, NRRD, MetaImage, or a DICOM folder.")],
    tokens: Annotated[list[Path], typer.Option(help="Class tokens; labels 1, 2, … in their order.")],
    out: Annotated[Path, typer.Option(help="Label map to write.")],
    center: Annotated[
        str | None,
        typer.Option(help="Center of the tokens that the scan is of; auto: the one that it is most like; base: none."),
    ] = None,
    drawn: Annotated[
        Path | None,
        typer.Option(help="Label map drawn on this scan, in the result's labels: kept exactly as drawn."),
    ] = None,
    scribbles: Annotated[
        bool, typer.Option("--scribbles", help="What is drawn are strokes, not whole slices.")
    ] = False,
    probabilities: Annotated[Path | None, typer.Option(help="Folder for one probability map per class.")] = None,
    all_pieces: Annotated[bool, typer.Option("--all-pieces", help="Keep pieces apart from the structure.")] = False,
    backbone: BackboneOption = None,
    device: Device = "auto",
    series: Series = None,
    as_json: Json = False,
) -> None:
    """Segment a scan with one or several class tokens."""
    from PromptSegLib.apps.jobs import SegmentJob, segment_files

    if len(image) != 1:
        raise InputError(f"segment takes one image, not {len(image)}: run it once for each")
    job = SegmentJob(
        image=image[0],
        tokens=tokens,
        out=out,
        center=center,
        drawn=drawn,
        probabilities=probabilities,
        scribbles=scribbles,
        all_pieces=all_pieces,
        series=series,
        backbone=backbone,
        device=device,
    )
    started = time.monotonic()
    with progress_bar("Segmenting", as_json) as show, Interruption() as interruption:
        classes = segment_files(job, lambda fraction: show(fraction, ""), interruption, remark)
    seconds = time.monotonic() - started
    if as_json:
        print_json({"segmentation": str(out), "classes": [asdict(c) for c in classes], "seconds": round(seconds, 1)})
        return
    table = Table("label", "class", "ml")
    for found in classes:
        table.add_row(str(found.label), found.name, f"{found.ml:.1f}")
    output.print(table)
    for found in classes:
        if found.recognition is not None:
            output.print(f"{found.name}: {found.recognition.sentence()}", markup=False)
    output.print(f"{out} in {seconds:.0f} s", markup=False)


@app.command()
def evaluate(
    prediction: Annotated[Path, typer.Option(help="Label map to judge.")],
    reference: Annotated[Path, typer.Option(help="Label map to judge it by.")],
    as_json: Json = False,
) -> None:
    """DSC, surface DSC at 2 mm, 95 % Hausdorff distance and volume error, per label."""
    from PromptSegLib.imaging.formats import check_same_grid, read_label_map
    from PromptSegLib.inference.evaluation import evaluate as measure

    found, truth = read_label_map(prediction), read_label_map(reference)
    check_same_grid(found, truth, prediction, reference)
    rows = measure(found, truth)
    if as_json:
        print_json([row.as_json() for row in rows])
        return
    table = Table("label", "DSC", "surface DSC", "HD95 mm", "volume ml", "reference ml", "error %")
    for row in rows:
        values = (row.dsc, row.surface_dsc, row.hd95_mm, row.prediction_ml, row.reference_ml, row.volume_error_percent)
        table.add_row(str(row.label), *(f"{v:.3f}" if i < 2 else f"{v:.1f}" for i, v in enumerate(values)))
    output.print(table)


@backbones_app.command("list")
def backbones_list(as_json: Json = False) -> None:
    """List the backbones that are installed."""
    from PromptSegLib.networks.catalog import BackboneInfo, list_files

    def described(info: BackboneInfo) -> dict[str, str]:
        return {"name": info.name, "family": info.family, "preset": info.preset}

    entries = list_files()
    if as_json:
        print_json(
            [
                {"path": str(e.path), "problem": e.problem, **({} if e.info is None else described(e.info))}
                for e in entries
            ]
        )
        return
    table = Table("file", "name", "family", "preset")
    for entry in entries:
        row = [f"unusable: {entry.problem}"] if entry.info is None else described(entry.info).values()
        table.add_row(str(entry.path), *row)
    output.print(table)


@backbones_app.command("info")
def backbones_info(name: str, as_json: Json = False) -> None:
    """Show the model card of a backbone, given by name or file."""
    from PromptSegLib.learning.tuning import measure_size
    from PromptSegLib.networks.catalog import find_backbone, read_info
    from PromptSegLib.networks.weights import load_backbone

    path = find_backbone(name)
    info = read_info(path)
    network = load_backbone(path)
    description = {"name": info.name, "family": info.family, "preset": info.preset, "file": str(path), **info.card}
    description |= asdict(measure_size(network)) | {"fingerprint": network.fingerprint()}
    if as_json:
        print_json(description)
        return
    print_description(description)


@backbones_app.command("presets")
def backbones_presets(as_json: Json = False) -> None:
    """List what can be pre-trained, and how much of it a class trains."""
    from PromptSegLib.learning.tuning import measure_size
    from PromptSegLib.networks.families import build_backbone
    from PromptSegLib.networks.presets import PRESETS

    sizes = {preset.name: (preset.family, measure_size(build_backbone(preset))) for preset in PRESETS.values()}
    if as_json:
        print_json([{"preset": name, "family": family, **asdict(size)} for name, (family, size) in sizes.items()])
        return
    table = Table("preset", "family", "weights", "prompting", "trained numbers", "share")
    for name, (family, size) in sizes.items():
        for number, (variant, trained) in enumerate(size.trained.items()):
            first = ("", "", "") if number else (name, family, f"{size.weights:,}")
            table.add_row(*first, variant, f"{trained:,}", f"{100 * trained / size.weights:.2f} %")
    output.print(table)


app.command()(pretrain)


if __name__ == "__main__":
    main()
