"""Adaptation: what one center (a hospital, a scanner) needs beyond a class token, learned from a few of its scans.

Backbone and token stay as they are. Only a difference to the token's numbers is learned, which is drawn towards zero
unless the token finds next to nothing there. It is learned three times, each time without a third of the scans, by
which it is judged, used as it will be. Only if the structure is found better with them, their mean is kept; otherwise
the center uses the token itself.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.learning.differences import Difference, divided, learn_difference
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.tuning import TuningOptions, TuningProgress, require_backbone
from PromptSegLib.networks.backbone import Backbone
from PromptSegLib.tokens.centers import Center, checked_center_name, mean_difference
from PromptSegLib.tokens.class_token import ClassToken
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.records import Training

PARTS = 3
"""Of the scans, each of which is left out once; two scans make two."""

MAX_SLICES = 60
"""Slices that are learned from at a time, of all scans together."""

EMPTY_SHARE = 0.5
"""Of these slices, how many show nothing of the structure, if there are enough that are known: the token knows the
structure, and what a difference must not do is find more of it all over the scan."""

STEPS = 70
"""Each time: a center is close to its token. With 100, three scans of a simulated center came to the same."""

MOST_JUDGED = 2
"""Scans of each part that judge what was learned without it: each takes as long as two segmentations."""

LEAST_GAIN = 0.01
"""DSC on scans that were left out by which the differences must be better than none."""

FAILS_BELOW, LEAST_GAIN_OF_ONE = 0.3, 0.1
"""What a patient gains from a drawing of his own says nothing of the next one. So a single scan only tells whether the
token fails there, with a DSC below the first; then a difference that brings it the second is better than nothing."""

_LEARNING_SHARE = 0.7
"""Of the time, about, where the rest is for judging."""


class Judge(Protocol):
    """Says which DSC each of these tokens reaches on what was drawn in a scan, used as it will be.

    report: called with the fraction done; cancelled: asked often, InterruptedError once it is true.
    """

    def __call__(
        self,
        tokens: Sequence[ClassToken],
        scan: DrawnScan,
        report: Callable[[float], None],
        cancelled: Callable[[], bool],
    ) -> Sequence[float]: ...


@dataclass(frozen=True)
class Adaptation:
    """token: with the new center as its last one; judged: by how many scans, none of which taught what was judged by
    it, 0 if there was only one scan; base_dsc, dsc: mean of what the token itself reached on these, or on the only one,
    and of what it reached with what was learned, None if nothing was."""

    token: ClassToken
    judged: int
    base_dsc: float
    dsc: float | None

    @property
    def center(self) -> Center:
        return self.token.centers[-1]

    @property
    def uses_base(self) -> bool:
        """Whether the token itself served the center best, so that the center adds nothing to it."""
        return not self.center.delta


def adapt(
    scans: Sequence[DrawnScan],
    token: ClassToken,
    center: str,
    backbone: Backbone,
    judge: Judge,
    options: TuningOptions | None = None,
    *,
    report: Callable[[float, str], None] = lambda fraction, doing: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Adaptation:
    """Add a center to a token.

    Args:
        scans: of the center, with what was drawn of the token's class.
        center: its name.
        backbone: the token's; frozen.
        judge: says whether what was learned helps.
        options: the prompting is the token's, whatever they say; the seconds are for learning alone, and without
            steps, it takes STEPS each time.
        report: called often with the fraction done, roughly, and what is done.
        cancelled: asked between any two steps, and while judging.

    Raises:
        InterruptedError: once it was cancelled: what was not judged is not kept.
        InputError: if the name is not free, the token belongs to another backbone, it holds no room for one more
            center, the drawing cannot be learned from (see `prepare_drawing`), or the seconds leave no time to.
    """
    name = checked_center_name(center, token.centers)
    require_backbone(token, backbone)
    started = time.monotonic()
    options = options or TuningOptions()
    parts = _parts(scans, options.seed)
    drawings = [prepare_drawing(part, like=token, most_slices=MAX_SLICES, empty_share=EMPTY_SHARE) for part, _ in parts]
    profile = Profile.of([scan_statistics(scan.image) for scan in scans])

    def with_center(delta: Mapping[str, np.ndarray], steps: int = 0, dsc: float | None = None) -> ClassToken:
        training = Training(
            scans=len(scans),
            slices=len({part.seed for drawing in drawings for part in drawing.slices}),
            steps=steps,
            seconds=round(time.monotonic() - started, 1),
            date=datetime.date.today().isoformat(),
            seed=options.seed,
            held_out_dsc=None if dsc is None else round(dsc, 4),
        )
        return replace(token, centers=(*token.centers, Center(name, delta, training, profile)))

    # Whether there is room for it must be known before the work, not after.
    with_center({key: np.zeros(n.shape, np.float16) for key, n in token.numbers.items()}).to_bytes()
    base, alone = token.at_center(None), len(scans) == 1
    before, after, steps = list[float](), list[float](), 0
    if alone:
        before = list(judge([base], scans[0], lambda fraction: report(0.0, "judging the token"), cancelled))
        if before[0] >= FAILS_BELOW:
            return Adaptation(with_center({}), 0, before[0], None)
    deltas: list[Difference] = []
    within = replace(options, seconds=options.seconds / len(parts), steps=options.steps or STEPS)
    for number, (drawing, (_, judges)) in enumerate(zip(drawings, parts, strict=True)):

        def tell(share: float, doing: str, done: int = number) -> None:
            report((done + share) / len(parts), doing)

        def learning(progress: TuningProgress, tell: Callable[[float, str], None] = tell) -> None:
            tell(_LEARNING_SHARE * progress.step / progress.steps, f"learning, loss {progress.loss:.3f}")

        delta, best_step = learn_difference(token, drawing, backbone, within, report=learning, cancelled=cancelled)
        deltas.append(delta)
        steps += best_step
        asked = [] if alone else [base]
        if delta:
            asked.append(with_center(delta).at_center(name))
        for position, scan in enumerate(judges):

            def look(fraction: float, seen: int = position, count: int = len(judges)) -> None:
                share = _LEARNING_SHARE + (1 - _LEARNING_SHARE) * (seen + fraction) / count
                tell(share, f"judging by scan {seen + 1} of {count}")

            reached = judge(asked, scan, look, cancelled) if asked else before
            after.append(reached[-1])
            if not alone:
                before.append(reached[0])
    base_dsc, dsc = float(np.mean(before)), float(np.mean(after))
    judged = 0 if alone else len(before)
    if dsc - base_dsc < (LEAST_GAIN_OF_ONE if alone else LEAST_GAIN):
        return Adaptation(with_center({}, dsc=None if alone else base_dsc), judged, base_dsc, dsc)
    return Adaptation(with_center(mean_difference(deltas), steps, None if alone else dsc), judged, base_dsc, dsc)


def _parts(scans: Sequence[DrawnScan], seed: int) -> list[tuple[Sequence[DrawnScan], Sequence[DrawnScan]]]:
    """What is learned from, and by which scans that is judged: of several, by other ones, since that a patient is found
    again says nothing of the next one."""
    if len(scans) == 1:
        return [(scans, scans)]
    parts = divided(scans, min(PARTS, len(scans)), seed)
    return [([scan for part in parts if part is not left for scan in part], left[:MOST_JUDGED]) for left in parts]
