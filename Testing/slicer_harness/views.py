"""Slice and 3-D views: the real displayable managers and interactor styles, rendered off screen."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from PySide6.QtCore import Property
from vtk.util.numpy_support import vtk_to_numpy

from Testing.slicer_harness import qt
from Testing.slicer_harness.mrml_widgets import qMRMLWidget

SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
)
SIZE = (400, 400)


class RenderedView(qMRMLWidget):
    """A render window with displayable managers. It renders when asked, and shows its last picture as a widget."""

    def __init__(self, factory: Any, managers: tuple[str, ...]) -> None:
        super().__init__()
        self._renderer = vtk.vtkRenderer()
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.AddRenderer(self._renderer)
        self._window.SetSize(*SIZE)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.Initialize()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self._renderer)
        self._group.Initialize(factory, self._renderer)
        self._picture: qt.QImage | None = None
        self.setMinimumSize(120, 120)

    def renderWindow(self) -> Any:
        return self._window

    def renderer(self) -> Any:
        return self._renderer

    def interactor(self) -> Any:
        return self._interactor

    def displayableManagerByClassName(self, name: str) -> Any:
        return self._group.GetDisplayableManagerByClassName(name)

    def forceRender(self) -> None:
        self._window.Render()
        self._picture = None
        self.update()

    def scheduleRender(self) -> None:
        self._picture = None
        self.update()

    def pixels(self) -> np.ndarray:
        """What the view shows now: uint8 (rows, columns, 3)."""
        self._window.Render()
        reader = vtk.vtkWindowToImageFilter()
        reader.SetInput(self._window)
        reader.ReadFrontBufferOff()
        reader.Update()
        image = reader.GetOutput()
        width, height, _ = image.GetDimensions()
        values = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
        return np.ascontiguousarray(values[::-1, :, :3])

    def resizeEvent(self, event: qt.QResizeEvent) -> None:
        self._resize_rendering(self.width, self.height)

    def _resize_rendering(self, width: int, height: int) -> None:
        self._window.SetSize(width, height)
        self._interactor.UpdateSize(width, height)
        self._picture = None

    def paintEvent(self, event: qt.QPaintEvent) -> None:
        if self._picture is None:
            pixels = self.pixels()
            height, width, _ = pixels.shape
            self._picture = qt.QImage(pixels.tobytes(), width, height, 3 * width, qt.QImage.Format_RGB888).copy()
        painter = qt.QPainter(self)
        painter.drawImage(0, 0, self._picture)
        painter.end()


class qMRMLSliceView(RenderedView):
    def __init__(self, name: str, orientation: str) -> None:
        super().__init__(slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), SLICE_MANAGERS)
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._actor = vtk.vtkActor2D()
        self._actor.SetMapper(self._mapper)
        self._actor.GetProperty().SetDisplayLocationToBackground()
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetSliceLogics().AddItem(self._logic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._slice_node = self._logic.AddSliceNode(name)
        self._slice_node.SetOrientation(orientation)
        self._slice_node.SetMappedInLayout(1)
        self._group.SetMRMLDisplayableNode(self._slice_node)
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        self._style.SetSliceLogic(self._logic)
        self._style.SetDisplayableManagers(self._group)
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._style.SetInteractor(self._interactor)
        self._observe(self._logic, vtk.vtkCommand.ModifiedEvent, self._follow_image)
        self._resize_rendering(*SIZE)

    def _follow_image(self) -> None:
        image = self._logic.GetImageDataConnection()
        self._mapper.SetInputConnection(image)
        if image and not self._renderer.HasViewProp(self._actor):
            self._renderer.AddViewProp(self._actor)
        self._actor.SetVisibility(bool(image))
        self.scheduleRender()

    def _resize_rendering(self, width: int, height: int) -> None:
        super()._resize_rendering(width, height)
        self._logic.ResizeSliceNode(width, height)

    def mrmlSliceNode(self) -> Any:
        return self._slice_node

    def sliceViewInteractorStyle(self) -> Any:
        return self._style

    def convertRASToXYZ(self, ras: tuple[float, float, float]) -> tuple[float, float, float]:
        ras_to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._slice_node.GetXYToRAS(), ras_to_xy)
        return tuple(ras_to_xy.MultiplyPoint((*ras, 1.0))[:3])

    def convertXYZToRAS(self, xyz: tuple[float, float, float]) -> tuple[float, float, float]:
        return tuple(self._slice_node.GetXYToRAS().MultiplyPoint((*xyz, 1.0))[:3])


class qMRMLSliceControllerWidget(qt.QObject):
    """The bar above a slice view, as far as a module calls it."""

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic = logic

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()
        self._logic.SnapSliceOffsetToIJK()

    def setSliceOffsetValue(self, offset_mm: float) -> None:
        self._logic.SetSliceOffset(offset_mm)


class qMRMLSliceWidget(qMRMLWidget):
    def __init__(self, name: str, orientation: str) -> None:
        super().__init__()
        self._view = qMRMLSliceView(name, orientation)
        self._controller = qMRMLSliceControllerWidget(self._view._logic)
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._view)

    sliceViewName = Property(str, lambda self: self.mrmlSliceNode().GetLayoutName())
    sliceOrientation = Property(
        str,
        lambda self: self.mrmlSliceNode().GetOrientation(),
        lambda self, orientation: self.mrmlSliceNode().SetOrientation(orientation),
    )

    def sliceView(self) -> qMRMLSliceView:
        return self._view

    def sliceController(self) -> qMRMLSliceControllerWidget:
        return self._controller

    def sliceLogic(self) -> Any:
        return self._view._logic

    def interactorStyle(self) -> Any:
        return self._view.sliceViewInteractorStyle()

    def mrmlSliceNode(self) -> Any:
        return self._view.mrmlSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._view._logic.GetSliceCompositeNode()

    def setSliceOrientation(self, orientation: str) -> None:
        self.mrmlSliceNode().SetOrientation(orientation)

    def fitSliceToBackground(self) -> None:
        self._controller.fitSliceToBackground()


class qMRMLThreeDView(RenderedView):
    def __init__(self, name: str) -> None:
        super().__init__(slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), THREE_D_MANAGERS)
        self._style = slicer.vtkMRMLThreeDViewInteractorStyle()
        self._style.SetDisplayableManagers(self._group)
        self._style.SetInteractor(self._interactor)
        self._logic = slicer.vtkMRMLViewLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetViewLogics().AddItem(self._logic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._view_node = self._logic.AddViewNode(name)
        self._view_node.SetMappedInLayout(1)
        self._group.SetMRMLDisplayableNode(self._view_node)
        self._renderer.GradientBackgroundOn()

    def mrmlViewNode(self) -> Any:
        return self._view_node

    def resetFocalPoint(self) -> None:
        self._renderer.ResetCamera()

    def resetCamera(self) -> None:
        self._renderer.ResetCamera()


class qMRMLThreeDWidget(qMRMLWidget):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._view = qMRMLThreeDView(name)
        layout = qt.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._view)

    def threeDView(self) -> qMRMLThreeDView:
        return self._view

    def mrmlViewNode(self) -> Any:
        return self._view.mrmlViewNode()
