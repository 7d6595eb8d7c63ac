"""What is judged: the result that a user would get, by what the drawing tells and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from PromptSegLib.imaging.annotation import UNKNOWN, Annotation
from PromptSegLib.inference.judging import judge
from PromptSegLib.inference.segmenter import Segmenter
from PromptSegLib.learning.drawing import DrawnScan
from Testing.support import drawing, dsc, random_token, scan, tiny_backbone, tuned_token


def test_a_wholly_drawn_scan_is_judged_by_all_of_its_voxels() -> None:
    image, truth = scan(seed=9)
    whole = Annotation.from_label_map(image.with_array(truth.astype(np.uint8)), 1, complete=True)
    tokens = [tuned_token(), random_token(tiny_backbone(), "Other", "decoder", 1)]
    tokens[1] = replace(tokens[1], plane=tokens[0].plane, window=tokens[0].window, spacing_mm=tokens[0].spacing_mm)
    done: list[float] = []
    reached = judge(tiny_backbone(), tokens, DrawnScan(image, whole), done.append)
    alone = [Segmenter(tiny_backbone(), [token]).segment(image).labels.array == 1 for token in tokens]
    # Features that are kept for the next token are rounded to half precision.
    assert reached == pytest.approx([dsc(found, truth) for found in alone], abs=0.01)
    assert reached[0] > 0.8 > reached[1]
    assert done == sorted(done) and done[-1] == 1


def test_slices_that_were_not_drawn_do_not_count() -> None:
    image, truth = scan(seed=9)
    found = Segmenter(tiny_backbone(), [tuned_token()]).segment(image).labels.array == 1
    (reached,) = judge(tiny_backbone(), [tuned_token()], DrawnScan(image, drawing(image, truth, (4, 6))))
    assert reached == pytest.approx(dsc(found[[4, 6]], truth[[4, 6]]), abs=0.01)


def test_what_is_marked_unknown_does_not_count() -> None:
    image, truth = scan(seed=9)
    labels = truth.astype(np.uint8)
    half = int(np.argwhere(truth)[:, 2].mean())
    labels[:, :, :half] = UNKNOWN
    found = Segmenter(tiny_backbone(), [tuned_token()]).segment(image).labels.array == 1
    drawn = Annotation.from_label_map(image.with_array(labels), 1)
    (reached,) = judge(tiny_backbone(), [tuned_token()], DrawnScan(image, drawn))
    assert reached == pytest.approx(dsc(found[:, :, half:], truth[:, :, half:]), abs=0.01)
    assert found[:, :, :half].any()


def test_it_can_be_cancelled() -> None:
    image, truth = scan(seed=9)
    with pytest.raises(InterruptedError):
        judge(tiny_backbone(), [tuned_token()], DrawnScan(image, drawing(image, truth, (4,))), cancelled=lambda: True)
