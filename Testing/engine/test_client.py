"""A worker process and its client, on the tiny backbone; among others, all the ways in which either can die."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import psutil
import pytest

from PromptSegLib.engine import dispatcher, exchange
from PromptSegLib.engine.client import Client
from PromptSegLib.engine.messages import ClassInfo, Progress, SegmentedClass, TuneResult
from PromptSegLib.engine.protocol import PROTOCOL_VERSION
from PromptSegLib.engine.transport import SubprocessTransport
from PromptSegLib.errors import InputError
from Testing.engine.support import ORGAN, planes, tiny_backbone_file, tiny_transport, wait
from Testing.support import dsc, scan

LONG = {"seconds": 600.0, "prompting": "decoder", "anew": False}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_backbone_file(tmp_path_factory.mktemp("backbone")))


@pytest.fixture
def client(backbone: str) -> Iterator[Client]:
    client = Client(tiny_transport, device="cpu", backbone=backbone)
    yield client
    folder = client._folder
    client.close()
    assert folder is None or not folder.exists()


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training that ends by time or by being told to, and by nothing else."""
    monkeypatch.setenv("PROMPTSEG_TEST_STEPS", "1000000")


def prepared(client: Client) -> np.ndarray:
    image, truth = scan()
    client.set_image(image)
    client.annotate("a", ORGAN, planes(truth, 3, 6, 9))
    return truth


def mask_of(found: SegmentedClass) -> np.ndarray:
    mask = np.zeros(scan()[0].array.shape, bool)
    mask[found.box] = found.mask
    return mask


def kill(client: Client) -> None:
    os.kill(client.worker_pid, signal.SIGKILL)


def test_it_does_what_a_session_does(client: Client) -> None:
    truth = prepared(client)
    folder = client._folder
    assert folder is not None and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert client.opened == {"device": "cpu", "backbone": "tiny-1"}
    progress: list[Progress] = []
    shown: list[int] = []
    result = client.tune(["a"], report=progress.append, preview=lambda p: shown.extend(p.planes))
    assert client.tokens == result.tokens and not result.cancelled
    assert shown and {p.stage for p in progress} == {"encoding", "training"}
    (found,) = client.segment(["a"])
    assert dsc(mask_of(found), truth) > 0.8
    assert client.tokens == {"a": found.token}, "the result told it how large the structure is"
    assert client.suggest_slice("a").index not in (3, 6, 9)
    assert client.put_token("b", result.tokens["a"]) == ORGAN
    assert dsc(mask_of(client.segment(["b"])[0]), truth) > 0.7
    client.forget("b")
    with pytest.raises(InputError, match="this class is not known"):
        client.segment(["b"])
    assert len(list(folder.iterdir())) == 1, "nothing but the scan is left lying about"


def test_nothing_is_waited_for(client: Client) -> None:
    image, truth = scan()
    started = time.monotonic()
    jobs = [client.submit("set_image", image=image)]
    jobs.append(client.submit("annotate", key="a", info=ORGAN, drawing=planes(truth, 3, 6, 9)))
    jobs.append(client.submit("tune", keys=["a"], seconds=60.0, prompting="decoder", anew=False))
    jobs.append(client.submit("segment", keys=["a"]))
    assert time.monotonic() - started < 5, "tuning alone takes a minute"
    ended: list[str] = []
    for job in jobs:
        job.on_done.append(lambda _, job=job: ended.append(job.method))  # type: ignore[misc]
    wait(client, lambda: jobs[-1].is_finished)
    assert ended == ["set_image", "annotate", "tune", "segment"]
    assert [job.state for job in jobs] == ["done"] * 4


