"""What is remembered of drawn slices, and what damaged or crafted records make of it."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest

from PromptSegLib.mrml.memory import Memory, State, digest_of

SHAPE = (5, 6, 7)
PLANE = np.zeros((6, 7), np.uint8)
PLANE[2:4, 1:5] = 1
PLANE[0, 6] = 255


def memory_of(plane: np.ndarray) -> Memory:
    return Memory().with_state(State(0, {2: "a"}, {2: digest_of(plane)}), {2: plane})


@pytest.mark.parametrize("plane", [PLANE, np.zeros((6, 7), np.uint8), np.ones((6, 7), bool)])
def test_planes_come_back_as_they_were(plane: np.ndarray) -> None:
    memory = Memory.from_record(memory_of(plane).to_record(SHAPE), SHAPE)
    assert np.array_equal(memory.plane(digest_of(plane), (6, 7)), plane)


def test_digests_tell_places_and_unknown_parts_apart() -> None:
    moved, surer = np.roll(PLANE, 1, axis=0), np.where(PLANE == 255, 0, PLANE)
    assert len({digest_of(plane) for plane in (PLANE, moved, surer, PLANE == 1, np.zeros_like(PLANE))}) == 4
    assert digest_of(surer) == digest_of(PLANE == 1)


def test_of_equally_different_states_the_latest_holds() -> None:
    first, second = State(0, {1: "a", 2: "b"}, {1: "first"}), State(0, {1: "a", 2: "c"}, {1: "second"})
    memory = Memory((first, second))
    assert memory.resembling(lambda axis: {1: "a", 2: "d"}) is second
    assert memory.resembling(lambda axis: {1: "a", 2: "b"}) is first
    assert memory.resembling(lambda axis: {1: "x", 2: "y"}) is None


def test_a_state_without_a_drawing_knows_the_other_axes_after_a_night_too() -> None:
    beside = {1: {3: "p"}, 2: {4: "q", 5: "r"}}
    memory = Memory((State(0, dict(enumerate("abcdef")), {}, beside),))
    (state,) = Memory.from_record(json.loads(json.dumps(memory.to_record(SHAPE))), SHAPE).states
    assert state == memory.states[0]
    now = {0: dict(enumerate("uvwxyz")), 1: {3: "p"}, 2: {4: "q", 5: "new"}}
    assert state.corrected(now.__getitem__).axis == 1
    assert state.corrected({**now, 1: {3: "new", 4: "new"}, 2: {4: "new", 5: "new"}}.__getitem__) is state
    assert state.corrected({**now, 0: dict(state.content)}.__getitem__) is state


def test_old_states_and_their_planes_are_let_go() -> None:
    memory = Memory()
    for index in range(60):
        plane = np.full((6, 7), 1 + index % 2, np.uint8)
        plane[index % 6, index % 7] = 0
        memory = memory.with_state(State(0, {index: str(index)}, {index: digest_of(plane)}), {index: plane})
    assert len(memory.states) == 24
    assert set(memory.planes) == {digest for state in memory.states for digest in state.drawn.values()}


@pytest.mark.parametrize("other", [(5, 6, 8), (6, 6, 7)])
def test_the_memory_of_another_scan_counts_as_none(other: tuple[int, int, int]) -> None:
    assert not Memory.from_record(memory_of(PLANE).to_record(SHAPE), other).states


def packed(edges: str, size: int) -> str:
    return edges + base64.b64encode(zlib.compress(bytes(size))).decode()


@pytest.mark.parametrize(
    "text",
    ["", "1,2,3", packed("0,99,0,99,", 9801), packed("-1,2,0,2,", 6), packed("0,2,0,2,", 3), "0,2,0,2,!", "a,b,c,d,"],
)
def test_a_damaged_plane_is_none(text: str) -> None:
    assert Memory((), {"x": text}).plane("x", (6, 7)) is None
    assert Memory((), {}).plane("x", (6, 7)) is None


def test_a_plane_never_unpacks_to_more_than_its_size() -> None:
    bomb = packed("0,2,0,2,", 50_000_000)
    assert Memory((), {"x": bomb}).plane("x", (6, 7)).shape == (6, 7)
