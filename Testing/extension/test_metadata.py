"""What the Extensions Index checks before it lists an extension: its schema, CMake's lines, the icon, the license.

The rules are those of slicer-extension-catalog-entry-schema-v1.0.2 and of the index's own checks. Whether the addresses
answer can only be seen on the internet.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from Testing.extension.cmake import only, read, variable
from Testing.extension.icon import ICONS, SIZE

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ROOT / "PromptSeg.json"
CMAKE = ROOT / "CMakeLists.txt"

SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json#"
)
REQUIRED = ("$schema", "category", "scm_url")
TYPES: dict[str, type] = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "dicom_support_rule": str,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
# Of the categories that the index accepts, those that a segmentation tool could name.
CATEGORIES = ("Active Learning", "Segmentation")
REPOSITORY_LIMIT = 100 * 2**20
"""Bytes of a checkout with its history."""


def faults(name: str, entry: dict[str, Any]) -> list[str]:
    """What the index would refuse in an entry of the file <name>.json."""
    found = [f"{field} is missing" for field in REQUIRED if field not in entry]
    for field, value in entry.items():
        if field not in TYPES:
            found.append(f"{field} is unknown")
        elif type(value) is not TYPES[field]:
            found.append(f"{field} is no {TYPES[field].__name__}")
    if found:
        return found
    if entry["$schema"] != SCHEMA:
        found.append("$schema is not the newest")
    if entry["category"] not in CATEGORIES:
        found.append("category is not accepted")
    if not all(isinstance(item, str) for item in entry.get("build_dependencies", [])):
        found.append("build_dependencies holds more than names")
    if not 1 <= entry.get("tier", 1) <= 5:
        found.append("tier is not between 1 and 5")
    if entry.get("scm_type", "git") not in ("git", "local"):
        found.append("scm_type is unknown")
    address = urlsplit(entry["scm_url"])
    if address.scheme not in ("https", "git") or not address.netloc:
        found.append("scm_url is no address")
    if not Path(address.path).stem.startswith("Slicer"):
        found.append("the repository's name does not start with Slicer")
    if name.lower().startswith("slicer"):
        found.append("the extension's name starts with Slicer")
    return found


def line(name: str) -> str:
    """A single-line set(NAME "value"), found as the index finds it."""
    (value,) = re.findall(rf'^set\s*\({name}\s*"([^"\n]+)"[ ]*\)$', CMAKE.read_text(encoding="utf-8"), re.MULTILINE)
    return str(value)


def entry() -> dict[str, Any]:
    loaded = json.loads(ENTRY.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def test_entry_is_accepted() -> None:
    assert faults(ENTRY.stem, entry()) == []
    assert b"\r" not in ENTRY.read_bytes()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"category": None}, "category is missing"),
        ({"homepage": "https://example.com"}, "homepage is unknown"),
        ({"tier": "1"}, "tier is no int"),
        ({"tier": True}, "tier is no int"),
        ({"tier": 6}, "tier is not between 1 and 5"),
        ({"build_dependencies": "PyTorch"}, "build_dependencies is no list"),
        ({"build_dependencies": [1]}, "build_dependencies holds more than names"),
        ({"category": "Segmenting"}, "category is not accepted"),
        ({"scm_url": "github.com/PromptSeg/SlicerPromptSeg"}, "scm_url is no address"),
        ({"scm_url": "http://github.com/PromptSeg/SlicerPromptSeg"}, "scm_url is no address"),
        ({"scm_url": "https://github.com/x/PromptSeg.git"}, "the repository's name does not start with Slicer"),
        ({"$schema": SCHEMA.replace("1.0.2", "1.0.0")}, "$schema is not the newest"),
        ({"scm_type": "svn"}, "scm_type is unknown"),
    ],
)
def test_a_fault_is_found(change: dict[str, Any], fault: str) -> None:
    changed = {key: value for key, value in (entry() | change).items() if value is not None}
    assert faults("PromptSeg", changed) == [fault]


def test_entry_and_cmake_agree() -> None:
    commands = read(CMAKE)
    assert only(commands, "project").arguments[0] == ENTRY.stem == "PromptSeg"
    assert line("EXTENSION_CATEGORY") == entry()["category"]
    assert line("EXTENSION_DEPENDS").split() == entry()["build_dependencies"] == ["PyTorch"]
    assert line("EXTENSION_HOMEPAGE") == entry()["scm_url"].removesuffix(".git")


@pytest.mark.parametrize("name", ["EXTENSION_HOMEPAGE", "EXTENSION_CONTRIBUTORS", "EXTENSION_DESCRIPTION"])
def test_lines_are_whole(name: str) -> None:
    """A semicolon would make a list of a value, of which the extension's page shows the first part."""
    assert line(name) == variable(read(CMAKE), name)[0] and ";" not in line(name)


@pytest.mark.parametrize("name", ["EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"])
def test_pictures_are_in_the_repository(name: str) -> None:
    """Raw addresses of the branch that the entry names, so that the files can be downloaded."""
    repository = urlsplit(entry()["scm_url"]).path.removesuffix(".git")
    start = f"https://raw.githubusercontent.com{repository}/{entry()['scm_revision']}/"
    addresses = line(name).split()
    assert addresses
    for address in addresses:
        assert address.startswith(start) and address.endswith(".png")
        with Image.open(ROOT / address.removeprefix(start)) as image:
            assert image.format == "PNG" and min(image.size) >= SIZE


def test_icon() -> None:
    first, second = (path.read_bytes() for path in ICONS)
    assert first == second
    with Image.open(ICONS[0]) as image:
        assert image.size == (SIZE, SIZE) == (128, 128) and image.mode == "RGBA"
        assert len(image.getcolors(SIZE**2) or []) > 50
        assert image.getpixel((0, 0))[3] == 0  # type: ignore[index]


def test_license_and_readme() -> None:
    license_path, readme = (
        Path(line(name).replace("${CMAKE_CURRENT_SOURCE_DIR}", str(ROOT)))
        for name in ("EXTENSION_LICENSE_FILE", "EXTENSION_README_FILE")
    )
    assert license_path.name == "LICENSE.txt" and "Apache License" in license_path.read_text(encoding="utf-8")
    assert readme.read_text(encoding="utf-8").startswith("# PromptSeg")


def test_repository_is_small_enough() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    history = subprocess.run(
        ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    tracked = sum((ROOT / name).stat().st_size for name in files.split("\0") if name and (ROOT / name).is_file())
    packed = sum(path.stat().st_size for path in Path(history).rglob("*") if path.is_file())
    assert tracked + packed < REPOSITORY_LIMIT
