"""Leave one center out: a token of the others' scans is adapted to scans of the new one, and tested on all of them."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import tune
from PromptSegLib.networks.backbone import BackboneModule, count_parameters
from PromptSegLib.tokens.class_token import SUFFIX, ClassToken, load_token
from Testing.benchmarks.center_groups import Center, Patient
from Testing.benchmarks.measuring import measured
from Testing.benchmarks.methods.center_methods import NONE, Adapted, CenterMethod
from Testing.benchmarks.methods.method import Setup
from Testing.benchmarks.results import Rows
from Testing.benchmarks.scoring import score


@dataclass(frozen=True)
class CenterResult:
    """One adapted token on one scan.

    left_out: the new center; scans: of it, 0 without adaptation; tested, source: center and patient of the segmented
    scan; dsc, before: with the adapted token and with the one that it started from; changed: voxels that these find
    differently; trained_percent: numbers set free, of the backbone's weights; seconds: to adapt.
    """

    left_out: str
    organ: str
    scans: int
    method: str
    seed: int
    tested: str
    source: str
    dsc: float
    before: float
    changed: int
    trained_percent: float
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, str, int, str, str]:
        return (self.left_out, self.organ, self.scans, self.method, self.seed, self.tested, self.source)

    @property
    def is_new(self) -> bool:
        return self.tested == self.left_out


@dataclass(frozen=True)
class Study:
    """What is asked.

    centers: that there are; left_out: names of those that are new, one after the other; organs: labels by name; setup:
    its options' seconds are for adapting; scans: of the new center, several numbers of them; base_scans: of all other
    centers together, from which the token is learned in ``base_seconds`` at the most; patients: that each center is
    tested on; tokens: folder that keeps the tokens, so that a run that goes on starts from the same ones.
    """

    centers: Sequence[Center]
    left_out: Sequence[str]
    organs: Mapping[str, int]
    methods: Sequence[CenterMethod]
    setup: Setup
    seeds: Sequence[int]
    scans: Sequence[int]
    base_scans: int
    base_seconds: float
    patients: int
    tokens: Path | None = None

    def run(self, results: Rows[CenterResult]) -> list[CenterResult]:
        """Add the results that are missing; those that were asked for, and none that lie there from another run."""
        found: list[CenterResult] = []
        for center in self.centers:
            if center.name not in self.left_out:
                continue
            for organ, label in self.organs.items():
                for seed in self.seeds:
                    found += _Run(self, center, organ, label, seed).complete(results)
        return found


class _Run:
    """One new center, organ and seed. Whatever costs time is only done once it is needed."""

    def __init__(self, study: Study, center: Center, organ: str, label: int, seed: int):
        self.study, self.center, self.organ, self.label, self.seed = study, center, organ, label, seed
        self.setup = replace(study.setup, options=replace(study.setup.options, seed=seed))
        self.old = [other for other in study.centers if other is not center]
        self._bases: dict[str, ClassToken] = {}
        self._found: dict[tuple[str, str, str], np.ndarray] = {}

    def complete(self, results: Rows[CenterResult]) -> list[CenterResult]:
        """All results of this run, of which those that are missing are added."""
        asked = []
        tests = [(center, patient) for center in self.study.centers for patient in self._drawn(center.testing)]
        for method in self.study.methods:
            for count in (0,) if method is NONE else self.study.scans:
                if count > len(self._new_patients):
                    _say(f"{self.center.name}: there are only {len(self._new_patients)} scans of {self.organ}")
                    continue
                missing = [t for t in tests if results.get(self._key(method, count, *t)) is None]
                if missing:
                    self._run(method, count, missing, results)
                asked += [self._key(method, count, *test) for test in tests]
        found = (results.get(key) for key in asked)
        return [result for result in found if result is not None]

    def _run(
        self, method: CenterMethod, count: int, tests: Sequence[tuple[Center, Patient]], results: Rows[CenterResult]
    ) -> None:
        base = self._base(method)
        lessons = [self._lesson(self.center, patient) for patient in self._new_patients[:count]]
        setup = replace(self.setup, options=replace(self.setup.options, prompting=base.prompting))
        adapted, cost = measured(lambda: method.learn(lessons, base, setup))
        percent = 100 * adapted.trained / count_parameters(self.setup.backbone)
        for center, patient in tests:
            image, labels = center.scan(patient)
            truth = labels.array == self.label
            before = self._before(base, center, patient, image)
            after = before if method is NONE else self._after(adapted, center, image)
            result = CenterResult(
                *self._key(method, count, center, patient),
                score(after, truth, image.geometry.spacing).dsc,
                score(before, truth, image.geometry.spacing).dsc,
                int(np.count_nonzero(after != before)),
                percent,
                cost.seconds,
            )
            results.add(result)
            _say(
                f"{result.left_out} is new, {result.organ}, {count} scans, seed {result.seed}, {method.key}: on "
                f"{result.source} of {result.tested} DSC {result.dsc:.3f}, before {result.before:.3f}, "
                f"{cost.seconds:.1f} s"
            )

    def _key(
        self, method: CenterMethod, count: int, center: Center, patient: Patient
    ) -> tuple[str, str, int, str, int, str, str]:
        return (self.center.name, self.organ, count, method.key, self.seed, center.name, patient.name)

    def _after(self, adapted: Adapted, center: Center, image: Volume) -> np.ndarray:
        return _segment(adapted.backbone, adapted.new if center is self.center else adapted.old, image)

    def _before(self, base: ClassToken, center: Center, patient: Patient, image: Volume) -> np.ndarray:
        key = (base.prompting, center.name, patient.name)
        if key not in self._found:
            self._found[key] = _segment(self.setup.backbone, base, image)
        return self._found[key]

    def _drawn(self, patients: Sequence[Patient]) -> list[Patient]:
        found = [p for p in patients if self.organ in p.organs][: self.study.patients]
        if not found:
            raise InputError(f"nobody to test {self.organ} on: choose other organs or centers")
        return found

    @cached_property
    def _new_patients(self) -> list[Patient]:
        """Of the new center, in an order of this seed's."""
        patients = [p for p in self.center.learning if self.organ in p.organs]
        random.Random(self.seed).shuffle(patients)
        return patients[: max(self.study.scans)]

    def _base_lessons(self) -> list[DrawnScan]:
        """Scans of the old centers by turns, each of another patient, none of whom the new center will show."""
        taken = {p.name for p in self._new_patients}
        lessons: list[DrawnScan] = []
        orders = {center.name: [p for p in center.learning if self.organ in p.organs] for center in self.old}
        for order in orders.values():
            random.Random(self.seed).shuffle(order)
        while len(lessons) < self.study.base_scans:
            before = len(lessons)
            for center in self.old:
                patient = next((p for p in orders[center.name] if p.name not in taken), None)
                if patient is not None and len(lessons) < self.study.base_scans:
                    taken.add(patient.name)
                    lessons.append(self._lesson(center, patient))
            if len(lessons) == before:
                break
        if not lessons:
            raise InputError(f"no scan of {self.organ} is left for a token without {self.center.name}: add centers")
        return lessons

    def _base(self, method: CenterMethod) -> ClassToken:
        prompting = method.prompting_on(self.setup.backbone)
        if prompting not in self._bases:
            kept = None
            if self.study.tokens is not None:
                name = f"{self.center.name}-{self.organ}-{prompting}-{self.seed}"
                kept = self.study.tokens / f"{name.replace(' ', '_')}{SUFFIX}"
            if kept is not None and kept.exists():
                self._bases[prompting] = load_token(kept)
            else:
                options = replace(self.setup.options, prompting=prompting, seconds=self.study.base_seconds)
                token = tune(self._base_lessons(), self.organ, self.setup.backbone, options)
                self._bases[prompting] = token
                if kept is not None:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    token.save(kept)
        return self._bases[prompting]

    def _lesson(self, center: Center, patient: Patient) -> DrawnScan:
        """The organ alone, drawn in the whole scan."""
        image, labels = center.scan(patient)
        drawing = labels.with_array((labels.array == self.label).astype(np.uint8))
        return DrawnScan(image, Annotation.from_label_map(drawing, 1, complete=True, axis=0))


def _segment(backbone: BackboneModule, token: ClassToken, image: Volume) -> np.ndarray:
    found: np.ndarray = Segmenter(backbone, [token]).segment(image).labels.array == 1
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
