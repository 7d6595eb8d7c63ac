"""How well tokens find what was drawn in a scan: as they will be used, by the whole segmenter, not by the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.networks.backbone import Backbone
from PromptSegLib.tokens.class_token import ClassToken


def judge(
    tokens: Sequence[ClassToken],
    scan: DrawnScan,
    backbone: Backbone,
    report: Callable[[float], None] = lambda fraction: None,
) -> list[float]:
    """DSC that each of these tokens reaches, of all voxels whose class the drawing tells; nothing else of the drawing
    is used.

    Args:
        tokens: of one class, alone.
        report: called with the fraction done.
    """
    reached, kept = list[float](), ScanFeatures()
    try:
        for number, token in enumerate(tokens):

            def tell(fraction: float, done: int = number) -> None:
                report((done + fraction) / len(tokens))

            found = Segmenter(backbone, [token], kept=kept).segment(scan.image, report=tell)
            reached.append(_dsc_of_known(found.labels.array == 1, scan.annotation))
    finally:
        kept.clear()
    return reached


def _dsc_of_known(found: np.ndarray, annotation: Annotation) -> float:
    """DSC of the known voxels, the found ones of them bool on the grid of the annotation's array."""
    planes = np.moveaxis(found, annotation.axis, 0)
    both = total = 0
    for index in annotation.slices:
        known, truth = annotation.known(index), annotation.foreground(index)
        ours = planes[index] & known
        both += int(np.count_nonzero(ours & truth))
        total += int(np.count_nonzero(ours) + np.count_nonzero(truth & known))
    return 2 * both / max(1, total)
