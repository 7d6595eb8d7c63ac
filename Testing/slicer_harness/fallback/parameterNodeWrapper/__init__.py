"""A typed view of a module's parameter node, and its connection to widgets, after the documentation.

Known types: bool, int, float, str, pathlib.Path, enums, nodes, `list` and `dict` of plain values, and each `| None`.
Known annotations: Default, WithinRange, Minimum, Maximum, Choice, Decimals, SingleStep.
"""

from __future__ import annotations

from slicer.parameterNodeWrapper.annotations import (
    Choice,
    Decimals,
    Default,
    Maximum,
    Minimum,
    SingleStep,
    Validator,
    WithinRange,
)
from slicer.parameterNodeWrapper.connectors import connector_for
from slicer.parameterNodeWrapper.wrapper import SlicerParameterNamePropertyName, parameterNodeWrapper

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Maximum",
    "Minimum",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "connector_for",
    "parameterNodeWrapper",
]
