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
    backbone: Backbone,
    tokens: Sequence[ClassToken],
    scan: DrawnScan,
    report: Callable[[float], None] = lambda fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[float]:
    """DSC, 0 to 1, that each of these tokens reaches, of all voxels whose class the drawing tells.

    Args:
        backbone: of the tokens.
        tokens: of one class; each is used alone.
        scan: nothing of its drawing is used but to compare.
        report: called with the fraction done.
        cancelled: asked between blocks of slices; InterruptedError once it is true.

    Raises:
        InputError: if a token belongs to another backbone.
    """
    reached, kept = list[float](), ScanFeatures() if len(tokens) > 1 else None
    try:
        for number, token in enumerate(tokens):

            def tell(fraction: float, done: int = number) -> None:
                report((done + fraction) / len(tokens))

            segmenter = Segmenter(backbone, [token], kept=kept)
            found = segmenter.segment(scan.image, report=tell, cancelled=cancelled)
            reached.append(_dsc_of_known(found.labels.array == 1, scan.annotation))
    finally:
        if kept is not None:
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
