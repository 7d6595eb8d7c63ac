"""Centers of a token: what is written is what is read, and no center changes the base or another one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from PromptSegLib.errors import InputError
from PromptSegLib.networks.presets import find_preset
from PromptSegLib.networks.punet import PUNet
from PromptSegLib.tokens.centers import Center, checked_center_name, find_center, merged, removed, renamed
from PromptSegLib.tokens.class_token import ClassToken, load_token, parse_token
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.records import Training
from PromptSegLib.tokens.token_file import LARGEST_BYTES
from Testing.support import random_token, tiny_backbone


def center(token: ClassToken, name: str = "Hospital B", seed: int = 1, scans: int = 3) -> Center:
    rng = np.random.default_rng(seed)
    return Center(
        name=name,
        delta={key: rng.normal(0, 0.1, n.shape).astype(np.float16) for key, n in token.numbers.items()},
        training=Training(scans, 12, 40, 61.5, "2024-03-01", seed, 0.75),
        profile=Profile(scans, {"noise": 3.0 + seed, "soft": 40.0}, {"noise": 0.1, "soft": 2.0}),
    )


@pytest.fixture(scope="module")
def base() -> ClassToken:
    return random_token(tiny_backbone())


@pytest.fixture(scope="module")
def token(base: ClassToken) -> ClassToken:
    return replace(base, centers=(center(base), center(base, "Scanner 7 (neu)", 2, scans=1)))


def same(a: Center, b: Center) -> bool:
    return a.describe() == b.describe() and all(np.array_equal(a.delta[k], b.delta[k]) for k in {*a.delta, *b.delta})


def digest(numbers: Any) -> str:
    whole = hashlib.sha256()
    for name in sorted(numbers):
        whole.update(name.encode() + numbers[name].tobytes())
    return whole.hexdigest()


def test_round_trip(token: ClassToken, tmp_path: Path) -> None:
    token.save(tmp_path / "a.promptseg")
    found = load_token(tmp_path / "a.promptseg")
    assert found.describe() == token.describe() and digest(found.numbers) == digest(token.numbers)
    assert len(found.centers) == 2 and all(same(a, b) for a, b in zip(found.centers, token.centers, strict=True))
    assert found.to_bytes() == token.to_bytes()


def test_a_token_without_centers_is_the_file_that_it_always_was(base: ClassToken, token: ClassToken) -> None:
    data = base.to_bytes()
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert metadata["version"] == "1" and "centers" not in json.loads(metadata["token"])
    assert replace(token, centers=()).to_bytes() == data
    assert token.at_center(None).to_bytes() == data


def test_a_center_changes_nothing_else(base: ClassToken, token: ClassToken) -> None:
    """Whatever comes or goes beside them, base and other centers have the same numbers, to the bit."""
    first = token.at_center("Hospital B")
    more = parse_token(replace(token, centers=(*token.centers, center(base, "C", 3))).to_bytes())
    fewer = replace(more, centers=removed(more.centers, "scanner 7 (NEU)", more.name))
    for changed in (more, fewer):
        assert digest(changed.numbers) == digest(base.numbers)
        assert digest(changed.at_center("Hospital B").numbers) == digest(first.numbers)
    assert digest(first.numbers) != digest(base.numbers) and first.calibration == base.calibration
    delta = token.centers[0].delta["head.offset"]
    assert np.array_equal(first.numbers["head.offset"], base.numbers["head.offset"] + delta.astype(np.float32))
    assert not first.centers


def test_an_empty_delta_is_the_base(base: ClassToken) -> None:
    with_it = replace(base, centers=(replace(center(base), delta={}),))
    found = parse_token(with_it.to_bytes()).at_center("Hospital B")
    assert digest(found.numbers) == digest(base.numbers)


def test_a_real_token_holds_many_centers() -> None:
    token = random_token(PUNet(find_preset("paper-2d")), "Ω" * 120)
    many = replace(token, centers=tuple(center(token, f"{'Ω' * 100} {n}") for n in range(12)))
    assert len(many.to_bytes()) <= LARGEST_BYTES
    assert len(parse_token(many.to_bytes()).centers) == 12
    with pytest.raises(InputError, match="remove or merge some of its centers"):
        replace(token, centers=tuple(center(token, str(n)) for n in range(14))).to_bytes()
    bare = replace(center(token), delta={})
    with pytest.raises(InputError, match="for its description"):
        replace(token, centers=tuple(replace(bare, name="Ω" * 110 + str(n)) for n in range(200))).to_bytes()


@pytest.mark.parametrize("name", ["hospital b", " Hospital B ", "HOSPITAL B"])
def test_a_center_is_found_whatever_its_capitals(token: ClassToken, name: str) -> None:
    assert find_center(token.centers, name, token.name) == 0


def test_unknown_center(base: ClassToken, token: ClassToken) -> None:
    with pytest.raises(InputError, match=r"'Organ' has no center 'C': choose one of 'Hospital B', 'Scanner 7 \(neu\)'"):
        token.at_center("C")
    with pytest.raises(InputError, match="has no center 'C': it has none yet"):
        base.at_center("C")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hospital B", "there is a center 'Hospital B' already"),
        ("Base", "no center can be called 'Base'"),
        ("auto", "no center can be called 'auto'"),
        ("  ", "a center needs a name of 1 to 120 printable characters: give another name"),
        ("a\x1b[2J", "printable"),
    ],
)
def test_names_that_no_new_center_can_have(token: ClassToken, name: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_center_name(name, token.centers)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_rename(token: ClassToken) -> None:
    found = renamed(token.centers, "hospital b", "HOSPITAL B", token.name)
    assert [c.name for c in found] == ["HOSPITAL B", "Scanner 7 (neu)"] and found[0].delta is token.centers[0].delta
    with pytest.raises(InputError, match="already"):
        renamed(token.centers, "Hospital B", "scanner 7 (neu)", token.name)


def test_merge_is_the_mean_weighed_by_scans(token: ClassToken) -> None:
    first, second = token.centers
    partial = replace(second, delta={k: n for k, n in second.delta.items() if k != "head.offset"})
    (whole,) = merged((first, partial), "Hospital B", "Scanner 7 (neu)", None, token.name)
    assert whole.name == "Hospital B" and whole.training.scans == 4 and whole.training.held_out_dsc is None
    assert np.allclose(whole.delta["head.offset"], 0.75 * first.delta["head.offset"], atol=1e-3)
    key = "head.foreground"
    assert np.allclose(whole.delta[key], 0.75 * first.delta[key] + 0.25 * second.delta[key], atol=1e-3)
    assert whole.profile.mean["noise"] == pytest.approx(0.75 * 4 + 0.25 * 5) and whole.profile.scans == 4
    parse_token(replace(token, centers=(whole,)).to_bytes())
    (named,) = merged(token.centers, "Scanner 7 (neu)", "Hospital B", "Both", token.name)
    assert named.name == "Both"


def test_a_center_is_not_merged_with_itself(token: ClassToken) -> None:
    with pytest.raises(InputError, match="'Hospital B' cannot be merged with itself"):
        merged(token.centers, "Hospital B", "hospital b", None, token.name)


def refusal(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        parse_token(data, "a.promptseg")
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text


def damaged(token: ClassToken, change: Any = None, **numbers: np.ndarray | None) -> bytes:
    """A token's file with another description, or with other numbers (None leaves one out)."""
    data = token.to_bytes()
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    description = json.loads(metadata["token"])
    if change is not None:
        change(description)
    metadata["token"] = json.dumps(description)
    return save({k: n for k, n in (load(data) | numbers).items() if n is not None}, metadata)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("centers"),
        lambda d: d.update(centers=[]),
        lambda d: d.update(centers="Hospital B"),
        lambda d: d["centers"].pop(),
        lambda d: d["centers"].append(d["centers"][0]),
        lambda d: d["centers"][1].update(name="hospital b"),
        lambda d: d["centers"][0].update(name="base"),
        lambda d: d["centers"][0].update(name="a\x1b[2J"),
        lambda d: d["centers"][0].update(name=3),
        lambda d: d["centers"][0].pop("profile"),
        lambda d: d["centers"][0]["training"].update(scans=0),
        lambda d: d["centers"][0]["profile"].update(scans=0),
        lambda d: d["centers"][0]["profile"]["mean"].update(noise=float("inf")),
        lambda d: d["centers"][0]["profile"]["mean"].update(noise=1e300),
        lambda d: d["centers"][0]["profile"]["spread"].update(noise=-1.0),
        lambda d: d["centers"][0]["profile"]["spread"].pop("noise"),
        lambda d: d["centers"][0]["profile"].update(mean={}, spread={}),
        lambda d: d.update(profile={"scans": 1, "mean": {"a\n": 1}, "spread": {"a\n": 1}}),
    ],
)
def test_damaged_descriptions(token: ClassToken, change: Any) -> None:
    assert "damaged description" in refusal(damaged(token, change))


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("center.0.head.offset", np.zeros(2, np.float16), "fits no number"),
        ("center.0.head.offset", np.zeros(1, np.float32), "fits no number"),
        ("center.0.head.strange", np.zeros(1, np.float16), "fits no number"),
        ("center.2.head.offset", np.zeros(1, np.float16), "belongs to no center"),
        ("center.0.head.offset", np.full(1, np.nan, np.float16), "not finite"),
        ("head.offset", np.zeros(1, np.float16), "not float32"),
        ("head.offset", None, "fits no number"),
        ("head.more", np.zeros(LARGEST_BYTES, np.uint8), "more than a class token's"),
    ],
)
def test_damaged_numbers(token: ClassToken, name: str, array: np.ndarray | None, sentence: str) -> None:
    assert sentence in refusal(damaged(token, **{name: array}))


def test_a_file_without_centers_has_no_deltas(base: ClassToken) -> None:
    assert "not float32" in refusal(damaged(base, **{"center.0.head.offset": np.zeros(1, np.float16)}))
