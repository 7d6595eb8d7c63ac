"""The effects of the segment editor: their parameters, their buttons, and the brush of Paint and Erase."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6.QtCore import Property, Signal
from shiboken6 import isValid

from Testing.slicer_harness import painting, qt

NO_EFFECT = "None"
EFFECTS = (
    "Threshold",
    "Paint",
    "Draw",
    "Erase",
    "Level tracing",
    "Grow from seeds",
    "Fill between slices",
    "Margin",
    "Hollow",
    "Smoothing",
    "Scissors",
    "Islands",
    "Logical operators",
    "Mask volume",
)
COLUMNS = 4
BRUSH_DIAMETER_MM = 12.0
MOUSE_EVENTS = ("LeftButtonPressEvent", "MouseMoveEvent", "LeftButtonReleaseEvent")
BEFORE_THE_VIEW = 10.0
"""Priority of an observer that hears of the mouse before the view's own interaction."""


class SegmentEditorEffect(qt.QObject):
    """What a module may ask of `qSlicerSegmentEditorAbstractEffect`: its name and its parameters on the editor node."""

    def __init__(self, name: str, editor: Any) -> None:
        super().__init__(editor)
        self._name = name
        self._editor = editor

    name = Property(str, lambda self: self._name)
    active = Property(bool, lambda self: self._editor.activeEffect() is self)

    def setParameter(self, name: str, value: Any) -> None:
        self._editor.mrmlSegmentEditorNode().SetAttribute(f"{self._name}.{name}", str(value))

    def setCommonParameter(self, name: str, value: Any) -> None:
        self._editor.mrmlSegmentEditorNode().SetAttribute(name, str(value))

    def parameter(self, name: str) -> str:
        node = self._editor.mrmlSegmentEditorNode()
        return node.GetAttribute(f"{self._name}.{name}") or node.GetAttribute(name) or ""

    def integerParameter(self, name: str) -> int:
        return int(self.doubleParameter(name))

    def doubleParameter(self, name: str) -> float:
        return float(self.parameter(name) or 0)


class EffectButtons(qt.QWidget):
    """One button per effect, in the order that a module asks for; the others follow, or are hidden."""

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._order: tuple[str, ...] = ()
        self._unordered_visible = True
        self._grid = qt.QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        self._group = qt.QButtonGroup(self)
        self._buttons: dict[str, qt.QToolButton] = {}
        for name in (NO_EFFECT, *EFFECTS):
            button = qt.QToolButton(self)
            button.text = name
            button.setCheckable(True)
            button.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
            button.clicked.connect(lambda checked, name=name: self.chosen.emit(name))
            self._group.addButton(button)
            self._buttons[name] = button
        self._arrange()

    def order(self) -> tuple[str, ...]:
        return self._order

    def unordered_visible(self) -> bool:
        return self._unordered_visible

    def set_order(self, names: list[str]) -> None:
        self._order = tuple(names)
        self._arrange()

    def show_unordered(self, shown: bool) -> None:
        self._unordered_visible = shown
        self._arrange()

    def _arrange(self) -> None:
        names = [NO_EFFECT, *(name for name in self._order if name in EFFECTS)]
        if self._unordered_visible:
            names += [name for name in EFFECTS if name not in self._order]
        for name, button in self._buttons.items():
            self._grid.removeWidget(button)
            button.setVisible(name in names)
        for position, name in enumerate(names):
            self._grid.addWidget(self._buttons[name], position // COLUMNS, position % COLUMNS)

    def show_active(self, name: str) -> None:
        self._buttons.get(name, self._buttons[NO_EFFECT]).setChecked(True)


class Brush:
    """Paints a stroke of disks in whichever slice view the mouse is dragged, one undo step a stroke."""

    def __init__(self, editor: Any, logic: Any) -> None:
        self._editor = editor
        self._logic = logic
        self._observed: list[tuple[Any, int]] = []
        self._stroke: list[tuple[float, float]] = []

    def watch(self) -> None:
        self.stop()
        layout = slicer.app.layoutManager()
        for name in layout.sliceViewNames():
            view = layout.sliceWidget(name).sliceView()
            for event in MOUSE_EVENTS:
                tag = view.interactor().AddObserver(event, self._follower(view), BEFORE_THE_VIEW)
                self._observed.append((view.interactor(), tag))

    def stop(self) -> None:
        for interactor, tag in self._observed:
            interactor.RemoveObserver(tag)
        self._observed = []
        self._stroke = []

    def _follower(self, view: Any) -> Any:
        return lambda interactor, event: self._follow(view, interactor.GetEventPosition(), event)

    def _follow(self, view: Any, position: tuple[int, int], event: str) -> None:
        if not isValid(self._editor):
            self.stop()
        elif event == "LeftButtonPressEvent":
            self._stroke = [position]
        elif self._stroke and event == "MouseMoveEvent":
            self._stroke.append(position)
        elif self._stroke:
            stroke, self._stroke = self._stroke, []
            self._paint(view, stroke)

    def _paint(self, view: Any, stroke: list[tuple[float, float]]) -> None:
        effect = self._editor.activeEffect()
        diameter = effect.doubleParameter("BrushAbsoluteDiameter") or BRUSH_DIAMETER_MM
        self._logic.UpdateReferenceGeometryImage()
        painted = painting.brush(self._logic, view.mrmlSliceNode(), stroke, diameter / 2)
        if painted is not None:
            painting.write(self._logic, self._editor.currentSegmentID(), *painted, erase=effect.name == "Erase")
