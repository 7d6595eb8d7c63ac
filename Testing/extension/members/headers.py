"""Reads C++ headers of Slicer and CTK: which names Python can reach on a class, and what getters return.

From a class of Qt, PythonQt takes properties, public slots, signals, enumerators and Q_INVOKABLE methods; from a class
of VTK, the wrapper takes all public methods and enumerators.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_NOT_WRAPPED = re.compile(r"^[ \t]*#[ \t]*ifndef __VTK_WRAP__.*?^[ \t]*#[ \t]*endif", re.DOTALL | re.MULTILINE)
_DIRECTIVE = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.MULTILINE)
_CLASS = re.compile(r"\bclass\s+(?:\w+\s+)?(\w+)\s*(?:final\s*)?(?::\s*([^{;]+))?\{")
_ENUM = re.compile(r"\benum\s*(?:class\s+)?(\w*)\s*(?::\s*\w+\s*)?\{([^}]*)\}")
_LABEL = re.compile(r"\b(?:(public|protected|private)\s*(Q_SLOTS|slots)?|(Q_SIGNALS|signals))\s*:(?!:)")
_PROPERTY = re.compile(r"\bQ_PROPERTY\s*\(\s*[\w:<>,\s]*?[\s*&](\w+)\s+(?:READ|MEMBER)\b")
_METHOD = re.compile(r"([~\w]+)\s*\(")
_RETURNED = re.compile(r"(?:\b(\w+)\s*\*|vtkSmartPointer<\s*(\w+)\s*>)\s*$")
_MACRO = re.compile(r"\b(?:Q_PROPERTY|Q_DECLARE_\w+|Q_ENUMS?|Q_FLAGS?|vtk\w*Macro|ENUMERATORS)\s*\([^)]*\)")
_VTK_MACRO = re.compile(r"\bvtk\w*?(Set|Get|Boolean)\w*Macro\s*\(\s*(\w+)\s*(?:,\s*(\w+))?")


@dataclass
class ClassNames:
    """What is known of one class, without its bases. ``returns``: class of the object that a method returns."""

    bases: list[str] = field(default_factory=list)
    members: set[str] = field(default_factory=set)
    properties: set[str] = field(default_factory=set)
    returns: dict[str, str] = field(default_factory=dict)


def read_headers(*folders: Path) -> dict[str, ClassNames]:
    """All classes in the headers below some folders; what PythonQt decorators add to a class is among its members."""
    classes: dict[str, ClassNames] = {}
    decorators: list[str] = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*.h"))):
        text = clean(path.read_text(encoding="utf-8", errors="replace"))
        if path.name.endswith("PythonQtDecorators.h"):
            decorators.append(text)
        else:
            for name, names in read_classes(text).items():
                classes.setdefault(name, names)
    for name, member in (pair for text in decorators for pair in decorated(text)):
        if name in classes:
            classes[name].members.add(member)
    return classes


def decorated(text: str) -> list[tuple[str, str]]:
    """(class, member) for static_Class_member(...) and member(Class* object, ...)."""
    static = re.findall(r"\bstatic_([^\W_]+)_(\w+)\s*\(", text)
    return static + [(name, member) for member, name in re.findall(r"\b(?!static_)(\w+)\s*\(\s*(\w+)\s*\*", text)]


def read_classes(text: str) -> dict[str, ClassNames]:
    """The classes that a header without comments defines."""
    found: dict[str, ClassNames] = {}
    for match in _CLASS.finditer(text):
        body = _body(text, match.end())
        bases = re.findall(r"\b(?:public|protected|private)\s+(?:virtual\s+)?([\w:]+)", match.group(2) or "")
        names = ClassNames([base.split("::")[-1] for base in bases])
        is_qt = "Q_OBJECT" in body or "Q_GADGET" in body
        names.properties.update(_PROPERTY.findall(body))
        names.members |= names.properties
        for access, section in _sections(_without_bodies(body)):
            if access in ("public", "slots", "signals"):
                _read_section(section, names, only_invokable=is_qt and access == "public")
        found[match.group(1)] = names
    return found


def _read_section(section: str, names: ClassNames, only_invokable: bool) -> None:
    for enumerators in re.findall(r"ENUMERATORS\(([^)]*)\)", section):
        names.members.update(re.findall(r"\w+", enumerators))
    for kind, name, returned in _VTK_MACRO.findall(section):
        for method in (f"{name}On", f"{name}Off") if kind == "Boolean" else (kind + name,):
            names.members.add(method)
        if kind == "Get" and returned.startswith("vtk"):
            names.returns[f"Get{name}"] = returned
    for statement in re.split(r"[;}]", section):
        if only_invokable and "Q_INVOKABLE" not in statement:
            continue
        statement = _MACRO.sub(" ", statement)
        method = _METHOD.search(statement)
        if method is None or method.group(1).startswith("~") or "operator" in statement:
            continue
        names.members.add(method.group(1))
        returned_class = _RETURNED.search(statement[: method.start()])
        if returned_class is not None:
            names.returns[method.group(1)] = returned_class.group(1) or returned_class.group(2)


def clean(text: str) -> str:
    text = _COMMENT.sub(" ", text)
    text = _NOT_WRAPPED.sub(" ", text)
    return _STRING.sub('""', _DIRECTIVE.sub(" ", text))


def _body(text: str, start: int) -> str:
    """From behind an opening brace to the one that closes it."""
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start : brace.start()]
    return text[start:]


def _without_bodies(body: str) -> str:
    """Enumerators are kept as ENUMERATORS(...); bodies of inline methods and nested classes become semicolons."""
    body = _ENUM.sub(lambda m: f"ENUMERATORS({m.group(1)} {_enumerators(m.group(2))});", body)
    parts, depth, start = [], 0, 0
    for brace in re.finditer(r"[{}]", body):
        if brace.group() == "{":
            if depth == 0:
                parts.append(body[start : brace.start()] + ";")
            depth += 1
        else:
            depth -= 1
            start = brace.end()
    return "".join([*parts, body[start:]])


def _enumerators(text: str) -> str:
    return " ".join(part.split("=")[0].strip() for part in text.split(",") if part.strip())


def _sections(body: str) -> list[tuple[str, str]]:
    sections, access, start = [], "private", 0
    for label in _LABEL.finditer(body):
        sections.append((access, body[start : label.start()]))
        visibility, slots, signals = label.groups()
        if signals:
            access = "signals"
        elif slots:
            access = "slots" if visibility == "public" else "private"
        else:
            access = visibility
        start = label.end()
    return [*sections, (access, body[start:])]
