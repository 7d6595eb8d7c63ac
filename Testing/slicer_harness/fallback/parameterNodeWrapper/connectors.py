"""How a parameter is read from and shown in each kind of widget; a pair that Slicer refuses is refused here too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer
from slicer.parameterNodeWrapper.annotations import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange
from slicer.parameterNodeWrapper.parameters import Parameter

INTEGERS = -(2**31), 2**31 - 1
FLOATS = float("-inf"), float("inf")


@dataclass(frozen=True)
class Connector:
    widget: Any
    signal: str
    read: Callable[[], Any]
    write: Callable[[Any], None]


def connector_for(widget: Any, parameter: Parameter) -> Connector:
    kind = type(widget)
    wanted = parameter.type if not parameter.optional else None
    if kind is slicer.qMRMLNodeComboBox and parameter.is_node:
        widget.nodeTypes = [node_type().GetClassName() for node_type in parameter.types]
        return Connector(widget, "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode)
    if kind in (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton, ctk.ctkCheckablePushButton) and wanted is bool:
        widget.checkable = True
        return Connector(widget, "toggled(bool)", lambda: widget.checked, widget.setChecked)
    if kind in (qt.QComboBox, ctk.ctkComboBox) and (parameter.is_enum or wanted in (int, float, str, bool)):
        return _combo_box(widget, parameter)
    if kind in (qt.QSlider, qt.QSpinBox) and wanted is int:
        return _number(widget, parameter, "valueChanged(int)", INTEGERS)
    if kind in _float_widgets() and wanted in (int, float):
        if kind is not ctk.ctkDoubleSlider and wanted is int:
            widget.decimals = 0
        return _number(widget, parameter, "valueChanged(double)", FLOATS)
    if kind is qt.QLineEdit and wanted is str:
        return Connector(widget, "textChanged(QString)", lambda: widget.text, widget.setText)
    if kind is qt.QTextEdit and wanted is str:
        return Connector(widget, "textChanged()", lambda: widget.plainText, widget.setPlainText)
    if kind is qt.QLabel and wanted is str:
        return Connector(widget, "", lambda: widget.text, widget.setText)
    if kind is ctk.ctkPathLineEdit and wanted is Path:
        return _path(widget, "currentPathChanged(QString)", "currentPath")
    if kind is ctk.ctkDirectoryButton and wanted is Path:
        return _path(widget, "directoryChanged(QString)", "directory")
    raise RuntimeError(f"Unable to connect {parameter.name} ({parameter.hint}) to a {kind.__name__}.")


def _float_widgets() -> tuple[type, ...]:
    sliders = (ctk.ctkSliderWidget, ctk.ctkDoubleSlider, slicer.qMRMLSliderWidget)
    return (qt.QDoubleSpinBox, ctk.ctkDoubleSpinBox, slicer.qMRMLSpinBox, *sliders)


def _number(widget: Any, parameter: Parameter, signal: str, limits: tuple[float, float]) -> Connector:
    allowed = parameter.annotation(WithinRange)
    low = allowed or parameter.annotation(Minimum)
    high = allowed or parameter.annotation(Maximum)
    if type(widget) in (qt.QSlider, ctk.ctkSliderWidget, slicer.qMRMLSliderWidget) and None in (low, high):
        raise RuntimeError(f"{parameter.name} has no bounds, so a {type(widget).__name__} cannot show it.")
    if (decimals := parameter.annotation(Decimals)) is not None:
        widget.decimals = decimals.value
    if (step := parameter.annotation(SingleStep)) is not None:
        widget.singleStep = step.value
    widget.minimum = low.minimum if low is not None else limits[0]
    widget.maximum = high.maximum if high is not None else limits[1]
    return Connector(widget, signal, lambda: parameter.type(widget.value), widget.setValue)


def _combo_box(widget: Any, parameter: Parameter) -> Connector:
    """The items of the form are replaced, as in Slicer."""
    choice = parameter.annotation(Choice)
    if parameter.is_enum:
        values = list(parameter.type)
        label = getattr(parameter.type, "label", lambda value: value.name)
        texts = [label(value) for value in values]
    elif choice is not None:
        values, texts = choice.choices, [str(value) for value in choice.choices]
    else:
        raise RuntimeError(f"{parameter.name}: only an enum or a type with a Choice fits a combo box.")
    widget.clear()
    widget.addItems(texts)
    return Connector(
        widget,
        "currentIndexChanged(int)",
        lambda: values[widget.currentIndex],
        lambda value: widget.setCurrentIndex(values.index(value)),
    )


def _path(widget: Any, signal: str, name: str) -> Connector:
    return Connector(
        widget, signal, lambda: Path(getattr(widget, name)), lambda value: setattr(widget, name, str(value))
    )
