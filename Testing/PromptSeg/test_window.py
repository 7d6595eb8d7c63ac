"""What the panel shows and keeps, without a computation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk


class PlayedInstaller:
    """Says what is missing, and installs it at the first try."""

    def __init__(self, problem: str = "") -> None:
        self.packages = ["torch", "monai"]
        self.problem = problem

    def missing(self) -> list[str]:
        return self.packages

    def install(self) -> Any:
        from PromptSegLib.errors import InputError
        from PromptSegPanel.installing import Outcome

        if self.problem:
            raise InputError(self.problem)
        self.packages = []
        return Outcome(True, False, "All packages are installed.")


def test_opens_and_says_what_to_do_without_the_packages(person: Any, patient: Any) -> None:
    person.panel._installer = PlayedInstaller()
    person.choose(patient.scan)
    person.panel.check_packages()
    liver = person.add_structure("liver")
    person.draw(liver, patient.truth("liver"), patient.slices("liver"))
    assert "press Install" in person.status
    assert not person.ui.trainButton.enabled and "install" in person.ui.trainButton.toolTip
    assert person.controller.engine.worker_pid == 0, "nothing is started that cannot work"
    person.press("installButton")
    assert person.status == "All packages are installed." and person.ui.trainButton.enabled
    assert not person.ui.installButton.isVisibleTo(person.widget.parent)


def test_a_failed_installation_is_said_in_the_log(person: Any) -> None:
    person.panel._installer = PlayedInstaller("there is no network: connect this computer and try again")
    person.panel.check_packages()
    person.press("installButton")
    assert "There is no network" in person.controller.log[-1]
    assert person.ui.installButton.enabled


@pytest.mark.parametrize("problem", ["", "there is no network: connect this computer and try again"])
def test_an_installation_goes_on_without_a_panel_that_was_closed(
    patient: Any, tmp_path: Path, qt_settings: Any, problem: str
) -> None:
    import qt

    from Testing.PromptSeg.person import MODULE, Person
    from Testing.slicer_harness.modules import close_module, open_module

    class ClosingInstaller(PlayedInstaller):
        def install(self) -> Any:
            close_module(person.widget)
            qt.QApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)
            person.widget.showProgress("Installing torch …")
            return super().install()

    qt_settings("PromptSeg/Library", str(tmp_path / "library"))
    person = Person(open_module(MODULE))
    person.panel._installer = ClosingInstaller(problem)
    person.panel.check_packages()
    person.press("installButton")
    assert "Installing torch" in person.controller.log[0]


def test_every_control_has_a_tool_tip(person: Any) -> None:
    for name in [
        "inputSelector",
        "segmentationSelector",
        "scribblesCheckBox",
        "structuresList",
        "trainButton",
        "finishButton",
        "previewCheckBox",
        "opacitySlider",
        "show3DCheckBox",
        "applyButton",
        "discardButton",
        "undoButton",
        "suggestButton",
        "tokensTable",
        "applyTokenButton",
        "renameTokenButton",
        "exportTokenButton",
        "importTokenButton",
        "deleteTokenButton",
        "libraryPathLineEdit",
        "deviceComboBox",
        "backboneComboBox",
        "backbonePathLineEdit",
        "promptingComboBox",
        "anewCheckBox",
        "timeBudgetSlider",
        "wheelhousePathLineEdit",
        "clearCacheButton",
        "logText",
    ]:
        assert getattr(person.ui, name).toolTip, name


def test_keys_do_what_buttons_do(person: Any, patient: Any) -> None:
    from PromptSegLib.engine.messages import SegmentedClass

    person.choose(patient.scan)
    liver = person.add_structure("liver")
    person.draw(liver, patient.truth("liver"), patient.slices("liver"))
    truth = patient.truth("liver")
    found = SegmentedClass(liver, tuple(slice(0, n) for n in truth.shape), truth, 0.9, 1.0)
    person.controller.case.show_results([found])
    person.controller.refresh()
    keys = {shortcut.key.toString(): shortcut for shortcut in person.panel._shortcuts}
    assert set(keys) == {"Ctrl+Shift+T", "Ctrl+Shift+A", "Ctrl+Shift+N", "Ctrl+Shift+P"}
    keys["Ctrl+Shift+P"].activated.emit()
    assert not person.controller.case.preview.visible
    keys["Ctrl+Shift+A"].activated.emit()
    assert np.array_equal(person.segment(liver, patient), truth)
    keys["Ctrl+Shift+A"].activated.emit()
    keys["Ctrl+Shift+T"].activated.emit()
    assert person.controller.situation.busy
    keys["Ctrl+Shift+T"].activated.emit()
    assert not person.controller.situation.busy


def test_the_next_slice_is_for_the_row_that_is_seen_to_be_selected(person: Any, patient: Any) -> None:
    from PromptSegLib.engine.messages import SegmentedClass

    def show(confidences: dict[str, float]) -> None:
        box = tuple(slice(0, n) for n in patient.truth("liver").shape)
        results = [SegmentedClass(key, box, patient.truth(key), share, 1.0) for key, share in confidences.items()]
        person.controller.case.show_results(results)
        person.controller.refresh()

    def asked() -> list[str | None]:
        keys: list[str | None] = []
        person.controller.suggest = keys.append
        person.press("suggestButton")
        return keys

    person.choose(patient.scan)
    for name in ("liver", "spleen"):
        person.draw(person.add_structure(name), patient.truth(name), patient.slices(name))
    show({"liver": 0.9, "spleen": 0.9})
    person.ui.resultsTable.selectRow(1)
    assert asked() == ["spleen"]
    show({"liver": 0.1, "spleen": 0.9})
    assert not person.ui.resultsTable.selectedItems() and asked() == [None]


def test_a_scan_that_is_loaded_already_is_chosen(scene: Any, patient: Any, open_module: Any) -> None:
    from Testing.PromptSeg.person import MODULE, Person

    person = Person(open_module(MODULE))
    assert person.ui.inputSelector.currentNode() is patient.scan
    assert person.segmentation.GetName() == "CT segmentation"
    assert "Press Add" in person.status


def test_no_scan_is_chosen_that_cannot_be_chosen_by_hand(scene: Any, patient: Any, open_module: Any) -> None:
    from Testing.PromptSeg.person import MODULE, Person

    patient.scan.SetHideFromEditors(True)
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(labels, np.ones((5, 6, 7), np.uint8))
    for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        node.SetBackgroundVolumeID(labels.GetID())
    person = Person(open_module(MODULE))
    assert person.widget._parameterNode.inputVolume is None and person.controller.case is None
    assert person.status == "Load a scan into Slicer, then choose it here."


def test_counts_drawn_slices_as_they_are_painted(person: Any, patient: Any) -> None:
    person.choose(patient.scan)
    key = person.add_structure("liver <&>")
    person.wait(lambda: "liver" in person.ui.drawnLabel.text)
    assert "nothing drawn yet" in person.ui.drawnLabel.text and "&lt;&amp;&gt;" in person.ui.drawnLabel.text
    person.draw(key, patient.truth("liver"), patient.slices("liver", 2))
    person.wait(lambda: "2 slices drawn, axial" in person.ui.drawnLabel.text)
    assert person.ui.drawHintLabel.text
    person.draw(key, patient.truth("liver"), patient.slices("liver", 5))
    person.wait(lambda: not person.ui.drawHintLabel.text)


def test_of_many_finished_segments_only_what_is_drawn_is_listed(person: Any, patient: Any) -> None:
    person.choose(patient.scan)
    count, labels = 20, np.zeros(patient.truth("liver").shape, np.uint8)
    for number in range(count):
        row, column = (4 * place for place in divmod(number, 10))
        labels[2:14, row : row + 3, column : column + 3] = number + 1
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    slicer.util.updateVolumeFromArray(node, labels)
    matrix = vtk.vtkMatrix4x4()
    patient.scan.GetIJKToRASMatrix(matrix)
    node.SetIJKToRASMatrix(matrix)
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(node, person.segmentation)
    key = person.add_structure("mine")
    person.draw(key, patient.truth("liver"), patient.slices("liver", 2))
    person.wait(lambda: "2 slices drawn, axial" in person.ui.drawnLabel.text)
    lines = person.ui.drawnLabel.text.split("<br>")
    listing = person.ui.structuresList
    shown = listing.visualItemRect(listing.item(count))
    assert shown.top() >= 0 and shown.bottom() <= listing.viewport().height
    assert "mine" in lines[0] and lines[1:] == [f"{count} more structures, not drawn or not ticked for training"]


def test_a_coronal_drawing_is_recognized(person: Any, patient: Any) -> None:
    person.choose(patient.scan)
    key = person.add_structure("liver")
    truth = patient.truth("liver")
    rows = np.flatnonzero(truth.any(axis=(0, 2)))[[5, 12, 19]]
    person.draw(key, truth, rows.tolist(), axis=1)
    person.wait(lambda: "3 slices drawn, coronal" in person.ui.drawnLabel.text)


def test_ticks_decide_what_is_trained(person: Any, patient: Any) -> None:
    import qt

    from Testing.PromptSeg.person import texts

    person.choose(patient.scan)
    for name in ("liver", "spleen"):
        person.draw(person.add_structure(name), patient.truth(name), patient.slices(name, 2))
    person.wait(lambda: texts(person.ui.structuresList) == ["liver", "spleen"])
    person.ui.structuresList.item(0).setCheckState(qt.Qt.Unchecked)
    assert [s.key for s in person.controller.situation.trainable] == ["spleen"]
    person.ui.structuresList.item(1).setCheckState(qt.Qt.Unchecked)
    assert not person.ui.trainButton.enabled and "tick" in person.ui.trainButton.toolTip


def test_choices_are_kept_in_the_scene(person: Any, patient: Any, tmp_path: Any) -> None:
    from Testing.slicer_harness.driving import load_scene, save_scene

    person.choose(patient.scan)
    person.ui.scribblesCheckBox.checked = True
    person.ui.timeBudgetSlider.value = 25
    person.ui.opacitySlider.value = 70
    save_scene(tmp_path / "choices.mrb")
    load_scene(tmp_path / "choices.mrb")
    person.wait(lambda: person.controller.case is not None)
    assert person.ui.scribblesCheckBox.checked
    assert (person.ui.timeBudgetSlider.value, person.ui.opacitySlider.value) == (25, 70)
    assert person.controller.training.scribbles and person.controller.training.seconds == 25
    assert person.controller.case.preview.opacity == pytest.approx(0.7)


def test_a_scene_that_is_added_to_this_one_brings_its_drawings(person: Any, patient: Any, tmp_path: Path) -> None:
    from Testing.PromptSeg.person import Patient
    from Testing.slicer_harness.driving import process_events, save_scene

    def segmentations() -> list[str]:
        nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        return [node.GetName() for node in nodes if not node.GetHideFromEditors()]

    person.choose(patient.scan)
    liver = person.add_structure("liver")
    person.draw(liver, patient.truth("liver"), patient.slices("liver"))
    save_scene(tmp_path / "first.mrb")
    slicer.mrmlScene.Clear()
    person.choose(Patient(seed=1, name="Other CT").scan)
    assert segmentations() == ["Other CT segmentation"]
    slicer.util.loadScene(str(tmp_path / "first.mrb"))
    process_events()
    assert segmentations() == ["Other CT segmentation", "CT segmentation"]
    case = person.controller.case
    assert (case.volume_node.GetName(), case.segmentation_node.GetName()) == ("CT", "CT segmentation")
    assert [(s.name, s.drawn) for s in person.controller.situation.structures] == [("liver", 3)]


def test_settings_of_the_computer_are_kept_beyond_the_scene(person: Any, qt_settings: Any) -> None:
    qt_settings("PromptSeg/Device", "auto")
    person.ui.deviceComboBox.currentIndex = person.ui.deviceComboBox.findData("cpu")
    assert slicer.app.userSettings().value("PromptSeg/Device") == "cpu"
    assert person.controller.engine.options.device == "cpu"


def test_lists_the_backbones(person: Any, tmp_path: Path, qt_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import save_file

    from PromptSegLib.networks import catalog

    qt_settings("PromptSeg/Backbone", "")
    monkeypatch.setattr(catalog, "SHIPPED_FOLDERS", (tmp_path,))
    for name, preset in ((catalog.DEFAULT_BACKBONE, "paper-2d"), ("mine", "swin-unetr-2d")):
        metadata = {"format": "promptseg-backbone", "version": "1", "name": name, "preset": preset, "card": "{}"}
        save_file({"weight": np.zeros(1, np.float16)}, tmp_path / f"{name}.safetensors", metadata)
    (tmp_path / "damaged.safetensors").write_bytes(b"no backbone")
    person.ui.advancedCollapsibleButton.collapsed = False
    combo_box, path = person.ui.backboneComboBox, person.ui.backbonePathLineEdit
    shown = [combo_box.itemText(n) for n in range(combo_box.count)]
    assert shown == ["punet-headneck-1 (PUNet)", "mine (Swin UNETR)"] and combo_box.currentIndex == 0
    combo_box.currentIndex = 1
    assert path.currentPath == person.controller.engine.options.backbone == str(tmp_path / "mine.safetensors")
    assert person.controller.training.prompting is None
    path.currentPath = str(tmp_path / "elsewhere.safetensors")
    assert combo_box.currentIndex == -1
    combo_box.currentIndex = 0
    assert path.currentPath == person.controller.engine.options.backbone == ""


def test_offers_what_the_backbone_can_train(person: Any, tmp_path: Path, qt_settings: Any) -> None:
    from safetensors.numpy import save_file

    for name, value in (("Backbone", ""), ("WhatIsLearned", "")):
        qt_settings(f"PromptSeg/{name}", value)
    combo_box = person.ui.promptingComboBox

    def offered() -> list[str]:
        return [combo_box.itemData(n) for n in range(combo_box.count)]

    assert offered() == ["", "end", "decoder", "full"] and person.controller.training.prompting is None
    combo_box.currentIndex = 3
    assert person.controller.training.prompting == "full"
    metadata = {"format": "promptseg-backbone", "version": "1", "name": "mine", "preset": "unetr-2d", "card": "{}"}
    save_file({"weight": np.zeros(1, np.float16)}, tmp_path / "mine.safetensors", metadata)
    person.ui.backbonePathLineEdit.currentPath = str(tmp_path / "mine.safetensors")
    assert offered() == ["", "shallow"] and person.controller.training.prompting is None
    assert person.controller.engine.options.backbone == str(tmp_path / "mine.safetensors")
    person.ui.backbonePathLineEdit.currentPath = str(tmp_path / "no_such.safetensors")
    assert offered() == ["", "end", "decoder", "full"] and person.controller.training.prompting is None


def test_learning_from_scratch_is_for_this_time_only(person: Any) -> None:
    box = person.ui.anewCheckBox
    assert not box.checked and not person.controller.training.anew
    box.checked = True
    assert person.controller.training.anew
    person.ui.timeBudgetSlider.value = 30
    person.panel.read_parameters()
    assert person.controller.training.anew
    box.checked = False
    assert not person.controller.training.anew


def test_deleting_the_segmentation_asks_for_another(person: Any, patient: Any, scene: Any) -> None:
    person.choose(patient.scan)
    scene.RemoveNode(person.segmentation)
    person.wait(lambda: "Choose a segmentation" in person.status)
    assert not person.ui.trainButton.enabled


def test_a_scan_in_color_is_refused_in_one_sentence(person: Any, scene: Any) -> None:
    image = vtk.vtkImageData()
    image.SetDimensions(8, 8, 3)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Photo")
    node.SetAndObserveImageData(image)
    node.CreateDefaultDisplayNodes()
    person.ui.inputSelector.setCurrentNode(node)
    person.wait(lambda: person.controller.case is not None)
    key = person.add_structure("thing")
    array = np.zeros((3, 8, 8), np.uint8)
    array[1, 2:5, 2:5] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, person.segmentation, key, node)
    person.wait(lambda: "Photo" in person.status or person.ui.trainButton.enabled, 10)
    if person.ui.trainButton.enabled:
        person.press("trainButton")
    assert "Photo" in person.status and not person.controller.situation.busy


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_module_tests_itself(person: Any) -> None:
    module = sys.modules[type(person.widget).__module__]
    person.panel.close()
    module.PromptSegTest().runTest()
