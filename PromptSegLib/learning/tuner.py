"""One run of tuning: a first guess in closed form, then gradients; a held-out part of the drawing says what is best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from PromptSegLib.learning.directions import Points, points_of
from PromptSegLib.learning.drawing import Drawing
from PromptSegLib.learning.features import Crop, FeatureCache, full_resolution, stack
from PromptSegLib.learning.holding_out import calibrate, dice, some_holding, split
from PromptSegLib.learning.losses import known_dice_focal
from PromptSegLib.learning.probe import GLIMPSE_STEPS, fit_head, sample_pixels
from PromptSegLib.learning.prototypes import deep_prompts, kmeans
from PromptSegLib.networks.backbone import Backbone, Features, Prompts
from PromptSegLib.networks.device import is_out_of_memory, release_memory
from PromptSegLib.networks.head import HEAD_TOKENS, INITIAL_SCALE, class_logits, is_direction
from PromptSegLib.tokens.class_token import Calibration, ClassToken

_EVALUATE_EVERY = 10
_FEWEST_STEPS, _STEPS_PER_SLICE, _MOST_STEPS = 8, 2, 160
_BATCH = 4
_PROMPT_SLICES = 10
_PROBE_PIXELS = 1000
_VIEWS_SHARE = 0.3
_TOLERANCE = 0.03


@dataclass(frozen=True)
class TuningOptions:
    """How to tune.

    prompting: one of the backbone's variants, None for what suits the drawing; seconds: upper limit of the time spent
    on gradient steps and what prepares them, to which directions beside them add a few; steps: of the gradient at most,
    None for what the number of drawn slices asks for; a head without deep prompts takes none; patience: evaluations
    without a gain before stopping early.
    Results repeat on the same machine unless the time limit cuts the steps short.
    """

    prompting: str | None = None
    seconds: float = 90.0
    steps: int | None = None
    rate: float = 1e-2
    probe_steps: int = 100
    patience: int = 6
    seed: int = 0


@dataclass(frozen=True)
class TuningProgress:
    """step of steps, and its loss; held_out_dsc: the latest, None where nothing is held out; seconds_left: estimate."""

    step: int
    steps: int
    loss: float
    held_out_dsc: float | None
    seconds_left: float


class Tuner:
    """One run of tuning.

    best: the numbers to keep, without a leading class axis; steps: of the gradient, at most; steps_taken: of them;
    earlier: the token that tuning went on from, if it did; under: the calibration that logits are judged under.
    """

    under = Calibration()

    most_evaluated = 6
    """Slices that the held-out part is looked at on."""

    def __init__(
        self,
        drawing: Drawing,
        backbone: Backbone,
        encode: Callable[[Tensor], Features],
        options: TuningOptions,
        prompting: str,
        started: float,
        cancelled: Callable[[], bool],
    ):
        self.drawing, self.backbone, self.encode, self.options = drawing, backbone, encode, options
        self.prompting, self.started, self.cancelled = prompting, started, cancelled
        self.device = backbone.device
        self.generator = torch.Generator().manual_seed(options.seed)
        self.training, self.held_out = self._split()
        self.evaluated = some_holding(self.held_out, self.most_evaluated, self.generator)
        self.best: dict[str, Tensor] = {}
        self.best_prompting = self.prompting
        self.best_dsc: float | None = None
        self.best_step = 0
        self.steps = options.steps or min(_FEWEST_STEPS + _STEPS_PER_SLICE * len(drawing.slices), _MOST_STEPS)
        self.steps_taken = 0
        self.earlier: ClassToken | None = None
        self._highest_dsc = 0.0
        self._at_once = _BATCH

    @cached_property
    def cache(self) -> FeatureCache:
        """What is trained on, once the backbone has seen it; InterruptedError if it is cancelled before."""
        steered = any(name.startswith("encoder") for name in self.backbone.prompt_shapes(self.prompting))
        return FeatureCache(
            self.drawing,
            self.training,
            self.encode,
            self.options.seed,
            self.device,
            keep_features=not steered,
            cancelled=self.cancelled,
        )

    def _short_of_time(self) -> bool:
        """Whether views beyond one per slice would take time from the tuning itself."""
        return self.cancelled() or time.monotonic() - self.started > _VIEWS_SHARE * self.options.seconds

    def _split(self) -> tuple[list[Tensor], list[Tensor]]:
        """Known pixels to train on and known pixels held out, per slice, (1, h, w) bool each."""
        return split(self.drawing.slices, self.generator)

    def run(
        self, ready: Callable[[], None], report: Callable[[TuningProgress], None], improved: Callable[[], None]
    ) -> None:
        options = self.options
        try:
            numbers = self._start(ready, improved)
        except InterruptedError:
            if not self.best:
                raise
            return
        self.best_prompting, steps = self.prompting, self.steps
        parameters = {name: value[None].clone() for name, value in numbers.items()}
        # Directions come in closed form, and stay.
        trained = {name: value.requires_grad_() for name, value in parameters.items() if not is_direction(name)}
        self._keep_if_better(parameters, 0)
        improved()
        self.cache.augment(self._short_of_time)
        head = [p for n, p in trained.items() if n.startswith("head")]
        deep = [p for n, p in trained.items() if not n.startswith("head")]
        optimizer = torch.optim.Adam([{"params": head, "share": 0.3}, {"params": deep, "share": 1.0}], lr=options.rate)
        stale, dsc = 0, self.best_dsc
        loop_started = time.monotonic()
        for step in range(1, steps + 1):
            spent = time.monotonic() - self.started
            if self.cancelled() or spent >= options.seconds:
                break
            progress = max((step - 1) / steps, (time.monotonic() - loop_started) / max(options.seconds, 1e-3))
            rate = options.rate * min(1.0, step / 5) * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)))
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            loss = self._step(parameters, optimizer)
            self.steps_taken = step
            if step % _EVALUATE_EVERY == 0 or step == steps:
                dsc, better = self._keep_if_better(parameters, step)
                stale = 0 if better else stale + 1
                if better:
                    improved()
            per_step = (time.monotonic() - loop_started) / step
            left = min((steps - step) * per_step, options.seconds - (time.monotonic() - self.started))
            report(TuningProgress(step, steps, loss, dsc, max(0.0, left)))
            if stale >= options.patience:
                break

    def _step(self, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> float:
        crops = [self.cache.crop(self.generator) for _ in range(_BATCH)]
        while True:
            optimizer.zero_grad(set_to_none=True)
            try:
                loss = self._add_gradients(parameters, crops)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._at_once == 1:
                    raise
                self._at_once //= 2
                release_memory()
        pull = self._pull(parameters)
        if pull is not None:
            torch.autograd.backward(pull)
        optimizer.step()
        return loss

    def _add_gradients(self, parameters: dict[str, Tensor], crops: Sequence[Crop]) -> float:
        """Of the mean loss of these crops, as many at once as memory allows; the loss."""
        total, knowing = 0.0, max(1, sum(bool(crop.known.any()) for crop in crops))
        for first in range(0, len(crops), self._at_once):
            part = crops[first : first + self._at_once]
            source, target, known = stack(part, self.device)
            features = source if isinstance(source, Features) else self.backbone.encode(source, parameters)
            share = sum(bool(crop.known.any()) for crop in part) / knowing
            loss = share * known_dice_focal(self._class_logits(features, parameters), target, known)
            torch.autograd.backward(loss)
            total += float(loss.detach())
        return total

    def _start(self, ready: Callable[[], None], improved: Callable[[], None]) -> dict[str, Tensor]:
        """The numbers that gradients start from; InterruptedError if it was cancelled before there are any."""
        points, truth = self._points()
        ready()
        return self._first_guess(points, truth, improved) | self._deep_prompts()

    def _pull(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """What is added to the loss, whatever the drawing."""
        return None

    def _points(self, prompts: Prompts | None = None) -> tuple[Tensor, Tensor]:
        """Embeddings (V, C) of some known pixels of every slice, under these prompts, and the pixels' targets (V,)."""
        embeddings, targets = [], []
        drawn = self.drawing.slices
        per_slice = max(200, 2 * _PROBE_PIXELS // len(drawn))
        of_empty = round(per_slice * self.drawing.empty_weight)
        for number, part in enumerate(drawn):
            known = self.training[number][0]
            if not known.any():
                continue
            self._check_cancelled()
            with torch.no_grad():
                features = self._features(number, prompts)
                embedding = full_resolution(self.backbone.decode(features, prompts), features.size)[0].cpu()
            count = of_empty if part.empty else per_slice
            for pixels in sample_pixels(part.target[0], known, count, self.generator):
                embeddings.append(embedding[:, pixels[:, 0], pixels[:, 1]].T)
                targets.append(part.target[0][pixels[:, 0], pixels[:, 1]])
        return torch.cat(embeddings), torch.cat(targets)

    def levels_of_pixels(self, prompts: Prompts | None = None) -> Points:
        """Some known pixels of every slice, as the backbone sees them under these prompts."""

        def maps_of(number: int) -> Sequence[Tensor]:
            self._check_cancelled()
            with torch.no_grad():
                return self.backbone.decode_levels(self._features(number, prompts), prompts)

        return points_of(self.drawing, self.training, maps_of, self.generator)

    def _first_guess(self, points: Tensor, truth: Tensor, improved: Callable[[], None]) -> dict[str, Tensor]:
        """Head tokens: prototypes of the drawn and undrawn pixels' embeddings, then a probe on the same embeddings."""
        inside = truth > 0.5
        numbers = {
            "head.foreground": kmeans(points[inside], HEAD_TOKENS, self.generator),
            "head.background": kmeans(points[~inside], HEAD_TOKENS, self.generator),
            "head.log_scale": torch.tensor([math.log(INITIAL_SCALE)]),
            "head.offset": torch.zeros(1),
        }
        head_alone = next((v for v in self.backbone.prompting_variants if not self.backbone.prompt_shapes(v)), None)

        def glimpse(step: int, loss: float, head: Mapping[str, Tensor]) -> None:
            if step == GLIMPSE_STEPS and head_alone is not None:
                self.best_prompting = head_alone
                self.best = {name: value.clone().to(self.device) for name, value in head.items()}
                improved()

        return self._fit_head(numbers, points, truth, glimpse)

    def _check_cancelled(self) -> None:
        if self.cancelled():
            raise InterruptedError("training was cancelled before there was a first guess")

    def _fit_head(
        self,
        numbers: Mapping[str, Tensor],
        points: Tensor,
        truth: Tensor,
        tell: Callable[[int, float, Mapping[str, Tensor]], None] = lambda step, loss, numbers: None,
        beside: Tensor | None = None,
    ) -> dict[str, Tensor]:
        found = fit_head(numbers, points, truth, self.options.probe_steps, self._check_cancelled, tell, beside)
        return {name: value.to(self.device) for name, value in found.items()}

    def _deep_prompts(self) -> dict[str, Tensor]:
        number = len(self.drawing.slices)
        chosen = sorted({round(i * (number - 1) / max(_PROMPT_SLICES - 1, 1)) for i in range(_PROMPT_SLICES)})
        chosen = [i for i in chosen if self.drawing.slices[i].target.max() > 0.5]
        parts = [self.drawing.slices[i] for i in chosen]
        prompts = deep_prompts(
            self.backbone,
            [p.image.to(self.device) for p in parts],
            [p.target.to(self.device) for p in parts],
            [self.training[i].to(self.device) for i in chosen],
            self.prompting,
            self.generator,
            self._check_cancelled,
        )
        return {name: value.to(self.device) for name, value in prompts.items()}

    def _logits(self, parameters: dict[str, Tensor], number: int) -> Tensor:
        with torch.no_grad():
            return self._class_logits(self._features(number, parameters), parameters).cpu()

    def _features(self, number: int, prompts: Prompts | None) -> Features:
        """Of a drawn slice, as these prompts steer the encoder."""
        kept = self.cache.views[number].features
        if kept is not None:
            return kept
        image = self.drawing.slices[number].image[None].to(self.device)
        return self.encode(image) if prompts is None else self.backbone.encode(image, prompts)

    def _class_logits(self, features: Features, parameters: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, h, w) as they are judged."""
        logits = class_logits(self.backbone.decode_levels(features, parameters), parameters, features.size)
        return self.under.scale * logits + self.under.offset

    def _agreement(self, parameters: dict[str, Tensor]) -> float:
        """DSC on all that is drawn."""
        return dice(*self._logits_on(parameters, self._known()))

    def _known(self) -> Iterator[tuple[int, Tensor]]:
        """Numbers and known pixels of all slices; InterruptedError once it was cancelled."""
        for number, part in enumerate(self.drawing.slices):
            self._check_cancelled()
            yield number, part.known

    def _held_out_logits(self, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, targets and weights of all held-out pixels of the evaluated slices, flat."""
        return self._logits_on(parameters, ((number, self.held_out[number]) for number in self.evaluated))

    def _logits_on(
        self, parameters: dict[str, Tensor], masks: Iterable[tuple[int, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, targets and weights of some pixels, flat. masks: numbers of slices, and bool (1, h, w)."""
        logits, targets, weights = [], [], []
        for number, mask in masks:
            part = self.drawing.slices[number]
            logits.append(self._logits(parameters, number)[mask])
            targets.append(part.target[mask])
            weights.append(torch.full_like(targets[-1], part.stands_for))
        return torch.cat(logits), torch.cat(targets), torch.cat(weights)

    def _keep_if_better(self, parameters: dict[str, Tensor], step: int) -> tuple[float | None, bool]:
        """Keep the state unless the held-out part says that it is clearly worse than the best one was.

        The held-out part lies on the drawn slices themselves and hardly tells a probe from tuned prompts, which are
        much better on all other slices: so the later state wins unless it falls behind by more than `_TOLERANCE`.
        """
        dsc = self._held_out_dsc(parameters)
        better = dsc is None or dsc >= self._highest_dsc - _TOLERANCE
        if better:
            self._keep(parameters, step, dsc)
        return dsc, better

    def _held_out_dsc(self, parameters: dict[str, Tensor]) -> float | None:
        if not self.evaluated:
            return None
        return dice(*self._held_out_logits(parameters))

    def _keep(self, parameters: dict[str, Tensor], step: int, dsc: float | None) -> None:
        self._highest_dsc = max(self._highest_dsc, dsc or 0.0)
        self.best_step, self.best_dsc = step, dsc
        self.best = {name: value.detach()[0].clone() for name, value in parameters.items()}

    def calibration(self) -> Calibration:
        """Platt scaling on the held-out pixels, drawn towards no change where these are few."""
        if not self.evaluated:
            return Calibration()
        return calibrate(*self._held_out_logits({name: value[None] for name, value in self.best.items()}))
