"""The main job from end to end on a generated phantom, for the module's self test."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import slicer

from PromptSegLib.engine.client import Client
from PromptSegLib.imaging.phantom import LABELS, make_phantom
from PromptSegPanel.controller import Controller
from PromptSegPanel.engine import Engine
from PromptSegPanel.installing import Installer
from PromptSegPanel.library import TokenLibrary
from PromptSegPanel.process import QProcessTransport, wait_for_leaving
from PromptSegPanel.scan import segmentation_of
from PromptSegPanel.state import TrainingOptions

_SHAPE, _SPACING = (16, 64, 64), (9.0, 4.5, 4.5)
_STRUCTURE = "liver"
_DRAWN = 4
_LIMIT_S = 300


def missing_packages(requirements: str) -> list[str]:
    """What the engine needs and what is not installed."""
    return Installer.for_slicer(requirements, progress=lambda sentence: None).missing()


def run_main_job(say: Callable[[str], None]) -> float:
    """Draw a structure of a phantom on a few slices, train, apply; returns the Dice coefficient with the truth."""
    phantom = make_phantom(0, _SHAPE, _SPACING)
    truth = phantom.labels.array == LABELS[_STRUCTURE]
    ijk_to_ras = np.diag([-_SPACING[2], -_SPACING[1], _SPACING[0], 1.0])
    volume_node = slicer.util.addVolumeFromArray(phantom.image.array, ijkToRAS=ijk_to_ras, name="Phantom")
    segmentation_node = segmentation_of(volume_node)
    key = segmentation_node.GetSegmentation().AddEmptySegment(_STRUCTURE, _STRUCTURE)
    shown = np.flatnonzero(truth.any(axis=(1, 2)))
    drawing = np.zeros(truth.shape, np.uint8)
    for index in shown[np.linspace(1, len(shown) - 2, _DRAWN).round().astype(int)]:
        drawing[index] = truth[index]
    slicer.util.updateSegmentBinaryLabelmapFromArray(drawing, segmentation_node, key, volume_node)
    with TemporaryDirectory() as folder:
        engine = Engine(lambda options: Client(QProcessTransport, device=options.device), say)
        controller = Controller(engine, TokenLibrary(Path(folder)), lambda: None, lambda: None)
        controller.training = TrainingOptions(seconds=20)
        controller.set_scan(volume_node, segmentation_node)
        try:
            say("Training")
            controller.train()
            _wait(controller)
            say("Applying")
            editor_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
            controller.apply(editor_node, lambda: None)
        finally:
            controller.close()
            wait_for_leaving()
    found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation_node, key, volume_node) > 0
    return float(2 * np.count_nonzero(found & truth) / (np.count_nonzero(found) + np.count_nonzero(truth)))


def _wait(controller: Controller) -> None:
    end = time.monotonic() + _LIMIT_S
    while controller.situation.busy:
        if time.monotonic() > end:
            raise TimeoutError(f"training has not ended after {_LIMIT_S} s")
        slicer.app.processEvents()
        controller.poll()
        time.sleep(0.02)
    if not controller.situation.has_preview:
        raise RuntimeError(controller.situation.message)
