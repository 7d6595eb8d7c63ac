"""How a parameter is read from and shown in each kind of widget that a panel may use for it."""

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


@dataclass(frozen=True)
class Connector:
    widget: Any
    signal: str
    read: Callable[[], Any]
    write: Callable[[Any], None]


def connector_for(widget: Any, parameter: Parameter) -> Connector:
    if isinstance(widget, slicer.qMRMLNodeComboBox) and parameter.is_node:
        widget.nodeTypes = [node_type().GetClassName() for node_type in parameter.types]
        return Connector(widget, "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode)
    if isinstance(widget, qt.QAbstractButton) and parameter.type is bool:
        return Connector(widget, "toggled(bool)", lambda: widget.checked, widget.setChecked)
    if isinstance(widget, qt.QComboBox) and not parameter.is_node:
        return _combo_box(widget, parameter)
    if isinstance(widget, qt.QLineEdit | qt.QLabel) and parameter.type is str:
        signal = "textChanged(QString)" if isinstance(widget, qt.QLineEdit) else ""
        return Connector(widget, signal, lambda: widget.text, widget.setText)
    if isinstance(widget, ctk.ctkPathLineEdit) and parameter.type in (str, Path):
        return Connector(
            widget,
            "currentPathChanged(QString)",
            lambda: parameter.type(widget.currentPath),
            lambda value: widget.setCurrentPath(str(value)),
        )
    if isinstance(widget, ctk.ctkSliderWidget | qt.QDoubleSpinBox) and parameter.type in (int, float):
        return _number(widget, parameter, "valueChanged(double)")
    if isinstance(widget, qt.QSpinBox | qt.QSlider) and parameter.type is int:
        return _number(widget, parameter, "valueChanged(int)")
    raise RuntimeError(f"Unable to connect {parameter.name} ({parameter.hint}) to a {type(widget).__name__}.")


def _number(widget: Any, parameter: Parameter, signal: str) -> Connector:
    for kind in (WithinRange, Minimum):
        if (found := parameter.annotation(kind)) is not None:
            widget.minimum = found.minimum
    for kind in (WithinRange, Maximum):
        if (found := parameter.annotation(kind)) is not None:
            widget.maximum = found.maximum
    if (decimals := parameter.annotation(Decimals)) is not None:
        widget.decimals = decimals.value
    if (step := parameter.annotation(SingleStep)) is not None:
        widget.singleStep = step.value
    return Connector(widget, signal, lambda: parameter.type(widget.value), widget.setValue)


def _combo_box(widget: Any, parameter: Parameter) -> Connector:
    choice = parameter.annotation(Choice)
    if parameter.is_enum:
        values = list(parameter.type)
        texts = [getattr(value, "label", lambda value=value: value.name)() for value in values]
    elif choice is not None:
        values, texts = choice.choices, [str(value) for value in choice.choices]
    else:
        raise RuntimeError(f"{parameter.name}: only a Choice or an enum fits a combo box.")
    if not widget.count:
        widget.addItems(texts)
    return Connector(
        widget,
        "currentIndexChanged(int)",
        lambda: values[widget.currentIndex],
        lambda value: widget.setCurrentIndex(values.index(value)),
    )
