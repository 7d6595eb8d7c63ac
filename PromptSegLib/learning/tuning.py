"""Tuning: the tokens of one class from a few drawn slices, on a backbone that does not change.

Without deep prompts, a head is learned of what all levels of the backbone make of the drawn pixels. With them, a first
guess comes in closed form from these pixels' embeddings (prototypes), then a probe fits the head alone, then gradients
tune the deep prompts too; tuning stops early, and goes back, when a held-out part of the drawing suffers. For other
scans, directions of all levels come beside them at last. After a correction, it goes on from the token that there is.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.learning.correcting import Corrector, goes_on_from, outweighs, stays
from PromptSegLib.learning.drawing import Drawing, DrawnScan, prepare_drawing
from PromptSegLib.learning.head_tuner import HeadChanger, HeadTuner
from PromptSegLib.learning.levels_tuner import LevelsTuner
from PromptSegLib.learning.shapes import is_in_pieces
from PromptSegLib.learning.tuner import Tuner, TuningOptions, TuningProgress
from PromptSegLib.networks.backbone import Backbone, BackboneModule, Features, count_parameters, direction_channels
from PromptSegLib.networks.head import head_shapes, is_direction
from PromptSegLib.tokens.class_token import (
    BackboneReference,
    Calibration,
    ClassToken,
    Terminology,
    Training,
    checked_name,
)
from PromptSegLib.tokens.recognition import Profile

_FEWEST_OF_A_HEAD = 2
"""Slices that show the structure: a single one tells directions too little of what surrounds it elsewhere."""


def tune(
    scans: Sequence[DrawnScan],
    name: str,
    backbone: Backbone,
    options: TuningOptions | None = None,
    *,
    color: tuple[int, int, int] = (230, 159, 0),
    terminology: Terminology | None = None,
    before: ClassToken | None = None,
    encode: Callable[[Tensor], Features] | None = None,
    ready: Callable[[Drawing], None] = lambda drawing: None,
    report: Callable[[TuningProgress], None] = lambda progress: None,
    watch: Callable[[ClassToken], None] = lambda token: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ClassToken:
    """The class token of one structure.

    Args:
        scans: one or several scans with what was drawn on them.
        name: of the class.
        backbone: frozen; it is the same, to the bit, afterwards.
        before: what was learned from an earlier state of the drawing, or from other scans, to go on from in a few
            steps; without deep prompts, a head is learned anew instead. It is dropped where it does not fit (another
            backbone, plane or prompting, say), or finds next to nothing of what is drawn now. But where it fits
            backbone and kind of scan, what was learned from other scans stays for the most part, if it has shapes or
            hardly more than one slice was drawn here: its prompting, its calibration and half of its numbers; all of
            these if it has centers or was learned on another plane.
        encode: in place of ``backbone.encode``, where features of an image (1, 1, h, w) may have been kept.
        ready: called once the backbone has seen the drawn slices, before the first guess.
        report: called after every step.
        watch: called with the token as it is, not calibrated for this drawing yet: early in the first guess, when there
            is a head but no deep prompt (where the backbone has such a prompting), after it, and when it got better.
        cancelled: asked between any two steps; once true, the best token so far is returned.

    Raises:
        InterruptedError: if it was cancelled before there was a first guess.
        InputError: if the drawing cannot be learned from (see `prepare_drawing`) or the prompting is unknown.
    """
    options = options or TuningOptions()
    name = checked_name(name)
    if options.prompting is not None:
        backbone.prompt_shapes(options.prompting)
    started = time.monotonic()
    reference = BackboneReference(backbone.name, backbone.fingerprint(), backbone.preset_name)
    drawing, encode = prepare_drawing(scans), encode or backbone.encode
    prompting = options.prompting or _usual_prompting(drawing, backbone)
    deep = bool(backbone.prompt_shapes(prompting))
    profile = Profile.of([scan_statistics(scan.image) for scan in scans])
    of_others = before is not None and before.is_of_others(profile)
    if before is not None and of_others and stays(before, drawing, reference.fingerprint):
        return replace(before, name=name, color=color, terminology=terminology)
    keeps = before is not None and of_others and outweighs(before, drawing)
    if before is not None and goes_on_from(before, drawing, reference.fingerprint, prompting, keeps):
        if drawing.spacing_mm != before.spacing_mm:
            drawing = prepare_drawing(scans, like=before)
        if keeps and HeadChanger.suits(before):
            tuner: Tuner = HeadChanger(before, drawing, backbone, encode, options, started, cancelled)
        elif keeps or deep:
            tuner = Corrector(before, drawing, backbone, encode, options, started, cancelled, keeps)
        else:
            tuner = HeadTuner(drawing, backbone, encode, options, prompting, started, cancelled)
            tuner.before = before
    else:
        make = LevelsTuner if deep else HeadTuner
        tuner = make(drawing, backbone, encode, options, prompting, started, cancelled)

    def token(calibration: Calibration) -> ClassToken:
        earlier = tuner.earlier
        # A correction of this scan says less of where the structure lies, and what it looks like, than the others did.
        tellers = [each for each in ((earlier, drawing) if keeps else (drawing, earlier)) if each is not None]
        told = next((each for each in tellers if each.size is not None), drawing)
        return ClassToken(
            name=name,
            color=color,
            terminology=terminology,
            backbone=reference,
            prompting=tuner.best_prompting,
            plane=drawing.plane,
            spacing_mm=drawing.spacing_mm,
            window=drawing.window,
            pieces=_pieces(drawing, earlier, keeps),
            calibration=calibration,
            place=next((each.place for each in tellers if each.place is not None), None),
            height=next((each.height for each in tellers if each.height is not None), None),
            size=told.size,
            shapes=told.shapes,
            # Of the scans that its shapes are of: what it learned here is a correction.
            profile=earlier.profile if earlier is not None and keeps else profile,
            numbers={key: value.detach().cpu().float().numpy() for key, value in tuner.best.items()},
            training=Training(
                scans=drawing.scans,
                slices=len(drawing.slices),
                steps=tuner.best_step + (earlier.training.steps if earlier else 0),
                seconds=round(time.monotonic() - started + (earlier.training.seconds if earlier else 0.0), 1),
                date=datetime.date.today().isoformat(),
                seed=options.seed,
                held_out_dsc=None if tuner.best_dsc is None else round(tuner.best_dsc, 4),
            ),
        )

    tuner.run(lambda: ready(drawing), report, lambda: watch(token(tuner.under)))
    return token(tuner.calibration())


def _usual_prompting(drawing: Drawing, backbone: Backbone) -> str:
    is_in_scan = not drawing.is_for_others and drawing.showing >= _FEWEST_OF_A_HEAD
    return backbone.in_scan_prompting if is_in_scan else backbone.default_prompting


def _pieces(drawing: Drawing, earlier: ClassToken | None, of_other_scans: bool) -> str:
    """Of a few slices that show several pieces, one does not know whether these are joined elsewhere; of a bow whose
    shape is known, one does. Of one that show a single piece, one does not know that there are no others.

    of_other_scans: whether what is known of the structure is of other scans, of which the drawing corrects a result.
    """
    if earlier is not None and of_other_scans and earlier.pieces == "many":
        return earlier.pieces
    is_bow = earlier is not None and any(is_in_pieces(shape, drawing.plane) for shape in earlier.shapes)
    is_part = of_other_scans or drawing.size is None
    if earlier is not None and earlier.pieces == "one" and is_part and is_bow:
        return earlier.pieces
    return drawing.pieces


@dataclass(frozen=True)
class BackboneSize:
    """weights: of the backbone, all frozen; trained: by prompting variant, how many numbers a class trains."""

    weights: int
    trained: dict[str, int]


def measure_size(backbone: BackboneModule) -> BackboneSize:
    shapes = {variant: token_shapes(backbone, variant).values() for variant in backbone.prompting_variants}
    return BackboneSize(count_parameters(backbone), {k: sum(map(math.prod, v)) for k, v in shapes.items()})


def require_backbone(token: ClassToken, backbone: Backbone, fingerprint: str | None = None) -> None:
    """InputError unless the token was trained on this very backbone and has just the numbers it wants: not all
    have directions. fingerprint: the backbone's, where it is known."""
    fingerprint = fingerprint or backbone.fingerprint()
    # Of another family's token, the backbone knows no shapes: that it is another's is what must be said.
    shapes = token_shapes(backbone, token.prompting) if token.backbone.fingerprint == fingerprint else {}
    if not token.has_directions:
        shapes = {name: shape for name, shape in shapes.items() if not is_direction(name)}
    token.require_backbone(backbone.name, fingerprint, shapes)


def token_shapes(backbone: Backbone, prompting: str) -> dict[str, tuple[int, ...]]:
    """Shape of every number in a token of this backbone and prompting; not all have directions."""
    return backbone.prompt_shapes(prompting) | head_shapes(backbone.embedding_channels, direction_channels(backbone))
