"""What a method is: it learns from drawn scans, then it finds the structure in a scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.components import keep_pieces
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import TuningOptions
from PromptSegLib.networks.backbone import BackboneModule
from PromptSegLib.tokens.class_token import ClassToken


@dataclass(frozen=True)
class Setup:
    """What a method may work with.

    options: of PromptSeg, with the seed for all; seconds: that the others may learn, ``times`` as long as PromptSeg
    did; before: the token of the drawing before it was corrected; features: of the scan that is corrected, from
    earlier rounds.
    """

    backbone: BackboneModule
    options: TuningOptions
    seconds: float = 0.0
    times: float = 1.0
    before: ClassToken | None = None
    features: ScanFeatures | None = None

    @property
    def seed(self) -> int:
        return self.options.seed


@dataclass(frozen=True)
class Method:
    """One way from drawings to masks.

    key: its name on the command line and in files; learn: drawn scans in, whatever ``find`` needs out; find: what was
    learned, a scan and the drawing on this very scan, if any, in, bool mask on the scan's grid out; seeded: whether
    chance plays a part; timed: learns for as long as it is given; across: finds structures in other scans, too;
    packages: what it needs beyond PromptSeg's own requirements, as pip calls it.
    """

    key: str
    name: str
    learn: Callable[[Sequence[DrawnScan], Setup], Any]
    find: Callable[[Any, Volume, Annotation | None], np.ndarray]
    seeded: bool = True
    timed: bool = False
    across: bool = False
    packages: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        return [package for package in self.packages if not _is_installed(package)]


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def learn_nothing(scans: Sequence[DrawnScan], setup: Setup) -> None:
    """For methods that look at the drawing only when they fill the scan that it lies on."""


def require_drawn(annotation: Annotation | None) -> Annotation:
    assert annotation is not None, "this method only works on the scan that was drawn on"
    return annotation


def as_drawn(mask: np.ndarray, annotation: Annotation | None) -> np.ndarray:
    """A mask (slices, rows, columns) as a user would take it: what is known stays as drawn, and of the pieces, those
    that touch the drawing are kept; without a drawing, the largest one."""
    labels = mask.astype(np.uint8)
    drawn = None
    if annotation is not None:
        drawn = annotation.label_map == annotation.label
        labels[annotation.known_mask()] = 0
        labels[drawn] = 1
    keep_pieces(labels, 1, drawn)
    return labels == 1


def told_ends(annotation: Annotation) -> Annotation:
    """The drawing of a user who also erased the structure on the first and on the last slice, unless it is drawn
    there."""
    ends = {0, annotation.label_map.shape[annotation.axis] - 1}
    slices = tuple(sorted(ends.union(annotation.slices)))
    return replace(annotation, slices=slices, drawn=annotation.drawn | ends)
