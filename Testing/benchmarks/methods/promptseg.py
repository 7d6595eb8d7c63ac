"""Ours: a token is tuned on the frozen backbone; the drawn shape helps on the drawn scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import tune
from PromptSegLib.networks.backbone import BackboneModule
from PromptSegLib.tokens.class_token import ClassToken
from Testing.benchmarks.methods.method import Method, Setup, as_drawn, require_drawn, told_ends


@dataclass(frozen=True)
class Tuned:
    """features: of the scan, kept from round to round where one scan is corrected."""

    backbone: BackboneModule
    token: ClassToken
    features: ScanFeatures | None = None

    def segmenter(self) -> Segmenter:
        return Segmenter(self.backbone, [self.token], kept=self.features)


def tune_token(scans: Sequence[DrawnScan], setup: Setup) -> Tuned:
    before, features = setup.before, setup.features
    encode = None if features is None else partial(features.encode, setup.backbone)
    token = tune(scans, "Structure", setup.backbone, setup.options, before=before, encode=encode)
    return Tuned(setup.backbone, token, features)


def as_guide(annotation: Annotation, corrects: bool = False) -> Drawn:
    """The drawing of label 1, as a segmentation with a single token takes it; corrects: what that found."""
    labels = Volume(annotation.label_map, annotation.geometry)
    corrected = frozenset({annotation.label} if corrects else ())
    return Drawn(labels, {annotation.label: (annotation.axis, annotation.drawn)}, corrected)


def find(tuned: Tuned, image: Volume, annotation: Annotation | None, corrects: bool = False) -> np.ndarray:
    drawn = None if annotation is None else as_guide(annotation, corrects)
    found: np.ndarray = tuned.segmenter().segment(image, drawn).labels.array == 1
    return found


def _find_alone(tuned: Tuned, image: Volume, annotation: Annotation | None) -> np.ndarray:
    (probability,) = tuned.segmenter().segment(image, probabilities=True).probabilities
    return as_drawn(probability.array > 0.5, annotation)


def _tune_told_ends(scans: Sequence[DrawnScan], setup: Setup) -> Tuned:
    return tune_token([replace(scan, annotation=told_ends(scan.annotation)) for scan in scans], setup)


def _find_told_ends(tuned: Tuned, image: Volume, annotation: Annotation | None) -> np.ndarray:
    return find(tuned, image, told_ends(require_drawn(annotation)))


PROMPTSEG = Method("promptseg", "PromptSeg", tune_token, find, across=True)
NETWORK_ALONE = Method("network-alone", "PromptSeg, network alone", tune_token, _find_alone)
TOLD_ENDS = Method("promptseg-told-ends", "PromptSeg, told the ends", _tune_told_ends, _find_told_ends)
"""It knows what grow from seeds has to know."""
