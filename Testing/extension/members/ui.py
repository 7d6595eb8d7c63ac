"""What a .ui file names of Qt, CTK and Slicer."""

from __future__ import annotations

from xml.etree import ElementTree

from Testing.extension.members.table import MemberTable

# Understood by the .ui loader itself.
LOADERS_OWN = {"buddy"}


def widget_classes(ui: str) -> dict[str, str]:
    """Widget name -> class. ``ui``: text of the file."""
    return {widget.get("name", ""): widget.get("class", "") for widget in ElementTree.fromstring(ui).iter("widget")}


def check_ui(table: MemberTable, ui: str) -> list[str]:
    """Classes, properties and connections of a .ui file that do not exist. Properties with stdset="0" are dynamic."""
    root = ElementTree.fromstring(ui)
    faults = []
    classes = widget_classes(ui)
    for widget in root.iter("widget"):
        name, kind = widget.get("name", ""), widget.get("class", "")
        if kind not in table.classes:
            faults.append(f"{name}: there is no class {kind}")
            continue
        for element in widget.findall("property"):
            if element.get("stdset") != "0" and element.get("name") not in table.properties(kind) | LOADERS_OWN:
                faults.append(f"{name}: {kind} has no property {element.get('name')}")
    for layout in root.iter("layout"):
        if layout.get("class") not in table.classes:
            faults.append(f"{layout.get('name')}: there is no class {layout.get('class')}")
    for connection in root.iter("connection"):
        for end, kind in (("sender", "signal"), ("receiver", "slot")):
            widget_class = classes.get(connection.findtext(end, ""), "")
            member = connection.findtext(kind, "").split("(")[0]
            if member not in table.members(widget_class):
                faults.append(f"{connection.findtext(end)}: {widget_class} has no {kind} {member}")
    return faults
