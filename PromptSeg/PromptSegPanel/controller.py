"""What the panel does: train, look, apply, use tokens. Holds no widget, so that it can be driven without a window."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import slicer
from slicer.i18n import tr as _

from PromptSegLib.engine.messages import ClassInfo, SegmentedClass, Suggestion, TuneResult
from PromptSegLib.errors import InputError
from PromptSegLib.mrml.tokens import store_token
from PromptSegPanel import views
from PromptSegPanel.basis import Basis
from PromptSegPanel.case import Case
from PromptSegPanel.guidance import Activity, Structure
from PromptSegPanel.sending import Sender
from PromptSegPanel.state import PanelState
from PromptSegPanel.work import Work


class Controller(PanelState):
    """What the buttons do. What the engine answers is heard in `poll`."""

    def train(self) -> None:
        """Learn the chosen structures from what is drawn, then find them in the whole scan."""
        keys = tuple(structure.key for structure in self.situation.trainable)
        if self.case is None or not keys:
            return
        with self._working(Activity.TRAINING, keys) as (work, sender, case):
            self.note(_("Training: {names}.").format(names=self.names(keys)))
            revisions = {key: case.revision(key, self.training.scribbles) for key in keys}
            tokens = case.tokens()
            work.depend_on(sender.send_scan(case.volume_node))
            for key in keys:
                work.depend_on(sender.send_drawing(case, key, self.training.scribbles))
                if key in tokens and not self.training.anew:
                    # In a scene that was opened again, it knows none; after a cancelled training, another one. What
                    # it refuses, such as a token of another backbone, is replaced by what is learned now.
                    sender.send_token(key, tokens[key], unless_known=True)
            basis, drawing = case.basis(self.training.scribbles), case.drawing(keys[0])
            work.axis = 0 if drawing is None else drawing.axis
            work.submit(
                "tune",
                functools.partial(self._tuned, work, sender, case, revisions, basis),
                functools.partial(case.show_preview, basis=basis),
                keys=list(keys),
                seconds=self.training.seconds,
                prompting=self.training.prompting,
                anew=self.training.anew,
            )

    def use_what_is_learned(self) -> None:
        """End training early and go on with its best result so far."""
        work = self.engine.work
        if work is not None and work.activity is Activity.TRAINING:
            work.finish_early()

    def cancel(self) -> None:
        """End what is going on; segments, drawings and earlier results stay as they are."""
        if self.engine.work is not None:
            self.end_work(_("Cancelled. Your segments are as they were."))

    def suggest(self, key: str | None = None) -> None:
        """Show the slice on which a drawing would help most.

        Args:
            key: of which structure; by default the one that was found with the least confidence.
        """
        asked = {s.key: s for s in self.situation.structures if s.is_known}
        if self.case is None or not asked:
            return
        if key is None or key not in asked:
            key = min(asked, key=lambda k: _confidence(asked[k]))
        with self._working(Activity.SUGGESTING, (key,)) as (work, sender, case):
            work.depend_on(sender.send_scan(case.volume_node))
            work.depend_on(sender.send_drawing(case, key, self.training.scribbles))
            work.submit("suggest_slice", functools.partial(self._suggested, case), key=key)

    def find(self, data: bytes, info: ClassInfo) -> None:
        """Find a token's structure on this scan, as the preview of a segment of its name."""
        if self.case is not None:
            with self.saying_problems():
                self.find_again(self.case.segment_for(info, data))

    def find_again(self, key: str) -> None:
        """Find a structure with the token that the scene keeps for it."""
        if self.case is None:
            return
        with self._working(Activity.SEGMENTING, (key,)) as (work, sender, case):
            work.depend_on(sender.send_scan(case.volume_node))
            work.depend_on(sender.send_token(key, case.tokens()[key]))
            # Also where nothing is drawn: the engine may still have what was erased since.
            work.depend_on(sender.send_drawing(case, key, self.training.scribbles))
            basis = case.basis(self.training.scribbles)
            work.submit("segment", functools.partial(self._segmented, work, case, basis), keys=[key])

    def apply(self, editor_node: slicer.vtkMRMLSegmentEditorNode, save_state: Callable[[], None]) -> None:
        """Make the preview the content of the segments; see `Case.apply`."""
        # Before a result is spoken of, those that do not fit the scan any more are dropped.
        self.refresh()
        if self.case is not None and self.case.results:
            self._message = ""
            with self.saying_problems():
                names = self.names(self.case.results)
                self.case.apply(editor_node, save_state)
                self._just_applied = True
                self.note(_("Applied: {names}.").format(names=names))
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

    def _tuned(
        self,
        work: Work,
        sender: Sender,
        case: Case,
        revisions: Mapping[str, str],
        basis: Basis,
        result: TuneResult | None,
    ) -> None:
        tokens = {} if result is None else dict(result.tokens)
        if work.use_what_there_is:
            # The class that was being trained has its best token so far, though its training is not complete.
            tokens = work.saved_tokens()
        present = self._present(work, case)
        learned = tuple(key for key in present if key in tokens)
        if not learned:
            self.end_work(_("Training had not got anywhere yet: press Train again and give it a little longer."))
            return
        # First of all, so that what was learned is seen whatever becomes of the files.
        work.activity = Activity.SEGMENTING
        for key in learned:
            work.depend_on(sender.send_forgotten(case, key, tokens[key], self.training.scribbles))
        work.submit("segment", functools.partial(self._segmented, work, case, basis), keys=list(learned))
        for key in learned:
            sender.note_token(key)
            with self.saying_problems():
                case.keep_token(key, tokens[key], revisions[key], self.library)
            work.identities[key] = case.identity(key)
        self.note(_("Learned: {names}.").format(names=self.names(learned)))
        self.show_work()

    def _segmented(self, work: Work, case: Case, basis: Basis, found: Sequence[SegmentedClass] | None) -> None:
        self.engine.end_work()
        present = self._present(work, case)
        results = [result for result in found or () if result.key in present]
        # One problem must not keep the other results from being shown, kept and spoken of.
        sentences: list[str] = []
        with _noting_problems(sentences):
            case.show_results(results, basis)
        for result in results:
            name = self.names([result.key])
            self.note(_("Found: {name}, {ml} ml.").format(name=name, ml=round(result.ml, 1)))
            if result.token is not None:
                with _noting_problems(sentences):
                    case.renew_token(result.key, result.token, self.library)
            if result.recognition is not None:
                sentences.append(
                    _("{name}: {recognition}.").format(name=name, recognition=result.recognition.sentence())
                )
        empty = [result.key for result in results if not result.mask.any()]
        if empty:
            sentences.append(_("Nothing was found of {names}: draw more slices.").format(names=self.names(empty)))
        if sentences:
            self.say(*dict.fromkeys(sentences))
        self.refresh()

    def _suggested(self, case: Case, suggestion: Suggestion) -> None:
        self.engine.end_work()
        with self.saying_problems():
            views.show_slice(case.volume_node, suggestion.axis, suggestion.index)
            self.say(
                _("Draw {name} on the slice that is shown now: {reason}.").format(
                    name=self.names([suggestion.key]), reason=suggestion.reason
                )
            )
        self.refresh()

    def _failed(self, sentence: str) -> None:
        work, case = self.engine.work, self.case
        if work is not None and case is not None:
            kept = case.tokens()
            present = self._present(work, case)
            for key, data in work.saved_tokens().items():
                if key not in kept and key in present:
                    store_token(case.segmentation_node, key, data)
        self.end_work(sentence)

    def _present(self, work: Work, case: Case) -> tuple[str, ...]:
        """The keys of a work whose segments are still there; nothing is left of the others for whoever has their ID."""
        present = tuple(key for key in work.keys if case.is_still(key, work.identities[key]))
        self.engine.forget_removed({*case.keys} - {*work.keys} | {*present})
        return present

    @contextmanager
    def _working(self, activity: Activity, keys: tuple[str, ...]) -> Iterator[tuple[Work, Sender, Case]]:
        """Begin a work on the case; whatever cannot be done about it is said."""
        assert self.case is not None
        self._message, self._just_applied = "", False
        try:
            work, sender = self.engine.begin(activity, keys, lambda progress: self.show_work(), self._failed)
            work.identities = {key: self.case.identity(key) for key in keys}
            yield work, sender, self.case
        except InputError as error:
            self.end_work(str(error))
        self.refresh()


@contextmanager
def _noting_problems(sentences: list[str]) -> Iterator[None]:
    """What the user can mend is one of the sentences."""
    try:
        yield
    except InputError as error:
        sentences.append(str(error))


def _confidence(structure: Structure) -> float:
    return 1.0 if structure.confidence is None else structure.confidence
