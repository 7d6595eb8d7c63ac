"""The committed list of names: asks it what a class offers, with its bases."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

from Testing.extension.members.headers import ClassNames

PATH = Path(__file__).with_name("members.json")

# What PythonQt adds to every object of Qt.
PYTHONQT = frozenset({"className", "connect", "delete", "disconnect", "help"})


class MemberTable:
    """Names of classes of Slicer, CTK, VTK and Qt, and of Slicer's own Python modules ("slicer.util" …)."""

    def __init__(self, classes: dict[str, ClassNames]) -> None:
        self.classes = classes
        self._lineages: dict[str, tuple[str, ...]] = {}

    @classmethod
    def load(cls, path: Path = PATH) -> MemberTable:
        described = json.loads(path.read_text(encoding="utf-8"))["classes"]
        return cls(
            {
                name: ClassNames(
                    entry.get("bases", []),
                    set(entry.get("members", "").split()),
                    set(entry.get("properties", "").split()),
                    entry.get("returns", {}),
                )
                for name, entry in described.items()
            }
        )

    def save(self, sources: dict[str, str], path: Path = PATH) -> None:
        """One line per class, so that a difference can be read."""
        lines = []
        for name, names in sorted(self.classes.items()):
            entry = {
                "bases": names.bases,
                "members": " ".join(sorted(names.members)),
                "properties": " ".join(sorted(names.properties)),
                "returns": dict(sorted(names.returns.items())),
            }
            lines.append(f"{json.dumps(name)}: {json.dumps({key: value for key, value in entry.items() if value})}")
        text = '{"sources": %s,\n"classes": {\n%s\n}}\n' % (json.dumps(sources), ",\n".join(lines))  # noqa: UP031
        path.write_text(text, encoding="utf-8")

    def lineage(self, name: str) -> tuple[str, ...]:
        """A class and its bases, as far as they are listed."""
        if name not in self._lineages:
            bases = self.classes[name].bases if name in self.classes else []
            ancestors = (ancestor for base in bases for ancestor in self.lineage(base))
            self._lineages[name] = tuple(dict.fromkeys([name, *ancestors])) if name in self.classes else ()
        return self._lineages[name]

    def members(self, name: str) -> set[str]:
        lineage = self.lineage(name)
        names = {member for ancestor in lineage for member in self.classes[ancestor].members}
        return names | PYTHONQT if "QObject" in lineage else names

    def properties(self, name: str) -> set[str]:
        return {member for ancestor in self.lineage(name) for member in self.classes[ancestor].properties}

    def offers(self, name: str, member: str) -> bool:
        """Whether a class has a member, or one of its subclasses: a getter of a node often returns a special one."""
        return any(member in self.members(other) for other in self.classes if name in self.lineage(other))

    def returned(self, name: str, method: str) -> str | None:
        found = (self.classes[ancestor].returns.get(method) for ancestor in self.lineage(name))
        return next((returned for returned in found if returned is not None), None)

    @cached_property
    def all_members(self) -> set[str]:
        return {member for names in self.classes.values() for member in names.members} | PYTHONQT
