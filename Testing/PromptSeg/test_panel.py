"""The main job, as a person does it, with the real engine: draw, Train, look, Apply, Undo, go on another day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_draw_train_look_apply_undo(person: Any, patient: Any) -> None:
    from Testing.PromptSeg.person import dice
    from Testing.slicer_harness.driving import picture, show_in_slice_views

    person.choose(patient.scan)
    show_in_slice_views(patient.scan)
    assert person.segmentation is not None, "a segmentation is made for the scan"
    assert not person.ui.trainButton.enabled and person.ui.trainButton.toolTip
    liver = person.add_structure("liver")
    bystander = person.add_structure("spine")
    person.draw(bystander, patient.truth("spine"), [2])
    person.draw(liver, patient.truth("liver") & ~patient.truth("spine"), patient.slices("liver"))
    person.controller.choose(bystander, False)
    assert person.status == "Press Train."
    drawn, others = person.segment(liver, patient), person.segment(bystander, patient)
    without_preview = picture("Red")

    person.train()
    assert "Look at the preview" in person.status
    assert np.array_equal(person.segment(liver, patient), drawn), "the preview is not in the user's segment"
    person.wait(lambda: (picture("Red") != without_preview).any())

    shown = person.controller.case.preview.mask(liver).within(tuple(slice(0, n) for n in drawn.shape))
    person.press("applyButton")
    applied = person.segment(liver, patient)
    assert np.array_equal(applied, shown & ~others), "what was shown is what is written, beside other segments"
    assert dice(applied, patient.truth("liver")) > 0.75
    for index in patient.slices("liver"):
        assert np.array_equal(applied[index], drawn[index]), "drawn slices stay as drawn"
    assert np.array_equal(person.segment(bystander, patient), others), "other segments keep every voxel"
    assert not person.ui.applyButton.enabled and person.ui.undoButton.enabled

    person.press("undoButton")
    assert np.array_equal(person.segment(liver, patient), drawn)
    assert person.ui.applyButton.enabled, "the preview is there again"
    person.press("discardButton")
    assert not person.ui.applyButton.enabled
    person.wait(lambda: (picture("Red") == without_preview).mean() > 0.999)


def test_goes_on_another_day_and_with_another_patient(person: Any, patient: Any, tmp_path: Path) -> None:
    from Testing.PromptSeg.person import Patient, dice
    from Testing.slicer_harness.driving import load_scene, save_scene

    person.choose(patient.scan)
    liver = person.add_structure("liver")
    person.draw(liver, patient.truth("liver"), patient.slices("liver", 4))
    person.train()
    person.press("applyButton")
    before = person.segment(liver, patient)
    save_scene(tmp_path / "case.mrb")

    load_scene(tmp_path / "case.mrb")
    person.wait(lambda: person.controller.case is not None)
    patient.scan = person.ui.inputSelector.currentNode()
    (structure,) = person.controller.situation.structures
    assert np.array_equal(person.segment(liver, patient), before)
    assert (structure.drawn, structure.plane, structure.trained) == (4, "axial", True)

    person.ui.tokensCollapsibleButton.collapsed = False
    person.wait(lambda: person.ui.tokensTable.rowCount == 2)
    kept_in = [person.ui.tokensTable.item(row, 3).text() for row in range(2)]
    assert kept_in == ["this scene", "library"]

    other = Patient(seed=1, name="Another CT")
    person.ui.inputSelector.setCurrentNode(other.scan)
    person.wait(lambda: person.controller.case is not None and person.controller.case.volume_node is other.scan)
    assert person.segmentation.GetName() == "Another CT segmentation", "each scan has a segmentation of its own"
    person.wait(lambda: person.ui.tokensTable.rowCount == 1)
    person.ui.tokensTable.selectRow(0)
    person.press("applyTokenButton")
    person.wait(lambda: not person.controller.situation.busy)
    assert person.controller.situation.has_preview, person.status
    person.press("applyButton")
    (key,) = person.segmentation.GetSegmentation().GetSegmentIDs()
    assert dice(person.segment(key, other), other.truth("liver")) > 0.3


def test_a_second_class_leaves_the_first_as_it_is(person: Any, patient: Any) -> None:
    person.choose(patient.scan)
    liver = person.add_structure("liver")
    person.draw(liver, patient.truth("liver"), patient.slices("liver"))
    person.train()
    person.press("applyButton")
    token, voxels = person.controller.case.tokens()[liver], person.segment(liver, patient)

    spleen = person.add_structure("spleen")
    person.draw(spleen, patient.truth("spleen"), patient.slices("spleen"))
    assert [s.key for s in person.controller.situation.trainable] == [spleen], "what is learned is not ticked again"
    person.train()
    person.press("applyButton")
    assert person.controller.case.tokens()[liver] == token
    assert np.array_equal(person.segment(liver, patient), voxels)
    assert person.segment(spleen, patient).sum() > 0


def test_the_next_slice_to_draw_is_shown(person: Any, patient: Any) -> None:
    from PromptSegPanel import views
    from Testing.slicer_harness.driving import show_in_slice_views

    person.choose(patient.scan)
    show_in_slice_views(patient.scan)
    liver = person.add_structure("liver")
    drawn = patient.slices("liver", 2)
    person.draw(liver, patient.truth("liver"), drawn)
    person.press("suggestButton")
    person.wait(lambda: not person.controller.situation.busy)
    assert "Draw liver on the slice that is shown now" in person.status
    shown = views.shown_slice(patient.scan, 0)
    assert shown is not None and shown not in drawn
