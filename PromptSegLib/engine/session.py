"""One scan, many classes: the interface that everything above the library works with.

The same methods are offered in this process by `Session` and on a worker process by `PromptSegLib.engine.client`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from PromptSegLib.engine.class_training import Audience, ClassTraining, Turn
from PromptSegLib.engine.drawings import as_guide, require_fit
from PromptSegLib.engine.messages import (
    ClassInfo,
    Preview,
    Progress,
    SegmentedClass,
    SliceDrawing,
    Suggestion,
    TuneResult,
)
from PromptSegLib.engine.previewing import PreviewOrder
from PromptSegLib.engine.scan_class import ScanClass
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.imaging.volume import Volume, bounding_box, stack_of_plane
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.predictor import encode_ahead
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.inference.segmenter import Segmentation, Segmenter
from PromptSegLib.inference.sight import Sight, kind_warnings
from PromptSegLib.inference.suggestion import suggest_slice
from PromptSegLib.learning.drawing import Drawing, DrawnScan, prepare_drawing
from PromptSegLib.learning.tuning import TuningOptions, TuningProgress, tune
from PromptSegLib.networks.device import is_out_of_memory, release_memory
from PromptSegLib.networks.weights import load_network
from PromptSegLib.tokens.class_token import ClassToken, Terminology, knowing_from_others, parse_token
from PromptSegLib.tokens.recognition import Profile, Recognition

LOOKED_AT_AHEAD = 64
"""Undrawn slices that the backbone looks at while the user draws. Of a tall structure in a fine scan, more would take
minutes, and be in vain where another drawn slice asks for another working spacing."""

T = TypeVar("T")

GPU_BECAME_FULL = "The graphics card ran out of memory: the work goes on with the processor, which takes longer."


def _nothing(*_: object) -> None:
    return None


@dataclass
class Session:
    """A backbone and a scan. Every class has a key of the caller's choice.

    device: auto, cpu, cuda or mps; backbone: name or file, None for the shipped one; folder: for large temporary files.
    """

    device: str = "auto"
    backbone: str | None = None
    folder: Path | None = None
    focus: tuple[int, int] | None = None
    """Array axis and index of the slice that the user looks at; it is previewed first."""
    notice: Callable[[str], None] = _nothing
    """Called with sentences for the user, as when memory ran out on the graphics card."""

    _image: Volume | None = None
    _statistics: dict[str, float] | None = None
    _classes: dict[str, ScanClass] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._network = load_network(self.backbone, self.device)
        self._fingerprint = self._network.fingerprint()
        self._features = ScanFeatures(folder=self.folder)

    @property
    def device_name(self) -> str:
        """Kind of the device in use: cpu, cuda or mps."""
        return self._network.device.type

    @property
    def backbone_name(self) -> str:
        return self._network.name

    def set_image(self, image: Volume) -> None:
        """Take another scan, or the same after it changed. Tokens stay; what was drawn on the earlier one goes.

        Raises:
            InputError: if voxels are not finite. There is no scan then.
        """
        self._image = self._statistics = None
        self._features.clear()
        for entry in self._classes.values():
            entry.leave_scan()
        array = image.array
        if array.dtype.kind == "f" and not all(bool(np.isfinite(plane).all()) for plane in array):
            raise InputError("the scan holds values that are not finite: mend it before segmenting")
        self._image = image

    def annotate(self, key: str, info: ClassInfo, drawing: SliceDrawing | None) -> None:
        """Say what is drawn of a class on the scan now, in full; None for nothing."""
        image = self._require_image()
        if drawing is not None:
            require_fit(drawing, image, info.name)
        entry = self._classes.setdefault(key, ScanClass(info))
        entry.info, entry.drawing = info, drawing
        entry.ahead = iter(()) if drawing is None else self._look_ahead(entry, image)

    @property
    def tokens(self) -> dict[str, bytes]:
        """The class tokens at hand: contents of token files by key."""
        return {key: entry.token.to_bytes() for key, entry in self._classes.items() if entry.token is not None}

    def put_token(self, key: str, data: bytes) -> ClassInfo:
        """Take a token that was trained before; returns what it says of its class."""
        token = parse_token(data)
        self.segmenter([token])
        term = token.terminology
        info = ClassInfo(token.name, token.color, (term.scheme, term.code, term.meaning) if term else None)
        entry = self._classes.setdefault(key, ScanClass(info))
        is_own = self._image is not None and token.profile == self._profile(self._image)
        # What the result told a token of this scan, a better result shall tell anew.
        entry.token, entry.is_learned_here, entry.is_told_by_result = token, False, is_own
        return info

    def forget(self, key: str) -> None:
        """Drop a class: its drawing and its token."""
        self._classes.pop(key, None)

    def work_ahead(self) -> bool:
        """Have the backbone look at one slice that training is going to ask for; False once there is none.

        To be called when there is nothing else to do, again and again: each call takes as long as one slice.
        """
        return any(next(entry.ahead, False) for entry in list(self._classes.values()))

    def clear_cache(self) -> None:
        """Drop the scan's features; they are made again when needed."""
        self._features.clear()

    def close(self) -> None:
        """Give memory and files back."""
        self._features.clear()
        self._classes.clear()
        self._image = None

    def tune(
        self,
        keys: Sequence[str],
        seconds: float = 90.0,
        prompting: str | None = None,
        anew: bool = False,
        *,
        report: Callable[[Progress], None] = _nothing,
        preview: Callable[[Preview], None] = _nothing,
        checkpoint: Callable[[str, bytes], None] = _nothing,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> TuneResult:
        """Learn the tokens of these classes from their drawings, one after the other.

        A class that cannot be learned is left out, with a notice; what is wrong with it is raised if no other was.

        Args:
            seconds: upper limit per class.
            prompting: one of the backbone's variants, None for what suits the drawing.
            anew: do not go on from the tokens that there are.
            checkpoint: called with key and token whenever a token got better.
            cancelled: asked often; the best tokens so far are then returned.
        """
        image = self._require_image()
        undrawn = [entry for key in keys if (entry := self._entry(key)).drawing is None]
        if undrawn:
            raise InputError(f"nothing is drawn of '{undrawn[0].info.name}': draw it on at least one slice")
        audience = Audience(report, preview, checkpoint, cancelled)
        options = TuningOptions(prompting, seconds)
        tokens: dict[str, bytes] = {}
        problem: InputError | RuntimeError | MemoryError | None = None
        for number, key in enumerate(keys):
            try:
                token = self._train(Turn(key, number, len(keys)), image, options, anew, audience)
            except InterruptedError:
                return TuneResult(tokens, True)
            except (InputError, RuntimeError, MemoryError) as error:
                if not isinstance(error, InputError) and not is_out_of_memory(error):
                    raise
                # The other classes are learned all the same. A traceback would keep all of this one's memory.
                problem = problem or error.with_traceback(None)
                if len(keys) > 1:
                    self.notice(_not_learned(self._entry(key).info.name, error))
                continue
            tokens[key] = token.to_bytes()
            if cancelled():
                return TuneResult(tokens, True)
        if problem is not None and not tokens:
            raise problem
        return TuneResult(tokens)

    def segment(
        self,
        keys: Sequence[str],
        *,
        report: Callable[[Progress], None] = _nothing,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> list[SegmentedClass]:
        """Find these classes in the whole scan. A voxel belongs to one class at most; drawn slices stay as drawn.

        A token with centers is used as the one that the scan is most like; the result says which. A token of another
        kind of scans is used with a notice.

        Raises:
            InterruptedError: once cancelled.
        """
        image = self._require_image()
        untrained = [key for key in keys if self._entry(key).token is None]
        if untrained:
            name = self._entry(untrained[0]).info.name
            raise InputError(f"'{name}' was not trained yet: press Train first")
        own = [token for key in keys if (token := self._entry(key).token) is not None]
        for sentence in kind_warnings(own, image):
            self.notice(sentence)
        recognitions = [self._recognized(token, image) for token in own]
        tokens = [t.at_center(found.center if found else None) for t, found in zip(own, recognitions, strict=True)]
        report(Progress("segmenting", 0.0))
        drawn = self.drawn(keys, image)

        def run() -> Segmentation:
            return self.segmenter(tokens).segment(
                image,
                drawn,
                report=lambda fraction: report(Progress("segmenting", fraction)),
                cancelled=cancelled,
            )

        found = self._on_gpu_or_cpu(run)
        results = []
        for number, (key, token, doubt) in enumerate(zip(keys, tokens, found.doubts, strict=True), start=1):
            if cancelled():
                raise InterruptedError("segmenting was cancelled")
            entry, axis = self._entry(key), stack_of_plane(image, token.plane).axis
            result = replace(_class_of(key, number, found, image), recognition=recognitions[number - 1], axis=axis)
            results.append(replace(result, token=entry.take_result(result, doubt, image)))
        return results

    def suggest_slice(self, key: str) -> Suggestion:
        """The slice of this class to draw next. InputError when all slices are drawn or nothing is known yet."""
        image, entry = self._require_image(), self._entry(key)
        if entry.drawing is not None:
            axis, planes = entry.drawing.axis, list(entry.drawing.planes)
        elif entry.doubt is not None:
            axis, planes = entry.doubt[0], []
        else:
            raise InputError(f"nothing is drawn of '{entry.info.name}': draw it on a first slice")
        doubt = entry.doubt[1] if entry.doubt is not None and entry.doubt[0] == axis else None
        found = suggest_slice(planes, image.array.shape[axis], image.geometry.spacing[axis], doubt)
        if found is None:
            raise InputError(f"every slice of '{entry.info.name}' is drawn: there is nothing left to suggest")
        return Suggestion(key, axis, *found)

    def _train(self, turn: Turn, image: Volume, options: TuningOptions, anew: bool, audience: Audience) -> ClassToken:
        """Learn a class, or leave it as it is where its drawing teaches nothing; its token."""
        entry = self._entry(turn.key)
        audience.report(turn.begins("encoding"))
        entry.ahead = iter(())
        before = None if anew else entry.token
        if before is not None and not entry.is_painted:
            # Slices on which the result was erased: they count when it is found again, and teach nothing.
            entry.doubt = None
            return before
        if before is not None and entry.is_elsewhere(image, self._profile(image)):
            self.notice(f"'{entry.info.name}' is drawn far from what its token found: it is learned anew")
            before = None
        token = ClassTraining(self, entry, image, turn, before, audience).run(options)
        entry.token, entry.doubt = token, None
        if before is not None and token.numbers is before.numbers:
            self.notice(_stayed(token))
        else:
            entry.is_learned_here = True
        audience.checkpoint(turn.key, token.to_bytes())
        return token

    def learn(
        self,
        scan: DrawnScan,
        info: ClassInfo,
        before: ClassToken | None,
        options: TuningOptions,
        *,
        ready: Callable[[Drawing], None],
        report: Callable[[TuningProgress], None],
        watch: Callable[[ClassToken], None],
        cancelled: Callable[[], bool],
    ) -> ClassToken:
        """A class's token, from this scan's kept features; see `PromptSegLib.learning.tuning.tune`."""

        def run() -> ClassToken:
            return tune(
                [scan],
                info.name,
                self._network,
                options,
                color=info.color,
                terminology=Terminology(*info.terminology) if info.terminology else None,
                before=before,
                encode=partial(self._features.encode, self._network),
                ready=ready,
                report=report,
                watch=watch,
                cancelled=cancelled,
            )

        return self._on_gpu_or_cpu(run)

    def _on_gpu_or_cpu(self, run: Callable[[], T]) -> T:
        """Run something; once more on the processor, if the graphics card's memory does not suffice."""
        try:
            return run()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or self._network.device.type == "cpu":
                raise
        self._move_to_cpu()
        self.notice(GPU_BECAME_FULL)
        return run()

    def segmenter(self, tokens: Sequence[ClassToken]) -> Segmenter:
        """A segmenter on this scan's kept features."""
        return Segmenter(self._network, tokens, kept=self._features, fingerprint=self._fingerprint)

    def _look_ahead(self, entry: ScanClass, image: Volume) -> Iterator[bool]:
        """Look at the drawn slices, and at those that are previewed first; one or two slices a step."""
        try:
            scan = entry.drawn_scan(image)
            drawing = prepare_drawing([scan])
        except InputError:
            # Training says so, if it is asked for.
            return
        for part in drawing.slices:
            self._features.encode(self._network, part.image[None].to(self._network.device))
            yield True
        order = PreviewOrder(scan.annotation.slices, image.array.shape[scan.annotation.axis])
        for index in order.slices[:LOOKED_AT_AHEAD]:
            self.encode_shown(image, drawing, index)
            yield True

    def encode_shown(self, image: Volume, drawing: Drawing, index: int) -> None:
        """Keep what a preview of slice ``index`` needs while ``drawing`` is learned."""
        sight = Sight.of(image, drawing.plane, drawing.spacing_mm, drawing.window.kind)
        encode_ahead(self._network, self._features, image, sight, index)

    def drawn(
        self, keys: Sequence[str], image: Volume, tokens: Sequence[ClassToken | None] | None = None
    ) -> Drawn | None:
        """The drawings of these classes in one label map, numbered in their order.

        tokens: that segment them, which say what a drawing only corrects; those of the classes by default.
        """
        entries = [self._entry(key) for key in keys]
        guide = as_guide([entry.drawing for entry in entries], image)
        if guide is None:
            return None
        asked = [entry.token for entry in entries] if tokens is None else tokens
        return replace(guide, corrects=knowing_from_others(asked, self._profile(image)))

    def _recognized(self, token: ClassToken, image: Volume) -> Recognition | None:
        if not token.centers:
            return None
        return token.recognize(self._scan_statistics(image))

    def _profile(self, image: Volume) -> Profile:
        return Profile.of([self._scan_statistics(image)])

    def _scan_statistics(self, image: Volume) -> Mapping[str, float]:
        if self._statistics is None:
            self._statistics = scan_statistics(image)
        return self._statistics

    def _move_to_cpu(self) -> None:
        self._features.clear()
        self._network = self._network.to("cpu")
        release_memory()

    def _require_image(self) -> Volume:
        if self._image is None:
            raise InputError("there is no scan yet: choose one")
        return self._image

    def _entry(self, key: str) -> ScanClass:
        if key not in self._classes:
            raise InputError("this class is not known: draw it or choose its token")
        return self._classes[key]


def _not_learned(name: str, error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    return f"memory ran out while '{name}' was learned: close other programs, and train it alone"


def _stayed(token: ClassToken) -> str:
    """Why a class token of other scans learned nothing from a drawing."""
    reason = "has centers" if token.centers else f"was learned on {token.plane} slices of other scans"
    return f"'{token.name}' {reason}: what you drew corrects its result here, and the class token stays as it is"


def _class_of(key: str, number: int, found: Segmentation, image: Volume) -> SegmentedClass:
    """One label of a segmentation, cut to the box that holds it."""
    labels = found.labels.array
    inside = labels == number
    if not inside.any():
        return SegmentedClass(key, (slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0), bool))
    box = bounding_box(inside)
    ml = float(np.count_nonzero(inside)) * image.geometry.voxel_volume_mm3 / 1000
    return SegmentedClass(key, box, inside[box].copy(), round(found.confidences[number - 1], 4), round(ml, 3))
