"""Notice when nodes that a job works with go away."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import slicer
import vtk

from PromptSegLib.errors import InputError


class SceneWatch:
    """Calls back once, just before one of the nodes is removed or the scene is closed.

    Args:
        nodes: the nodes to watch, all of one scene.
        on_gone: takes a sentence for the user.

    Raises:
        InputError: if one of the nodes is gone already.
    """

    def __init__(self, nodes: Iterable[slicer.vtkMRMLNode], on_gone: Callable[[str], None]) -> None:
        watched = list(nodes)
        if any(node.GetScene() is None for node in watched):
            raise InputError("what was worked on is no longer in the scene: choose a scan and a segmentation again")
        self._scene = watched[0].GetScene()
        self._on_gone = on_gone

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def on_node(scene: slicer.vtkMRMLScene, event: str, node: slicer.vtkMRMLNode) -> None:
            if node in watched:
                self._fire(f'"{node.GetName()}" was deleted')

        def on_close(scene: slicer.vtkMRMLScene, event: str) -> None:
            self._fire("the scene was closed")

        self._tags = [
            self._scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, on_node),
            self._scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, on_close),
        ]

    def stop(self) -> None:
        """Watch no more; may be called several times."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def _fire(self, sentence: str) -> None:
        if self._tags:
            self.stop()
            self._on_gone(sentence)
