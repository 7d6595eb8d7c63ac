"""From a folder of scans to a backbone file with its model card."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import require_apart, require_writable, write_bytes
from PromptSegLib.learning.pretraining.contrast import ASSIGNMENT_WEIGHT, PROMPTED, Teacher, ViewObjective
from PromptSegLib.learning.pretraining.log import Log, require_tensorboard
from PromptSegLib.learning.pretraining.objectives import (
    BaseClasses,
    Objective,
    RegionObjective,
    SegmentationObjective,
)
from PromptSegLib.learning.pretraining.processes import Processes
from PromptSegLib.learning.pretraining.record import last_mean, loss_table, model_card
from PromptSegLib.learning.pretraining.samples import SPACING_RANGE_MM, ScanSampler, SliceSampler
from PromptSegLib.learning.pretraining.scans import ScanCache, find_scans
from PromptSegLib.learning.pretraining.synthetic import Mixture, SyntheticObjective, SyntheticSampler
from PromptSegLib.learning.pretraining.synthetic_shapes import Outlines
from PromptSegLib.learning.pretraining.trainer import PRECISIONS, Pretrainer, Progress, Schedule
from PromptSegLib.learning.pretraining.views import ViewSampler, ViewSizes
from PromptSegLib.networks.backbone import BackboneModule
from PromptSegLib.networks.catalog import BackboneInfo, find_backbone, read_info
from PromptSegLib.networks.families import build_backbone
from PromptSegLib.networks.presets import PRESETS, find_preset
from PromptSegLib.networks.weights import load_backbone, save_backbone

MODES = ("regions", "self", "meta", "meta_self")
"""Labelled slices and pairs of views that share supervoxels; or on views of the same place, as in arXiv 2211.09233:
prototype assignment alone, segmentation of base classes alone, or both at once."""


@dataclass(frozen=True)
class Recipe:
    """What to pre-train on and how.

    data, image_name, labels_name, labels: as in `find_scans`. classes: label number to name of each base class; empty
    without labels. mode: one of MODES.

    Of ``regions``: active: base classes a step, per_class: labelled samples of each; pairs: pairs of unlabelled views a
    step, 0 for the segmentation loss alone; across: share of the pairs that show a base class in two patients. Counts
    hold for patches of 128 pixels; of larger ones there are fewer.
    Of the others: prompted: one of PROMPTED; samples: places a step; assignment_weight: beside a segmentation of 1.

    synthetic: share of the steps in which ``pairs`` of views of synthetic anatomy take the place of the unlabelled
    pairs, or of the other modes' views.

    start: backbone to go on from, its name or file; None for random weights.
    """

    data: Path
    name: str
    classes: Mapping[int, str]
    schedule: Schedule
    preset: str = "paper-2d"
    image_name: str | None = None
    labels_name: str = "oar.nii.gz"
    labels: Path | None = None
    active: int = 3
    per_class: int = 2
    pairs: int = 3
    across: float = 0.0
    mode: str = "regions"
    prompted: str = "mixed"
    samples: int = 4
    assignment_weight: float = ASSIGNMENT_WEIGHT
    synthetic: float = 0.0
    start: str | None = None


def pretrain(
    recipe: Recipe,
    out: Path,
    cache: Path,
    card: Mapping[str, object],
    report: Callable[[Progress], None] = lambda progress: None,
    prepared: Callable[[int, int], None] = lambda number, total: None,
    *,
    device: torch.device | str = "cpu",
    processes: Processes | None = None,
    workers: int = 0,
    log: Path | None = None,
    keep_every: int = 0,
) -> None:
    """Train and write ``out`` and beside it the model card, ``out`` with the suffix ``.md``, and the losses of all
    steps, with the suffix ``.losses.csv``.

    cache: folder for prepared scans; the checkpoint stands beside ``out`` until the file is written. card: what the
    data cannot tell, such as its source, licenses and citation. prepared: called as scans are prepared. processes:
    those that share the work; the leading one writes and reports. workers: of each, to draw samples ahead of time.
    log: folder for TensorBoard. keep_every: after so many steps each, the backbone as it is then is written beside
    ``out``, as NAME-stepN; never for 0.

    Raises:
        InputError: if something cannot be as it is asked for, or ``out`` is finished already.
    """
    _check(recipe)
    if log is not None:
        require_tensorboard()
    require_writable(out)
    checkpoint, processes = out.with_suffix(".checkpoint"), processes or Processes()
    # Of a run that was killed while it wrote its results, the checkpoint is still there.
    if out.exists() and not checkpoint.is_file():
        raise InputError(f"{out} is finished already: choose another --out, or remove it to train it anew")
    pairs = find_scans(recipe.data, recipe.image_name, recipe.labels_name, recipe.labels)
    scans = ScanCache([(image, found if recipe.classes else None) for image, found in pairs], cache)
    labels = list(recipe.classes)
    torch.manual_seed(recipe.schedule.seed)
    network = build_backbone(find_preset(recipe.preset), recipe.name)
    earlier = None if recipe.start is None else _earlier(recipe.start, recipe.preset)
    if earlier is not None and not checkpoint.is_file():
        network.load_state_dict(load_backbone(earlier.path).state_dict())
    if earlier is not None and keep_every:
        for step in range(keep_every, recipe.schedule.steps + 1, keep_every):
            require_apart(_kept(out, step), [earlier.path])
    base = BaseClasses(network, list(recipe.classes.values()) or _stand_in(recipe))
    network, base = network.to(device), base.to(device)
    _prepare(scans, processes, prepared)
    teacher, objectives = None, list[Objective]()
    views = ViewSampler(scans, labels, ViewSizes.of(network.preset), unlabelled=recipe.mode != "meta")
    _index(views, recipe)
    if recipe.mode == "regions":
        slices = SliceSampler(scans, labels)
        _index(slices, recipe)
        if recipe.classes:
            objectives.append(SegmentationObjective(slices, base, recipe.active, recipe.per_class))
        if recipe.pairs:
            regions = RegionObjective(slices, recipe.pairs, across=recipe.across)
            objectives.append(_mixed(regions, recipe, scans, network))
    else:
        teacher = Teacher(network, base) if recipe.mode != "meta" else None
        objective = ViewObjective(
            recipe.mode,
            views,
            base,
            teacher,
            recipe.samples,
            prompted=recipe.prompted,
            weight=recipe.assignment_weight,
        )
        objectives.append(_mixed(objective, recipe, scans, network))
    settings = _settings(recipe, earlier)
    trainer = Pretrainer(network, base, objectives, recipe.schedule, teacher, settings, processes, workers)
    journal = Log(log, views) if log is not None and processes.leads else None

    def described(**more: object) -> dict[str, object]:
        return {**_description(recipe, card, len(pairs), objectives, earlier), **more}

    def tell(progress: Progress) -> None:
        if keep_every and progress.step % keep_every == 0:
            save_backbone(
                network, _kept(out, progress.step), described(step=progress.step, losses=last_mean(trainer.history))
            )
        report(progress)
        if journal is not None:
            journal.write(progress, network)

    trainer.run(checkpoint, tell)
    if not processes.leads:
        return
    description = described(**{"final losses": last_mean(trainer.history)})
    save_backbone(network, out, description)
    write_bytes(model_card(recipe.name, out, description).encode(), out.with_suffix(".md"))
    write_bytes(loss_table(trainer.history).encode(), out.with_suffix(".losses.csv"))
    checkpoint.unlink(missing_ok=True)


def _kept(out: Path, step: int) -> Path:
    return out.with_name(f"{out.stem}-step{step}{out.suffix}")


def _check(recipe: Recipe) -> None:
    if recipe.mode not in MODES:
        raise InputError(f"there is no mode '{recipe.mode}' of pre-training: choose one of {', '.join(MODES)}")
    if recipe.prompted not in PROMPTED:
        raise InputError(f"prompts cannot go '{recipe.prompted}': choose one of {', '.join(PROMPTED)}")
    if recipe.schedule.precision not in PRECISIONS:
        raise InputError(f"there is no precision '{recipe.schedule.precision}': choose one of {', '.join(PRECISIONS)}")
    if recipe.mode == "regions" and find_preset(recipe.preset).dimensions != 2:
        fitting = ", ".join(name for name, preset in PRESETS.items() if preset.dimensions == 2)
        raise InputError(
            f"pre-training on slices needs one of the presets {fitting}, not {recipe.preset}: "
            "choose one of them or another mode"
        )
    if recipe.mode == "regions" and not recipe.classes and not recipe.pairs:
        raise InputError("nothing to learn from: name base classes with --classes, or let --pairs be at least 1")
    if recipe.mode.startswith("meta") and not recipe.classes:
        raise InputError(f"the mode {recipe.mode} learns from labels: name base classes with --classes")
    if recipe.mode == "self" and recipe.classes:
        raise InputError("the mode self learns without labels: leave out --classes, or choose the mode meta_self")
    if recipe.across and (recipe.mode != "regions" or not recipe.classes or not recipe.pairs):
        raise InputError(
            "pairs across patients show base classes, in the mode regions: name these with --classes, let --pairs be "
            "at least 1, or leave out --across"
        )
    if recipe.synthetic and not recipe.pairs:
        raise InputError("synthetic anatomy is seen in pairs: let --pairs be at least 1, or leave out --synthetic")


def seen_classes(info: BackboneInfo) -> list[str]:
    """All classes whose labels a backbone has seen, also before its training went on from another one's."""
    return sorted({*info.card.get("base classes", ()), *info.card.get("base classes before", ())})


