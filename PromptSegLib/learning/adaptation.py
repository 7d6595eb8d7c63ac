"""Adaptation: what one center (a hospital, a scanner) needs beyond a class token, learned from a few of its scans.

Backbone and token stay as they are. Only a difference to the token's numbers is learned, which is drawn towards zero
unless the token finds next to nothing there, and kept only if it helps on a scan that it was not learned from (of a
single scan, on a part of its drawing): otherwise the center uses the token itself.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
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

MAX_SLICES = 36
"""Slices used of all scans together: a center is close to the base, and two minutes are its time."""

EMPTY_SHARE = 0.6
"""Of these slices, how many show nothing of the structure: the token knows the structure, and what a difference must
not do is find more of it all over the scan."""

HELD_OUT_SCANS = 0.25
"""Of several scans, this share (at least one) is kept aside to tell whether the difference helps."""

LEAST_GAIN, LEAST_GAIN_OF_ONE = 0.03, 0.1
"""DSC on what was kept aside, of several scans and of a single one, by which a difference must be better than none: it
is little that is kept aside, and what one patient gains from a drawing of his own says little of the next."""

_PULL = 5.0
"""Weight, per scan, of how far the numbers have gone from where they started, in relation to their size."""

_PROBED_BELOW = 0.3
"""DSC of the base on what is held out below which its head is no good start."""


@dataclass(frozen=True)
class Adaptation:
    """token: with the new center as its last one; base_dsc: what the token itself reached on the held-out part, None
    where nothing is held out."""

    token: ClassToken
    base_dsc: float | None

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
        options: the prompting is the token's, whatever they say.
        report: called after every step.
        cancelled: asked between any two steps; once true, the best difference so far is returned.

    Raises:
        InterruptedError: if it was cancelled before anything better than the token itself was found.
        InputError: if the name is not free, the token belongs to another backbone, it holds no room for one more
            center, or the drawing cannot be learned from (see `prepare_drawing`).
    """
    name = checked_center_name(center, token.centers)
    token.require_backbone(backbone.name, backbone.fingerprint(), token_shapes(backbone, token.prompting))
    started = time.monotonic()
    options = options or TuningOptions()
    profile = Profile.of([scan_statistics(scan.image) for scan in scans])
    drawing = prepare_drawing(scans, like=token, most_slices=MAX_SLICES, empty_share=EMPTY_SHARE)

    def with_center(delta: Mapping[str, np.ndarray], tuner: _Adapter | None) -> ClassToken:
        training = Training(
            scans=len(scans),
            slices=len(drawing.slices),
            steps=0 if tuner is None else tuner.best_step,
            seconds=round(time.monotonic() - started, 1),
            date=datetime.date.today().isoformat(),
            seed=options.seed,
            held_out_dsc=None if tuner is None or tuner.best_dsc is None else round(tuner.best_dsc, 4),
        )
        return replace(token, centers=(*token.centers, Center(name, delta, training, profile)))

    # Whether there is room for it must be known before the work, not after.
    with_center({key: np.zeros(n.shape, np.float16) for key, n in token.numbers.items()}, None).to_bytes()
    tuner = _Adapter(token, drawing, backbone, options, started, cancelled)
    tuner.run(lambda: None, report, lambda: None)
    delta = tuner.delta()
    if cancelled() and not delta:
        raise InterruptedError("adapting was cancelled before it had found anything better than the token itself")
    return Adaptation(with_center(delta, tuner), tuner.base_dsc)


class _Adapter(Tuner):
    """Tuning that starts from a token's numbers and stays close to them."""

    most_evaluated = 10

    def __init__(
        self,
        token: ClassToken,
        drawing: Drawing,
        backbone: Backbone,
        options: TuningOptions,
        started: float,
        cancelled: Callable[[], bool],
    ):
        self.base = {name: torch.from_numpy(n.copy()).to(backbone.device) for name, n in token.numbers.items()}
        self._calibration = token.calibration
        self._sizes = {name: float(n.square().mean().clamp_min(1e-2)) for name, n in self.base.items()}
        self._anchor = self.base
        self.base_dsc: float | None = None
        super().__init__(drawing, backbone, backbone.encode, options, token.prompting, started, cancelled)

    def delta(self) -> dict[str, np.ndarray]:
        """What the best numbers differ from the base by, float16; numbers that do not differ are left out."""
        differences = {name: (value - self.base[name]).cpu().numpy() for name, value in self.best.items()}
        halves = {name: difference.astype(np.float16) for name, difference in differences.items()}
        return {name: half for name, half in halves.items() if half.any()}

    def _split(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of several scans, whole ones are held out: that a patient is found again says nothing of the next one."""
        numbers = sorted({part.scan for part in self.drawing.slices})
        order = [numbers[i] for i in torch.randperm(len(numbers), generator=self.generator).tolist()]
        aside = set(order[: max(1, round(HELD_OUT_SCANS * len(order)))])
        if len(numbers) < 2 or not all(self._shows_both(part) for part in (aside, set(numbers) - aside)):
            return split(self.drawing.slices, self.generator, empty_too=True)
        nothing = [torch.zeros_like(part.known) for part in self.drawing.slices]
        training = [n if p.scan in aside else p.known for p, n in zip(self.drawing.slices, nothing, strict=True)]
        held_out = [p.known if p.scan in aside else n for p, n in zip(self.drawing.slices, nothing, strict=True)]
        return training, held_out

    def _shows_both(self, scans: set[int]) -> bool:
        parts = [part for part in self.drawing.slices if part.scan in scans]
        inside = any(bool((part.known & (part.target > 0.5)).any()) for part in parts)
        return inside and any(bool((part.known & (part.target <= 0.5)).any()) for part in parts)

    def _start(self, ready: Callable[[], None], improved: Callable[[], None]) -> dict[str, Tensor]:
        """The base; where its head fits the center badly, with one that a probe fits to the drawn pixels.

        A probe sees as many pixels of the structure as of anything else, and finds too much: it is a better start only
        where the base finds next to nothing.
        """
        base = {name: value[None] for name, value in self.base.items()}
        self.base_dsc, _ = self._keep_if_better(base, 0)
        if self.base_dsc is None or self.base_dsc > _PROBED_BELOW:
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

    def _keep_if_better(self, parameters: dict[str, Tensor], step: int) -> tuple[float | None, bool]:
        dsc = self._held_out_dsc(parameters)
        is_base = not self.best
        least = LEAST_GAIN if self.drawing.scans > 1 else LEAST_GAIN_OF_ONE
        needed = self._highest_dsc + (least if self.best_dsc == self.base_dsc else 0.0)
        better = dsc is None or is_base or dsc > needed
        if better:
            self._keep(parameters, step, dsc)
        return dsc, better
