"""From a folder of scans to a backbone file with its model card."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.files import require_folder, write_bytes
from PromptSegLib.learning.pretraining.contrast import ASSIGNMENT_WEIGHT, PROMPTED, Teacher, ViewObjective
from PromptSegLib.learning.pretraining.objectives import (
    BaseClasses,
    Objective,
    RegionObjective,
    SegmentationObjective,
)
from PromptSegLib.learning.pretraining.samples import SPACING_RANGE_MM, ScanSampler, SliceSampler
from PromptSegLib.learning.pretraining.scans import ScanCache, find_scans
from PromptSegLib.learning.pretraining.synthetic import Mixture, SyntheticObjective, SyntheticSampler
from PromptSegLib.learning.pretraining.synthetic_shapes import Outlines
from PromptSegLib.learning.pretraining.trainer import Pretrainer, Progress, Schedule
from PromptSegLib.learning.pretraining.views import ViewSampler, ViewSizes
from PromptSegLib.networks.backbone import BackboneModule
from PromptSegLib.networks.catalog import find_backbone
from PromptSegLib.networks.families import build_backbone
from PromptSegLib.networks.presets import PRESETS, find_preset
from PromptSegLib.networks.weights import load_backbone, save_backbone

MODES = ("regions", "self", "meta", "meta_self")
"""Labelled slices and pairs of views that share supervoxels; or on views of the same place, as in arXiv 2211.09233:
prototype assignment alone, segmentation of base classes alone, or both at once."""


@dataclass(frozen=True)
class Recipe:
    """What to pre-train on and how.

    classes: label number to name of each base class; empty without labels. mode: one of MODES.

    Of ``regions``: active: base classes a step, per_class: labelled samples of each; pairs: pairs of unlabelled views a
    step, 0 for the segmentation loss alone. Counts hold for patches of 128 pixels; of larger ones there are fewer.
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
    image_name: str = "ct.nii.gz"
    labels_name: str | None = "oar.nii.gz"
    active: int = 3
    per_class: int = 2
    pairs: int = 3
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
) -> None:
    """Train and write ``out`` and beside it the model card, ``out`` with the suffix ``.md``.

    cache: folder for prepared scans; the checkpoint stands beside ``out`` until the file is written. card: what the
    data cannot tell, such as its source, licenses and citation. prepared: called as scans are prepared.
    """
    _check(recipe)
    require_folder(out)
    pairs = find_scans(recipe.data, recipe.image_name, recipe.labels_name if recipe.classes else None)
    scans, labels = ScanCache(pairs, cache), list(recipe.classes)
    torch.manual_seed(recipe.schedule.seed)
    network = build_backbone(find_preset(recipe.preset), recipe.name)
    earlier = _begin_with_earlier(network, recipe)
    base = BaseClasses(network, list(recipe.classes.values()) or _stand_in(recipe))
    teacher, objectives = None, list[Objective]()
    if recipe.mode == "regions":
        slices = SliceSampler(scans, labels)
        _index(slices, recipe, prepared)
        if recipe.classes:
            objectives.append(SegmentationObjective(slices, base, recipe.active, recipe.per_class))
        if recipe.pairs:
            objectives.append(_mixed(RegionObjective(slices, recipe.pairs), recipe, scans))
    else:
        views = ViewSampler(scans, labels, ViewSizes.of(network.preset), unlabelled=recipe.mode != "meta")
        _index(views, recipe, prepared)
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
        objectives.append(_mixed(objective, recipe, scans))
    trainer = Pretrainer(network, base, objectives, recipe.schedule, teacher, _settings(recipe))
    checkpoint = out.with_suffix(".checkpoint")
    trainer.run(checkpoint, report)

    description = {
        **card,
        "created": datetime.date.today().isoformat(),
        "scans": len(pairs),
        "base classes": list(recipe.classes.values()),
        "objectives": [objective.name for objective in objectives],
        **({} if recipe.mode == "regions" else _view_settings(recipe)),
        **({"synthetic share": recipe.synthetic} if recipe.synthetic else {}),
        **({} if earlier is None else {"went on from": earlier}),
        "samples per step": _samples(recipe),
        "schedule": asdict(recipe.schedule),
        "spacing range mm": SPACING_RANGE_MM,
        "final losses": _last_mean(trainer.history),
    }
    save_backbone(network, out, description)
    write_bytes(model_card(recipe.name, out, description).encode(), out.with_suffix(".md"))
    checkpoint.unlink(missing_ok=True)


