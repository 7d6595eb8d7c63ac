"""Section 1: the scan, and the segmentation that belongs to it."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from PromptSegLib.mrml.segments import set_reference_geometry

_SCAN_CLASS = "vtkMRMLScalarVolumeNode"
_SOURCE_ROLE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()


def scans() -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The volumes that can be chosen, as in the selector: label maps and volumes in color are of derived classes."""
    nodes = slicer.util.getNodesByClass(_SCAN_CLASS)
    return [node for node in nodes if node.GetClassName() == _SCAN_CLASS and not node.GetHideFromEditors()]


def first_scan() -> slicer.vtkMRMLScalarVolumeNode | None:
    """The scan that the slice views show, else any."""
    found = scans()
    for composite_node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        node = slicer.mrmlScene.GetNodeByID(composite_node.GetBackgroundVolumeID() or "")
        if node in found:
            return node
    return found[0] if found else None


def fits(segmentation_node: slicer.vtkMRMLSegmentationNode | None, volume_node: slicer.vtkMRMLScalarVolumeNode) -> bool:
    """Whether a segmentation can be taken for this scan's: it is not another one's."""
    if segmentation_node is None:
        return False
    return segmentation_node.GetNodeReferenceID(_SOURCE_ROLE) in (None, volume_node.GetID())


def segmentation_of(volume_node: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLSegmentationNode:
    """The segmentation whose source is this scan; a new one if there is none."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if not node.GetHideFromEditors() and node.GetNodeReferenceID(_SOURCE_ROLE) == volume_node.GetID():
            return node
    name = _("{scan} segmentation").format(scan=volume_node.GetName())
    segmentation_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    segmentation_node.CreateDefaultDisplayNodes()
    set_reference_geometry(segmentation_node, volume_node)
    return segmentation_node
