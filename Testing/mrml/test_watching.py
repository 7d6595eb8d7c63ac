"""A job hears once that what it works on goes away."""

from __future__ import annotations

import gc
import weakref

import pytest
import slicer

from PromptSegLib.errors import InputError
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.watching import SceneWatch
from Testing.mrml.builders import add_segmentation, add_volume


class Job:
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.volume = add_volume()
        self.segmentation = add_segmentation(self.volume, "organ")
        self.watch = SceneWatch([self.volume, self.segmentation], self.heard.append)


@pytest.fixture
def job(scene: slicer.vtkMRMLScene) -> Job:
    return Job()


def test_a_deleted_node_is_heard_of_once(job: Job) -> None:
    other = add_volume()
    slicer.mrmlScene.RemoveNode(other)
    assert job.heard == []
    slicer.mrmlScene.RemoveNode(job.volume)
    slicer.mrmlScene.RemoveNode(job.segmentation)
    slicer.mrmlScene.Clear()
    assert job.heard == ['"CT" was deleted']


def test_a_closed_scene_is_heard_of_once(job: Job) -> None:
    slicer.mrmlScene.Clear()
    assert job.heard == ["the scene was closed"]


def test_a_stopped_watch_is_silent_and_lets_go(job: Job) -> None:
    class Listener:
        def gone(self, sentence: str) -> None:
            raise AssertionError(sentence)

    listener = Listener()
    watch = SceneWatch([job.volume], listener.gone)
    watch.stop()
    watch.stop()
    slicer.mrmlScene.RemoveNode(job.volume)
    alive = weakref.ref(listener)
    del listener, watch
    gc.collect()
    assert alive() is None


def test_what_is_gone_already_cannot_be_watched(job: Job) -> None:
    slicer.mrmlScene.RemoveNode(job.volume)
    with pytest.raises(InputError, match="no longer in the scene"):
        SceneWatch([job.volume], print)


def test_drawings_leave_no_observers(job: Job) -> None:
    segmentation = job.segmentation.GetSegmentation()

    def is_a_new_segment_identified() -> bool:
        return segmentation.GetSegment(segmentation.AddEmptySegment()).HasTag("PromptSeg.Identity")

    drawings = Drawings(job.segmentation, job.volume)
    assert is_a_new_segment_identified()
    alive = weakref.ref(drawings)
    del drawings
    gc.collect()
    assert alive() is None
    assert not is_a_new_segment_identified()
