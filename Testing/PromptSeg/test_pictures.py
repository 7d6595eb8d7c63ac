"""How the preview looks, against pictures that a person has approved; and the pictures of a whole run.

PROMPTSEG_APPROVE=1 writes the approved pictures anew: look at them before they are committed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"

# Renderers differ in the shading of edges: levels of 255 on average, and the part of pixels that clearly differ.
MEAN_LEVELS = 3.0
CLEARLY_OTHER = 60
PART_CLEARLY_OTHER = 0.02


def check(pixels: np.ndarray, name: str) -> None:
    """Compare with the approved picture."""
    from PySide6 import QtGui

    path = GOLDEN / name
    if os.environ.get("PROMPTSEG_APPROVE"):
        rows, columns, _ = pixels.shape
        data = np.ascontiguousarray(pixels)
        QtGui.QImage(data.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888).save(str(path))
    image = QtGui.QImage(str(path)).convertToFormat(QtGui.QImage.Format_RGB888)
    assert not image.isNull(), f"there is no approved picture {path}"
    lines = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    approved = lines[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)
    assert pixels.shape == approved.shape
    difference = np.abs(pixels.astype(int) - approved.astype(int))
    assert difference.mean() < MEAN_LEVELS, name
    assert (difference.max(axis=2) > CLEARLY_OTHER).mean() < PART_CLEARLY_OTHER, name


@pytest.fixture
def previewed(person: Any, patient: Any) -> Any:
    """The true liver as a preview, over a scan in abdominal window; no engine takes part."""
    from PromptSegLib.engine.messages import SegmentedClass
    from Testing.slicer_harness.driving import show_in_slice_views

    person.choose(patient.scan)
    display = patient.scan.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(400, 40)
    show_in_slice_views(patient.scan)
    liver = person.add_structure("liver")
    person.segmentation.GetSegmentation().GetSegment(liver).SetColor(0.9, 0.62, 0.0)
    truth = patient.truth("liver")
    box = tuple(slice(0, length) for length in truth.shape)
    person.controller.case.show_results([SegmentedClass(liver, box, truth, 0.9, 1.0)])
    return person


def settle(view: str) -> np.ndarray:
    """The picture once it does not change any more."""
    from Testing.slicer_harness.driving import picture, process_events

    before = picture(view)
    for _ in range(20):
        process_events()
        after = picture(view)
        if np.array_equal(before, after):
            return after
        before = after
    raise AssertionError(f"the view {view} does not come to rest")


def test_preview_in_a_slice_view(previewed: Any) -> None:
    check(settle("Red"), "slice.png")


def test_hidden_preview_leaves_the_scan(previewed: Any) -> None:
    shown = settle("Red")
    previewed.ui.previewCheckBox.checked = False
    hidden = settle("Red")
    assert (np.abs(shown.astype(int) - hidden.astype(int)).max(axis=2) > 20).mean() > 0.01
    previewed.ui.previewCheckBox.checked = True
    previewed.ui.opacitySlider.value = 20
    faint = settle("Red")
    strength = [np.abs(picture.astype(int) - hidden.astype(int)).mean() for picture in (faint, shown)]
    assert 0 < strength[0] < 0.8 * strength[1]


def test_preview_in_3d(previewed: Any) -> None:
    import slicer

    for node in slicer.util.getNodesByClass("vtkMRMLViewNode"):
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
    previewed.ui.show3DCheckBox.checked = True
    view = slicer.app.layoutManager().threeDWidget(0).threeDView()
    view.resetFocalPoint()
    view.resetCamera()
    check(settle("3D"), "3d.png")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_whole_run_with_pictures(person: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from Testing.PromptSeg.recording import record

    folder = Path(os.environ.get("PROMPTSEG_RECORD", tmp_path / "pictures"))
    result = record(person, folder, seconds=15)
    with capsys.disabled():
        print(f"\n{result}")
    assert result.dice > 0.6
    assert result.ready is not None and result.first_preview is not None, "features come first, then a preview"
    assert result.same
    for name in ("panel.png", "views.png", "3d.png"):
        assert (folder / name).stat().st_size > 5000
