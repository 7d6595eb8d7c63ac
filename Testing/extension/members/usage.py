"""Which members of Slicer's classes PromptSeg uses: read off its sources and its .ui file, without running them.

Types are inferred as far as they are evident: from annotations, constructors, class names given to the scene, widget
names, and what getters return. Where a type is not known, a name in CamelCase must at least exist somewhere.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from Testing.extension.members.table import MemberTable
from Testing.extension.members.ui import check_ui, widget_classes

ROOT = Path(__file__).resolve().parents[3]
UI_FILE = ROOT / "PromptSeg" / "Resources" / "UI" / "PromptSeg.ui"
OTHER_EXTENSIONS = {"PyTorchUtilsLogic", "installTorch"}
FOREIGN = ("slicer", "vtk", "qt", "ctk")
NOT_CLASSES = {
    "slicer": {"app", "i18n", "modules", "mrmlScene", "packaging", "parameterNodeWrapper", "util"},
    "vtk": {"calldata_type", "reference", "util"},
    "qt": set(),
    "ctk": set(),
}
SINGLETONS = {"app": "qSlicerApplication", "mrmlScene": "vtkMRMLScene", "util": "slicer.util"}
# Methods that are told the class of what they return.
BY_CLASS_NAME = {
    "AddNewNodeByClass": False,
    "CreateNodeByClass": False,
    "GetFirstNodeByClass": False,
    "GetNthNodeByClass": False,
    "GetSingletonNode": False,
    "getFirstNodeByClassByName": False,
    "getNodesByClass": True,
}
CONTAINERS = ("dict", "frozenset", "list", "set", "tuple", "Collection", "Iterable", "Iterator", "Mapping", "Sequence")


@dataclass(frozen=True)
class Type:
    """A listed class; ``many``: a container of its objects."""

    name: str
    many: bool = False


@dataclass
class Context:
    """What is known of all sources together."""

    table: MemberTable
    widgets: dict[str, str]
    own_names: set[str]
    returned: dict[str, Type | None] = field(default_factory=dict)


def read_sources() -> dict[str, str]:
    """Path in the repository -> text, of all code that runs in Slicer's process."""
    folders = (ROOT / "PromptSeg", ROOT / "PromptSegLib" / "mrml")
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def check_sources(table: MemberTable, sources: dict[str, str], ui: str) -> list[str]:
    """One line for each member that does not exist. ``sources``: path -> text; ``ui``: text of the .ui file."""
    trees = {path: ast.parse(text) for path, text in sources.items()}
    context = Context(table, widget_classes(ui), OTHER_EXTENSIONS | set(widget_classes(ui)))
    for tree in trees.values():
        _learn(tree, context)
    faults = check_ui(table, ui)
    for path, tree in trees.items():
        faults += [f"{path}:{line}: {text}" for line, text in _Checker(tree, context).faults()]
    return faults


def _learn(tree: ast.Module, context: Context) -> None:
    """Own names, and what own functions return. Two functions of one name that return different things return None."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            context.own_names.add(node.name)
            found = annotated(node.returns, context.table)
            if context.returned.setdefault(node.name, found) != found:
                context.returned[node.name] = None
        elif isinstance(node, ast.ClassDef):
            context.own_names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                context.own_names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            context.own_names.add(node.id)


def annotated(annotation: ast.expr | None, table: MemberTable) -> Type | None:
    """The first listed class in an annotation."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if annotation is None:
        return None
    for node in ast.walk(annotation):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None
        if name in table.classes and name is not None:
            held = (n for n in ast.walk(annotation) if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name))
            return Type(name, any(n.value.id in CONTAINERS for n in held if isinstance(n.value, ast.Name)))
    return None


