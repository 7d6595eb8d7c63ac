"""What a token learns from its own result: where drawings show only a part, height, size and shape of the structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from PromptSegLib.imaging.annotation import UNKNOWN, Annotation
from PromptSegLib.imaging.volume import Volume, bounding_box
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.anatomy import FoundStructure, as_found, is_whole
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.networks.backbone import Backbone
from PromptSegLib.tokens.class_token import ClassToken

MOST_SCANS = 5
"""A token has room for the heights in about so many."""


def told_by_results(
    token: ClassToken,
    scans: Sequence[DrawnScan],
    backbone: Backbone,
    *,
    report: Callable[[float], None] = lambda fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ClassToken:
    """The token with height, size and shape of what it finds on the scans that it was learned from, where some slices
    were drawn; as it is if it knows its size.

    Args:
        report: called with the fraction done.
        cancelled: asked between blocks of slices; InterruptedError once it is true.
    """
    if token.size is not None:
        return token
    seen = [scan for scan in scans if scan.annotation.drawn and not is_whole(scan.annotation)][:MOST_SCANS]
    segmenter, found = Segmenter(backbone, [token]), list[FoundStructure]()
    for number, scan in enumerate(seen):

        def tell(fraction: float, done: int = number) -> None:
            report((done + fraction) / len(seen))

        result = segmenter.segment(scan.image, _guide(scan.annotation), report=tell, cancelled=cancelled)
        mask = result.labels.array == 1
        if mask.any():
            ml = np.count_nonzero(mask) * scan.image.geometry.voxel_volume_mm3 / 1000
            annotation, box = scan.annotation, bounding_box(mask)
            found.append(FoundStructure(scan.image, box, mask[box].copy(), ml, annotation.axis, annotation.showing))
    return as_found(token, found)


def _guide(annotation: Annotation) -> Drawn:
    """The drawing as that of label 1, without other structures."""
    painted = annotation.label_map
    ours = np.where(painted == annotation.label, 1, np.where(painted == UNKNOWN, UNKNOWN, 0)).astype(np.uint8)
    return Drawn(Volume(ours, annotation.geometry), {1: (annotation.axis, annotation.drawn)})
