"""The worker killed again and again, at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from PromptSegLib.engine.exchange import PREFIX

KILLS = 50


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_fifty_kills_lose_nothing(person: Any, patient: Any) -> None:
    from PromptSegLib.mrml.tokens import store_token
    from Testing.PromptSeg.test_controller import token_data

    person.choose(patient.scan)
    spleen, liver = person.add_structure("spleen"), person.add_structure("liver")
    person.draw(spleen, patient.truth("spleen"), patient.slices("spleen"))
    person.draw(liver, patient.truth("liver"), patient.slices("liver"))
    store_token(person.segmentation, spleen, token_data())
    person.controller.choose(spleen, False)
    segments = {key: person.segment(key, patient) for key in (spleen, liver)}
    drawing = person.controller.case.revision(liver)

    chance = random.Random(0)
    for number in range(KILLS):
        person.controller.choose(liver, True)
        person.press("trainButton")
        # Most of them while the worker starts, some in the middle of training.
        moment = time.monotonic() + (chance.uniform(0, 2) if number % 10 else chance.uniform(5, 15))
        person.wait(lambda moment=moment: time.monotonic() > moment or not person.controller.situation.busy)
        killed = person.controller.engine.worker_pid
        if killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(killed, signal.SIGKILL)
        person.wait(lambda killed=killed: person.controller.engine.worker_pid != killed or not killed)
        # A worker that dies before it began to train is started again, and training goes on by itself.
        if person.controller.situation.busy:
            person.press("trainButton")
        assert not person.controller.situation.busy and person.ui.trainButton.text == "Train"
        for key, voxels in segments.items():
            assert np.array_equal(person.segment(key, patient), voxels), (number, key)
        assert person.controller.case.revision(liver) == drawing, number
        assert person.controller.case.tokens()[spleen] == token_data(), number

    person.controller.choose(liver, True)
    person.train()
    person.press("applyButton")
    person.panel.close()
    assert list(Path(tempfile.gettempdir()).glob(f"{PREFIX}{os.getpid()}-*")) == []
