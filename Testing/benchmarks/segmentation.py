"""Accuracy on classes that the backbone never saw as labels: inside of the drawn scan, and on other patients."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from PromptSegLib.apps.demo import draw_slices, undrawn_dsc
from PromptSegLib.imaging.annotation import UNKNOWN, Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import TuningOptions, tune
from PromptSegLib.networks.backbone import Backbone
from PromptSegLib.tokens.class_token import ClassToken
from Testing.benchmarks.data import around, classes, scans
from Testing.benchmarks.methods import LinearProbe, interpolation

MARGIN = 3
OURS, NETWORK, PROBE, INTERPOLATION = "PromptSeg", "PromptSeg, network alone", "linear probe", "interpolation"

Scores = dict[tuple[str, str, str], list[float]]


def in_scan(backbone: Backbone, patients: int, drawn: Sequence[int], options: TuningOptions) -> Scores:
    """DSC on the undrawn slices of the organ and 3 beyond either end, by (organ, slices drawn, method)."""
    scores: Scores = defaultdict(list)
    for name, image, label_map in scans("validation", patients):
        for organ, label in classes().items():
            part, truth = around(image, label_map.array == label, MARGIN)
            for count in drawn:
                drawing, slices = draw_slices(truth, count)
                annotation = Annotation.from_label_map(part.with_array(drawing), 1, axis=0)
                scan = DrawnScan(part, annotation)
                started = time.monotonic()
                token = tune([scan], organ, backbone, options)
                tuned = time.monotonic()
                segmenter = Segmenter(backbone, [token])
                kept = Drawn(part.with_array(drawing), {1: (annotation.axis, annotation.drawn)})
                found = {
                    OURS: segmenter.segment(part, kept).labels.array == 1,
                    NETWORK: segmenter.segment(part).labels.array == 1,
                    PROBE: LinearProbe(backbone, [scan]).segment(part),
                    INTERPOLATION: interpolation(annotation),
                }
                for method, mask in found.items():
                    scores[organ, str(count), method].append(undrawn_dsc(mask, truth, slices, MARGIN))
                scores[organ, str(count), "seconds"].append(tuned - started)
                _log(f"{name} {organ}, {count} slices", {m: scores[organ, str(count), m][-1] for m in found})
    return scores


def across_scans(backbone: Backbone, patients: int, drawn_scans: Sequence[int], options: TuningOptions) -> Scores:
    """DSC on whole scans of other patients, by (organ, scans drawn fully, method)."""
    scores: Scores = defaultdict(list)
    tokens: dict[tuple[str, int], ClassToken] = {}
    probes: dict[tuple[str, int], LinearProbe] = {}
    sources = list(scans("train", max(drawn_scans)))
    for organ, label in classes().items():
        drawings = [DrawnScan(image, _complete(label_map, label)) for _, image, label_map in sources]
        for count in drawn_scans:
            started = time.monotonic()
            tokens[organ, count] = tune(drawings[:count], organ, backbone, options)
            scores[organ, str(count), "seconds"].append(time.monotonic() - started)
            probes[organ, count] = LinearProbe(backbone, drawings[:count])
    segmenters = {key: Segmenter(backbone, [token]) for key, token in tokens.items()}
    for name, image, label_map in scans("validation", patients):
        for (organ, count), segmenter in segmenters.items():
            truth = label_map.array == classes()[organ]
            found = {OURS: segmenter.segment(image).labels.array == 1, PROBE: probes[organ, count].segment(image)}
            for method, mask in found.items():
                total = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
                scores[organ, str(count), method].append(2 * int(np.count_nonzero(mask & truth)) / max(1, total))
            _log(f"{name} {organ}, {count} scans", {m: scores[organ, str(count), m][-1] for m in found})
    return scores


def _log(case: str, values: Mapping[str, float]) -> None:
    print(
        f"{case}: " + ", ".join(f"{method} {value:.3f}" for method, value in values.items()),
        file=sys.stderr,
        flush=True,
    )


def _complete(label_map: Volume, label: int) -> Annotation:
    """The organ drawn in the whole scan; other organs' borders are not given away."""
    mask = np.where(label_map.array == label, 1, 0).astype(np.uint8)
    assert label != UNKNOWN
    return Annotation.from_label_map(label_map.with_array(mask), 1, complete=True)


def print_scores(title: str, first: str, scores: Scores, methods: Sequence[str], console: Console) -> None:
    """One table: mean DSC and standard deviation over patients, organs below each other, their mean last."""
    table = Table("organ", first, *methods, "tuning s", title=title)
    organs = sorted({organ for organ, _, _ in scores})
    for count in sorted({c for _, c, _ in scores}, key=int):
        for organ in organs:
            cells = [_cell(scores[organ, count, method]) for method in methods]
            table.add_row(organ, count, *cells, f"{np.mean(scores[organ, count, 'seconds']):.0f}")
        means = [np.mean([np.mean(scores[o, count, method]) for o in organs]) for method in methods]
        table.add_row("mean", count, *(f"{m:.3f}" for m in means), "", style="bold", end_section=True)
    console.print(table)


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"
