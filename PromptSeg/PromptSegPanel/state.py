"""Where the user stands: the case, what is going on, and what was said. Holds no widget."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import slicer
from slicer.i18n import tr as _

from PromptSegLib.errors import InputError
from PromptSegPanel.case import Case
from PromptSegPanel.engine import Engine
from PromptSegPanel.guidance import Activity, Situation, Structure
from PromptSegPanel.library import TokenLibrary
from PromptSegPanel.scan import scans
from PromptSegPanel.work import Work

# Of one press of Train, this part is training and the rest finding the structure in the whole scan.
_TRAINING_PART = 0.85

# What is drawn is sent as it is drawn, up to so many slices: more would take the window's thread too long each time.
_MOST_SLICES_AHEAD = 20


# A path from its beginning to where the sentence goes on.
_PATH = re.compile(r"(?<![\w.])([A-Za-z]:)?[\\/].*?(?=: | \(|$)")


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. seconds: at most, for each structure; prompting: a variant of the backbone's, None for what suits
    the drawing; scribbles: only painted voxels are known; anew: forget what was learned before the drawing was
    corrected."""

    seconds: float = 60.0
    prompting: str | None = None
    scribbles: bool = False
    anew: bool = False


class PanelState:
    """Keeps `situation` true to the scene and to the engine.

    Args:
        engine: what computes.
        library: the user's tokens.
        changed: called whenever `situation` has become another.
        drawn: called whenever segments changed in some way; the caller then calls `refresh` when it has time.
    """

    training = TrainingOptions()

    def __init__(
        self, engine: Engine, library: TokenLibrary, changed: Callable[[], None], drawn: Callable[[], None]
    ) -> None:
        self.engine = engine
        self.library = library
        self.missing_packages: tuple[str, ...] = ()
        self.case: Case | None = None
        self.situation = Situation()
        self.log: list[str] = []
        self._changed = changed
        self._drawn = drawn
        self._message = ""
        self._just_applied = False
        self._lacks_segmentation = False
        self._names: set[str] = set()
        self._drawings: dict[str, str] = {}
        self._prepared: dict[str, tuple[str, bool]] = {}

    def set_scan(
        self,
        volume_node: slicer.vtkMRMLScalarVolumeNode | None,
        segmentation_node: slicer.vtkMRMLSegmentationNode | None,
    ) -> None:
        """Work on another scan or segmentation, or on none. What was being done with the former is cancelled."""
        former = self.case
        if former is not None and (former.volume_node, former.segmentation_node) == (volume_node, segmentation_node):
            return
        if volume_node is not None and segmentation_node is not None:
            self._message = ""
        self._abandon_case(_("what was worked on is no longer chosen"))
        self._lacks_segmentation = volume_node is not None and segmentation_node is None
        if volume_node is not None and segmentation_node is not None:
            self._names |= {volume_node.GetName(), segmentation_node.GetName()}
            with self.saying_problems():
                self.case = Case(volume_node, segmentation_node, self._drawn, self._nodes_gone)
        self.refresh()

    def choose(self, key: str, chosen: bool) -> None:
        """Tick or untick a structure for training."""
        if self.case is not None:
            self.case.choice.set(key, chosen)
            self.refresh()

    def refresh(self) -> None:
        """Look at the scene anew."""
        structures: tuple[Structure, ...] = ()
        case = self.case
        if case is not None:
            with self.saying_problems():
                self._names |= case.names
                case.drop_removed()
                self.engine.forget_removed(case.keys)
                drawings = {key: case.revision(key) for key in case.keys}
                if self._drawings and drawings != self._drawings:
                    # The user drew on: what was said before is out of date.
                    self._message, self._just_applied = "", False
                self._drawings = drawings
                with self.saying_problems():
                    case.drop_misplaced()
                structures = case.structures(self.training.scribbles)
        self._prepare_engine(structures)
        self.situation = replace(
            self.situation,
            missing_packages=self.missing_packages,
            has_scan=case is not None,
            lacks_segmentation=self._lacks_segmentation,
            scans_loaded=bool(scans()),
            structures=structures,
            has_preview=case is not None and any(len(result.mask) for result in case.results.values()),
            can_undo=case is not None and case.can_undo,
            just_applied=self._just_applied,
        )
        self.show_work()

    @property
    def curves(self) -> Mapping[str, list[tuple[float, float]]]:
        """How training goes, by structure: (part of it done, DSC on the part of the drawing kept aside)."""
        return self.engine.work.curves if self.engine.work is not None else {}

    def say(self, *sentences: str) -> None:
        """Tell the user something in the status line, and keep it in the log."""
        self._message = " ".join(_written_out(sentence) for sentence in sentences)
        self.note(self._message)
        self.show_work()

    def close(self) -> None:
        """Give everything back: the panel goes away."""
        self._leave_case()
        self.engine.stop()

    def _prepare_engine(self, structures: tuple[Structure, ...]) -> None:
        """Let the engine look at what is drawn while the user draws on: whoever draws is going to train."""
        drawn = {s.key: s.drawn for s in structures if s.chosen and s.drawn}
        drawings = {key: (self._drawings.get(key, ""), self.training.scribbles) for key in drawn}
        if self.case is None or self.engine.work is not None or self.missing_packages or drawings == self._prepared:
            return
        self._prepared = drawings
        # A scan or a drawing that cannot be used is spoken of when the user wants to use it.
        with suppress(InputError):
            few = [key for key, slices in drawn.items() if slices <= _MOST_SLICES_AHEAD]
            self.engine.prepare(self.case, few, self.training.scribbles)

    def note(self, sentence: str) -> None:
        """Keep something in the log only, without what may say whose scan it is."""
        if self.case is not None:
            self._names |= self.case.names
        sentence = _anonymous(sentence, self._names)
        self.log.append(f"{time.strftime('%H:%M:%S')}  {sentence}")
        logging.info("PromptSeg: %s", sentence)

    def names(self, keys: Iterable[str]) -> str:
        """Of these structures, for a sentence."""
        names = {structure.key: structure.name for structure in self.situation.structures}
        return ", ".join(names.get(key, key) for key in keys)

    def end_work(self, sentence: str) -> None:
        """End what is going on, show earlier results again, and say why."""
        self.engine.end_work()
        if self.case is not None:
            with self.saying_problems():
                self.case.restore_preview()
        self.say(sentence)
        self.refresh()

    def _nodes_gone(self, sentence: str) -> None:
        self._abandon_case(sentence)
        self.refresh()

    def _abandon_case(self, reason: str) -> None:
        """Leave the case, and say why if that ends a work."""
        was_busy = self.engine.work is not None
        self._leave_case()
        if was_busy:
            self.say(_("{reason}, so the work was ended.").format(reason=reason))

    def _leave_case(self) -> None:
        self.engine.forget_classes()
        case, self.case = self.case, None
        self._drawings, self._prepared, self._just_applied = {}, {}, False
        if case is not None:
            self._names |= case.names
            case.close()

    @contextmanager
    def saying_problems(self) -> Iterator[None]:
        """What the user can mend goes to the status line."""
        try:
            yield
        except InputError as error:
            self.say(str(error))

    def show_work(self) -> None:
        """Bring what is going on up to date, without a look at the scene."""
        work = self.engine.work
        progress = work.progress if work is not None else None
        self.situation = replace(
            self.situation,
            activity=work.activity if work is not None else Activity.NOTHING,
            stage=progress.stage if progress is not None else "",
            fraction=_fraction(work),
            seconds_left=progress.seconds_left if progress is not None else None,
            message=self._message,
        )
        self._changed()


def _written_out(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:] + ("" if sentence.endswith((".", "!", "?")) else ".")


def _anonymous(sentence: str, names: Iterable[str]) -> str:
    """A sentence without these names, however they are capitalized, and without paths."""
    parts = "|".join(re.escape(name) for name in sorted(filter(None, names), key=len, reverse=True))
    if parts:
        sentence = re.sub(rf"(?<!\w)({parts})(?!\w)", "…", sentence, flags=re.IGNORECASE)
    return _PATH.sub("…", sentence)


def _fraction(work: Work | None) -> float:
    """How much of what the user asked for is done, 0 to 1."""
    if work is None or work.progress is None:
        return 0.0
    if not work.was_trained:
        return work.progress.fraction
    if work.activity is Activity.TRAINING:
        return _TRAINING_PART * work.progress.fraction
    return _TRAINING_PART + (1 - _TRAINING_PART) * work.progress.fraction