@pytest.mark.usefixtures("endless")
def test_progress_four_times_a_second_and_cancel_within_half_a_second(client: Client) -> None:
    prepared(client)
    job = client.submit("tune", keys=["a"], **LONG)
    times: list[float] = []
    job.on_progress.append(lambda p: times.append(time.monotonic()))
    wait(client, lambda: bool(client.tokens))
    times.clear()
    until = time.monotonic() + 2
    wait(client, lambda: time.monotonic() > until)
    gaps = np.diff(times)
    assert np.median(gaps) <= 0.25
    latencies = []
    for _ in range(3):
        asked = time.monotonic()
        client.cancel(job)
        wait(client, lambda job=job: job.is_finished)  # type: ignore[misc]
        latencies.append(time.monotonic() - asked)
        assert job.state == "cancelled" and set(job.result.tokens) == {"a"}
        assert client.tokens == job.result.tokens
        started: list[Progress] = []
        job = client.submit("tune", keys=["a"], **LONG)
        job.on_progress.append(lambda p, started=started: started.append(p) if p.step else None)  # type: ignore[misc]
        wait(client, lambda started=started: bool(started))  # type: ignore[misc]
    client.cancel(job)
    # The best of three, since other work on the machine may stop any one of them.
    assert min(latencies) < 0.5


@pytest.mark.usefixtures("endless")
def test_a_queued_job_can_be_cancelled_too(client: Client) -> None:
    prepared(client)
    first = client.submit("tune", keys=["a"], **LONG)
    second = client.submit("segment", keys=["a"])
    seen: list[object] = []
    second.on_done.append(seen.append)
    client.cancel(second)
    assert second.state == "cancelled" and seen == [None]
    client.cancel(first)
    wait(client, lambda: first.is_finished)


