"""PromptSeg with one part switched off at a time: what each brings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import SliceStack, Volume
from PromptSegLib.imaging.working_grid import nearest_spacing
from PromptSegLib.inference import neighborhood, random_walk
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.neighborhood import Neighborhood, Place
from PromptSegLib.inference.surrounding_logits import SurroundingLogits
from PromptSegLib.learning import drawing, features, head_tuner
from PromptSegLib.learning.directions import Points, fit_directions
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.levels_tuner import LevelsTuner
from PromptSegLib.tokens.class_token import Calibration, ClassToken
from Testing.benchmarks.methods.method import Method, Setup
from Testing.benchmarks.methods.promptseg import PROMPTSEG, Tuned, tune_token

Without = Callable[[], AbstractContextManager[object]]
"""While it is entered, a part is switched off."""


def _finding(key: str, name: str, without: Without, token: Callable[[ClassToken], ClassToken] = lambda t: t) -> Method:
    """The same token, used without a part."""
    return Method(key, name, tune_token, partial(_find, without=without, token=token), across=True)


def _learning(key: str, name: str, without: Without = nullcontext, **options: object) -> Method:
    """Another token, learned without a part or with other options."""
    learn = partial(_learn, without=without, options=options)
    return Method(key, name, learn, PROMPTSEG.find, across=True)


def _learn(scans: Sequence[DrawnScan], setup: Setup, without: Without, options: dict[str, object]) -> Tuned:
    with without():
        return tune_token(scans, replace(setup, options=replace(setup.options, **options)))  # type: ignore[arg-type]


def _find(
    tuned: Tuned,
    image: Volume,
    annotation: Annotation | None,
    without: Without,
    token: Callable[[ClassToken], ClassToken],
) -> np.ndarray:
    with without():
        return PROMPTSEG.find(replace(tuned, token=token(tuned.token)), image, annotation)


def _unsettled(self: Neighborhood, image: object, stack: SliceStack, *_: object) -> Iterator[tuple[Place, np.ndarray]]:
    yield self.place, self.logits.astype(np.float32)


def _in_plane(
    image: np.ndarray, spacing: Sequence[float], every_axis: Callable[..., list[np.ndarray]] = random_walk._edge_weights
) -> list[np.ndarray]:
    across, *within = every_axis(image, spacing)
    return [np.zeros_like(across), *within]


def _no_appearance(values: np.ndarray, *_: object) -> np.ndarray:
    return np.zeros_like(values)


def _nowhere(points: Points) -> tuple[dict[str, Tensor], Tensor]:
    directions, offset = fit_directions(points)
    return {name: torch.zeros_like(direction) for name, direction in directions.items()}, torch.zeros_like(offset)


@contextmanager
def _without_directions() -> Iterator[None]:
    """Of a head alone, tokens are left; of deep prompts, all that gradients have learned."""
    with patch.object(head_tuner, "fit_directions", _nowhere), patch.object(LevelsTuner, "wants_directions", False):
        yield


def _native(diameter_mm: float, native_mm: float) -> float:
    return nearest_spacing(native_mm)


ABLATIONS = {
    method.key: method
    for method in (
        _finding("without-walk", "without the random walk", lambda: patch.object(Neighborhood, "settle", _unsettled)),
        _finding(
            "walk-in-plane",
            "no smoothing across slices",
            lambda: patch.object(random_walk, "_edge_weights", _in_plane),
        ),
        _finding(
            "without-appearance",
            "without the drawing's brightness",
            lambda: patch.object(neighborhood, "appearance_logits", _no_appearance),
        ),
        _finding(
            "without-shape",
            "without the drawn shape",
            lambda: patch.object(Drawn, "shape", lambda drawn, label, stack: None),
        ),
        _finding(
            "without-surroundings",
            "without its surroundings",
            lambda: patch.object(SurroundingLogits, "of", lambda *_: None),
        ),
        _finding("all-pieces", "with all pieces", nullcontext, lambda t: replace(t, pieces="many")),
        _finding("without-place", "without the place in the body", nullcontext, lambda t: replace(t, place=None)),
        _finding("without-height", "without the height in the body", nullcontext, lambda t: replace(t, height=None)),
        _finding("without-size", "without the size", nullcontext, lambda t: replace(t, size=None)),
        _finding("uncalibrated", "uncalibrated", nullcontext, lambda t: replace(t, calibration=Calibration())),
        _learning("without-directions", "without directions", _without_directions),
        _learning("without-probe", "without the probe", probe_steps=0),
        _learning("prompts-in-decoder", "prompts in the decoder", prompting="decoder"),
        _learning("prompts-everywhere", "prompts in the encoder, too", prompting="full"),
        _learning(
            "without-augmentation",
            "prompts in the decoder, without changed views",
            lambda: patch.object(features, "AUGMENTED_VIEWS", 0),
            prompting="decoder",
        ),
        _learning(
            "native-grid", "at the scan's own spacing", lambda: patch.object(drawing, "working_spacing", _native)
        ),
    )
}
"""Some say nothing in the drawn scan (the place), some nothing on others (the drawn shape)."""
