"""`slicer.app` with what hangs on it: layout, modules, reading and writing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
from PySide6.QtCore import Property, Signal

from Testing.slicer_harness import qt

ORIENTATIONS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
FOUR_UP = 3
"""`vtkMRMLLayoutNode.SlicerLayoutFourUpView`."""

FILE_TYPES = {
    ".seg.nrrd": "SegmentationFile",
    ".mrb": "SceneFile",
    ".mrml": "SceneFile",
    ".nrrd": "VolumeFile",
    ".nii": "VolumeFile",
    ".nii.gz": "VolumeFile",
    ".mha": "VolumeFile",
}


class LayoutManager(qt.QObject):
    layoutChanged = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._layout = FOUR_UP
        self._slices: dict[str, Any] = {}
        self._three_d: list[Any] = []
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLayoutNode")

    def _build(self) -> None:
        """Views are made when first asked for: rendering is slow to start."""
        from Testing.slicer_harness.views import qMRMLSliceWidget, qMRMLThreeDWidget

        if not self._slices:
            self._slices = {name: qMRMLSliceWidget(name, ORIENTATIONS[name]) for name in ORIENTATIONS}
            self._three_d = [qMRMLThreeDWidget("1")]

    def _set_layout(self, layout: int) -> None:
        self._layout = layout
        self.layoutChanged.emit(layout)

    layout = Property(int, lambda self: self._layout, _set_layout)
    threeDViewCount = Property(int, lambda self: 1)

    def setLayout(self, layout: int) -> None:
        self._set_layout(layout)

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(ORIENTATIONS)

    def sliceWidget(self, name: str) -> Any:
        self._build()
        return self._slices.get(name)

    def threeDWidget(self, index: int) -> Any:
        self._build()
        return self._three_d[index] if index < len(self._three_d) else None

    def mrmlSliceLogics(self) -> Any:
        return slicer.app.applicationLogic().GetSliceLogics()

    def resetSliceViews(self) -> None:
        self._build()
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        self._build()
        for widget in self._three_d:
            widget.threeDView().resetFocalPoint()


class ModuleManager(qt.QObject):
    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)
    moduleUnloaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, Any] = {}

    def add(self, module: Any) -> None:
        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        setattr(slicer.moduleNames, module.name, module.name)
        self.moduleLoaded.emit(module.name)

    def module(self, name: str) -> Any:
        return self._modules.get(name)

    def modulesNames(self) -> tuple[str, ...]:
        return tuple(self._modules)

    def isLoaded(self, name: str) -> bool:
        return name in self._modules


class CoreIOManager(qt.QObject):
    """What `slicer.util` calls to load and save, over the real readers and writers of the logics."""

    def fileType(self, path: str) -> str:
        endings = [ending for ending in FILE_TYPES if path.lower().endswith(ending)]
        return FILE_TYPES[max(endings, key=len)] if endings else "NoFile"

    def loadNodes(self, file_type: str, properties: dict[str, Any], loaded: Any, messages: Any = None) -> bool:
        path = properties["fileName"]
        name = properties.get("name") or Path(path).name.split(".")[0]
        if not Path(path).exists():
            return False
        if file_type == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear", False)))
        if file_type == "VolumeFile":
            options = 1 if properties.get("labelmap") else 0
            node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, options)
        elif file_type == "SegmentationFile":
            node = slicer.modules.segmentations.logic().LoadSegmentationFromFile(path, True, name)
        else:
            raise NotImplementedError(f"The harness does not load a {file_type}.")
        if node is not None:
            loaded.AddItem(node)
        return node is not None

    def _load_scene(self, path: str, clear: bool) -> bool:
        scene = slicer.mrmlScene
        if path.endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, clear))
        scene.SetURL(path)
        return bool(scene.Connect() if clear else scene.Import())

    def fileWriterFileType(self, node: Any) -> str:
        return "NodeFile"

    def saveNodes(self, file_type: str, properties: dict[str, Any], messages: Any = None) -> bool:
        path, scene = properties["fileName"], slicer.mrmlScene
        if file_type == "SceneFile":
            if path.endswith(".mrb"):
                return bool(scene.WriteToMRB(path))
            scene.SetURL(path)
            return bool(scene.Commit())
        node = scene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))


class Application(qt.QApplication):
    """`qSlicerApplication`, as far as modules and `slicer.util` use it; `boot.py` gives it its modules."""

    startupCompleted = Signal()

    applicationVersion = Property(str, lambda self: "5.12.4")
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 12)
    revision = Property(str, lambda self: "0")
    mainApplicationName = Property(str, lambda self: "Slicer")
    os = Property(str, lambda self: "linux")
    arch = Property(str, lambda self: "amd64")
    temporaryPath = Property(str, lambda self: self._folder)
    slicerHome = Property(str, lambda self: self._folder)
    cachePath = Property(str, lambda self: self._folder)
    defaultScenePath = Property(str, lambda self: self._folder)
    extensionsInstallPath = Property(str, lambda self: self._folder)
    slicerUserSettingsFilePath = Property(str, lambda self: qt.QSettings().fileName())
    documentationBaseUrl = Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")

    def __init__(self) -> None:
        super().__init__(["Slicer"])
        self._temporary = tempfile.TemporaryDirectory(prefix="slicer_harness_")
        self._folder = self._temporary.name
        self.setApplicationName("Slicer")
        self.setOrganizationName("slicer_harness")
        qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
        qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, self._folder)
        self._logic = slicer.vtkSlicerApplicationLogic()
        self._modules = ModuleManager()
        self._io = CoreIOManager()
        self._layout_manager: LayoutManager | None = None
        self._main_window = qt.QMainWindow()
        self._main_window.objectName = "qSlicerMainWindow"
        self._paused = 0
        self._testing = False

    def applicationLogic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def moduleManager(self) -> ModuleManager:
        return self._modules

    def coreIOManager(self) -> CoreIOManager:
        return self._io

    def ioManager(self) -> CoreIOManager:
        return self._io

    def layoutManager(self) -> LayoutManager:
        if self._layout_manager is None:
            self._layout_manager = LayoutManager()
        return self._layout_manager

    def userSettings(self) -> qt.QSettings:
        return qt.QSettings()

    settings = revisionUserSettings = userSettings

    def testingEnabled(self) -> bool:
        """Whether dialogs of `slicer.util` answer themselves, as in Slicer's own test runs."""
        return self._testing

    def setTestingEnabled(self, enabled: bool) -> None:
        """Not in Slicer, where the command line says it."""
        self._testing = enabled

    def pauseRender(self) -> None:
        self._paused += 1

    def resumeRender(self) -> None:
        self._paused -= 1

    def setRenderPaused(self, paused: bool) -> None:
        self._paused += 1 if paused else -1

    def isInstalled(self) -> bool:
        return False

    def restart(self) -> None:
        raise RuntimeError("The module asked Slicer to restart.")

    def commandOptions(self) -> SimpleNamespace:
        return SimpleNamespace(noMainWindow=False)

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"https://slicer.readthedocs.io/en/latest/user_guide/modules/{name.lower()}.html"

    def startupEnvironment(self) -> Any:
        return qt.QProcessEnvironment.systemEnvironment()

    def pythonConsole(self) -> None:
        return None
