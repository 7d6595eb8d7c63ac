"""Controls that say why they cannot be used."""

from __future__ import annotations

from collections.abc import Mapping

import qt


class ExplainedControls:
    """Greys controls out, with the reason as their tool tip.

    Args:
        controls: by the names that `guidance.why_not` gives reasons for.
    """

    def __init__(self, controls: Mapping[str, tuple[qt.QWidget, ...]]) -> None:
        self._controls = [(name, control, control.toolTip) for name, group in controls.items() for control in group]

    def update(self, reasons: Mapping[str, str]) -> None:
        """reasons: why not, empty for a control that can be used."""
        for name, control, tip in self._controls:
            control.enabled = not reasons[name]
            control.toolTip = reasons[name] or tip
