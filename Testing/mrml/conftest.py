"""The scene that tests of nodes work in: Slicer's own, without a window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import slicer
import vtk

_LOGICS = {
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
}


@pytest.fixture(scope="session")
def _logics(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a scene needs to be drawn in and saved; nothing where another harness has made a scene already."""
    if getattr(slicer, "mrmlScene", None) is not None:
        return []
    folder = str(tmp_path_factory.mktemp("slicer"))
    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    application.SetTemporaryPath(folder)
    application.GetColorLogic().SetMRMLScene(scene)
    application.GetColorLogic().AddDefaultColorNodes()
    cache, data = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(folder)
    data.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(data)
    alive: list[Any] = [application, cache, data]
    # The wheel has no terminology files, of which their logic complains.
    vtk.vtkObject.GlobalWarningDisplayOff()
    for name, class_name in _LOGICS.items():
        logic = getattr(slicer, class_name)()
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(folder)
        logic.SetMRMLScene(scene)
        logic.SetMRMLApplicationLogic(application)
        application.SetModuleLogic(name, logic)
        alive.append(logic)
    vtk.vtkObject.GlobalWarningDisplayOn()
    return alive


@pytest.fixture
def scene(_logics: list[Any]) -> Iterator[slicer.vtkMRMLScene]:
    """An empty scene. An error or a warning of VTK fails the test."""
    complaints: list[str] = []

    @vtk.calldata_type(vtk.VTK_STRING)
    def complain(caller: object, event: str, text: str) -> None:
        complaints.append(text)

    window = vtk.vtkOutputWindow.GetInstance()
    slicer.mrmlScene.Clear()
    tags = [window.AddObserver(event, complain) for event in ("ErrorEvent", "WarningEvent")]
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear()
    for tag in tags:
        window.RemoveObserver(tag)
    assert not complaints
