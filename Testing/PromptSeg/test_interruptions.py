"""Whatever happens in the middle of training: nothing drawn is lost, and the panel goes on working."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def training(person: Any, patient: Any) -> Any:
    """A person whose panel is in the middle of training "liver"."""
    person.choose(patient.scan)
    liver = person.add_structure("liver")
    person.draw(liver, patient.truth("liver"), patient.slices("liver"))
    person.widget._parameterNode.timeBudget = 60
    person.press("trainButton")
    person.wait(lambda: person.controller.engine.work.progress is not None)
    return person


def test_cancel(training: Any, patient: Any) -> None:
    import time

    drawn = training.segment("liver", patient)
    assert training.ui.trainButton.text == "Cancel"
    started = time.monotonic()
    training.press("trainButton")
    assert time.monotonic() - started < 5 and not training.controller.situation.busy
    assert training.ui.trainButton.text == "Train" and training.ui.trainButton.enabled
    assert "Cancelled" in training.status
    assert np.array_equal(training.segment("liver", patient), drawn)
    training.train()


def test_the_worker_is_killed(training: Any, patient: Any) -> None:
    drawn = training.segment("liver", patient)
    os.kill(training.controller.engine.worker_pid, signal.SIGKILL)
    training.wait(lambda: not training.controller.situation.busy, 10)
    assert "started again" in training.status and training.status.count(".") == 2
    assert np.array_equal(training.segment("liver", patient), drawn)
    training.train()
    training.press("applyButton")


def test_a_node_is_deleted(training: Any, patient: Any, scene: Any) -> None:
    from Testing.PromptSeg.person import Patient, preview_nodes

    scene.RemoveNode(training.segmentation)
    assert not training.controller.situation.busy and preview_nodes() == []
    assert "was deleted" in training.status
    training.wait(lambda: not training.ui.trainButton.enabled)
    other = Patient(seed=1, name="Another CT")
    training.ui.inputSelector.setCurrentNode(other.scan)
    training.wait(lambda: training.controller.case is not None)
    liver = training.add_structure("liver")
    training.draw(liver, other.truth("liver"), other.slices("liver"))
    training.train()


def test_the_scene_is_closed(training: Any, scene: Any) -> None:
    from Testing.PromptSeg.person import Patient

    scene.Clear()
    assert not training.controller.situation.busy and not training.controller.situation.has_scan
    assert not training.ui.trainButton.enabled
    other = Patient(seed=1)
    training.choose(other.scan)
    liver = training.add_structure("liver")
    training.draw(liver, other.truth("liver"), other.slices("liver"))
    training.train()


def test_another_module_is_opened_and_this_one_again(training: Any) -> None:
    from Testing.slicer_harness.modules import enter_module, leave_module

    leave_module(training.widget)
    assert training.controller.situation.busy, "training goes on"
    enter_module(training.widget)
    assert training.controller.situation.busy
    training.press("finishButton")
    training.wait(lambda: not training.controller.situation.busy)


def test_the_panel_is_closed(training: Any) -> None:
    from Testing.PromptSeg.person import preview_nodes

    pid = training.controller.engine.worker_pid
    training.panel.close()
    assert preview_nodes() == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
