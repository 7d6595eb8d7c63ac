"""One scan and its segmentation: what is drawn, what is previewed, what was learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import slicer
import vtk
from slicer.i18n import tr as _

from PromptSegLib.engine.messages import ClassInfo, Preview, SegmentedClass, SliceDrawing
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.applying import apply_results
from PromptSegLib.mrml.drawings import Drawings
from PromptSegLib.mrml.preview import PreviewNode
from PromptSegLib.mrml.records import FILES, LEARNED, SegmentRecords
from PromptSegLib.mrml.segments import add_segment, class_info, is_empty, layer_of, require_editable
from PromptSegLib.mrml.tokens import store_token, stored_tokens
from PromptSegLib.mrml.volumes import VoxelGrid
from PromptSegLib.mrml.watching import SceneWatch
from PromptSegPanel.basis import Applied, Basis, Found
from PromptSegPanel.choice import Choice, lasting_part
from PromptSegPanel.guidance import Structure
from PromptSegPanel.library import Kept, TokenLibrary, named
from PromptSegPanel.scribbles import as_scribbles

_SEGMENTATION_EVENTS = (
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
    slicer.vtkSegmentation.SourceRepresentationModified,
)
_SCAN_EVENT = vtk.vtkCommand.ModifiedEvent


class Case:
    """Everything that lives in the scene. Close it when another scan or segmentation is chosen.

    Args:
        on_change: called when segments were added, removed, renamed or drawn on, or the scan was changed.
        on_gone: called once, with a sentence, when one of the nodes is removed or the scene closes.
    """

    def __init__(
        self,
        volume_node: slicer.vtkMRMLScalarVolumeNode,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        on_change: Callable[[], None],
        on_gone: Callable[[str], None],
    ) -> None:
        self.volume_node = volume_node
        self.segmentation_node = segmentation_node
        self.drawings = Drawings(segmentation_node, volume_node)
        self.preview = PreviewNode(segmentation_node, volume_node)
        self.choice = Choice()
        self._found: dict[str, Found] = {}
        self._scribbles = False
        self._applied: Applied | None = None
        self._files = SegmentRecords(segmentation_node, FILES)
        self._learned = SegmentRecords(segmentation_node, LEARNED)
        self._watch = SceneWatch([volume_node, segmentation_node], on_gone)
        observed = [*((segmentation_node, event) for event in _SEGMENTATION_EVENTS), (volume_node, _SCAN_EVENT)]
        self._tags = [(node, node.AddObserver(event, lambda caller, event: on_change())) for node, event in observed]

    def close(self) -> None:
        """Take the preview and all observers away; what the user made stays."""
        self._watch.stop()
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []
        self.preview.remove()

    @property
    def keys(self) -> tuple[str, ...]:
        """Segment IDs, which are the engine's keys, too."""
        return tuple(self.segmentation_node.GetSegmentation().GetSegmentIDs())

    @property
    def names(self) -> set[str]:
        """Of the scan, the segmentation and its segments: a patient's may be in them."""
        segments = (self._segment(key) for key in self.keys)
        return {item.GetName() or "" for item in (self.volume_node, self.segmentation_node, *segments)}

    def identity(self, key: str) -> str | None:
        """What tells a segment from a later one of its ID; None for one that nothing was ever kept of."""
        return self._learned.identity(key)

    def is_still(self, key: str, identity: str | None) -> bool:
        """Whether the segment that had this identity is there, rather than none or a later one of its ID."""
        # A new segment gets an identity at once. One without is older, or was put back by Undo to before it had one.
        return key in self.keys and self.identity(key) in (None, identity)

    @property
    def results(self) -> dict[str, SegmentedClass]:
        """What was found and not applied yet, by segment ID."""
        return {key: found.result for key, found in self._found.items()}

    def info(self, key: str) -> ClassInfo:
        return class_info(self.segmentation_node, key)

    def structures(self, scribbles: bool = False) -> tuple[Structure, ...]:
        """All segments, with what is drawn of them now."""
        self._scribbles, learned = scribbles, self._learned.all()
        all_strokes = self._all_strokes() if scribbles else ""
        structures = []
        for key in self.keys:
            plane, drawn = self.drawings.summary(key) or ("", 0)
            revision = self.drawings.revision(key)
            strokes = self._with_strokes(key, revision, all_strokes) if scribbles else None
            is_learned = learned.get(key) == lasting_part(strokes or revision)
            is_gapless = key not in learned and self.drawings.is_gapless(key)
            self.choice.see(key, revision, drawn, is_learned, is_gapless, strokes)
            info, found = self.info(key), self._found.get(key)
            structures.append(
                Structure(
                    key,
                    info.name,
                    info.color,
                    drawn,
                    plane,
                    self.choice.is_chosen(key),
                    drawn > 0 and self.choice.is_trained(key),
                    None if found is None else found.result.confidence,
                    None if found is None else found.result.ml,
                    self.drawings.was_remade(key),
                    self.drawings.crossing_plane(key),
                    self.drawings.between(key),
                )
            )
        return tuple(structures)

    def drawing(self, key: str, scribbles: bool = False) -> SliceDrawing | None:
        """What is drawn of a segment; with `scribbles`, only painted voxels are known."""
        drawing = self.drawings.read(key)
        if drawing is None or not scribbles:
            return drawing
        return as_scribbles(drawing, list(self._beside(key, drawing)), self.drawings.is_covered(key))

    def revision(self, key: str, scribbles: bool = False) -> str:
        """Changes whenever what `drawing` gives does; strokes of other segments count, too, for scribbles."""
        own = self.drawings.revision(key)
        return self._with_strokes(key, own, self._all_strokes()) if scribbles else own

    def basis(self, scribbles: bool = False) -> Basis:
        """What a work that begins now rests on.

        Raises:
            InputError: if the scan was deleted or is empty.
        """
        return Basis(VoxelGrid.of(self.volume_node), scribbles)

    def show_preview(self, preview: Preview, basis: Basis) -> None:
        """Show what is found so far of a segment; one that was deleted meanwhile is not missed."""
        if not self._fits(basis):
            self.preview.clear()
        elif preview.key in self.keys:
            self.preview.update(preview)

    def show_results(self, results: Iterable[SegmentedClass], basis: Basis | None = None) -> None:
        """Show what was found, beside what is in the preview of other segments. basis: by default, all is as it was."""
        for result in results:
            if result.key in self.keys:
                self._found[result.key] = Found(result, basis or self.basis())
        self.restore_preview()

    def restore_preview(self) -> None:
        """Show the results at hand, and nothing of an unfinished training."""
        self.preview.clear()
        self.drop_removed()
        self.preview.show(self.results.values())

    def drop_removed(self) -> None:
        """Show no results of segments that were deleted."""
        self._found = {key: found for key, found in self._found.items() if key in self.keys}
        self.preview.keep(self.keys)

    def drop_misplaced(self) -> None:
        """Keep no results of voxels that the scan does not have any more.

        Raises:
            InputError: if there were some.
        """
        misplaced = {key for key, found in self._found.items() if not self._fits(found.basis)}
        if misplaced:
            self._found = {key: found for key, found in self._found.items() if key not in misplaced}
            self.preview.keep({*self.keys} - misplaced)
            raise InputError(
                _(
                    "The scan was cropped or resampled, so what was found before does not fit any more: press Train, "
                    "or find it again under Tokens."
                )
            )

    def discard(self) -> None:
        self._found = {}
        self.preview.clear()

    def apply(self, editor_node: slicer.vtkMRMLSegmentEditorNode, save_state: Callable[[], None]) -> None:
        """Make the results the content of their segments, in one undo step.

        Args:
            editor_node: whose masking is respected.
            save_state: makes the undo step.

        Raises:
            InputError: if the scan was cropped since, or as `apply_results` does.
        """
        self.drop_removed()
        self.drop_misplaced()
        found = self._found
        trained = [key for key in self.keys if self.choice.is_trained(key)]
        apply_results(
            self.segmentation_node,
            self.volume_node,
            editor_node,
            list(self.results.values()),
            self.drawings,
            save_state,
            drawn=self._drawn(found),
        )
        # Of strokes, another revision is remembered under a result, though nothing was drawn.
        for key in trained:
            self._note_learned(key, self.revision(key, self._scribbles))
        self.discard()
        self._applied = Applied(found, self._content())

    @property
    def can_undo(self) -> bool:
        """Whether nothing was changed since results were applied."""
        return self._applied is not None and self._applied.content == self._content()

    def note_undone(self) -> None:
        """The editor took the results back: show them as a preview again."""
        applied, self._applied = self._applied, None
        if applied is not None:
            for found in applied.found.values():
                self.show_results([found.result], found.basis)

    def tokens(self) -> dict[str, bytes]:
        """The tokens kept in the scene, by segment ID."""
        return {key: data for key, data in stored_tokens(self.segmentation_node).items() if key in self.keys}

    def keep_token(self, key: str, data: bytes, revision: str, library: TokenLibrary) -> None:
        """Keep a trained token in the scene and in the user's library. revision: of the drawing that it knows."""
        self._note_learned(key, revision)
        if self.tokens().get(key) != data:
            self.renew_token(key, data, library)

    def renew_token(self, key: str, data: bytes, library: TokenLibrary) -> None:
        """Keep a token in place of an earlier one of the same drawing."""
        name = self.info(key).name
        # The segment may have been renamed while it was trained.
        data = named(data, name)
        store_token(self.segmentation_node, key, data)
        before = self._files.get(key)
        kept = library.keep(data, name, Kept.from_text(before) if isinstance(before, str) else None)
        self._files.set(key, kept.to_text())

    def segment_for(self, info: ClassInfo, data: bytes) -> str:
        """A segment for a token: the empty one of that name if there is one, else a new one.

        Raises:
            InputError: if the segments are surfaces.
        """
        require_editable(self.segmentation_node)
        for key in self.keys:
            if self.info(key).name == info.name and is_empty(self.segmentation_node, key):
                break
        else:
            key = add_segment(self.segmentation_node, self.volume_node, info)
        store_token(self.segmentation_node, key, data)
        self._learned.remove(key)
        # The file of what was drawn and learned before stays the user's: this is another token.
        self._files.remove(key)
        return key

    def _all_strokes(self) -> str:
        return "\n".join(self.drawings.revision(key) for key in self.keys if self.drawings.summary(key) is not None)

    def _with_strokes(self, key: str, revision: str, all_strokes: str) -> str:
        return f"{revision}\n{all_strokes} {self.drawings.is_covered(key)}"

    def _note_learned(self, key: str, revision: str) -> None:
        self.choice.note_trained(key, revision)
        self._learned.set(key, lasting_part(revision))

    def _beside(self, key: str, drawing: SliceDrawing) -> Iterator[SliceDrawing]:
        """The strokes of the other segments. Finished ones are none: they count where the structure is drawn."""
        for other in self.keys:
            if other == key:
                continue
            if self.choice.is_finished(other):
                strokes = self.drawings.read_on(other, drawing.axis, drawing.planes.keys())
            else:
                strokes = self.drawings.read(other)
            if strokes is not None:
                yield strokes

    def _fits(self, basis: Basis) -> bool:
        return basis.grid.is_that_of(VoxelGrid.of(self.volume_node))

    def _drawn(self, found: Mapping[str, Found]) -> dict[str, SliceDrawing]:
        """What is drawn of segments on slices of their own, without those that only others have strokes on."""
        drawings = {}
        for key, rests in found.items():
            own, drawing = self.drawings.read(key), self.drawing(key, rests.basis.scribbles)
            if own is not None and drawing is not None:
                drawings[key] = SliceDrawing(own.axis, {index: drawing.planes[index] for index in own.planes})
        return drawings

    def _segment(self, key: str) -> slicer.vtkSegment:
        return self.segmentation_node.GetSegmentation().GetSegment(key)

    def _content(self) -> tuple[object, ...]:
        layers = {key: layer_of(self._segment(key)) for key in self.keys}
        return tuple((key, layer.GetMTime() if layer is not None else 0) for key, layer in layers.items())
