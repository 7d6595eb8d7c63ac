"""A scripted module opens, follows its parameter node, survives the scene's closing, and its own test runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SAMPLE = Path(__file__).parents[1] / "selftest" / "HarnessSample" / "HarnessSample.py"


@pytest.fixture
def scan(scene):
    from Testing.slicer_harness.driving import add_scan

    array = np.zeros((12, 40, 40), np.int16)
    array[4:8, 10:30, 10:30] = 100
    return add_scan(array)


@pytest.fixture
def sample(scan, open_module):
    return open_module(SAMPLE)


def test_a_module_opens_and_does_its_work(scan, sample):
    from Testing.slicer_harness.driving import add_segmentation, segment_array

    assert sample.ui.volumeSelector.currentNode() is scan
    assert not sample.ui.applyButton.enabled
    segmentation = add_segmentation(scan)
    sample.ui.segmentationSelector.setCurrentNode(segmentation)
    assert sample.ui.applyButton.enabled
    sample.ui.applyButton.click()
    assert sample.ui.statusLabel.text == "1600 voxels"
    assert segment_array(segmentation, "result", scan).sum() == 1600
    assert sample.ui.segmentsTable.displayedSegmentIDs() == ("result",)


def test_widgets_and_parameter_node_follow_each_other(sample):
    parameters = sample._parameterNode
    sample.ui.thresholdSlider.value = 25
    assert parameters.threshold == 25
    parameters.threshold = 55.0
    assert sample.ui.thresholdSlider.value == 55
    sample.ui.sideBox.setCurrentText("BELOW")
    assert parameters.side.name == "BELOW"
    sample.ui.automaticCheckBox.click()
    assert parameters.automatic is True
    sample.ui.noteEdit.text = "later"
    assert parameters.note == "later"
    with pytest.raises(ValueError, match="200"):
        parameters.threshold = 500.0
    assert sample.ui.thresholdSlider.maximum == 200


def test_closing_the_scene_leaves_a_usable_panel(scene, sample):
    from Testing.slicer_harness.driving import add_scan

    sample._parameterNode.threshold = 80.0
    scene.Clear()
    assert sample._parameterNode is not None
    assert sample.ui.volumeSelector.currentNode() is None
    other = add_scan(np.ones((4, 8, 8), np.int16))
    sample.ui.volumeSelector.setCurrentNode(other)
    assert sample._parameterNode.volume is other


def test_parameters_are_saved_with_the_scene(scan, sample, tmp_path):
    from Testing.slicer_harness.driving import load_scene, save_scene

    sample._parameterNode.threshold = 77.0
    sample._parameterNode.note = "kept"
    save_scene(tmp_path / "scene.mrb")
    sample._parameterNode.threshold = 3.0
    load_scene(tmp_path / "scene.mrb")
    sample.enter()
    assert sample._parameterNode.threshold == 77
    assert sample.ui.noteEdit.text == "kept"
    assert sample._parameterNode.volume.GetName() == "Scan"


def test_the_module_tests_itself(scene, open_module):
    import slicer

    open_module(SAMPLE)
    slicer.selfTests["HarnessSample"]()
