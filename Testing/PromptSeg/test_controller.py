"""What the controller asks of the engine, and what it makes of the answers. The engine is played by the test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from PromptSegLib.engine.job import Job
from PromptSegLib.engine.messages import Preview, Progress, SegmentedClass, Suggestion, TuneResult
from PromptSegLib.tokens.recognition import Recognition
from Testing.support import random_token, tiny_backbone


@lru_cache
def token_data(seed: int = 0, name: str = "liver") -> bytes:
    return random_token(tiny_backbone(), name, seed=seed).to_bytes()


class PlayedClient:
    """Takes jobs as `PromptSegLib.engine.client.Client` does; the test answers them."""

    def __init__(self) -> None:
        self.notice: Any = None
        self.jobs: list[Job] = []
        self.tokens: dict[str, bytes] = {}
        self.log: list[str] = []
        self.worker_pid = 0
        self.closed = False

    def submit(self, method: str, **arguments: Any) -> Job:
        job = Job(method, arguments)
        self.jobs.append(job)
        if method == "tune":
            job.on_done.append(lambda result: self.tokens.update(result.tokens))
        elif method == "put_token":
            self.tokens[arguments["key"]] = arguments["data"]
        elif method == "forget":
            self.tokens.pop(arguments["key"], None)
        return job

    def cancel(self, job: Job) -> None:
        job.finish(TuneResult({}, True) if job.method == "tune" else None, cancelled=True)

    def set_focus(self, axis: int, index: int) -> None:
        return None

    def poll(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True

    def take(self) -> list[str]:
        """The methods asked for since the last call."""
        methods, self._taken = [job.method for job in self.jobs[getattr(self, "_taken", 0) :]], len(self.jobs)
        return methods

    def latest(self, method: str) -> Job:
        return next(job for job in reversed(self.jobs) if job.method == method)


@pytest.fixture
def client() -> PlayedClient:
    return PlayedClient()


@pytest.fixture
def controller(panel_package: None, client: PlayedClient, tmp_path: Path) -> Iterator[Any]:
    from PromptSegPanel.controller import Controller
    from PromptSegPanel.engine import Engine
    from PromptSegPanel.library import TokenLibrary

    engine = Engine(lambda options: client, lambda sentence: controller.say(sentence))
    controller = Controller(engine, TokenLibrary(tmp_path / "library"), lambda: None, lambda: None)
    yield controller
    controller.close()


@pytest.fixture
def drawn(controller: Any) -> Any:
    """A scan of 6 slices with "liver" and "spleen" on it, the first drawn on slices 1, 3 and 5."""
    from Testing.slicer_harness.driving import add_scan, add_segmentation, paint

    rng = np.random.default_rng(0)
    scan = add_scan(rng.integers(0, 100, (6, 16, 16)).astype(np.int16), (5.0, 2.0, 2.0), "CT")
    segmentation = add_segmentation(scan, "liver", "spleen")
    for index in (1, 3, 5):
        paint(segmentation, "liver", 0, index, square())
    controller.set_scan(scan, segmentation)
    return controller


def square(shift: int = 0) -> np.ndarray:
    mask = np.zeros((16, 16), bool)
    mask[4:10, 4 + shift : 10 + shift] = True
    return mask


def bend(node: Any) -> None:
    """Put a node under a non-linear transform."""
    import vtk

    bent = vtk.vtkThinPlateSplineTransform()
    bent.SetBasisToR()
    transform = node.GetScene().AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    transform.SetAndObserveTransformToParent(bent)
    node.SetAndObserveTransformNodeID(transform.GetID())


def found(key: str = "liver") -> SegmentedClass:
    return SegmentedClass(key, (slice(1, 6), slice(4, 10), slice(4, 10)), np.ones((5, 6, 6), bool), 0.9, 3.6)


def checkpoint(client: PlayedClient, seed: int = 0) -> None:
    """The training that is going on reports, and saves a first token of "liver"."""
    client.latest("tune").on_progress[0](Progress("encoding", 0.0, None, "liver"))
    client.tokens["liver"] = token_data(seed)


def trained(controller: Any, client: PlayedClient) -> None:
    controller.train()
    client.latest("tune").finish(TuneResult({"liver": token_data()}))
    client.latest("segment").finish((found(),))


def test_train_sends_scan_and_drawing_then_tunes_then_segments(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    assert client.take() == ["set_image", "annotate", "tune"]
    assert sorted(client.latest("annotate").arguments["drawing"].planes) == [1, 3, 5]
    assert client.latest("tune").arguments["keys"] == ["liver"]
    client.latest("tune").finish(TuneResult({"liver": token_data()}))
    assert client.take() == ["segment"]
    client.latest("segment").finish((found(),))
    assert drawn.situation.has_preview and not drawn.situation.busy
    assert drawn.situation.structures[0].confidence == 0.9


def test_says_which_center_was_taken(drawn: Any, client: PlayedClient) -> None:
    from PromptSegLib.mrml.tokens import store_token

    store_token(drawn.case.segmentation_node, "liver", token_data())
    drawn.find_again("liver")
    client.latest("segment").finish((replace(found(), recognition=Recognition("Hospital B", 0.97, True)),))
    assert "iver: the scan is like center 'Hospital B' (97 %)." in drawn.situation.message
    drawn.find_again("liver")
    client.latest("segment").finish((replace(found(), recognition=Recognition(None, 0.9, False, "Hospital B")),))
    assert "like no known center" in drawn.situation.message and drawn.situation.has_preview


def test_the_same_is_not_sent_twice(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    client.take()
    drawn.choose("liver", True)
    drawn.train()
    assert client.take() == ["tune"]


def test_what_is_drawn_is_sent_before_anybody_trains(drawn: Any, client: PlayedClient) -> None:
    from Testing.slicer_harness.driving import paint

    assert client.take() == ["set_image", "annotate"]
    paint(drawn.case.segmentation_node, "liver", 0, 2, square())
    drawn.refresh()
    assert client.take() == ["annotate"]
    drawn.refresh()
    assert client.take() == []
    client.latest("annotate").fail("the engine stopped unexpectedly")
    paint(drawn.case.segmentation_node, "liver", 0, 4, square())
    drawn.refresh()
    assert client.take() == [], "what goes wrong is left to training"
    drawn.train()
    assert client.take() == ["annotate", "tune"]


def test_a_corrected_slice_is_sent_again(drawn: Any, client: PlayedClient) -> None:
    from Testing.slicer_harness.driving import paint

    trained(drawn, client)
    client.take()
    paint(drawn.case.segmentation_node, "liver", 0, 2, square())
    drawn.refresh()
    assert drawn.situation.structures[0].chosen
    drawn.train()
    assert client.take() == ["annotate", "tune"]


def test_a_changed_scan_is_sent_again_with_its_drawings(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    client.take()
    volume_node = drawn.case.volume_node
    volume_node.GetImageData().GetPointData().GetScalars().Modified()
    volume_node.GetImageData().Modified()
    drawn.choose("liver", True)
    drawn.train()
    assert client.take() == ["set_image", "annotate", "tune"]


def test_keeps_the_token_in_the_scene_and_in_the_library(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    assert drawn.case.tokens() == {"liver": token_data()}
    assert [entry.path.name for entry in drawn.library.entries()] == ["liver.promptseg"]


def test_a_segment_renamed_while_it_is_trained_gives_its_token_the_new_name(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    drawn.case.segmentation_node.GetSegmentation().GetSegment("liver").SetName("Kidney")
    drawn.refresh()
    client.latest("tune").finish(TuneResult({"liver": token_data()}))
    client.latest("segment").finish((replace(found(), token=token_data(1)),))
    assert drawn.case.tokens() == {"liver": token_data(1, "Kidney")}
    assert [(entry.path.name, entry.token.name) for entry in drawn.library.entries()] == [
        ("Kidney.promptseg", "Kidney")
    ]


def test_what_a_result_tells_the_token_is_kept_in_its_place(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    client.latest("tune").finish(TuneResult({"liver": token_data()}))
    client.latest("segment").finish((replace(found(), token=token_data(1)),))
    assert drawn.case.tokens() == {"liver": token_data(1)}
    names = {entry.path.name: entry.path.read_bytes() for entry in drawn.library.entries()}
    assert names == {"liver.promptseg": token_data(1)}
    drawn.find_again("liver")
    assert client.latest("put_token").arguments["data"] == token_data(1)


def test_training_again_replaces_only_the_own_file(drawn: Any, client: PlayedClient) -> None:
    drawn.library.keep(token_data(7), "liver", None)
    trained(drawn, client)
    drawn.choose("liver", True)
    drawn.train()
    client.latest("tune").finish(TuneResult({"liver": token_data(1)}))
    names = {entry.path.name: entry.path.read_bytes() for entry in drawn.library.entries()}
    assert names == {"liver.promptseg": token_data(7), "liver 2.promptseg": token_data(1)}


def test_a_library_that_fails_does_not_hide_what_was_found(
    drawn: Any, client: PlayedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    trained(drawn, client)
    drawn.choose("liver", True)
    drawn.train()
    monkeypatch.setattr(Path, "read_bytes", denied)
    client.latest("tune").finish(TuneResult({"liver": token_data(1)}))
    assert drawn.case.tokens() == {"liver": token_data(1)}
    client.latest("segment").finish((found(),))
    assert "Permission denied" in drawn.situation.message
    assert drawn.situation.has_preview and not drawn.situation.busy


def test_a_library_that_refuses_one_token_stops_nothing_else(drawn: Any, client: PlayedClient, tmp_path: Path) -> None:
    from Testing.slicer_harness.driving import paint

    paint(drawn.case.segmentation_node, "spleen", 0, 1, square(6))
    drawn.refresh()
    drawn.train()
    client.latest("tune").finish(TuneResult({"liver": token_data(), "spleen": token_data(1, "spleen")}))
    (tmp_path / "file").write_text("")
    drawn.library.folder = tmp_path / "file" / "library"
    nothing = SegmentedClass("spleen", (slice(0, 0),) * 3, np.zeros((0, 0, 0), bool), token=token_data(3, "spleen"))
    client.latest("segment").finish((replace(found(), token=token_data(2)), nothing))
    assert drawn.case.tokens() == {"liver": token_data(2), "spleen": token_data(3, "spleen")}
    assert drawn.situation.message.count("choose another one under Tokens.") == 1
    assert drawn.situation.message.endswith("Nothing was found of spleen: draw more slices.")


def test_undo_leaves_a_token_its_file(drawn: Any, client: PlayedClient) -> None:
    from Testing.mrml.builders import Editor

    editor = Editor(drawn.case.segmentation_node, drawn.case.volume_node)
    editor.logic.SaveStateForUndo()
    trained(drawn, client)
    editor.logic.Undo()
    drawn.choose("liver", True)
    drawn.train()
    client.latest("tune").finish(TuneResult({"liver": token_data(1)}))
    names = {entry.path.name: entry.path.read_bytes() for entry in drawn.library.entries()}
    assert names == {"liver.promptseg": token_data(1)}


def test_previews_show_while_training(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    job = client.latest("tune")
    job.on_progress[0](Progress("training", 0.5, 12.0, "liver", 10, 0.2, 0.8))
    assert drawn.situation.seconds_left == 12.0 and 0 < drawn.situation.fraction < 0.5
    assert drawn.curves["liver"] == [(0.5, 0.8)]
    job.on_preview[0](Preview("liver", 0, {2: square()}))
    assert drawn.case.preview.mask("liver").mask.sum() == square().sum()


def test_a_failure_is_said_once_and_ends_the_work(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    client.latest("annotate").fail("the drawing does not fit the scan: draw on the scan itself")
    assert drawn.situation.message == "The drawing does not fit the scan: draw on the scan itself."
    assert not drawn.situation.busy and client.latest("tune").state == "cancelled"
    client.take()
    drawn.train()
    assert client.take() == ["annotate", "tune"], "what failed is sent again"


def test_cancel_brings_the_earlier_preview_back(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    before = drawn.case.tokens()
    client.take()
    drawn.choose("liver", True)
    drawn.train()
    job = client.latest("tune")
    job.on_preview[0](Preview("liver", 0, {0: square(3)}))
    drawn.cancel()
    assert job.state == "cancelled" and not drawn.situation.busy
    assert drawn.case.preview.mask("liver").mask.sum() == found().mask.sum()
    assert drawn.case.tokens() == before
    assert client.take() == ["tune"], "nothing is segmented after a cancel"


def test_what_comes_after_a_cancel_is_not_heard(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    job = client.latest("tune")
    drawn.cancel()
    job.on_preview[0](Preview("liver", 0, {0: square(3)}))
    job.finish(TuneResult({"liver": token_data()}))
    assert drawn.case.tokens() == {} and drawn.case.preview.mask("liver") is None
    assert not drawn.situation.busy


def test_stop_early_uses_what_was_learned(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    checkpoint(client)
    drawn.use_what_is_learned()
    assert drawn.case.tokens() == {"liver": token_data()}
    client.latest("segment").finish((found(),))
    assert drawn.situation.has_preview


def test_stop_early_before_anything_was_learned_says_so(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    drawn.use_what_is_learned()
    assert "Train again" in drawn.situation.message and not drawn.situation.busy


def test_stop_early_takes_nothing_of_a_cancelled_training(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    checkpoint(client)
    drawn.cancel()
    drawn.train()
    client.tokens["liver"] = token_data(1)
    client.latest("tune").on_progress[0](Progress("encoding", 0.0, None, "liver"))
    drawn.use_what_is_learned()
    assert "Train again" in drawn.situation.message and drawn.case.tokens() == {}
    drawn.train()
    client.latest("tune").on_progress[0](Progress("encoding", 0.0, None, "liver"))
    client.latest("tune").fail("The engine stopped unexpectedly.")
    assert drawn.case.tokens() == {}


def test_a_scene_says_what_its_tokens_have_learned(drawn: Any, client: PlayedClient) -> None:
    from Testing.slicer_harness.driving import paint

    def reopened() -> Any:
        nodes = drawn.case.volume_node, drawn.case.segmentation_node
        drawn.set_scan(None, None)
        drawn.set_scan(*nodes)
        return drawn.situation.structures[0]

    trained(drawn, client)
    assert reopened().trained and not reopened().chosen
    paint(drawn.case.segmentation_node, "liver", 0, 2, square())
    assert reopened().chosen and not reopened().trained


def test_a_dead_worker_leaves_the_token_it_had_saved(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    checkpoint(client)
    client.latest("tune").fail("The engine stopped unexpectedly.")
    assert drawn.case.tokens() == {"liver": token_data()}
    assert drawn.situation.message == "The engine stopped unexpectedly."


def test_a_deleted_node_ends_the_work(drawn: Any, client: PlayedClient, scene: Any) -> None:
    drawn.train()
    scene.RemoveNode(drawn.case.volume_node)
    assert client.latest("tune").state == "cancelled"
    assert drawn.case is None and not drawn.situation.busy and not drawn.situation.has_scan
    assert "was deleted" in drawn.situation.message


def test_another_scan_ends_the_work_and_says_so(drawn: Any, client: PlayedClient) -> None:
    from Testing.slicer_harness.driving import add_scan, add_segmentation

    other = add_scan(np.zeros((6, 16, 16), np.int16), (5.0, 2.0, 2.0), "other")
    drawn.train()
    drawn.set_scan(other, add_segmentation(other))
    assert client.latest("tune").state == "cancelled" and not drawn.situation.busy
    said = "What was worked on is no longer chosen, so the work was ended."
    assert drawn.situation.message == said and drawn.log[-1].endswith(said)
    drawn.set_scan(None, None)
    assert len([line for line in drawn.log if line.endswith(said)]) == 1, "there was no work"


def test_the_log_says_neither_names_nor_paths(
    drawn: Any, client: PlayedClient, scene: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    drawn.case.volume_node.SetName("DOE, JOHN")
    drawn.train()
    drawn.say("liver: the token was saved as /home/doe/My tokens/liver 2.promptseg (new): look there")
    drawn.say("C:\\Users\\Doe\\token cannot be read: choose 1/2 or another")
    scene.RemoveNode(drawn.case.volume_node)
    assert "DOE, JOHN" in drawn.situation.message
    log = [line.partition("  ")[2] for line in drawn.log]
    assert log[0] == "Training: …."
    assert log[1:3] == ["…: the token was saved as … (new): look there.", "…: choose 1/2 or another."]
    assert len(log) == 4 and not any(name in "".join([*log, caplog.text]).lower() for name in ("doe", "liver"))


def test_another_scan_makes_the_engine_forget_the_classes(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    client.take()
    drawn.set_scan(None, None)
    assert client.take() == ["forget"] and client.latest("forget").arguments == {"key": "liver"}


def test_a_segment_deleted_while_it_was_trained_is_left_out(drawn: Any, client: PlayedClient) -> None:
    from Testing.slicer_harness.driving import paint

    paint(drawn.case.segmentation_node, "spleen", 0, 1, square(6))
    drawn.refresh()
    drawn.train()
    assert client.latest("tune").arguments["keys"] == ["liver", "spleen"]
    drawn.case.segmentation_node.GetSegmentation().RemoveSegment("spleen")
    client.latest("tune").finish(TuneResult({"liver": token_data(), "spleen": token_data(1)}))
    assert client.latest("segment").arguments["keys"] == ["liver"]


def test_a_segment_brought_back_while_it_is_trained_is_found(drawn: Any, client: PlayedClient) -> None:
    from Testing.mrml.builders import Editor

    editor = Editor(drawn.case.segmentation_node, drawn.case.volume_node)
    drawn.train()
    editor.logic.SaveStateForUndo()
    drawn.case.segmentation_node.GetSegmentation().RemoveSegment("liver")
    drawn.refresh()
    editor.logic.Undo()
    drawn.refresh()
    client.take()
    client.latest("tune").finish(TuneResult({"liver": token_data()}))
    assert client.take() == ["annotate", "put_token", "segment"], "the engine was told to forget it"
    assert sorted(client.latest("annotate").arguments["drawing"].planes) == [1, 3, 5]
    client.latest("segment").finish((found(),))
    assert drawn.situation.has_preview and drawn.case.tokens() == {"liver": token_data()}


@pytest.mark.parametrize("is_seen", [True, False])
@pytest.mark.parametrize("is_found", [True, False])
def test_another_segment_with_the_same_id_gets_nothing_of_a_removed_one(
    drawn: Any, client: PlayedClient, is_found: bool, is_seen: bool
) -> None:
    segmentation = drawn.case.segmentation_node.GetSegmentation()
    drawn.train()
    if is_found:
        client.latest("tune").finish(TuneResult({"liver": token_data()}))
    kept = len(drawn.library.entries())
    segmentation.RemoveSegment("liver")
    if is_seen:
        drawn.refresh()
    segmentation.AddEmptySegment("liver", "gall bladder")
    if is_found:
        client.latest("segment").finish((replace(found(), token=token_data(1)),))
    else:
        client.latest("tune").finish(TuneResult({"liver": token_data()}))
    assert drawn.case.tokens() == {} and len(drawn.library.entries()) == kept
    assert client.latest("forget").arguments == {"key": "liver"} and not drawn.situation.has_preview


def test_a_dead_worker_leaves_no_token_to_another_segment_with_the_same_id(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    checkpoint(client)
    drawn.case.segmentation_node.GetSegmentation().RemoveSegment("liver")
    drawn.case.segmentation_node.GetSegmentation().AddEmptySegment("liver", "gall bladder")
    client.latest("tune").fail("The engine stopped unexpectedly.")
    assert drawn.case.tokens() == {}


def test_a_deleted_segment_leaves_no_preview(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    drawn.case.show_results([found("spleen")])
    segmentation = drawn.case.segmentation_node.GetSegmentation()
    segmentation.RemoveSegment("liver")
    drawn.refresh()
    assert drawn.case.preview.mask("liver") is None and drawn.case.preview.mask("spleen") is not None
    assert drawn.situation.has_preview
    segmentation.RemoveSegment("spleen")
    drawn.refresh()
    assert not drawn.situation.has_preview


def test_what_cannot_be_read_of_the_segmentation_is_said(drawn: Any) -> None:
    bend(drawn.case.segmentation_node)
    drawn.refresh()
    assert "harden or remove it first" in drawn.situation.message


def test_says_when_nothing_was_found(drawn: Any, client: PlayedClient) -> None:
    drawn.train()
    client.latest("tune").finish(TuneResult({"liver": token_data()}))
    nothing = SegmentedClass("liver", (slice(0, 0),) * 3, np.zeros((0, 0, 0), bool))
    client.latest("segment").finish((nothing,))
    assert "Nothing was found of liver" in drawn.situation.message and not drawn.situation.has_preview


def test_suggests_for_the_least_certain_structure_and_shows_the_slice(drawn: Any, client: PlayedClient) -> None:
    from PromptSegPanel import views
    from Testing.slicer_harness.driving import show_in_slice_views

    show_in_slice_views(drawn.case.volume_node)
    trained(drawn, client)
    drawn.suggest()
    assert client.latest("suggest_slice").arguments == {"key": "liver"}
    client.latest("suggest_slice").finish(Suggestion("liver", 0, 2, "far from what is drawn"))
    assert views.shown_slice(drawn.case.volume_node, 0) == 2
    assert drawn.situation.message == "Draw liver on the slice that is shown now: far from what is drawn."


def test_a_scan_that_is_bent_meanwhile_has_no_slices_to_look_at(drawn: Any, client: PlayedClient) -> None:
    from Testing.slicer_harness.driving import show_in_slice_views

    show_in_slice_views(drawn.case.volume_node)
    drawn.suggest()
    bend(drawn.case.volume_node)
    client.latest("suggest_slice").finish(Suggestion("liver", 0, 2, "far from what is drawn"))
    assert "harden or remove it first" in drawn.situation.message
    drawn.case.volume_node.SetAndObserveTransformNodeID(None)
    drawn.refresh()
    drawn.train()
    bend(drawn.case.volume_node)
    client.set_focus = lambda axis, index: pytest.fail("there is no such slice")
    drawn.poll()
    assert drawn.situation.busy


def test_a_token_finds_its_structure_in_a_new_segment(drawn: Any, client: PlayedClient) -> None:
    from PromptSegLib.engine.messages import ClassInfo

    drawn.find(token_data(), ClassInfo("Kidney", (10, 20, 30)))
    assert client.take() == ["set_image", "annotate", "put_token", "annotate", "segment"]
    key = client.latest("segment").arguments["keys"][0]
    assert drawn.case.info(key).name == "Kidney" and drawn.case.info(key).color == (10, 20, 30)
    assert drawn.case.tokens() == {key: token_data()}


def test_a_correction_goes_on_from_the_token_of_a_scene_that_was_opened_again(drawn: Any, client: PlayedClient) -> None:
    """Also where another scan was looked at meanwhile: the engine knows nothing of the first one then."""
    from Testing.slicer_harness.driving import add_scan, add_segmentation, paint

    trained(drawn, client)
    case = drawn.case
    first = case.volume_node, case.segmentation_node
    other = add_scan(np.zeros((6, 16, 16), np.int16), (5.0, 2.0, 2.0), "other")
    drawn.set_scan(other, add_segmentation(other))
    assert client.take()[-1] == "forget"
    drawn.set_scan(*first)
    paint(first[1], "liver", 0, 2, square())
    drawn.refresh()
    client.take()
    drawn.train()
    methods = client.take()
    assert methods.index("put_token") < methods.index("tune")
    assert client.latest("put_token").arguments == {"key": "liver", "data": token_data()}
    drawn.cancel()
    drawn.training = replace(drawn.training, anew=True)
    client.tokens.clear()
    drawn.train()
    assert "put_token" not in client.take(), "nothing is gone on from"


def test_a_token_that_the_engine_refuses_is_replaced(drawn: Any, client: PlayedClient) -> None:
    """Such as one of another backbone."""
    from PromptSegLib.mrml.tokens import store_token

    store_token(drawn.case.segmentation_node, "liver", token_data(1))
    drawn.train()
    client.latest("put_token").fail("it belongs to another backbone")
    assert drawn.situation.busy
    client.latest("tune").finish(TuneResult({"liver": token_data()}))
    assert drawn.case.tokens() == {"liver": token_data()}


def test_what_a_foreign_token_learns_leaves_the_own_one_its_file(drawn: Any, client: PlayedClient) -> None:
    from PromptSegLib.engine.messages import ClassInfo
    from Testing.slicer_harness.driving import paint

    trained(drawn, client)
    drawn.discard()
    for index in (1, 3, 5):
        paint(drawn.case.segmentation_node, "liver", 0, index, square(), erase=True)
    drawn.find(token_data(1), ClassInfo("liver"))
    client.latest("segment").finish((found(),))
    paint(drawn.case.segmentation_node, "liver", 0, 2, square())
    drawn.refresh()
    drawn.train()
    client.latest("tune").finish(TuneResult({"liver": token_data(2)}))
    names = {entry.path.name: entry.path.read_bytes() for entry in drawn.library.entries()}
    assert names == {"liver.promptseg": token_data(), "liver 2.promptseg": token_data(2)}


def test_a_token_that_learned_nothing_is_not_kept_twice(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    drawn.choose("liver", True)
    trained(drawn, client)
    assert [entry.path.name for entry in drawn.library.entries()] == ["liver.promptseg"]


def test_a_removed_segment_is_forgotten(drawn: Any, client: PlayedClient) -> None:
    """Its ID may come again, for another structure."""
    trained(drawn, client)
    client.take()
    drawn.case.segmentation_node.GetSegmentation().RemoveSegment("liver")
    drawn.refresh()
    assert client.take() == ["forget"] and client.latest("forget").arguments == {"key": "liver"}
    drawn.refresh()
    assert client.take() == []


def test_a_finished_segment_is_not_taken_for_another_token(drawn: Any, client: PlayedClient) -> None:
    import slicer

    from PromptSegLib.engine.messages import ClassInfo

    drawn.find(token_data(), ClassInfo("Kidney", (10, 20, 30)))
    key = client.latest("segment").arguments["keys"][0]
    client.latest("segment").finish((found(key),))
    drawn.apply(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"), lambda: None)
    drawn.find(token_data(1), ClassInfo("Kidney", (10, 20, 30)))
    other = client.latest("segment").arguments["keys"][0]
    assert other != key and drawn.case.tokens() == {key: token_data(), other: token_data(1)}


def test_where_to_correct_what_a_token_found(drawn: Any, client: PlayedClient) -> None:
    from PromptSegLib.engine.messages import ClassInfo

    drawn.case.segmentation_node.GetSegmentation().RemoveSegment("liver")
    drawn.find(token_data(), ClassInfo("Kidney", (10, 20, 30)))
    key = client.latest("segment").arguments["keys"][0]
    client.latest("segment").finish((found(key),))
    drawn.suggest()
    assert client.latest("suggest_slice").arguments == {"key": key}


def test_an_erased_drawing_does_not_guide_a_token(drawn: Any, client: PlayedClient) -> None:
    from PromptSegLib.engine.messages import ClassInfo
    from Testing.slicer_harness.driving import paint

    for index in (1, 3, 5):
        paint(drawn.case.segmentation_node, "liver", 0, index, square(), erase=True)
    drawn.find(token_data(), ClassInfo("liver"))
    assert client.latest("segment").arguments == {"keys": ["liver"]}
    assert client.latest("annotate").arguments["drawing"] is None


def test_a_cancelled_training_leaves_no_half_trained_token_to_find_with(drawn: Any, client: PlayedClient) -> None:
    trained(drawn, client)
    drawn.choose("liver", True)
    drawn.train()
    drawn.cancel()
    client.take()
    drawn.find_again("liver")
    assert "put_token" in client.take() and client.latest("put_token").arguments["data"] == token_data()


def test_scribbles_are_sent_as_such(drawn: Any, client: PlayedClient) -> None:
    from Testing.slicer_harness.driving import paint

    paint(drawn.case.segmentation_node, "spleen", 0, 1, square(6) & ~square())
    drawn.training = replace(drawn.training, scribbles=True)
    drawn.choose("spleen", False)
    drawn.train()
    plane = client.latest("annotate").arguments["drawing"].planes[1]
    assert set(np.unique(plane)) == {0, 1, 255}
    assert (plane == 0).sum() == (square(6) & ~square()).sum()


def test_what_is_erased_after_apply_stays_erased_with_scribbles(drawn: Any, client: PlayedClient) -> None:
    from Testing.mrml.builders import Editor, voxels_of

    drawn.training = replace(drawn.training, scribbles=True)
    editor = Editor(drawn.case.segmentation_node, drawn.case.volume_node)
    trained(drawn, client)
    drawn.apply(editor.node, editor.logic.SaveStateForUndo)
    leak = np.zeros((6, 16, 16), bool)
    leak[4, 4:10, 7:10] = True
    editor.paint("liver", leak, erase=True)
    for _ in range(2):
        drawn.refresh()
        drawn.choose("liver", True)
        trained(drawn, client)
        assert not client.latest("annotate").arguments["drawing"].planes[4][leak[4]].any()
        drawn.apply(editor.node, editor.logic.SaveStateForUndo)
        assert not voxels_of(drawn.case.segmentation_node, "liver", leak.shape)[leak].any()


def beside_a_finished_segment(squared_radius: float) -> tuple[Any, Any, np.ndarray]:
    """A scan, a segmentation with the empty segment "drawn" beside a ball that is "finished", and that ball."""
    import slicer

    from Testing.slicer_harness.driving import add_scan, add_segmentation

    scan = add_scan(np.zeros((20, 16, 16), np.int16), (5.0, 2.0, 2.0), "CT")
    segmentation = add_segmentation(scan, "finished", "drawn")
    z, y, x = np.ogrid[-1:1:20j, -1:1:16j, -1:1:16j]
    ball = (z**2 + y**2 + x**2 < squared_radius).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(ball, segmentation, "finished", scan)
    return scan, segmentation, ball


def test_finished_segments_are_not_ticked(controller: Any) -> None:
    import slicer

    scan, segmentation, ball = beside_a_finished_segment(0.7)
    ball[1::2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(ball, segmentation, "drawn", scan)
    controller.set_scan(scan, segmentation)
    assert [(s.drawn, s.chosen) for s in controller.situation.structures] == [(16, False), (8, True)]


def test_a_stroke_beside_teaches_without_counting_as_drawn(drawn: Any, client: PlayedClient) -> None:
    from Testing.mrml.builders import Editor
    from Testing.slicer_harness.driving import paint

    drawn.training = replace(drawn.training, scribbles=True)
    editor = Editor(drawn.case.segmentation_node, drawn.case.volume_node)
    paint(drawn.case.segmentation_node, "spleen", 0, 2, square(6) & ~square())
    trained(drawn, client)
    sent = {job.arguments["key"]: job.arguments["drawing"] for job in client.jobs if job.method == "annotate"}
    assert (sent["liver"].planes[2] == 0).any()
    drawn.apply(editor.node, editor.logic.SaveStateForUndo)
    assert drawn.situation.structures[0].drawn == 3
