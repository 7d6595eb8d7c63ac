"""What the panel does: train, look, apply, use tokens. Holds no widget, so that it can be driven without a window."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import slicer
from slicer.i18n import tr as _

from PromptSegLib.engine.messages import ClassInfo, SegmentedClass, Suggestion, TuneResult
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.tokens import store_token
from PromptSegPanel import views
from PromptSegPanel.case import Case
from PromptSegPanel.engine import Engine
from PromptSegPanel.guidance import Activity, Situation, Structure
from PromptSegPanel.library import TokenLibrary
from PromptSegPanel.sending import Sender
from PromptSegPanel.work import Work

# Of one press of Train, this part is training and the rest finding the structure in the whole scan.
_TRAINING_PART = 0.85


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. seconds: at most, for each structure; scribbles: only painted voxels are known."""

    seconds: float = 60.0
    prompting: str = "decoder"
    scribbles: bool = False


class Controller:
    """The state of the panel and what its buttons do.

    Args:
        engine: what computes.
        library: the user's tokens.
        changed: called whenever `situation` has become another.
        drawn: called whenever segments changed in some way; the caller then calls `refresh` when it has time.
    """

    def __init__(
        self, engine: Engine, library: TokenLibrary, changed: Callable[[], None], drawn: Callable[[], None]
    ) -> None:
        self.engine = engine
        self.library = library
        self.training = TrainingOptions()
        self.missing_packages: tuple[str, ...] = ()
        self.case: Case | None = None
        self.situation = Situation()
        self.log: list[str] = []
        self._changed = changed
        self._drawn = drawn
        self._message = ""
        self._just_applied = False
        self._drawings: dict[str, str] = {}

    def set_scan(
        self,
        volume_node: slicer.vtkMRMLScalarVolumeNode | None,
        segmentation_node: slicer.vtkMRMLSegmentationNode | None,
    ) -> None:
        """Work on another scan or segmentation, or on none. What was being done with the former is cancelled."""
        former = self.case
        if former is not None and (former.volume_node, former.segmentation_node) == (volume_node, segmentation_node):
            return
        self._leave_case()
        self._message = ""
        if volume_node is not None and segmentation_node is not None:
            with self._saying_problems():
                self.case = Case(volume_node, segmentation_node, self._drawn, self._nodes_gone)
        self.refresh()

    def choose(self, key: str, chosen: bool) -> None:
        """Tick or untick a structure for training."""
        if self.case is not None:
            self.case.choice.set(key, chosen)
            self.refresh()

    def train(self) -> None:
        """Learn the chosen structures from what is drawn, then find them in the whole scan."""
        keys = tuple(structure.key for structure in self.situation.trainable)
        if self.case is None or not keys:
            return
        with self._working(Activity.TRAINING, keys) as (work, sender, case):
            self._note(_("Training: {names}.").format(names=self._names(keys)))
            revisions = {key: case.revision(key) for key in keys}
            work.depend_on(sender.send_scan(case.volume_node))
            for key in keys:
                work.depend_on(sender.send_drawing(case, key, self.training.scribbles))
            drawing = case.drawing(keys[0])
            work.axis = 0 if drawing is None else drawing.axis
            work.submit(
                "tune",
                functools.partial(self._tuned, work, sender, case, revisions),
                case.preview.update,
                keys=list(keys),
                seconds=self.training.seconds,
                prompting=self.training.prompting,
            )

    def use_what_is_learned(self) -> None:
        """End training early and go on with its best result so far."""
        work = self.engine.work
        if work is not None and work.activity is Activity.TRAINING:
            work.finish_early()

    def cancel(self) -> None:
        """End what is going on; segments, drawings and earlier results stay as they are."""
        if self.engine.work is not None:
            self._end_work(_("Cancelled. Your segments are as they were."))

    def suggest(self, key: str | None = None) -> None:
        """Show the slice on which a drawing would help most.

        Args:
            key: of which structure; by default the drawn one that was found with the least confidence.
        """
        drawn = {s.key: s for s in self.situation.structures if s.drawn}
        if self.case is None or not drawn:
            return
        if key is None or key not in drawn:
            key = min(drawn, key=lambda k: _confidence(drawn[k]))
        with self._working(Activity.SUGGESTING, (key,)) as (work, sender, case):
            work.depend_on(sender.send_scan(case.volume_node))
            work.depend_on(sender.send_drawing(case, key, self.training.scribbles))
            work.submit("suggest_slice", functools.partial(self._suggested, case), key=key)

    def find(self, data: bytes, info: ClassInfo) -> None:
        """Find a token's structure on this scan, as the preview of a segment of its name."""
        if self.case is not None:
            with self._saying_problems():
                self.find_again(self.case.segment_for(info, data))

    def find_again(self, key: str) -> None:
        """Find a structure with the token that the scene keeps for it."""
        if self.case is None:
            return
        with self._working(Activity.SEGMENTING, (key,)) as (work, sender, case):
            work.depend_on(sender.send_scan(case.volume_node))
            work.depend_on(sender.send_token(key, case.tokens()[key]))
            if case.drawing(key) is not None:
                work.depend_on(sender.send_drawing(case, key, self.training.scribbles))
            work.submit("segment", functools.partial(self._segmented, case), keys=[key])

    def apply(self, editor_node: slicer.vtkMRMLSegmentEditorNode, save_state: Callable[[], None]) -> None:
        """Make the preview the content of the segments; see `Case.apply`."""
        if self.case is not None:
            self._message = ""
            with self._saying_problems():
                names = self._names(self.case.results)
                self.case.apply(editor_node, save_state)
                self._just_applied = True
                self._note(_("Applied: {names}.").format(names=names))
            self.refresh()

    def discard(self) -> None:
        """Take the preview away."""
        if self.case is not None:
            self._message = ""
            self.case.discard()
            self.refresh()

    def note_undone(self) -> None:
        """The segments are again as they were before Apply."""
        if self.case is not None:
            self._just_applied = False
            self.case.note_undone()
            self.refresh()

    def clear_cache(self) -> None:
        self.engine.clear_cache()
        self.say(_("The prepared scan was dropped. It is prepared again when it is needed."))

    def poll(self) -> None:
        """Hear what the engine has to say, and tell it which slice the user looks at; to be called often."""
        self.engine.poll()
        case, work = self.case, self.engine.work
        if case is None or work is None or work.activity is not Activity.TRAINING:
            return
        index = views.shown_slice(case.volume_node, work.axis)
        if index is not None:
            self.engine.set_focus(work.axis, index)

    def refresh(self) -> None:
        """Look at the scene anew."""
        structures: tuple[Structure, ...] = ()
        drawings: dict[str, str] = {}
        case = self.case
        if case is not None:
            with self._saying_problems():
                structures = case.structures()
                drawings = {key: case.revision(key) for key in case.keys}
        if self._drawings and drawings != self._drawings:
            # The user drew on: what was said before is out of date.
            self._message, self._just_applied = "", False
        self._drawings = drawings
        self.situation = replace(
            self.situation,
            missing_packages=self.missing_packages,
            has_scan=case is not None,
            scans_loaded=slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is not None,
            structures=structures,
            has_preview=case is not None and any(len(result.mask) for result in case.results.values()),
            can_undo=case is not None and case.can_undo,
            just_applied=self._just_applied,
        )
        self._show_work()

    @property
    def curves(self) -> Mapping[str, list[tuple[float, float]]]:
        """How training goes, by structure: (part of it done, DSC on the part of the drawing kept aside)."""
        return self.engine.work.curves if self.engine.work is not None else {}

    def say(self, sentence: str) -> None:
        """Tell the user something in the status line, and keep it in the log."""
        self._message = sentence[:1].upper() + sentence[1:] + ("" if sentence.endswith((".", "!", "?")) else ".")
        self._note(self._message)
        self._show_work()

    def close(self) -> None:
        """Give everything back: the panel goes away."""
        self._leave_case()
        self.engine.stop()

    def _note(self, sentence: str) -> None:
        """Keep something in the log only."""
        self.log.append(f"{time.strftime('%H:%M:%S')}  {sentence}")
        logging.info("PromptSeg: %s", sentence)

    def _names(self, keys: Iterable[str]) -> str:
        names = {structure.key: structure.name for structure in self.situation.structures}
        return ", ".join(names.get(key, key) for key in keys)

    def _tuned(
        self, work: Work, sender: Sender, case: Case, revisions: Mapping[str, str], result: TuneResult | None
    ) -> None:
        tokens = {} if result is None else dict(result.tokens)
        if work.use_what_there_is:
            # The class that was being trained has its best token so far, though its training is not complete.
            tokens = {**self.engine.saved_tokens(work.keys), **tokens}
        learned = tuple(key for key in work.keys if key in tokens and key in case.keys)
        if not learned:
            self._end_work(_("Training had not got anywhere yet: press Train again and give it a little longer."))
            return
        for key in learned:
            sender.note_token(key, tokens[key])
            case.choice.note_trained(key, revisions[key])
            with self._saying_problems():
                case.keep_token(key, tokens[key], self.library)
        self._note(_("Learned: {names}.").format(names=self._names(learned)))
        work.activity = Activity.SEGMENTING
        work.submit("segment", functools.partial(self._segmented, case), keys=list(learned))
        self._show_work()

    def _segmented(self, case: Case, results: Sequence[SegmentedClass] | None) -> None:
        self.engine.end_work()
        with self._saying_problems():
            case.show_results(results or ())
            for result in results or ():
                self._note(_("Found: {name}, {ml} ml.").format(name=self._names([result.key]), ml=round(result.ml, 1)))
            empty = [result.key for result in results or () if not result.mask.any()]
            if empty:
                self.say(_("Nothing was found of {names}: draw more slices.").format(names=self._names(empty)))
        self.refresh()

    def _suggested(self, case: Case, suggestion: Suggestion) -> None:
        self.engine.end_work()
        views.show_slice(case.volume_node, suggestion.axis, suggestion.index)
        self.say(
            _("Draw {name} on the slice that is shown now: {reason}.").format(
                name=self._names([suggestion.key]), reason=suggestion.reason
            )
        )
        self.refresh()

    def _failed(self, sentence: str) -> None:
        work, case = self.engine.work, self.case
        if work is not None and case is not None:
            kept = case.tokens()
            for key, data in self.engine.saved_tokens(work.keys).items():
                if key not in kept and key in case.keys:
                    store_token(case.segmentation_node, key, data)
        self._end_work(sentence)

    def _end_work(self, sentence: str) -> None:
        self.engine.end_work()
        if self.case is not None:
            with self._saying_problems():
                self.case.restore_preview()
        self.say(sentence)
        self.refresh()

    def _nodes_gone(self, sentence: str) -> None:
        was_busy = self.engine.work is not None
        self._leave_case()
        if was_busy:
            self.say(_("The work was ended, since {reason}.").format(reason=sentence))
        self.refresh()

    def _leave_case(self) -> None:
        self.engine.forget_classes()
        case, self.case = self.case, None
        self._drawings, self._just_applied = {}, False
        if case is not None:
            case.close()

    @contextmanager
    def _working(self, activity: Activity, keys: tuple[str, ...]) -> Iterator[tuple[Work, Sender, Case]]:
        """Begin a work on the case; whatever cannot be done about it is said."""
        assert self.case is not None
        self._message, self._just_applied = "", False
        try:
            yield (*self.engine.begin(activity, keys, lambda progress: self._show_work(), self._failed), self.case)
        except InputError as error:
            self._end_work(str(error))
        self.refresh()

    @contextmanager
    def _saying_problems(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            self.say(str(error))

    def _show_work(self) -> None:
        """Bring what is going on up to date, without a look at the scene."""
        work = self.engine.work
        progress = work.progress if work is not None else None
        self.situation = replace(
            self.situation,
            activity=work.activity if work is not None else Activity.NOTHING,
            fraction=_fraction(work),
            seconds_left=progress.seconds_left if progress is not None else None,
            message=self._message,
        )
        self._changed()


def _fraction(work: Work | None) -> float:
    """How much of what the user asked for is done, 0 to 1."""
    if work is None or work.progress is None:
        return 0.0
    if not work.was_trained:
        return work.progress.fraction
    if work.activity is Activity.TRAINING:
        return _TRAINING_PART * work.progress.fraction
    return _TRAINING_PART + (1 - _TRAINING_PART) * work.progress.fraction


def _confidence(structure: Structure) -> float:
    return 1.0 if structure.confidence is None else structure.confidence
