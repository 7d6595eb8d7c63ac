"""Lines and files between client and worker."""

from __future__ import annotations

import errno
import json
import stat
from pathlib import Path
from unittest.mock import Mock

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from PromptSegLib.engine.messages import ClassInfo, Progress, SegmentedClass, SliceDrawing, TuneResult
from PromptSegLib.engine.protocol import Codec, Lines, ProtocolError
from PromptSegLib.imaging.volume import Geometry, Volume
from PromptSegLib.tokens.recognition import Recognition

DTYPES = st.sampled_from([np.bool_, np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exchange")


@given(array=DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0))))
@settings(max_examples=60, deadline=None)
def test_arrays_arrive_as_they_were(folder: Path, array: np.ndarray) -> None:
    sender, receiver = Codec(folder, "a"), Codec(folder, "b")
    arrived = receiver.decode(sender.encode({"x": array}))["x"]
    assert arrived.dtype == array.dtype and arrived.shape == array.shape
    assert arrived.tobytes() == array.tobytes()
    assert not list(folder.glob("a-*")), "a file that was read is gone"


def test_strided_and_large_arrays_arrive_too(tmp_path: Path) -> None:
    array = np.arange(2_000_000, dtype=np.int32).reshape(100, 100, 200)[::-1, :, ::2]
    arrived = Codec(tmp_path, "b").decode(Codec(tmp_path, "a").encode({"x": array}))["x"]
    assert np.array_equal(arrived, array)
    arrived[0, 0, 0] = 7


@given(
    progress=st.builds(
        Progress,
        stage=st.text(),
        fraction=st.floats(0, 1),
        seconds_left=st.none() | st.floats(0, 1e6),
        key=st.none() | st.text(),
    )
)
def test_progress_arrives_as_it_was(folder: Path, progress: Progress) -> None:
    assert Codec(folder, "b").decode(Codec(folder, "a").encode({"p": progress}))["p"] == progress


def test_every_message_arrives(tmp_path: Path) -> None:
    there, here = Codec(tmp_path, "a"), Codec(tmp_path, "b")
    geometry = Geometry((2, 3, 4), (1.5, 0.7, 0.7), (1, 2, 3))
    volume = Volume(np.arange(24, dtype=np.int16).reshape(2, 3, 4), geometry)
    drawing = SliceDrawing(2, {5: np.eye(3, dtype=np.uint8), 7: np.zeros((3, 3), np.uint8)})
    mask, recognition = np.ones((2, 2, 1), bool), Recognition("Hospital B", 0.97, True)
    found = SegmentedClass("k", (slice(1, 3), slice(0, 2), slice(4, 5)), mask, 0.9, 1.5, recognition, b"\x01\xfe")
    info = ClassInfo("Grüner Knoten", (1, 2, 3), ("SCT", "123", "Knoten"))
    result = TuneResult({"k": b"\x00\xff"}, True)
    line = there.encode({"v": volume, "d": drawing, "f": [found], "i": info, "r": result, "n": None})
    assert line.count(b"\n") == 1
    message = here.decode(line)
    assert message["v"].geometry == geometry and np.array_equal(message["v"].array, volume.array)
    assert message["d"].axis == 2 and sorted(message["d"].planes) == [5, 7]
    assert np.array_equal(message["d"].planes[5], np.eye(3))
    (arrived,) = message["f"]
    assert arrived.box == found.box and np.array_equal(arrived.mask, found.mask) and arrived.confidence == 0.9
    assert arrived.recognition == recognition and arrived.token == found.token
    assert message["i"] == info and message["r"] == result and message["n"] is None


def test_what_was_packed_can_be_sent_twice(tmp_path: Path) -> None:
    there = Codec(tmp_path, "a")
    packed = there.pack(np.arange(5))
    for _ in range(2):
        here = Codec(tmp_path, "b", keep_files=True)
        assert here.decode(there.encode({"x": packed}))["x"].tolist() == [0, 1, 2, 3, 4]
    assert [path.name for path in there.written] == ["a-1.raw"]


def test_a_folder_that_the_system_cleaned_away_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "exchange"
    line = Codec(folder, "a").encode({"x": np.arange(3)})
    assert Codec(folder, "b").decode(line)["x"].tolist() == [0, 1, 2] and stat.S_IMODE(folder.stat().st_mode) == 0o700


ARRAY = {"$": "array", "file": "a-1.raw", "dtype": "<i2", "shape": [4]}


@pytest.mark.parametrize(
    "value",
    [
        ARRAY | {"file": "../secret.raw"},
        ARRAY | {"file": "/etc/passwd"},
        ARRAY | {"file": "absent.raw"},
        ARRAY | {"dtype": "O"},
        ARRAY | {"shape": [5]},
        ARRAY | {"shape": [-4]},
        ARRAY | {"shape": [2**40]},
        {"$": "Path", "value": "x"},
        {"$": "Progress", "stage": "x", "fraction": 0, "unknown": 1},
        {"$": "bytes", "base64": "§"},
        {"$": "map", "items": [["a", 1]]},
    ],
)
def test_nothing_strange_is_taken(tmp_path: Path, value: dict[str, object]) -> None:
    (tmp_path / "a-1.raw").write_bytes(bytes(8))
    (tmp_path.parent / "secret.raw").write_bytes(bytes(8))
    with pytest.raises(ProtocolError):
        Codec(tmp_path, "b").decode(json.dumps({"x": value}).encode())


@pytest.mark.parametrize("problem", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_memory_that_runs_out_is_no_damaged_message(
    tmp_path: Path, problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Codec(tmp_path, "a").encode({"x": np.arange(3)})
    monkeypatch.setattr(np, "fromfile", Mock(side_effect=problem))
    with pytest.raises(MemoryError):
        Codec(tmp_path, "b").decode(line)


@pytest.mark.parametrize("line", [b"", b"hello", b"[1]", b'"text"', b"{", b"\xff\xfe"])
def test_lines_that_are_no_messages(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(ProtocolError):
        Codec(tmp_path, "b").decode(line)


def test_objects_do_not_travel(tmp_path: Path) -> None:
    for value in (object(), np.array([object()]), [1, object()]):
        with pytest.raises(ProtocolError):
            Codec(tmp_path, "a").encode({"x": value})


@given(lines=st.lists(st.binary(min_size=1).filter(lambda b: b"\n" not in b and b.strip()), max_size=6), data=st.data())
def test_lines_come_whole_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    reader, seen = Lines(), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += reader.feed(stream[start:stop])
    assert seen == lines
