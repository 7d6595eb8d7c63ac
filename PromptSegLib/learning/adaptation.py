"""Adaptation: what one center (a hospital, a scanner) needs beyond a class token, learned from a few of its scans.

Backbone and token stay as they are. Only a difference to the token's numbers is learned, which is drawn towards zero
unless the token finds next to nothing there. It is kept only if, with it, the structure is found better on scans that
it was not learned from; otherwise the center uses the token itself.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace

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

MAX_SLICES = 80
"""Slices used of all scans together: a center is close to the base, and two minutes are its time."""

EMPTY_SHARE = 0.5
"""Of these slices, how many show nothing of the structure: the token knows the structure, and what a difference must
not do is find more of it all over the scan."""

STEPS = 150

HELD_OUT_SCANS, MOST_HELD_OUT = 0.25, 4
"""Of several scans, this share (at least one, and so many at the most) is kept aside to tell whether the difference
helps."""

LEAST_GAIN = 0.01
"""DSC on the scans that were kept aside by which a difference must be better than none: these are few."""

FAILS_BELOW, LEAST_GAIN_OF_ONE = 0.3, 0.1
"""What a patient gains from a drawing of his own says nothing of the next one. So a single scan only tells whether the
token fails there, with a DSC below the first; then a difference that brings it the second is better than nothing."""

_PULL = 1.0
"""Weight, per scan, of how far the numbers have gone from where they started, in relation to their size."""

_PROBED_BELOW = 0.3
"""DSC of the base's network alone on what is held out below which its head is no good start."""

Judge = Callable[[Sequence[ClassToken], DrawnScan], Sequence[float]]
"""The DSC that each of these tokens reaches on what was drawn in a scan, used as it will be."""


@dataclass(frozen=True)
class Adaptation:
    """token: with the new center as its last one; aside: how many scans were kept aside, 0 where a single one was
    judged by; base_dsc: what the token itself reached on these, or on that one."""

    token: ClassToken
    aside: int
    base_dsc: float

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
    report: Callable[[TuningProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Adaptation:
    """Add a center to a token.

    Args:
        scans: of the center, with what was drawn of the token's class.
        center: its name.
        backbone: the token's; frozen.
        judge: says whether what was learned helps.
        options: the prompting is the token's, whatever they say.
        report: called after every step.
        cancelled: asked between any two steps; once true, what was learned so far is judged.

    Raises:
        InterruptedError: if it was cancelled before anything was learned.
        InputError: if the name is not free, the token belongs to another backbone, it holds no room for one more
            center, or the drawing cannot be learned from (see `prepare_drawing`).
    """
    name = checked_center_name(center, token.centers)
    token.require_backbone(backbone.name, backbone.fingerprint(), token_shapes(backbone, token.prompting))
    started = time.monotonic()
    options = options or TuningOptions()
    profile = Profile.of([scan_statistics(scan.image) for scan in scans])
    drawing = prepare_drawing(scans, like=token, most_slices=MAX_SLICES, empty_share=EMPTY_SHARE)

    def with_center(delta: Mapping[str, np.ndarray], steps: int, dsc: float | None) -> ClassToken:
        training = Training(
            scans=len(scans),
            slices=len(drawing.slices),
            steps=steps,
            seconds=round(time.monotonic() - started, 1),
            date=datetime.date.today().isoformat(),
            seed=options.seed,
            held_out_dsc=None if dsc is None else round(dsc, 4),
        )
        return replace(token, centers=(*token.centers, Center(name, delta, training, profile)))

    # Whether there is room for it must be known before the work, not after.
    with_center({key: np.zeros(n.shape, np.float16) for key, n in token.numbers.items()}, 0, None).to_bytes()
    base = token.at_center(None)
    aside = _kept_aside(drawing, options.seed)
    judged = [scans[number] for number in sorted(aside)] or list(scans)[:MOST_HELD_OUT]
    if not aside:
        base_dsc = _mean([judge([base], scan)[0] for scan in judged])
        if base_dsc >= FAILS_BELOW:
            return Adaptation(with_center({}, 0, base_dsc), len(aside), base_dsc)
    tuner = _Adapter(token, drawing, aside, backbone, options, started, cancelled)
    tuner.run(lambda: None, report, lambda: None)
    delta = tuner.delta()
    if cancelled() and not delta:
        raise InterruptedError("adapting was cancelled before anything was learned")
    changed = with_center(delta, 0, None).at_center(name)
    pairs = [judge([base, changed], scan) for scan in judged]
    base_dsc, dsc = _mean([before for before, _ in pairs]), _mean([after for _, after in pairs])
    if dsc - base_dsc < (LEAST_GAIN if aside else LEAST_GAIN_OF_ONE):
        return Adaptation(with_center({}, 0, base_dsc), len(aside), base_dsc)
    return Adaptation(with_center(delta, tuner.best_step, dsc if aside else None), len(aside), base_dsc)


def _kept_aside(drawing: Drawing, seed: int) -> set[int]:
    """Numbers of the scans that nothing is learned from: of several, whole ones, since that a patient is found again
    says nothing of the next one. None where those, or the others, would not show structure and background."""
    numbers = sorted({part.scan for part in drawing.slices})
    order = [numbers[i] for i in torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed)).tolist()]
    aside = set(order[: min(MOST_HELD_OUT, max(1, round(HELD_OUT_SCANS * len(order))))])

    def shows_both(scans: set[int]) -> bool:
        parts = [part for part in drawing.slices if part.scan in scans]
        inside = any(bool((part.known & (part.target > 0.5)).any()) for part in parts)
        return inside and any(bool((part.known & (part.target <= 0.5)).any()) for part in parts)

    return aside if all(shows_both(part) for part in (aside, set(numbers) - aside)) else set()


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


class _Adapter(Tuner):
    """Tuning that starts from a token's numbers and stays close to them."""

    most_evaluated = 10

    def __init__(
        self,
        token: ClassToken,
        drawing: Drawing,
        aside: Container[int],
        backbone: Backbone,
        options: TuningOptions,
        started: float,
        cancelled: Callable[[], bool],
    ):
        self.base = {name: torch.from_numpy(n.copy()).to(backbone.device) for name, n in token.numbers.items()}
        self._calibration = token.calibration
        self._sizes = {name: float(n.square().mean().clamp_min(1e-2)) for name, n in self.base.items()}
        self._anchor, self._aside = self.base, aside
        super().__init__(drawing, backbone, backbone.encode, options, token.prompting, started, cancelled)
        self.steps = options.steps or STEPS

    def delta(self) -> dict[str, np.ndarray]:
        """What the best numbers differ from the base by, float16; numbers that do not differ are left out."""
        differences = {name: (value - self.base[name]).cpu().numpy() for name, value in self.best.items()}
        halves = {name: difference.astype(np.float16) for name, difference in differences.items()}
        return {name: half for name, half in halves.items() if half.any()}

    def _split(self) -> tuple[list[Tensor], list[Tensor]]:
        """What is kept aside also tells when to go back; of a single scan, a part of its drawing does."""
        if not any(part.scan in self._aside for part in self.drawing.slices):
            return split(self.drawing.slices, self.generator, empty_too=True)
        nothing = [torch.zeros_like(part.known) for part in self.drawing.slices]
        pairs = list(zip(self.drawing.slices, nothing, strict=True))
        training = [n if p.scan in self._aside else p.known for p, n in pairs]
        held_out = [p.known if p.scan in self._aside else n for p, n in pairs]
        return training, held_out

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