def _earlier(name: str, preset: str) -> BackboneInfo:
    """The backbone to go on from, which must have the preset."""
    earlier = read_info(find_backbone(name))
    if earlier.preset != preset:
        raise InputError(
            f"the backbone {earlier.name} has the preset {earlier.preset}, not {preset}: "
            f"choose --preset {earlier.preset}"
        )
    return earlier


def _mixed(real: Objective, recipe: Recipe, scans: ScanCache, network: BackboneModule) -> Objective:
    """The objective in turn with synthetic anatomy, which borrows outlines of base classes and of no other label."""
    if not recipe.synthetic:
        return real
    real_scans_seen = recipe.synthetic < 1 or (recipe.mode == "regions" and bool(recipe.classes))
    sampler = SyntheticSampler(Outlines(scans, list(recipe.classes)))
    block = network.preset.patch if network.preset.dimensions == 3 else None
    synthetic = SyntheticObjective(sampler, recipe.pairs, keep_statistics=real_scans_seen, block=block)
    return Mixture(real, synthetic, recipe.synthetic)


def _stand_in(recipe: Recipe) -> list[str]:
    """Without labels, the one class whose prompts the network sees, if it shall see any."""
    return ["anything"] if recipe.mode == "self" and recipe.prompted != "none" else []


def _prepare(scans: ScanCache, processes: Processes, prepared: Callable[[int, int], None]) -> None:
    """All scans, each by one of the processes."""
    for number in processes.share(len(scans)):
        scans[number]
        prepared(number + 1, len(scans))
    processes.wait()