@pytest.mark.usefixtures("endless")
def test_a_worker_that_ignores_a_cancel_is_replaced(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = prepared(client)
    job = client.submit("tune", keys=["a"], **LONG)
    wait(client, lambda: bool(client.tokens))
    os.kill(client.worker_pid, signal.SIGSTOP)
    stopped = client.worker_pid
    monkeypatch.setattr(dispatcher, "CANCEL_SECONDS", 0.3)
    client.cancel(job)
    wait(client, lambda: job.is_finished)
    assert not psutil.pid_exists(stopped)
    assert dsc(mask_of(client.segment(["a"])[0]), truth) > 0.6


def test_killed_between_two_jobs_nobody_notices(client: Client) -> None:
    truth = prepared(client)
    client.tune(["a"])
    first, pid, folder = client.tokens["a"], client.worker_pid, client._folder
    assert folder is not None
    unread = folder / f"worker{pid}-99.raw"
    unread.touch()
    kill(client)
    wait(client, lambda: client.worker_pid not in (0, pid))
    assert not unread.exists()
    assert dsc(mask_of(client.segment(["a"])[0]), truth) > 0.8
    assert client.tokens["a"] == first


@pytest.mark.usefixtures("endless")
def test_killed_in_the_middle_it_comes_back_with_all_it_knew(client: Client) -> None:
    truth = prepared(client)
    notices: list[str] = []
    client.notice = notices.append
    job = client.submit("tune", keys=["a"], **LONG)
    wait(client, lambda: bool(client.tokens))
    kill(client)
    killed = time.monotonic()
    wait(client, lambda: job.is_finished)
    assert time.monotonic() - killed < 10, "the work itself takes minutes"
    assert job.state == "failed" and job.error == notices[0]
    assert "memory ran out" in job.error and "nothing that you drew is lost" in job.error
    assert isinstance(job.result, TuneResult) and set(job.result.tokens) == {"a"}
    assert dsc(mask_of(client.segment(["a"])[0]), truth) > 0.6
    assert client.tune(["a"], seconds=1).tokens


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("endless")
def test_kills_at_random_moments(client: Client) -> None:
    """Also during the start of the worker; no drawing and no token is lost, no file stays, and it works each time."""
    truth = prepared(client)
    client.tune(["a"], seconds=2)
    token = client.tokens["a"]
    client.put_token("kept", token)
    rng = random.Random(0)
    folder = client._folder
    assert folder is not None
    in_training = 0
    for round_number in range(12):
        job = client.submit("tune", keys=["a"], **LONG)
        if round_number % 5 == 0:
            seen: list[Progress] = []
            job.on_progress.append(seen.append)
            wait(client, lambda job=job, seen=seen: len(seen) > 2 or job.is_finished)  # type: ignore[misc]
            in_training += not job.is_finished
        moment = time.monotonic() + rng.random()
        wait(client, lambda job=job, moment=moment: time.monotonic() > moment or job.is_finished)  # type: ignore[misc]
        if client.worker_pid:
            kill(client)
        client.poll(0.2)
        client.cancel(job)
        wait(client, lambda job=job: job.is_finished)  # type: ignore[misc]
        assert client.tokens["kept"] == token, round_number
    assert in_training >= 2
    found = client.segment(["a", "kept"])
    assert dsc(mask_of(found[0]) | mask_of(found[1]), truth) > 0.6
    assert len(list(folder.iterdir())) <= 1 + 3, "files of killed workers do not heap up"


def test_a_worker_killed_before_it_is_usable_is_tried_again_but_not_for_ever(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    client.notice = notices.append
    job = client.submit("set_image", image=scan()[0])
    for _ in range(3):
        wait(client, lambda: client.worker_pid != 0)
        kill(client)
        pid = client.worker_pid
        wait(client, lambda pid=pid: client.worker_pid != pid)  # type: ignore[misc]
    wait(client, lambda: job.is_finished)
    assert job.state == "failed" and "again and again" in job.error
    assert client.worker_pid == 0
    prepared(client)


def test_what_cannot_start_says_why(backbone: str) -> None:
    class Broken(SubprocessTransport):
        def start(self, arguments, *callbacks):  # type: ignore[no-untyped-def]
            super().start([*arguments, "--broken"], *callbacks)

    client = Client(lambda: Broken(module="Testing.engine.tiny_worker"), backbone=backbone)
    with pytest.raises(InputError, match=r"the engine cannot be started: libtorch\.so"):
        client.set_image(scan()[0])
    client.close()


def test_a_backbone_that_is_not_there_is_one_sentence() -> None:
    client = Client(tiny_transport, backbone="no-such-backbone")
    with pytest.raises(InputError, match="no-such-backbone"):
        client.set_image(scan()[0])
    client.close()


def test_another_version_of_the_protocol_is_refused(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "PROTOCOL_VERSION", dispatcher.PROTOCOL_VERSION + 1)
    client = Client(tiny_transport, backbone=backbone)
    versions = f"speaks version {PROTOCOL_VERSION} and the panel version {PROTOCOL_VERSION + 1}"
    with pytest.raises(InputError, match=versions):
        client.set_image(scan()[0])
    client.close()


def test_errors_of_the_user_arrive_as_they_are(client: Client) -> None:
    prepared(client)
    with pytest.raises(InputError, match="'Organ' was not trained yet: press Train first"):
        client.segment(["a"])
    client.annotate("b", ClassInfo("Nothing"), None)
    with pytest.raises(InputError, match="nothing is drawn of 'Nothing'"):
        client.tune(["b"])


def test_scans_can_be_changed_any_number_of_times(client: Client) -> None:
    for seed in range(4):
        client.set_image(scan(seed=seed)[0])
    folder = client._folder
    assert folder is not None and len(list(folder.iterdir())) == 1
    overtaken = client.submit("set_image", image=scan(seed=4)[0])
    client.poll()
    client.cancel(overtaken)
    client.set_image(scan(seed=5)[0])
    assert len(list(folder.iterdir())) == 1


def test_a_drawing_on_an_earlier_scan_does_not_come_back(client: Client) -> None:
    truth = prepared(client)
    token = client.tune(["a"]).tokens["a"]
    client.set_image(scan(seed=4)[0])
    pid = client.worker_pid
    kill(client)
    wait(client, lambda: client.worker_pid not in (0, pid))
    client.put_token("a", token)
    with pytest.raises(InputError, match="nothing is drawn of 'Organ'"):
        client.tune(["a"])
    assert dsc(mask_of(client.segment(["a"])[0]), truth) > 0.6


def test_files_that_the_system_cleaned_away_are_written_again(client: Client) -> None:
    truth = prepared(client)
    assert client._folder is not None
    shutil.rmtree(client._folder)
    client.annotate("a", ORGAN, planes(truth, 3, 6, 9))
    shutil.rmtree(client._folder)
    pid = client.worker_pid
    kill(client)
    wait(client, lambda: client.worker_pid not in (0, pid))
    client.tune(["a"])
    assert dsc(mask_of(client.segment(["a"])[0]), truth) > 0.8


def test_what_cannot_be_sent_fails_by_itself(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = prepared(client)
    with pytest.raises(InputError, match="the engine cannot be told"):
        client.annotate("a", ORGAN, object())  # type: ignore[arg-type]
    with monkeypatch.context() as full:
        full.setattr(np, "ascontiguousarray", Mock(side_effect=MemoryError))
        with pytest.raises(InputError, match="the engine cannot be told: memory ran out"):
            client.annotate("a", ORGAN, planes(truth, 3))
        with pytest.raises(InputError, match="the scan cannot be handed to the engine: memory ran out"):
            client.set_image(scan()[0])
    with pytest.raises(InputError, match="'Organ' was not trained yet"):
        client.segment(["a"])


def test_an_interpreter_that_is_not_there(backbone: str) -> None:
    client = Client(lambda: SubprocessTransport("/no/such/python"), backbone=backbone)
    failed: list[str] = []
    for _ in range(2):
        job = client.submit("set_image", image=scan()[0])
        job.on_failed.append(failed.append)
        wait(client, lambda job=job: job.is_finished)  # type: ignore[misc]
    assert len(failed) == 2 and "the engine cannot be started" in failed[0]
    client.close()


PARENT = """
import os, sys, time
os.environ["PROMPTSEG_TEST_STEPS"] = "1000000"
from Testing.engine.support import ORGAN, planes, tiny_transport
from Testing.support import scan
from PromptSegLib.engine.client import Client
client = Client(tiny_transport, backbone=sys.argv[1])
image, truth = scan()
client.set_image(image)
client.annotate("a", ORGAN, planes(truth, 3, 6, 9))
client.submit("tune", keys=["a"], seconds=600.0, prompting="full", anew=False)
print(client.worker_pid, client._folder, flush=True)
while True:
    client.poll(0.1)
"""


def test_a_parent_that_is_killed_leaves_neither_worker_nor_folder(backbone: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, backbone], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        pid, folder = parent.stdout.readline().split()
        assert Path(folder).is_dir()
        time.sleep(1)
        parent.kill()
    until = time.monotonic() + 10
    while time.monotonic() < until and (psutil.pid_exists(int(pid)) or Path(folder).exists()):
        time.sleep(0.05)
    assert not psutil.pid_exists(int(pid)) and not Path(folder).exists()


def test_folders_of_the_dead_are_removed_and_of_the_living_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange.tempfile, "gettempdir", lambda: str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        pass
    names = [f"{dead.pid}-abc", f"{os.getpid()}-abc", "notes"]
    for name in names:
        (tmp_path / f"{exchange.PREFIX}{name}").mkdir()
    made = exchange.make_folder()
    left = {path.name.removeprefix(exchange.PREFIX) for path in tmp_path.iterdir()}
    assert left == {f"{os.getpid()}-abc", "notes", made.name.removeprefix(exchange.PREFIX)}


def test_a_folder_in_use_does_not_look_abandoned(tmp_path: Path) -> None:
    client = Client(tiny_transport)
    client._folder = tmp_path
    os.utime(tmp_path, (0, 0))
    client.poll()
    assert time.time() - tmp_path.stat().st_mtime < exchange.TOUCH_SECONDS


def test_the_client_loads_neither_torch_nor_a_window() -> None:
    code = (
        "import sys, PromptSegLib.engine.client, PromptSegLib.engine.transport; "
        "assert not {'torch', 'qt', 'PySide6', 'safetensors', 'slicer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
