"""One typed parameter: its default, and how it is written to and read from a parameter node."""

from __future__ import annotations

import ast
import enum
import types
import typing
from pathlib import Path
from typing import Any

import slicer
from slicer.parameterNodeWrapper.annotations import Default, Validator

PLAIN = (bool, int, float, str, Path)


class Parameter:
    def __init__(self, name: str, hint: Any, owner: type) -> None:
        self.name = name
        annotated = typing.get_origin(hint) is typing.Annotated
        self.hint, *annotations = typing.get_args(hint) if annotated else (hint,)
        union = typing.get_origin(self.hint) in (typing.Union, types.UnionType)
        members = typing.get_args(self.hint) if union else (self.hint,)
        self.optional = type(None) in members
        self.types = tuple(member for member in members if member is not type(None))
        self.is_node = all(isinstance(it, type) and issubclass(it, slicer.vtkMRMLNode) for it in self.types)
        self.annotations = annotations
        self.validators = [it for it in annotations if isinstance(it, Validator)]
        self.default = self._default(owner)

    @property
    def type(self) -> Any:
        """The type itself, `list` for `list[int]`."""
        return typing.get_origin(self.types[0]) or self.types[0]

    @property
    def is_enum(self) -> bool:
        return isinstance(self.type, type) and issubclass(self.type, enum.Enum)

    def _default(self, owner: type) -> Any:
        if self.name in vars(owner):
            return vars(owner)[self.name]
        for annotation in self.annotations:
            if isinstance(annotation, Default):
                return annotation.value
        if self.is_node or self.optional:
            return None
        return next(iter(self.type)) if self.is_enum else self.type()

    def annotation(self, kind: type) -> Any:
        return next((it for it in self.annotations if isinstance(it, kind)), None)

    def is_in(self, node: Any, prefix: str) -> bool:
        return bool(node.HasParameter(prefix + self.name))

    def write(self, node: Any, prefix: str, value: Any) -> None:
        key = prefix + self.name
        if self.is_node:
            if value is not None and not isinstance(value, self.types):
                raise ValueError(f"{self.name}: expected {self.types}, got {type(value).__name__}.")
            node.SetParameter(key, "")
            node.SetNodeReferenceID(key, value.GetID() if value is not None else None)
            return
        node.SetParameter(key, self._text(self._checked(value)))

    def _checked(self, value: Any) -> Any:
        if value is None:
            if not self.optional:
                raise ValueError(f"{self.name}: a value is needed, None is not allowed.")
            return None
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.type) or (self.type is int and isinstance(value, bool)):
            raise ValueError(f"{self.name}: expected {self.type.__name__}, got {type(value).__name__}.")
        for validator in self.validators:
            validator.validate(value)
        return value

    def _text(self, value: Any) -> str:
        if isinstance(value, enum.Enum):
            return value.name
        return str(value)

    def read(self, node: Any, prefix: str) -> Any:
        key = prefix + self.name
        if self.is_node:
            return node.GetNodeReference(key)
        text = node.GetParameter(key)
        if self.optional and text == "None":
            return None
        if self.is_enum:
            return self.type[text]
        if self.type is bool:
            return text == "True"
        return self.type(text) if self.type in PLAIN else ast.literal_eval(text)
