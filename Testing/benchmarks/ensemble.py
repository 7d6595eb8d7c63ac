"""Several tokens of one drawing that differ in nothing but their seeds, on the features of one scan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from PromptSegLib.imaging.annotation import Annotation
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.inference.drawn import Drawn
from PromptSegLib.inference.scan_features import ScanFeatures
from PromptSegLib.inference.segmenter import Segmentation, Segmenter
from PromptSegLib.learning.drawing import DrawnScan
from PromptSegLib.learning.tuning import tune
from PromptSegLib.tokens.class_token import ClassToken
from Testing.benchmarks.methods.method import Setup

MEMBERS = 3

SEEDS_APART = 100


@dataclass(frozen=True)
class EncodedScan:
    """A scan whose features are kept for every token and every round, as the engine keeps them."""

    image: Volume
    setup: Setup
    features: ScanFeatures = field(default_factory=ScanFeatures)

    def tune(self, annotation: Annotation, member: int = 0) -> ClassToken:
        """member: of the ensemble; the first is PromptSeg's own token."""
        backbone, options = self.setup.backbone, self.setup.options
        return tune(
            [DrawnScan(self.image, annotation)],
            "Structure",
            backbone,
            replace(options, seed=options.seed + SEEDS_APART * member),
            encode=partial(self.features.encode, backbone),
        )

    def segment(self, token: ClassToken, drawn: Drawn | None = None) -> Segmentation:
        """With the token's probabilities."""
        segmenter = Segmenter(self.setup.backbone, [token], kept=self.features)
        return segmenter.segment(self.image, drawn, probabilities=True)

    def mean_probability(self, annotation: Annotation, first: np.ndarray) -> np.ndarray:
        """Of all members, (slices, rows, columns); first: that of the first of them.

        The network's alone, calibrated, as each of them gives it.
        """
        tokens = [self.tune(annotation, member) for member in range(1, MEMBERS)]
        segmenter = Segmenter(self.setup.backbone, tokens, kept=self.features)
        others = segmenter.segment(self.image, probabilities=True).probabilities
        mean: np.ndarray = np.mean([first, *(probability.array for probability in others)], axis=0)
        return mean
