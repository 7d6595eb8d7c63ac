"""The MRML half: the scene, the application's logic, and the logics of the modules that a panel leans on."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

LOGICS = {
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Models": "vtkSlicerModelsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Transforms": "vtkSlicerTransformLogic",
}


def build_scene(logic: Any, folder: str) -> Any:
    """A scene as Slicer has it at its start, known to the application's logic."""
    scene = slicer.vtkMRMLScene()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    logic.SetMRMLScene(scene)
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    logic.SetTemporaryPath(folder)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetModuleLogic("Colors", logic.GetColorLogic())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return scene


def give_cache(scene: Any, folder: str) -> tuple[Any, Any]:
    """Without a cache manager an .mrb is neither written nor read. Keep what is returned: the scene does not."""
    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(folder)
    data = slicer.vtkDataIOManager()
    data.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(data)
    return cache, data


def module_logics(scene: Any, application_logic: Any, folder: str) -> dict[str, Any]:
    logics = {}
    for name, class_name in LOGICS.items():
        logic = getattr(slicer, class_name)()
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(folder)
        # The wheel has no terminology files, of which that logic complains.
        vtk.vtkObject.GlobalWarningDisplayOff()
        logic.SetMRMLScene(scene)
        vtk.vtkObject.GlobalWarningDisplayOn()
        logic.SetMRMLApplicationLogic(application_logic)
        application_logic.SetModuleLogic(name, logic)
        logics[name] = logic
    return logics
