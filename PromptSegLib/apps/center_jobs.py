"""What the commands about centers do, from files to files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PromptSegLib.apps.jobs import read_drawn_scan, require_pairs, require_token_path
from PromptSegLib.errors import InputError
from PromptSegLib.tokens.centers import checked_center_name
from PromptSegLib.tokens.class_token import load_token

if TYPE_CHECKING:
    from PromptSegLib.learning.adaptation import Adaptation
    from PromptSegLib.learning.tuning import TuningOptions, TuningProgress


@dataclass(frozen=True)
class AdaptJob:
    """Paths and words of an `adapt`; see the command's options. label: None for the only one in the label maps."""

    token: Path
    center: str
    images: Sequence[Path]
    drawings: Sequence[Path]
    out: Path
    label: int | None = None
    scribbles: bool = False
    complete: bool = False
    series: str | None = None
    backbone: str | None = None
    device: str = "auto"


def adapt_files(
    job: AdaptJob,
    options: TuningOptions,
    report: Callable[[TuningProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Adaptation:
    """Add a center to a token file. All that can be wrong is found before the long work begins."""
    if not job.drawings:
        raise InputError("a center is learned from what was drawn in its scans: give one --labels per --image")
    require_pairs(job.images, job.drawings)
    require_token_path(job.out)
    token = load_token(job.token)
    checked_center_name(job.center, token.centers)
    drawn = [
        read_drawn_scan(image, labels, job.label, scribbles=job.scribbles, complete=job.complete, series=job.series)
        for image, labels in zip(job.images, job.drawings, strict=True)
    ]

    from PromptSegLib.learning.adaptation import adapt
    from PromptSegLib.learning.drawing import DrawnScan
    from PromptSegLib.networks.weights import load_network

    found = adapt(
        [DrawnScan(image, annotation) for image, annotation in drawn],
        token,
        job.center,
        load_network(job.backbone or token.backbone.name, job.device),
        options,
        report=report,
        cancelled=cancelled,
    )
    found.token.save(job.out)
    return found
