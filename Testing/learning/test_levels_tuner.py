"""Directions beside deep prompts: what is learned for other scans is the mean of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.differences import learn_difference
from PromptSegLib.learning.drawing import DrawnScan, prepare_drawing
from PromptSegLib.learning.levels_tuner import half_of_each
from PromptSegLib.learning.tuning import TuningProgress, token_shapes, tune
from PromptSegLib.networks.head import class_logits, head_shapes, is_direction
from PromptSegLib.networks.presets import PUNetPreset
from PromptSegLib.tokens.class_token import ClassToken, parse_token
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.shape import Shape
from PromptSegLib.tokens.size import Size
from Testing.support import FAST, drawn_scan, dsc, scan, tiny_backbone, tuned_token, wholly_drawn

PROMPTED = replace(FAST, steps=4, probe_steps=30, prompting="decoder")


def whole_scan(seed: int = 0) -> DrawnScan:
    return wholly_drawn(*scan(seed=seed))


def found_dsc(token: ClassToken) -> float:
    image, truth = scan(seed=5)
    return dsc(Segmenter(tiny_backbone(), [token]).segment(image).labels.array == 1, truth)


@pytest.fixture(scope="module")
def token() -> ClassToken:
    return tune([whole_scan()], "Organ", tiny_backbone(), PROMPTED)


@pytest.mark.parametrize("prompting", [name for name in PUNetPreset.prompting_variants if name != "end"])
def test_what_is_for_other_scans_has_directions_beside_its_prompts(prompting: str) -> None:
    token = tune([whole_scan()], "Organ", tiny_backbone(), replace(PROMPTED, prompting=prompting))
    assert {name: n.shape for name, n in token.numbers.items()} == token_shapes(tiny_backbone(), prompting)
    assert token.has_directions and not token.is_head_alone
    assert found_dsc(token) > 0.8


def test_several_scans_are_for_others_too_and_a_single_slice_is_not() -> None:
    several, single = ([drawn_scan(), drawn_scan(seed=1)], [drawn_scan((6,))])
    assert tune(several, "Organ", tiny_backbone(), PROMPTED).has_directions
    assert not tune(single, "Organ", tiny_backbone(), PROMPTED).has_directions


def test_the_logit_is_the_mean_of_both() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 6, 4, 4, generator=generator)]
    shapes = head_shapes(4, (4, 6))
    numbers = {name: torch.randn(1, *shape, generator=generator) for name, shape in shapes.items()}
    tokens = {name: value for name, value in numbers.items() if not is_direction(name)}
    along = {name: value[0] for name, value in numbers.items() if is_direction(name)}
    both = half_of_each(tokens, along, torch.ones(1), torch.device("cpu"))
    silent = tokens | {"head.log_scale": torch.full((1, 1), -30.0), "head.offset": torch.ones(1, 1)}
    alone = [class_logits(maps, each, (8, 8)) for each in (tokens, numbers | silent)]
    assert torch.allclose(class_logits(maps, both, (8, 8)), (alone[0] + alone[1]) / 2, atol=1e-5)


def test_whoever_watches_sees_directions_last() -> None:
    watched: list[ClassToken] = []
    steps: list[TuningProgress] = []
    token = tune([whole_scan()], "Organ", tiny_backbone(), PROMPTED, watch=watched.append, report=steps.append)
    assert watched[-1].has_directions and not any(each.has_directions for each in watched[:-1])
    assert all(np.array_equal(watched[-1].numbers[name], number) for name, number in token.numbers.items())
    assert token.training.steps <= steps[-1].step == PROMPTED.steps


def test_cancelled_before_them_there_are_none() -> None:
    steps: list[TuningProgress] = []
    token = tune(
        [whole_scan()],
        "Organ",
        tiny_backbone(),
        PROMPTED,
        report=steps.append,
        cancelled=lambda: len(steps) == PROMPTED.steps,
    )
    assert not token.has_directions and token.prompting == "decoder"


def test_they_are_kept_in_the_file(token: ClassToken) -> None:
    loaded = parse_token(token.to_bytes())
    assert loaded.has_directions and loaded.prompting == "decoder"
    assert all(np.array_equal(loaded.numbers[name], number) for name, number in token.numbers.items())
    assert found_dsc(loaded) == found_dsc(token) > 0.8


def test_neither_a_center_nor_a_correction_changes_them(token: ClassToken) -> None:
    own = [name for name in token.numbers if is_direction(name)]
    drawn = [drawn_scan(seed=1), drawn_scan(seed=2)]
    delta, _ = learn_difference(token, prepare_drawing(drawn, like=token), tiny_backbone(), PROMPTED)
    assert delta and not any(is_direction(name) for name in delta)
    others = replace(token, profile=Profile(2, {"noise": 3.0}, {"noise": 0.1}))
    after = tune([drawn_scan((6,), seed=3)], "Organ", tiny_backbone(), PROMPTED, before=others)
    assert own and all(np.array_equal(after.numbers[name], token.numbers[name]) for name in own)
    assert not np.array_equal(after.numbers["head.foreground"], token.numbers["head.foreground"])


def test_where_a_token_fails_a_probe_begins_anew_beside_them(token: ClassToken) -> None:
    blind = replace(token, numbers=token.numbers | {"head.offset": token.numbers["head.offset"] - 30})
    drawn = [drawn_scan((3, 6, 9), seed) for seed in (1, 2)]
    drawing = prepare_drawing(drawn, like=token)
    assert found_dsc(blind) < 0.1
    delta, _ = learn_difference(blind, drawing, tiny_backbone(), PROMPTED)
    numbers = {name: number + delta.get(name, np.float32(0)) for name, number in blind.numbers.items()}
    assert found_dsc(replace(blind, numbers=numbers)) > 0.7


def test_a_drawing_that_becomes_whole_gets_them() -> None:
    image, _ = scan()
    before = tune([drawn_scan((6,))], "Organ", tiny_backbone(), PROMPTED)
    here = replace(before, profile=Profile.of([scan_statistics(image)]))
    after = tune([whole_scan()], "Organ", tiny_backbone(), PROMPTED, before=here)
    assert after.training.steps > before.training.steps and after.has_directions
    again = tune([whole_scan()], "Organ", tiny_backbone(), PROMPTED, before=after)
    own = [name for name in after.numbers if is_direction(name)]
    assert own and all(np.array_equal(again.numbers[name], after.numbers[name]) for name in own)


def test_a_token_without_them_is_used_as_before() -> None:
    """One of an earlier PromptSeg, with prompts alone."""
    earlier = tuned_token(prompting="decoder")
    assert not earlier.has_directions
    assert found_dsc(earlier) > 0.8
    # It is not given any by a correction: it learned from other scans than these.
    shape = Shape(np.ones((3, 3, 3), np.int8), 4.0)
    others = replace(earlier, profile=Profile(2, {"noise": 3.0}, {"noise": 0.1}), size=Size(20.0, 0.3), shapes=(shape,))
    after = tune([whole_scan(3)], "Organ", tiny_backbone(), PROMPTED, before=others)
    assert after.profile == others.profile and not after.has_directions
