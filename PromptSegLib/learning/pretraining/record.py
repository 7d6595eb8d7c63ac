"""What a run leaves to be read: its model card and its losses."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PromptSegLib.networks.weights import load_backbone


def last_mean(history: Sequence[Mapping[str, float]], count: int = 100) -> dict[str, float]:
    """Of each loss, over those of the last steps that had it."""
    values: dict[str, list[float]] = {}
    for entry in history[-count:]:
        for key, value in entry.items():
            values.setdefault(key, []).append(value)
    return {key: round(sum(found) / len(found), 4) for key, found in values.items() if key != "step"}


def loss_table(history: Sequence[Mapping[str, float]]) -> str:
    """CSV of the steps and their losses; a loss that a step did not have is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for entry in history for key in entry)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def model_card(name: str, path: Path, description: Mapping[str, object]) -> str:
    """The model card as Markdown, with the file's SHA-256 and the fingerprint that class tokens are bound to."""
    lines = [f"# {name}", ""]
    for key, value in description.items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"- **{key}**: {text}")
    lines += [
        f"- **file**: `{path.name}`, SHA-256 `{hashlib.sha256(path.read_bytes()).hexdigest()}`",
        f"- **fingerprint**: `{load_backbone(path).fingerprint()}`",
        "",
    ]
    return "\n".join(lines)