class _Checker:
    """Walks through one module, function by function."""

    def __init__(self, tree: ast.Module, context: Context) -> None:
        self.tree = tree
        self.context = context
        self.table = context.table
        self.self_types: dict[str, Type | None] = {}
        self.imported = {
            (alias.asname or alias.name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if (getattr(node, "module", None) or alias.name).split(".")[0] not in FOREIGN
        }

    def faults(self) -> Iterator[tuple[int, str]]:
        yield from self._walk(self.tree, {})

    def _walk(self, scope: ast.AST, types: dict[str, Type | None]) -> Iterator[tuple[int, str]]:
        """Faults in a module, class or function, then in those inside it, which see its variables."""
        if isinstance(scope, ast.ClassDef):
            self.self_types = self._attributes(scope)
        if isinstance(scope, ast.FunctionDef | ast.Lambda):
            arguments = scope.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                types[argument.arg] = annotated(argument.annotation, self.table)
        inner: list[ast.AST] = []
        nodes = list(_of_scope(scope, inner))
        for node in nodes:
            self._assign(node, types)
        for node in nodes:
            yield from self._check(node, types)
        for scope_inside in inner:
            yield from self._walk(scope_inside, dict(types))

    def _attributes(self, scope: ast.ClassDef) -> dict[str, Type | None]:
        """What the methods of a class put on self, and what its properties return."""
        found: dict[str, Type | None] = {}
        self.self_types = found
        for method in (node for node in scope.body if isinstance(node, ast.FunctionDef)):
            if any(
                isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in method.decorator_list
            ):
                found[method.name] = annotated(method.returns, self.table)
            types = {argument.arg: annotated(argument.annotation, self.table) for argument in method.args.args}
            for node in ast.walk(method):
                self._assign(node, types)
                if isinstance(node, ast.Assign | ast.AnnAssign):
                    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                        if isinstance(target, ast.Attribute) and _is_self(target.value):
                            given = annotated(node.annotation, self.table) if isinstance(node, ast.AnnAssign) else None
                            found[target.attr] = given or self._infer(node.value, types) or found.get(target.attr)
        for node in scope.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = annotated(node.annotation, self.table)
        return found

    def _assign(self, node: ast.AST, types: dict[str, Type | None]) -> None:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            given = annotated(node.annotation, self.table) if isinstance(node, ast.AnnAssign) else None
            for target in targets:
                if isinstance(target, ast.Name):
                    types[target.id] = given or self._infer(node.value, types)
        elif isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
            container = self._infer(node.iter, types)
            types[node.target.id] = Type(container.name) if container and container.many else None

    def _infer(self, node: ast.expr | None, types: dict[str, Type | None]) -> Type | None:
        if isinstance(node, ast.Name):
            return types.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._infer_attribute(node, types)
        if isinstance(node, ast.Call):
            return self._infer_call(node, types)
        if isinstance(node, ast.Subscript):
            container = self._infer(node.value, types)
            return Type(container.name) if container and container.many else None
        if isinstance(node, ast.IfExp):
            return self._infer(node.body, types) or self._infer(node.orelse, types)
        return None

    def _infer_attribute(self, node: ast.Attribute, types: dict[str, Type | None]) -> Type | None:
        if isinstance(node.value, ast.Name) and node.value.id in FOREIGN:
            name = SINGLETONS.get(node.attr, node.attr) if node.value.id == "slicer" else node.attr
            return Type(name) if name in self.table.classes else None
        if _is_ui(node.value):
            kind = self.context.widgets.get(node.attr)
            return Type(kind) if kind in self.table.classes and kind is not None else None
        return self.self_types.get(node.attr) if _is_self(node.value) else None

    def _infer_call(self, node: ast.Call, types: dict[str, Type | None]) -> Type | None:
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in BY_CLASS_NAME:
            strings = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            return Type(strings[0], BY_CLASS_NAME[name]) if strings and strings[0] in self.table.classes else None
        if isinstance(function, ast.Name) and name in ("list", "sorted", "tuple") and node.args:
            return self._infer(node.args[0], types)
        if isinstance(function, ast.Attribute):
            if isinstance(function.value, ast.Name) and function.value.id in FOREIGN:
                return self._infer_attribute(function, types)
            owner = self._infer(function.value, types)
            if owner is not None:
                returned = owner.name if name == "SafeDownCast" else self.table.returned(owner.name, name)
                return Type(returned) if returned in self.table.classes and returned is not None else None
        return self.context.returned.get(name)

    def _check(self, node: ast.AST, types: dict[str, Type | None]) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.Attribute):
            yield from self._check_attribute(node, types)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            signal = node.args[0]
            if node.func.attr in ("connect", "disconnect") and isinstance(signal, ast.Constant):
                owner = self._infer(node.func.value, types)
                yield from self._check_member(node.lineno, str(signal.value).split("(")[0], owner, strict=True)

    def _check_attribute(self, node: ast.Attribute, types: dict[str, Type | None]) -> Iterator[tuple[int, str]]:
        base = node.value
        if isinstance(base, ast.Name) and base.id in FOREIGN:
            known = node.attr in self.table.classes or node.attr in NOT_CLASSES[base.id]
            if not known and not (base.id == "vtk" and node.attr.startswith("VTK_")):
                yield node.lineno, f"there is no {base.id}.{node.attr}"
            return
        root = base
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and root.id in self.imported:
            return
        if _is_ui(base):
            if node.attr not in self.context.widgets:
                yield node.lineno, f"the .ui file has no {node.attr}"
            return
        yield from self._check_member(node.lineno, node.attr, self._infer(base, types), strict=False)

    def _check_member(self, line: int, member: str, owner: Type | None, strict: bool) -> Iterator[tuple[int, str]]:
        if owner is not None and not owner.many:
            if not self.table.offers(owner.name, member):
                yield line, f"{owner.name} has no {member}"
        elif (strict or _looks_foreign(member)) and member not in self.table.all_members | self.context.own_names:
            yield line, f"nothing has a member {member}"


def _looks_foreign(name: str) -> bool:
    """CamelCase, which Python's own libraries and ours hardly use for members."""
    return not name.startswith("_") and not name.isupper() and name != name.lower()


def _of_scope(scope: ast.AST, inner: list[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of a scope in order; functions and classes inside it go to ``inner``."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            inner.append(child)
        else:
            yield child
            yield from _of_scope(child, inner)


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _is_ui(node: ast.expr) -> bool:
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) in ("ui", "_ui")