def _index(sampler: ScanSampler, recipe: Recipe) -> None:
    for number in range(len(sampler.scans)):
        sampler.index(number)
    missing = [name for position, name in enumerate(recipe.classes.values()) if position not in sampler.holding]
    if missing:
        raise InputError(f"no scan below {recipe.data} has the base class {', '.join(missing)}: check --classes")


def _samples(recipe: Recipe) -> dict[str, int]:
    batches = recipe.schedule.accumulate
    if recipe.mode != "regions":
        return {"views": batches * recipe.samples}
    labelled = recipe.active * recipe.per_class if recipe.classes else 0
    return {"labelled": batches * labelled, "pairs": batches * recipe.pairs}


def _view_settings(recipe: Recipe) -> dict[str, object]:
    weight = {"weight of the assignment": recipe.assignment_weight} if recipe.mode == "meta_self" else {}
    return {"prompts": recipe.prompted, **weight}


def _settings(recipe: Recipe, earlier: BackboneInfo | None) -> dict[str, object]:
    """What a checkpoint of this recipe depends on, beside its schedule."""
    where = ("data", "name", "schedule", "image_name", "labels_name", "labels")
    start = None if earlier is None else hashlib.sha256(earlier.path.read_bytes()).hexdigest()
    return {key: value for key, value in asdict(recipe).items() if key not in where} | {"start": start}


def _description(
    recipe: Recipe,
    card: Mapping[str, object],
    scans: int,
    objectives: Sequence[Objective],
    earlier: BackboneInfo | None,
) -> dict[str, object]:
    """Of the model card, what is known before the first step."""
    return {
        **card,
        "created": datetime.date.today().isoformat(),
        "scans": scans,
        "base classes": list(recipe.classes.values()),
        "objectives": [objective.name for objective in objectives],
        **({} if recipe.mode == "regions" else _view_settings(recipe)),
        **({"share of pairs across patients": recipe.across} if recipe.across else {}),
        **({"synthetic share": recipe.synthetic} if recipe.synthetic else {}),
        **({} if earlier is None else {"went on from": earlier.name, "base classes before": seen_classes(earlier)}),
        "samples per step": _samples(recipe),
        "schedule": asdict(recipe.schedule),
        "spacing range mm": SPACING_RANGE_MM,
    }
