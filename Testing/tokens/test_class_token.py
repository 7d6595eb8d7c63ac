"""Token files: what is written is what is read, and whatever else lies in a file is refused in one sentence."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from PromptSegLib.errors import InputError
from PromptSegLib.imaging import files
from PromptSegLib.learning.tuning import require_backbone, token_shapes
from PromptSegLib.networks.presets import find_preset
from PromptSegLib.networks.punet import PUNet
from PromptSegLib.networks.weights import save_backbone
from PromptSegLib.tokens.class_token import ClassToken, checked_name, load_token, parse_token
from PromptSegLib.tokens.height import Height, Level
from PromptSegLib.tokens.place import Place
from PromptSegLib.tokens.shape import Shape
from PromptSegLib.tokens.size import Size
from PromptSegLib.tokens.token_file import MAX_BYTES
from Testing.support import drawn_scan, random_token, tiny_backbone, tuned_token


@pytest.fixture(scope="module")
def token() -> ClassToken:
    return random_token(tiny_backbone())


@pytest.fixture
def path(token: ClassToken, tmp_path: Path) -> Path:
    path = tmp_path / "organ.promptseg"
    token.save(path)
    return path


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file and what follows it."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header: object, rest: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def change_header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    header, rest = header_of(path.read_bytes())
    change(header)
    path.write_bytes(with_header(header, rest))


def change_description(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    def inner(header: dict[str, Any]) -> None:
        description = json.loads(header["__metadata__"]["token"])
        change(description)
        header["__metadata__"]["token"] = json.dumps(description)

    change_header(path, inner)


def change_numbers(path: Path, **numbers: np.ndarray) -> None:
    data = path.read_bytes()
    path.write_bytes(save(load(data) | numbers, header_of(data)[0]["__metadata__"]))


def refusal(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(InputError) as caught:
        load_token(path)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text


def test_round_trip(token: ClassToken, path: Path) -> None:
    loaded = load_token(path)
    assert loaded.describe() == token.describe()
    for attribute in vars(token):
        if attribute != "numbers":
            assert getattr(loaded, attribute) == getattr(token, attribute), attribute
    assert loaded.numbers.keys() == token.numbers.keys()
    for key, array in token.numbers.items():
        assert loaded.numbers[key].dtype == np.float32 and np.array_equal(loaded.numbers[key], array)


def test_round_trip_of_what_may_be_missing(token: ClassToken, tmp_path: Path) -> None:
    sparse = replace(token, terminology=None, training=replace(token.training, held_out_dsc=None))
    sparse.save(tmp_path / "a.promptseg")
    loaded = load_token(tmp_path / "a.promptseg")
    assert loaded.terminology is None and loaded.training.held_out_dsc is None


def test_round_trip_of_where_and_how_large_it_is(token: ClassToken, tmp_path: Path) -> None:
    height = Height((Level(None, 40.0, ((5.5, None, 6.25, 7.0), (None, None, None, None))),))
    known = replace(token, place=Place((-3.5, 2.0), None), height=height, size=Size(12.5, 0.25))
    known.save(tmp_path / "a.promptseg")
    loaded = load_token(tmp_path / "a.promptseg")
    assert (loaded.place, loaded.height, loaded.size) == (known.place, known.height, known.size)


@given(codes=st.lists(st.integers(0, 0x10FFFF), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_a_name_is_refused_or_kept(codes: list[int]) -> None:
    name = "".join(map(chr, codes))
    try:
        checked = checked_name(name)
    except InputError:
        return
    assert checked == name.strip() and checked.encode()
    assert checked_name(checked) == checked


@pytest.mark.parametrize("name", ["", "  ", "a" * 121, "a\nb", "a\x00", "a\x1b[31m", "a\x7f", "a\x9b31m", "a\ud800"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InputError, match="needs a name"):
        checked_name(name)


def test_a_real_token_is_small(tmp_path: Path) -> None:
    network = PUNet(find_preset("paper-2d"))
    shapes = token_shapes(network, "full")
    assert sum(int(np.prod(shape)) for shape in shapes.values()) * 4 < MAX_BYTES
    largest = replace(random_token(network, "Ω" * 120, "full", directions=True), pieces="many")
    largest.save(tmp_path / "a.promptseg")
    assert (tmp_path / "a.promptseg").stat().st_size < MAX_BYTES
    load_token(tmp_path / "a.promptseg").require_backbone(network.name, network.fingerprint(), shapes)


@pytest.mark.parametrize("shapes", [(), (Shape(np.ones((3, 3, 3), np.int8), 4.0),)])
def test_a_token_with_directions_asks_earlier_promptsegs_for_an_update(
    shapes: tuple[Shape, ...], tmp_path: Path
) -> None:
    token = replace(random_token(tiny_backbone(), prompting="end", directions=True), pieces="one", shapes=shapes)
    assert token.has_directions
    token.save(tmp_path / "a.promptseg")
    header = header_of((tmp_path / "a.promptseg").read_bytes())[0]
    assert header["__metadata__"]["version"] == "4"
    loaded = load_token(tmp_path / "a.promptseg")
    assert all(np.array_equal(loaded.numbers[name], number) for name, number in token.numbers.items())
    assert len(loaded.shapes) == len(shapes) and loaded.to_bytes() == token.to_bytes()


def test_a_token_of_earlier_promptsegs_has_no_directions() -> None:
    backbone = tiny_backbone()
    token = random_token(backbone, prompting="end", directions=True)
    numbers = {name: number for name, number in token.numbers.items() if "direction" not in name}
    earlier = parse_token(replace(token, numbers=numbers).to_bytes())
    assert not earlier.has_directions
    require_backbone(earlier, backbone)
    require_backbone(token, backbone)
    del numbers["head.offset"]
    with pytest.raises(InputError, match=r"missing or unknown numbers \('head.offset'\)"):
        require_backbone(replace(token, numbers=numbers), backbone)
    some = {name: number for name, number in token.numbers.items() if name != "head.direction.1"}
    with pytest.raises(InputError, match=r"missing or unknown numbers \('head.direction.1'\)"):
        require_backbone(replace(token, numbers=some), backbone)


def test_missing(tmp_path: Path) -> None:
    assert "there is no class token" in refusal(tmp_path / "a.promptseg")
    assert "there is no class token" in refusal(tmp_path)


def test_too_big(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(MAX_BYTES))
    assert "another kind of file" in refusal(path)


@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None)
def test_cut_off(share: float, token: ClassToken, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "organ.promptseg"
    token.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "damaged or cut off" in refusal(path)


def test_longer_than_it_says(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")
    assert "damaged or cut off" in refusal(path)


@given(data=st.binary(max_size=400))
@settings(max_examples=80, deadline=None)
def test_random_bytes(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("random") / "organ.promptseg"
    path.write_bytes(data)
    refusal(path)


@given(header=st.recursive(st.none() | st.integers() | st.just("text") | st.floats(), st.lists, max_leaves=4))
@settings(max_examples=50, deadline=None)
def test_a_header_of_any_json(header: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("header") / "organ.promptseg"
    path.write_bytes(with_header(header))
    refusal(path)
    path.write_bytes(with_header({"number": header}))
    refusal(path)
    path.write_bytes(with_header({"__metadata__": header}))
    refusal(path)


def test_a_backbone_is_no_token(path: Path) -> None:
    save_backbone(tiny_backbone(), path, {})
    assert path.stat().st_size <= MAX_BYTES
    assert "not a class token" in refusal(path)
    path.write_bytes(save({"a": np.zeros(3, np.float32)}, {"format": "promptseg-backbone"}))
    assert "not a class token" in refusal(path)


def test_newer_version(path: Path) -> None:
    change_header(path, lambda header: header["__metadata__"].update(version="5"))
    assert "token format '5', not one of '1', '2', '3', '4': update PromptSeg" in refusal(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8])
def test_numbers_of_another_type(path: Path, dtype: type) -> None:
    change_numbers(path, **{"head.offset": np.zeros(1, dtype)})
    assert f"'head.offset' is {np.dtype(dtype)}, not float32" in refusal(path)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2", "X9"])
def test_numbers_of_a_type_that_numpy_lacks(path: Path, kind: str) -> None:
    def change(header: dict[str, Any]) -> None:
        entry = header["head.offset"]
        entry["dtype"] = kind
        entry["shape"] = [2 if kind == "BF16" else 4]

    change_header(path, change)
    refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(path: Path, value: float) -> None:
    change_numbers(path, **{"head.offset": np.full(1, value, np.float32)})
    assert "not finite" in refusal(path)


@pytest.mark.parametrize(
    "shape",
    [[10**9], [10**6, 10**6, 10**6], [10**4000] * 3, [-1], [1.5], ["1"], [None], "all", None, {}],
)
def test_crafted_shapes(path: Path, shape: object) -> None:
    change_header(path, lambda header: header["head.offset"].update(shape=shape))
    text = refusal(path)
    assert "damaged" in text
    assert len(text) < 400


def test_crafted_header_lengths(path: Path) -> None:
    data = path.read_bytes()
    for length in (2**63, 2**64 - 1, len(data) - 7, len(data) * 2):
        path.write_bytes(length.to_bytes(8, "little") + data[8:])
        assert "damaged or cut off" in refusal(path)


@pytest.mark.parametrize("where", ["header", "metadata", "entry"])
def test_deeply_nested_json(path: Path, where: str) -> None:
    deep = "[" * 7000 + "]" * 7000
    if where == "header":
        path.write_bytes(with_header(deep.encode()))
    elif where == "entry":
        path.write_bytes(with_header(b'{"a": ' + deep.encode() + b"}"))
    else:
        change_header(path, lambda header: header["__metadata__"].update(token=deep))
    refusal(path)


@pytest.mark.parametrize("metadata", [None, 3, "text", ["a"], {"format": 1}, {"format": {"a": "b"}}, {}])
def test_crafted_metadata(path: Path, metadata: object) -> None:
    change_header(path, lambda header: header.update(__metadata__=metadata))
    refusal(path)


def test_huge_metadata(path: Path) -> None:
    change_header(path, lambda header: header["__metadata__"].update(more="a" * 20_000))
    assert "description of more than" in refusal(path)


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "3", '"name"', "{}", '{"name": "a"}'])
def test_a_description_that_is_none(path: Path, text: str) -> None:
    change_header(path, lambda header: header["__metadata__"].update(token=text))
    assert "damaged description" in refusal(path)


def test_no_description(path: Path) -> None:
    change_header(path, lambda header: header["__metadata__"].pop("token"))
    assert "damaged description" in refusal(path)


@pytest.mark.parametrize(
    "field, value",
    [
        ("name", ""),
        ("name", "a\nb"),
        ("name", "a" * 500),
        ("color", [1, 2]),
        ("color", [1, 2, 256]),
        ("color", [1, 2, float("inf")]),
        ("color", [1, 2, float("nan")]),
        ("color", "red"),
        ("color", None),
        ("terminology", "SCT"),
        ("terminology", {"scheme": "SCT"}),
        ("terminology", {"scheme": "SCT", "code": "1", "meaning": ["a"]}),
        ("terminology", {"scheme": "SCT", "code": "1", "meaning": "a", "more": "b"}),
        ("backbone", None),
        ("backbone", {"name": "a"}),
        ("backbone", {"name": "a\x1b[2J", "fingerprint": "b", "preset": "c"}),
        ("prompting", "\x1b]0;\x07"),
        ("prompting", None),
        ("plane", "oblique"),
        ("plane", ["axial"]),
        ("spacing_mm", 0),
        ("spacing_mm", -1),
        ("spacing_mm", 1e9),
        ("spacing_mm", float("nan")),
        ("spacing_mm", "wide"),
        ("window", None),
        ("window", []),
        ("window", "ct"),
        ("window", {"kind": "xray", "lower": 0, "upper": 1}),
        ("window", {"kind": "ct"}),
        ("window", {"kind": "percentile", "lower": float("nan"), "upper": 1}),
        ("calibration", None),
        ("calibration", {"scale": float("inf"), "offset": 0}),
        ("calibration", {"scale": 1}),
        ("pieces", "few"),
        ("training", None),
        ("training", {"scans": 1}),
        ("training", {"scans": float("inf"), "slices": 1, "steps": 1, "seconds": 1, "date": "", "seed": 1}),
    ],
)
def test_absurd_descriptions(path: Path, field: str, value: object) -> None:
    change_description(path, lambda description: description.update({field: value}))
    assert "damaged description" in refusal(path)


def test_another_backbone(token: ClassToken) -> None:
    shapes = {name: number.shape for name, number in token.numbers.items()}
    token.require_backbone("tiny-1", tiny_backbone().fingerprint(), shapes)
    other = tiny_backbone(1, "tiny-2")
    assert other.fingerprint() != tiny_backbone().fingerprint()
    with pytest.raises(InputError) as caught:
        token.require_backbone(other.name, other.fingerprint(), shapes)
    text = str(caught.value)
    assert "'Organ' belongs to the backbone tiny-1" in text and "not to tiny-2" in text
    assert tiny_backbone().fingerprint()[:12] in text and other.fingerprint()[:12] in text


def test_other_numbers_than_the_backbone_wants(token: ClassToken) -> None:
    fingerprint = tiny_backbone().fingerprint()
    shapes = {name: number.shape for name, number in token.numbers.items()}

    def check(numbers: dict[str, np.ndarray], match: str) -> None:
        with pytest.raises(InputError, match=match):
            replace(token, numbers=numbers).require_backbone("tiny-1", fingerprint, shapes)

    numbers = dict(token.numbers)
    offset = numbers.pop("head.offset")
    check(numbers, r"missing or unknown numbers \('head.offset'\)")
    check(dict(token.numbers) | {"head.extra": offset}, r"missing or unknown numbers \('head.extra'\)")
    check(dict(token.numbers) | {"head.offset": np.zeros((1, 1), np.float32)}, r"'head.offset' has shape \(1, 1\)")
    check(dict(token.numbers) | {"head.offset": np.zeros(2, np.float32)}, r"'head.offset' has shape \(2,\)")


@pytest.mark.parametrize(
    "error, sentence",
    [(errno.ENOSPC, "no space left"), (errno.EACCES, "no permission"), (errno.EIO, "cannot be written")],
)
@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_an_error_leaves_the_old_file(
    token: ClassToken, path: Path, monkeypatch: pytest.MonkeyPatch, error: int, sentence: str, step: str
) -> None:
    before = path.read_bytes()

    def fail(*arguments: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(InputError, match=sentence):
        replace(token, name="Other").save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file(token: ClassToken, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace(token, name="Other").save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_where_a_token_cannot_be_saved(token: ClassToken, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        token.save(tmp_path / "missing" / "a.promptseg")
    with pytest.raises(InputError, match=r"must end in \.promptseg: rename a.txt to a.promptseg"):
        token.save(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"must end in \.promptseg"):
        token.save(tmp_path / "a")
    (tmp_path / "folder.promptseg").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        token.save(tmp_path / "folder.promptseg")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.promptseg"]


def test_a_token_that_would_be_too_big_is_not_written(token: ClassToken, tmp_path: Path) -> None:
    numbers = dict(token.numbers) | {"head.extra": np.zeros(MAX_BYTES // 4, np.float32)}
    with pytest.raises(InputError, match="more than"):
        replace(token, numbers=numbers).save(tmp_path / "a.promptseg")
    assert not list(tmp_path.iterdir())


def test_no_image_and_no_path_in_the_file(tmp_path: Path) -> None:
    """Only what the description says and the trained numbers: nothing tells whose scan it was."""
    token = tuned_token()
    path = tmp_path / "a.promptseg"
    token.save(path)
    data = path.read_bytes()
    header, rest = header_of(data)
    assert set(header) == {"__metadata__", *token.numbers}
    assert set(header["__metadata__"]) == {"format", "version", "token"}
    assert len(rest) == sum(4 * array.size for array in token.numbers.values())
    assert set(json.loads(header["__metadata__"]["token"])) == {
        *("name", "color", "terminology", "backbone", "prompting", "plane", "spacing_mm", "window"),
        *("calibration", "pieces", "training", "place", "profile"),
    }
    for text in (str(tmp_path), os.getcwd(), os.sep + "home", ".nii"):
        assert text.encode() not in data
    image = drawn_scan().image.array
    for row in (image[6, 30], image[3, 25]):
        assert row.tobytes() not in data and row[20:40].tobytes() not in data
        assert row.astype(np.float32)[20:40].tobytes() not in data


def test_equal_tokens_are_equal_bytes() -> None:
    token = random_token(tiny_backbone())
    assert len({token.to_bytes() for _ in range(20)}) == 1
    assert parse_token(token.to_bytes()).to_bytes() == token.to_bytes()
