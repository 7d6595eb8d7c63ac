"""What the panel says next, and which control makes sense now, from a plain description of where the user stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from slicer.i18n import tr as _

ENOUGH_SLICES = 3


class Activity(Enum):
    """What the engine does now."""

    NOTHING = "nothing"
    TRAINING = "training"
    SEGMENTING = "segmenting"
    SUGGESTING = "suggesting"


@dataclass(frozen=True)
class Structure:
    """One class.

    drawn: slices drawn on, across `plane`; chosen: ticked for training; trained: its token knows all that is drawn;
    confidence and ml: of what is in the preview; remade: nearly all of its slices count as drawn, since they were
    changed after it was applied; crossed_by: plane of a slice that was drawn across these and does not count;
    between: slices that do not count since they lie between those of the scan.
    """

    key: str
    name: str
    color: tuple[int, int, int]
    drawn: int = 0
    plane: str = ""
    chosen: bool = True
    trained: bool = False
    confidence: float | None = None
    ml: float | None = None
    remade: bool = False
    crossed_by: str = ""
    between: int = 0

    @property
    def is_known(self) -> bool:
        """Whether anything tells on which slice a drawing would help: what is drawn, or what was found."""
        return self.drawn > 0 or self.confidence is not None


@dataclass(frozen=True)
class Situation:
    """All that decides what can be done now.

    has_scan: a scan and its segmentation are chosen; lacks_segmentation: only the scan is;
    message: a sentence that the user has not acted on yet, such as an error; stage: of the work, as the engine's
    progress has it, empty until it reports; fraction: of the work that is done.
    """

    missing_packages: tuple[str, ...] = ()
    has_scan: bool = False
    lacks_segmentation: bool = False
    scans_loaded: bool = False
    structures: tuple[Structure, ...] = ()
    activity: Activity = Activity.NOTHING
    stage: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None
    message: str = ""
    has_preview: bool = False
    can_undo: bool = False
    just_applied: bool = False

    @property
    def busy(self) -> bool:
        return self.activity is not Activity.NOTHING

    @property
    def trainable(self) -> tuple[Structure, ...]:
        """The chosen structures that something is drawn of."""
        return tuple(s for s in self.structures if s.chosen and s.drawn)


def status(situation: Situation) -> str:
    """The one line that says what is going on or what to do next."""
    if situation.missing_packages:
        return _("PromptSeg needs a few more Python packages: press Install.")
    if situation.busy:
        return _working(situation)
    if situation.message:
        return situation.message
    if not situation.has_scan:
        if situation.lacks_segmentation:
            return _("Choose a segmentation, or create a new one.")
        if situation.scans_loaded:
            return _("Choose the scan.")
        return _("Load a scan into Slicer, then choose it here.")
    if situation.has_preview:
        return _("Look at the preview. Then press Apply, or correct a slice and train again.")
    if situation.just_applied:
        return _("Applied. To improve it, correct a slice and train again.")
    return _what_to_draw(situation)


def _working(situation: Situation) -> str:
    if situation.activity is Activity.SUGGESTING:
        doing = _("Looking for the slice that helps most…")
    elif situation.activity is Activity.SEGMENTING:
        doing = _("Finding the structures in the whole scan…")
    elif situation.stage == "training":
        doing = _("Training…")
    elif situation.stage == "encoding":
        doing = _("Looking at the drawn slices…")
    else:
        doing = _("Preparing the scan…")
    return " ".join(filter(None, (doing, time_left(situation.seconds_left), situation.message)))


def _what_to_draw(situation: Situation) -> str:
    if not situation.structures:
        return _("Press Add in the editor below, and draw the structure on {count} or more slices.").format(
            count=ENOUGH_SLICES
        )
    drawn = [s for s in situation.structures if s.drawn]
    if not drawn:
        return _("Draw the structure on {count} or more slices.").format(count=ENOUGH_SLICES)
    if all(s.trained for s in drawn):
        return _("All that is drawn has been learned. Correct a slice, or find it again under Tokens.")
    if not situation.trainable:
        return _("Tick the structures to train.")
    fewest = min(situation.trainable, key=lambda s: s.drawn)
    if fewest.drawn < ENOUGH_SLICES:
        return _("Draw {name} on {count} more, or press Train to try it now.").format(
            name=fewest.name, count=slices_text(ENOUGH_SLICES - fewest.drawn)
        )
    return _("Press Train.")


def slices_text(count: int) -> str:
    return _("1 slice") if count == 1 else _("{count} slices").format(count=count)


def volume_text(ml: float) -> str:
    return _("{ml} ml").format(ml=f"{ml:.1f}" if ml < 100 else f"{ml:.0f}")


def plane_text(plane: str) -> str:
    return {"axial": _("axial"), "coronal": _("coronal"), "sagittal": _("sagittal")}.get(plane, plane)


def time_left(seconds: float | None) -> str:
    """Rounded, since an estimate that jumps every moment reads worse than a coarse one."""
    if seconds is None:
        return ""
    if seconds < 5:
        return _("a few seconds left")
    if seconds < 90:
        return _("{seconds} s left").format(seconds=5 * round(seconds / 5))
    return _("{minutes} min left").format(minutes=round(seconds / 60))


def drawing_hint(situation: Situation) -> str:
    """What is wrong with the drawing, empty where nothing is."""
    remade = [s.name for s in situation.structures if s.remade]
    if remade:
        return _(
            "Every slice of {names} was changed, as by smoothing, and counts as drawn. If you did not mean that, press "
            "Undo in the editor before you train again."
        ).format(names=", ".join(remade))
    for s in situation.structures:
        if s.crossed_by:
            return _("{name} is drawn on {plane} and {other} slices: only the {plane} ones count.").format(
                name=s.name, plane=plane_text(s.plane), other=plane_text(s.crossed_by)
            )
        if s.between:
            return _(
                "{name} is also drawn between the slices of the scan ({slices}), which does not count, and Apply "
                "overwrites it: draw on the slices of the scan."
            ).format(name=s.name, slices=slices_text(s.between))
    few = [s for s in situation.structures if 0 < s.drawn < ENOUGH_SLICES]
    if not few:
        return ""
    return _("{count} or more slices, spread over the structure, give a much better result.").format(
        count=ENOUGH_SLICES
    )


def why_not(situation: Situation) -> Mapping[str, str]:
    """Why each control cannot be used now, by the control's name; empty where it can."""
    busy = _("Wait until the work in progress is done, or press Cancel.") if situation.busy else ""
    packages = _("First install the missing packages.") if situation.missing_packages else ""
    scan = "" if situation.has_scan else _("First choose the scan.")
    preview = "" if situation.has_preview else _("There is no preview yet: press Train, or use a token.")
    drawing = "" if any(s.drawn for s in situation.structures) else _("First draw the structure on a few slices.")
    undo = _("Nothing was applied, or you have drawn since: use Undo of the editor above.")
    training = situation.activity is Activity.TRAINING
    return {
        "train": "" if situation.busy else packages or scan or drawing or _why_not_train(situation),
        "finish": "" if training else _("Nothing is being trained."),
        "preview": "" if training else preview,
        "apply": busy or preview,
        "discard": busy or preview,
        "undo": busy or ("" if situation.can_undo else undo),
        "suggest": busy or packages or scan or ("" if any(s.is_known for s in situation.structures) else drawing),
        "find": busy or packages or scan,
        "advanced": busy,
    }


def _why_not_train(situation: Situation) -> str:
    if situation.trainable:
        return ""
    if any(s.drawn and s.trained for s in situation.structures):
        return _("All that is drawn has been learned. Correct a slice, or tick a structure to train it again.")
    return _("First tick a structure that is drawn on at least one slice.")
