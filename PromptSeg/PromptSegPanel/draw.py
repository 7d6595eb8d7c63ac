"""Section 2: the segment editor, and what is drawn so far."""

from __future__ import annotations

import html
from collections.abc import Sequence
from types import SimpleNamespace

import slicer
from slicer.i18n import tr as _

from PromptSegPanel.guidance import Situation, Structure, drawing_hint, plane_text, slices_text

_SINGLETON_TAG = "PromptSeg"
# The tools that draw or that limit where is drawn. Those that fill a whole structure would leave nothing to learn.
_EFFECTS = ("Paint", "Draw", "Erase", "Level tracing", "Threshold", "Scissors", "Islands", "Smoothing")

_MOST_LINES = 8
"""Of drawn structures, so that a segmentation with a hundred organs leaves room for the rest of the panel."""


class DrawSection:
    """The segment editor has a parameter node of its own here, so that the module Segment Editor keeps its tools."""

    def __init__(self, ui: SimpleNamespace) -> None:
        self._ui = ui
        self.editor = ui.segmentEditor
        self.editor.setEffectNameOrder(list(_EFFECTS))
        self.editor.unorderedEffectsVisible = False
        self.editor.segmentationNodeSelectorVisible = False
        self.editor.sourceVolumeNodeSelectorVisible = False
        self.editor.switchToSegmentationsButtonVisible = False
        self.editor.setMaximumNumberOfUndoStates(10)
        self.make_editor_node()
        self.editor.setMRMLScene(slicer.mrmlScene)

    def enter(self) -> None:
        self.make_editor_node()
        self.editor.setupViewObservations()
        self.editor.installKeyboardShortcuts()
        self.editor.updateWidgetFromMRML()

    def exit(self) -> None:
        self.editor.setActiveEffect(None)
        self.editor.uninstallKeyboardShortcuts()
        self.editor.removeViewObservations()

    def make_editor_node(self) -> None:
        """A closed scene takes the parameter node away."""
        node = slicer.mrmlScene.GetSingletonNode(_SINGLETON_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag(_SINGLETON_TAG)
            node = slicer.mrmlScene.AddNode(node)
        if self.editor.mrmlSegmentEditorNode() is not node:
            self.editor.setMRMLSegmentEditorNode(node)

    def set_nodes(
        self,
        volume_node: slicer.vtkMRMLScalarVolumeNode | None,
        segmentation_node: slicer.vtkMRMLSegmentationNode | None,
    ) -> None:
        if self.editor.segmentationNode() is not segmentation_node:
            self.editor.setSegmentationNode(segmentation_node)
        if self.editor.sourceVolumeNode() is not volume_node:
            self.editor.setSourceVolumeNode(volume_node)

    def update(self, situation: Situation) -> None:
        drawn = _lines(situation.structures)
        self._ui.drawnLabel.text = "<br>".join(drawn)
        self._ui.drawnLabel.visible = bool(drawn)
        hint = drawing_hint(situation)
        self._ui.drawHintLabel.text = hint
        self._ui.drawHintLabel.visible = bool(hint)


def _lines(structures: Sequence[Structure]) -> list[str]:
    """Of many structures, those that are being drawn: others were finished before, or stay as they are."""
    shown = list(structures)
    if len(shown) > _MOST_LINES:
        shown = [structure for structure in shown if structure.chosen or structure.trained][:_MOST_LINES]
    lines = [_line(structure) for structure in shown]
    if len(shown) < len(structures):
        more = _("{count} more structures, not drawn or not ticked for training")
        lines.append(more.format(count=len(structures) - len(shown)))
    return lines


def _line(structure: Structure) -> str:
    red, green, blue = structure.color
    if structure.drawn:
        text = _("{slices} drawn, {plane}").format(
            slices=slices_text(structure.drawn), plane=plane_text(structure.plane)
        )
    else:
        text = _("nothing drawn yet")
    square = f'<span style="color:#{red:02x}{green:02x}{blue:02x}">■</span>'
    return f"{square} <b>{html.escape(structure.name)}</b>: {text}"
