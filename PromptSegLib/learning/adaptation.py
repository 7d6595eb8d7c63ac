"""Adaptation: what one center (a hospital, a scanner) needs beyond a class token, learned from a few of its scans.

Backbone and token stay as they are. Only a difference to the token's numbers is learned, which is drawn towards zero
unless the token finds next to nothing there. It is learned twice, from one half of the scans each time, and each is
judged by the other half, used as it will be. Only if the structure is found better with them, their mean is kept;
otherwise the center uses the token itself.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.learning.drawing import Drawing, DrawnScan, prepare_drawing
from PromptSegLib.learning.holding_out import split
from PromptSegLib.learning.tuning import Tuner, TuningOptions, TuningProgress, token_shapes
from PromptSegLib.networks.backbone import Backbone, Features
from PromptSegLib.tokens.centers import Center, checked_center_name
from PromptSegLib.tokens.class_token import ClassToken
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.records import Training

MAX_SLICES = 60
"""Slices used of either half of the scans together."""

EMPTY_SHARE = 0.5
"""Of these slices, how many show nothing of the structure, if there are enough that are known: the token knows the
structure, and what a difference must not do is find more of it all over the scan."""

STEPS = 100
"""Of either half; a center is close to its token."""

MOST_JUDGED = 3
"""Scans of either half that the other half's difference is judged by: each takes as long as two segmentations."""

LEAST_GAIN = 0.01
"""DSC on the other half's scans by which the differences must be better than none."""

FAILS_BELOW, LEAST_GAIN_OF_ONE = 0.3, 0.1
"""What a patient gains from a drawing of his own says nothing of the next one. So a single scan only tells whether the
token fails there, with a DSC below the first; then a difference that brings it the second is better than nothing."""

_PULL = 1.0
"""Weight, per scan, of how far the numbers have gone from where they started, in relation to their size."""

_PROBED_BELOW = 0.3
"""DSC of the base's network alone on what is held out below which its head is no good start."""

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
            steps, either half takes STEPS.
        report: called often with the fraction done, roughly, and what is done.
        cancelled: asked between any two steps, and while judging.

    Raises:
        InterruptedError: once it was cancelled: what was not judged is not kept.
        InputError: if the name is not free, the token belongs to another backbone, it holds no room for one more
            center, or the drawing cannot be learned from (see `prepare_drawing`).
    """
    name = checked_center_name(center, token.centers)
    token.require_backbone(backbone.name, backbone.fingerprint(), token_shapes(backbone, token.prompting))
    started = time.monotonic()
    options = options or TuningOptions()
    profile = Profile.of([scan_statistics(scan.image) for scan in scans])
    halves = _halves(scans, options.seed)
    drawings = [
        prepare_drawing(half, like=token, most_slices=MAX_SLICES, empty_share=EMPTY_SHARE) for half, _ in halves
    ]

    def with_center(delta: Mapping[str, np.ndarray], steps: int = 0, dsc: float | None = None) -> ClassToken:
        training = Training(
            scans=len(scans),
            slices=sum(len(drawing.slices) for drawing in drawings),
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
    if alone:
        (base_dsc,) = judge([base], scans[0], lambda fraction: report(0.0, "judging the token"), cancelled)
        if base_dsc >= FAILS_BELOW:
            return Adaptation(with_center({}), 0, base_dsc, None)
    deltas: list[dict[str, np.ndarray]] = []
    before, after, steps = list[float](), list[float](), 0
    within = replace(options, seconds=options.seconds / len(halves))
    for number, (drawing, (_, others)) in enumerate(zip(drawings, halves, strict=True)):

        def tell(share: float, doing: str, done: int = number) -> None:
            report((done + share) / len(halves), doing)

        delta, taken = _learn(token, drawing, backbone, within, tell, cancelled)
        deltas.append(delta)
        steps += taken
        changed = with_center(delta).at_center(name)
        for position, scan in enumerate(others):

            def look(fraction: float, seen: int = position, count: int = len(others)) -> None:
                share = _LEARNING_SHARE + (1 - _LEARNING_SHARE) * (seen + fraction) / count
                tell(share, f"judging by scan {seen + 1} of {count}")

            reached = judge([base, changed] if delta else [base], scan, look, cancelled)
            before.append(reached[0])
            after.append(reached[-1])
    base_dsc, dsc = float(np.mean(before)), float(np.mean(after))
    judged = 0 if alone else len(before)
    if dsc - base_dsc < (LEAST_GAIN_OF_ONE if alone else LEAST_GAIN):
        return Adaptation(with_center({}, dsc=None if alone else base_dsc), judged, base_dsc, dsc)
    return Adaptation(with_center(_mean(deltas), steps, None if alone else dsc), judged, base_dsc, dsc)


def _halves(scans: Sequence[DrawnScan], seed: int) -> list[tuple[Sequence[DrawnScan], Sequence[DrawnScan]]]:
    """What is learned from, and by which scans that is judged: of several, two times other ones, since that a patient
    is found again says nothing of the next one."""
    if len(scans) == 1:
        return [(scans, scans)]
    order = torch.randperm(len(scans), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [scans[number] for number in order]
    first, second = shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]
    return [(first, second[:MOST_JUDGED]), (second, first[:MOST_JUDGED])]


def _learn(
    token: ClassToken,
    drawing: Drawing,
    backbone: Backbone,
    options: TuningOptions,
    report: Callable[[float, str], None],
    cancelled: Callable[[], bool],
) -> tuple[dict[str, np.ndarray], int]:
    """A difference to the token's numbers, and how many steps it took; InterruptedError once it was cancelled."""
    tuner = _Adapter(token, drawing, backbone, options, cancelled)

    def tell(progress: TuningProgress) -> None:
        report(_LEARNING_SHARE * progress.step / progress.steps, f"learning, loss {progress.loss:.3f}")

    tuner.run(lambda: None, tell, lambda: None)
    if cancelled():
        raise InterruptedError("adapting was cancelled before what was learned was judged")
    return tuner.delta(), tuner.best_step