def _check(recipe: Recipe) -> None:
    if recipe.mode not in MODES:
        raise InputError(f"there is no mode '{recipe.mode}' of pre-training: choose one of {', '.join(MODES)}")
    if recipe.prompted not in PROMPTED:
        raise InputError(f"prompts cannot go '{recipe.prompted}': choose one of {', '.join(PROMPTED)}")
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
    if recipe.synthetic and not recipe.pairs:
        raise InputError("synthetic anatomy is seen in pairs: let --pairs be at least 1, or leave out --synthetic")


def _begin_with_earlier(network: BackboneModule, recipe: Recipe) -> str | None:
    """Take over the weights that the recipe starts from; their name, or None if it starts from none."""
    if recipe.start is None:
        return None
    earlier = load_backbone(find_backbone(recipe.start))
    if earlier.preset != network.preset:
        raise InputError(
            f"the backbone {earlier.name} has the preset {earlier.preset_name}, not {recipe.preset}: "
            f"choose --preset {earlier.preset_name}"
        )
    network.load_state_dict(earlier.state_dict())
    return earlier.name


def _mixed(real: Objective, recipe: Recipe, scans: ScanCache) -> Objective:
    """The objective in turn with synthetic anatomy, which borrows outlines of base classes and of no other label."""
    if not recipe.synthetic:
        return real
    real_scans_seen = recipe.synthetic < 1 or (recipe.mode == "regions" and bool(recipe.classes))
    sampler = SyntheticSampler(Outlines(scans, list(recipe.classes)))
    synthetic = SyntheticObjective(sampler, recipe.pairs, keep_statistics=real_scans_seen)
    return Mixture(real, synthetic, recipe.synthetic)


def _stand_in(recipe: Recipe) -> list[str]:
    """Without labels, the one class whose prompts the network sees, if it shall see any."""
    return ["anything"] if recipe.mode == "self" and recipe.prompted != "none" else []


def _index(sampler: ScanSampler, recipe: Recipe, prepared: Callable[[int, int], None]) -> None:
    total = len(sampler.scans)
    for number in range(total):
        sampler.index(number)
        prepared(number + 1, total)
    missing = [name for position, name in enumerate(recipe.classes.values()) if position not in sampler.holding]
    if missing:
        raise InputError(f"no scan below {recipe.data} has the base class {', '.join(missing)}: check --classes")


def _samples(recipe: Recipe) -> dict[str, int]:
    if recipe.mode != "regions":
        return {"views": recipe.samples}
    return {"labelled": recipe.active * recipe.per_class if recipe.classes else 0, "pairs": recipe.pairs}


def _view_settings(recipe: Recipe) -> dict[str, object]:
    weight = {"weight of the assignment": recipe.assignment_weight} if recipe.mode == "meta_self" else {}
    return {"prompts": recipe.prompted, **weight}


def _settings(recipe: Recipe) -> dict[str, object]:
    """What a checkpoint of this recipe depends on, beside its schedule."""
    where = ("data", "name", "schedule", "image_name", "labels_name")
    return {key: value for key, value in asdict(recipe).items() if key not in where}


def _last_mean(history: list[dict[str, float]], count: int = 100) -> dict[str, float]:
    """Of each loss, over those of the last steps that had it."""
    values: dict[str, list[float]] = {}
    for entry in history[-count:]:
        for key, value in entry.items():
            values.setdefault(key, []).append(value)
    return {key: round(sum(found) / len(found), 4) for key, found in values.items() if key != "step"}


def model_card(name: str, path: Path, description: Mapping[str, object]) -> str:
    """The model card as Markdown, with the file's SHA-256 and the fingerprint that class tokens are bound to."""
    lines = [f"# {name}", ""]
    for key, value in description.items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"- **{key}**: {text}")
    lines += [
        f"- **file**: `{path.name}`, SHA-256 `{hashlib.sha256(path.read_bytes()).hexdigest()}`",
        f"- **fingerprint**: `{load_backbone(path).fingerprint()}`",
        "",
    ]
    return "\n".join(lines)