def _mean(deltas: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """All are small steps from the same numbers, so their mean is one, too, and has less of what is one half's own."""
    names = sorted({name for delta in deltas for name in delta})
    sums = {name: sum(delta[name].astype(np.float32) for delta in deltas if name in delta) for name in names}
    return {name: np.asarray(total / len(deltas)).astype(np.float16) for name, total in sums.items()}


class _Adapter(Tuner):
    """Tuning that starts from a token's numbers and stays close to them."""

    most_evaluated = 10

    def __init__(
        self,
        token: ClassToken,
        drawing: Drawing,
        backbone: Backbone,
        options: TuningOptions,
        cancelled: Callable[[], bool],
    ):
        self.base = {name: torch.from_numpy(n.copy()).to(backbone.device) for name, n in token.numbers.items()}
        self._calibration = token.calibration
        self._sizes = {name: float(n.square().mean().clamp_min(1e-2)) for name, n in self.base.items()}
        self._anchor = self.base
        super().__init__(drawing, backbone, backbone.encode, options, token.prompting, time.monotonic(), cancelled)
        self.steps = options.steps or STEPS

    def delta(self) -> dict[str, np.ndarray]:
        """What the best numbers differ from the base by, float16; numbers that do not differ are left out."""
        differences = {name: (value - self.base[name]).cpu().numpy() for name, value in self.best.items()}
        halves = {name: difference.astype(np.float16) for name, difference in differences.items()}
        return {name: half for name, half in halves.items() if half.any()}

    def _split(self) -> tuple[list[Tensor], list[Tensor]]:
        return split(self.drawing.slices, self.generator, empty_too=True)

    def _start(self, ready: Callable[[], None], improved: Callable[[], None]) -> dict[str, Tensor]:
        """The base; where its head fits the center badly, with one that a probe fits to the drawn pixels.

        A probe sees as many pixels of the structure as of anything else, and finds too much: it is a better start only
        where the base finds next to nothing.
        """
        base = {name: value[None] for name, value in self.base.items()}
        dsc, _ = self._keep_if_better(base, 0)
        if dsc is None or dsc > _PROBED_BELOW:
            return self.base
        points, truth = self._points(base)
        head = {name: value.cpu() for name, value in self.base.items() if name.startswith("head")}
        probed = {name: value.to(self.device) for name, value in self._probe(head, points, truth).items()}
        self._anchor = self.base | probed
        return self._anchor

    def _class_logits(self, features: Features, parameters: Mapping[str, Tensor]) -> Tensor:
        """As the center will be used: under the token's calibration."""
        return self._calibration.scale * super()._class_logits(features, parameters) + self._calibration.offset

    def _pull(self, parameters: Mapping[str, Tensor]) -> Tensor:
        terms = [
            (value[0] - self._anchor[name]).square().mean() / self._sizes[name] for name, value in parameters.items()
        ]
        return _PULL / self.drawing.scans * torch.stack(terms).sum()
