"""The command line, from its words to its exit code."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from PromptSegLib.apps import console, demo, jobs
from PromptSegLib.apps.console import spread_lists
from PromptSegLib.errors import InputError
from PromptSegLib.imaging.formats import read_image, read_label_map, write_image
from PromptSegLib.imaging.scan_statistics import scan_statistics
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.learning import tuning
from PromptSegLib.learning.shapes import shape_of
from PromptSegLib.networks import catalog, presets
from PromptSegLib.networks.backbone import count_parameters
from PromptSegLib.networks.punet import PUNet
from PromptSegLib.networks.weights import DEFAULT_BACKBONE, load_backbone
from PromptSegLib.tokens.class_token import load_token
from PromptSegLib.tokens.recognition import Profile
from PromptSegLib.tokens.shape import Shape
from PromptSegLib.tokens.size import Size
from Testing.apps.running import Run, default_backbone
from Testing.support import TINY, drawn_labels, dsc, organ, scan, tuned_token

ROOT = Path(__file__).resolve().parents[2]


def words(text: str, **changes: str | None) -> list[str]:
    """The words of a command; a change replaces what follows an option, or with None leaves the option out."""
    result = text.split()
    for name, value in changes.items():
        option = f"--{name.replace('_', '-')}"
        if option in result:
            at = result.index(option)
            del result[at : at + 2]
        if value is not None:
            result += [option, value]
    return result


TUNE = "tune --image scan.nii.gz --labels drawing.nii.gz --label 1 --name Organ --out new.promptseg --seconds 1"
SEGMENT = "segment --image scan.nii.gz --tokens organ.promptseg --out found.nii.gz"
EVALUATE = "evaluate --prediction drawing.nii.gz --reference truth.nii.gz"


def test_from_a_drawing_to_a_measured_segmentation(run: Run, folder: Path) -> None:
    color, meaning = "#0102FF", "SCT:64033007:Kidney"
    code, out, err = run(*words(TUNE, color=color, terminology=meaning, seed="3"), "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert said["token"] == "new.promptseg" and said["training"]["slices"] == 3 and not said["interrupted"]
    token = load_token(folder / "new.promptseg")
    assert (token.color, token.training.seed) == ((1, 2, 255), 3)
    assert token.terminology is not None and token.terminology.meaning == "Kidney"
    assert token.size is not None, "of what was found between the drawn slices"
    assert token.size.ml == pytest.approx(organ().sum() * 0.012, rel=0.3)

    tokens = ["organ.promptseg", "new.promptseg"]
    code, out, err = run("segment", "--image", "scan.nii.gz", "--tokens", *tokens, *words("--out found.nrrd --json"))
    assert (code, err) == (0, "")
    assert [(found["label"], found["name"]) for found in json.loads(out)["classes"]] == [(1, "Organ"), (2, "Organ")]

    code, out, err = run(*words(SEGMENT), "--probabilities", "maps", "--drawn", "drawing.nii.gz", "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)["classes"]
    labels, image = read_label_map(folder / "found.nii.gz"), read_image(folder / "scan.nii.gz")
    assert labels.geometry == image.geometry and labels.array.dtype == np.uint8
    assert found["ml"] == pytest.approx(labels.array.sum() * 0.012, abs=0.01)
    assert read_image(folder / "maps" / "1_Organ.nii.gz").array.dtype == np.float32
    assert np.array_equal(labels.array[6] == 1, organ()[6])
    assert dsc(labels.array == 1, organ()) > 0.8

    code, out, err = run(*words(EVALUATE, prediction="found.nii.gz"), "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert row["label"] == 1 and row["dsc"] == pytest.approx(dsc(labels.array == 1, organ()))


def test_a_drawing_corrects_what_a_token_of_other_scans_finds(run: Run, folder: Path) -> None:
    """Elsewhere, what the token knows counts, and not the shape between a few drawn slices."""
    image, truth = scan()
    profile, shape = Profile(3, {"noise": 1.0}, {"noise": 0.1}), shape_of(truth, image.geometry)
    assert shape is not None
    here, elsewhere = Profile.of([scan_statistics(image)]), profile
    write_image(image.with_array(drawn_labels(truth, (3,))), folder / "slice.nii.gz")
    found = {}
    for name, of in (("here", here), ("elsewhere", elsewhere)):
        replace(load_token(folder / "organ.promptseg"), shapes=(shape,), profile=of).save(folder / f"{name}.promptseg")
        code, _, err = run(*words(SEGMENT, tokens=f"{name}.promptseg"), "--drawn", "slice.nii.gz")
        assert (code, err) == (0, "")
        found[name] = read_label_map(folder / "found.nii.gz").array == 1
        assert np.array_equal(found[name][3], truth[3])
    assert dsc(found["elsewhere"], truth) > dsc(found["here"], truth)


def test_the_same_for_people(run: Run) -> None:
    for command in (SEGMENT, EVALUATE, "tokens info organ.promptseg", "tokens list .", "backbones list"):
        code, out, err = run(*words(command))
        assert code == 0 and out.strip(), err
    assert "Organ" in run("tokens", "info", "organ.promptseg")[1]
    assert DEFAULT_BACKBONE in run("backbones", "info", DEFAULT_BACKBONE)[1]
    assert re.fullmatch(r"promptseg \d+\.\d+\S*\n", run("--version")[1])


def test_a_token_of_ct_says_so_on_another_scan(run: Run, folder: Path) -> None:
    image = read_image(folder / "scan.nii.gz")
    write_image(image.with_array(image.array + 1500), folder / "mr.nii.gz")
    code, _, err = run(*words(SEGMENT, image="mr.nii.gz"), "--json")
    assert code == 0 and "'Organ' was learned on CT scans, and this does not look like such a scan" in err


def test_tokens(run: Run, folder: Path) -> None:
    code, out, _ = run("tokens", "info", "organ.promptseg", "--json")
    said = json.loads(out)
    assert code == 0 and said["name"] == "Organ" and said["bytes"] == (folder / "organ.promptseg").stat().st_size
    assert said["trained numbers"] == sum(array.size for array in tuned_token().numbers.values())
    code, out, _ = run("tokens", "info", "organ.promptseg")
    assert code == 0 and "where in the body" in out and "ml)" not in out and "shape (" not in out
    shape = Shape(np.ones((3, 3, 3), np.int8), 4.0)
    replace(tuned_token(), size=Size(21.5, 0.3), shapes=(shape, shape)).save(folder / "whole.promptseg")
    code, out, _ = run("tokens", "info", "whole.promptseg")
    assert code == 0 and "its size (about 21.5 ml), its shape (2 scans)" in out
    (folder / "whole.promptseg").unlink()
    (folder / "bad.promptseg").write_bytes(b"no token")
    code, out, _ = run("tokens", "list", ".", "--json")
    bad, good = json.loads(out)
    assert code == 0 and good["name"] == "Organ" and good["problem"] is None
    assert "damaged" in bad["problem"] and "name" not in bad


def test_backbones(run: Run, folder: Path, backbones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "SHIPPED_FOLDERS", (folder,))
    (folder / "bad.safetensors").write_bytes(b"no backbone")
    code, out, _ = run("backbones", "list", "--json")
    path = str(backbones / f"{DEFAULT_BACKBONE}.safetensors")
    good, bad = json.loads(out)
    assert code == 0
    assert good == {"path": path, "problem": None, "name": DEFAULT_BACKBONE, "family": "PUNet", "preset": "tiny"}
    assert "cannot read the backbone" in bad["problem"] and "name" not in bad
    code, out, _ = run("backbones", "list")
    assert code == 0 and path in out and "unusable: cannot read the backbone" in out
    for name in (DEFAULT_BACKBONE, path):
        code, out, _ = run("backbones", "info", name, "--json")
        said = json.loads(out)
        assert code == 0 and said["license"] == "CC0" and said["fingerprint"] == default_backbone().fingerprint()
        assert said["family"] == "PUNet" and said["weights"] == count_parameters(default_backbone())
        tuned = sum(array.size for array in tuned_token().numbers.values())
        assert said["trained"]["decoder"] == tuned + sum(default_backbone().level_channels), "for other scans"


def test_presets(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "PRESETS", {TINY.name: TINY})
    code, out, _ = run("backbones", "presets", "--json")
    (said,) = json.loads(out)
    assert code == 0 and (said["preset"], said["family"]) == ("tiny", "PUNet")
    assert said["weights"] == count_parameters(default_backbone()) and list(said["trained"])[-1] == "full"
    assert f"{said['trained']['full']:,}" in run("backbones", "presets")[1]


@pytest.mark.parametrize("name", ["[/b] of [red]kidney", "[link=file:x]", "\\[b]", "100%", "Ωμ 肝臓"])
def test_names_are_shown_as_they_are(run: Run, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Square brackets are rich's markup, but not in a name."""
    token = replace(load_token(folder / "organ.promptseg"), name=name)
    token.save(folder / "organ.promptseg")
    for command in ("tokens info organ.promptseg", "tokens list .", SEGMENT):
        code, out, err = run(*words(command))
        assert code == 0 and name in out, err
    monkeypatch.setattr(tuning, "tune", lambda *arguments, **options: token)
    code, out, err = run(*words(TUNE, name=None), "--name", name)
    assert code == 0 and name in out, err


def test_names_that_the_encoding_lacks(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As into a pipe on Windows: escaped for people, and UTF-8 for machines."""
    name = "Rötung 肝臓 \U0001f600"
    replace(load_token(folder / "organ.promptseg"), name=name).save(folder / "organ.promptseg")
    told = []
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "stdout", TextIOWrapper(BytesIO(), encoding="cp1252"))
        assert run("tokens", "info", "organ.promptseg", *more)[0] == 0
        sys.stdout.flush()
        told.append(sys.stdout.buffer.getvalue())  # type: ignore[attr-defined]
    assert "Rötung \\u809d\\u81d3 \\U0001f600" in told[0].decode("cp1252")
    assert json.loads(told[1].decode("utf-8"))["name"] == name


def broken_token(path: Path, kind: str) -> None:
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "other":
        reference = replace(load_token(path).backbone, fingerprint="0" * 64)
        replace(load_token(path), backbone=reference).save(path)
    elif kind == "huge":
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header["head.offset"]["shape"] = [10**12]
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def make_bad_files(folder: Path) -> None:
    """Every kind of file that is not what it should be."""
    image, truth = scan()
    (folder / "noise.nii.gz").write_bytes(os.urandom(2000))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 4, 8, 8), np.int16), isVector=False), str(folder / "4d.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 8, 8, 3), np.uint8), isVector=True), str(folder / "rgb.nrrd"))
    values = image.array.astype(np.float32)
    values[3, 3, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / "nan.nrrd"))
    other, other_truth = scan((10, 64, 64))
    write_image(other.with_array(drawn_labels(other_truth, [5])), folder / "shorter.nii.gz")
    moved = replace(image.geometry, origin=(0.0, 0.0, 30.0))
    write_image(Volume(drawn_labels(truth), moved), folder / "moved.nii.gz")
    write_image(image.with_array(np.zeros(truth.shape, np.uint8)), folder / "empty.nii.gz")
    write_image(image.with_array(np.ones(truth.shape, np.uint8)), folder / "full.nii.gz")
    write_image(image.with_array(np.full(truth.shape, 0.5, np.float32)), folder / "half.nii.gz")
    write_image(image.with_array(drawn_labels(truth, label=7)), folder / "seven.nii.gz")
    write_image(image.with_array(-drawn_labels(truth).astype(np.int16)), folder / "negative.nii.gz")
    for kind in ("truncated", "other", "huge"):
        (folder / f"{kind}.promptseg").write_bytes((folder / "organ.promptseg").read_bytes())
        broken_token(folder / f"{kind}.promptseg", kind)
    (folder / "card.json").write_text("[]")


BAD_INPUT: list[tuple[str, dict[str, str | None], str]] = [
    (TUNE, {"image": "missing.nii.gz"}, "missing.nii.gz does not exist"),
    (TUNE, {"image": "noise.nii.gz"}, "noise.nii.gz"),
    (TUNE, {"image": "4d.nii.gz"}, "4 dimensions"),
    (TUNE, {"image": "rgb.nrrd"}, "several numbers per voxel"),
    (TUNE, {"image": "nan.nrrd"}, "not finite"),
    (TUNE, {"image": "maps"}, "holds no DICOM image"),
    (TUNE, {"series": "3"}, "no series can be chosen"),
    (TUNE, {"labels": "missing.nii.gz"}, "missing.nii.gz does not exist"),
    (TUNE, {"labels": "shorter.nii.gz"}, "does not lie on the grid"),
    (TUNE, {"labels": "moved.nii.gz"}, "does not lie on the grid"),
    (TUNE, {"labels": "empty.nii.gz"}, "nothing painted"),
    (TUNE, {"labels": "full.nii.gz"}, "nothing is background"),
    (TUNE, {"labels": "half.nii.gz"}, "whole numbers"),
    (TUNE, {"label": "2"}, "label 2 is not in drawing.nii.gz"),
    (TUNE, {"label": "0"}, "cannot be learned"),
    (TUNE, {"name": " "}, "needs a name"),
    (TUNE, {"out": "missing/new.promptseg"}, "does not exist"),
    (TUNE, {"out": "new.nii.gz"}, "must end in .promptseg"),
    (TUNE, {"backbone": "missing"}, f"no backbone 'missing': choose one of {DEFAULT_BACKBONE}"),
    (TUNE, {"backbone": "missing.safetensors"}, "no backbone file"),
    (TUNE, {"backbone": "scan.nii.gz"}, "scan.nii.gz"),
    (TUNE, {"prompting": "sideways"}, "no prompting 'sideways'"),
    (TUNE, {"device": "abacus"}, "no device 'abacus'"),
    (TUNE, {"color": "orange"}, "'orange' is no color"),
    (TUNE, {"color": "#12345678"}, "is no color"),
    (TUNE, {"terminology": "Kidney"}, "is no terminology"),
    (TUNE + " --image scan.nii.gz", {}, "2 images but 1 drawings"),
    (TUNE + " --scribbles --complete", {}, "not as both"),
    (SEGMENT, {"image": "missing.nii.gz"}, "missing.nii.gz does not exist"),
    (SEGMENT, {"image": "4d.nii.gz"}, "4 dimensions"),
    (SEGMENT, {"tokens": "missing.promptseg"}, "no class token missing.promptseg"),
    (SEGMENT, {"tokens": "scan.nii.gz"}, "scan.nii.gz"),
    (SEGMENT, {"tokens": "truncated.promptseg"}, "damaged or cut off"),
    (SEGMENT, {"tokens": "other.promptseg"}, "belongs to the backbone"),
    (SEGMENT, {"tokens": "huge.promptseg"}, "more numbers than a class token can hold"),
    (SEGMENT, {"out": "missing/found.nii.gz"}, "does not exist"),
    (SEGMENT, {"out": "found.txt"}, "no known image suffix"),
    (SEGMENT, {"out": "./scan.nii.gz"}, "over scan.nii.gz, which is needed"),
    (SEGMENT, {"out": "drawing.nii.gz", "drawn": "drawing.nii.gz"}, "over drawing.nii.gz, which is needed"),
    (SEGMENT, {"image": "maps/1_Organ.nii.gz", "probabilities": "maps"}, "over maps/1_Organ.nii.gz, which is needed"),
    (SEGMENT, {"out": "maps/1_Organ.nii.gz", "probabilities": "maps"}, "over maps/1_Organ.nii.gz, which is needed"),
    (SEGMENT, {"probabilities": "missing"}, "does not exist"),
    (SEGMENT, {"drawn": "shorter.nii.gz"}, "does not lie on the grid"),
    (SEGMENT, {"drawn": "empty.nii.gz"}, "nothing painted"),
    (SEGMENT, {"drawn": "seven.nii.gz"}, "label 7, but there are 1 tokens"),
    (SEGMENT, {"drawn": "negative.nii.gz"}, "label -1"),
    (SEGMENT, {"device": "abacus"}, "no device 'abacus'"),
    (EVALUATE, {"prediction": "missing.nii.gz"}, "does not exist"),
    (EVALUATE, {"prediction": "shorter.nii.gz"}, "does not lie on the grid"),
    (EVALUATE, {"reference": "half.nii.gz"}, "whole numbers"),
    ("tokens info missing.promptseg", {}, "no class token"),
    ("tokens list missing", {}, "no folder missing"),
    ("backbones info missing", {}, "no backbone 'missing'"),
    ("backbones info organ.promptseg", {}, "organ.promptseg is not a PromptSeg backbone"),
    ("pretrain --data missing --out a.safetensors", {}, "data folder missing does not exist"),
    ("pretrain --data . --out a.bin", {}, "must end in .safetensors"),
    ("pretrain --data . --out missing/a.safetensors", {}, "does not exist"),
    ("pretrain --data . --out a.safetensors --classes liver", {}, "'liver' is no base class"),
    ("pretrain --data . --out a.safetensors --classes 1:", {}, "is no base class"),
    ("pretrain --data . --out a.safetensors --classes 1:A,01:B", {}, "'01:B' repeats a number or a name"),
    ("pretrain --data . --out a.safetensors --classes 1:A,2:B,3:A", {}, "'3:A' repeats a number or a name"),
    ("pretrain --data . --out a.safetensors --pairs 0", {}, "nothing to learn from"),
    ("pretrain --data . --out a.safetensors --card missing.json", {}, "no model card"),
    ("pretrain --data . --out a.safetensors --cache card.json", {}, "card.json is a file, and prepared scans need"),
    ("pretrain --data . --out a.safetensors --log card.json/log", {}, "card.json is a file, and logs need a folder"),
    ("pretrain --data . --out a.safetensors --card scan.nii.gz", {}, "is not JSON"),
    ("pretrain --data . --out a.safetensors --card card.json", {}, "one JSON object"),
]


def is_sentence(err: str) -> bool:
    """Whether that is all there is on standard error: one line, no progress and no traceback."""
    return re.fullmatch(r"promptseg: [^\n]+\n", err) is not None


def sentence(err: str) -> str:
    assert is_sentence(err), err
    return err


def test_bad_input(run: Run, folder: Path) -> None:
    """Exit code 2, one sentence on standard error, and nothing written."""
    make_bad_files(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    problems = []
    for command, changes, expected in BAD_INPUT:
        code, out, err = run(*words(command, **changes))
        after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        if (code, out) != (2, "") or not is_sentence(err) or expected not in err or after != before:
            problems.append((command, changes, code, err))
    assert not problems


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", "--nonsense"],
        ["nonsense"],
        ["segment"],
        [*words(TUNE, seconds="0")],
        [*words(TUNE, label="one")],
        [*words(TUNE, seed="-1")],
        [*words(TUNE, seed="18446744073709551615")],
        ["tokens", "info"],
        ["tokens", "nonsense"],
    ],
)
def test_usage_errors(run: Run, arguments: list[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2 and "Usage: promptseg" in err and "Traceback" not in err


def test_help_comes_without_torch() -> None:
    code = "import sys\nfrom PromptSegLib.apps.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "sys.exit(bool({'torch', 'monai', 'SimpleITK'} & set(sys.modules)))"
    for arguments in (["--help"], ["segment", "--help"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_no_space_left(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(folder.rglob("*"))

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    token = load_token(folder / "organ.promptseg")
    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(tuning, "tune", lambda *arguments, **options: token)
    for command in (TUNE, SEGMENT):
        code, _, err = run(*words(command))
        assert code == 2 and "no space left" in sentence(err)
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "command",
    [
        words(TUNE, out="folder.promptseg"),
        words(TUNE, out="/proc/new.promptseg"),
        words(SEGMENT, out="folder.nii.gz"),
        words(SEGMENT, out="/proc/found.nii.gz"),
        words(SEGMENT, probabilities="/proc"),
        words(SEGMENT, probabilities="scan.nii.gz"),
        words("demo --out scan.nii.gz"),
        words("demo --out /proc"),
        words("pretrain --data . --out folder.safetensors"),
    ],
)
def test_what_cannot_be_written_is_found_before_the_work(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Also by root, whom no permission keeps from writing, but who can make no file in /proc."""
    for suffix in ("promptseg", "nii.gz", "safetensors"):
        (folder / f"folder.{suffix}").mkdir()
    for module, name in ((jobs, "read_image"), (tuning, "tune"), (demo, "make_phantom")):
        monkeypatch.setattr(module, name, lambda *arguments, **options: pytest.fail("it began"))
    code, _, err = run(*command)
    assert code == 2 and sentence(err)


def test_what_was_there_stays_when_input_is_bad(run: Run, folder: Path) -> None:
    (folder / "found.nii.gz").write_bytes(b"precious")
    assert run(*words(SEGMENT, tokens="scan.nii.gz"))[0] == 2
    assert (folder / "found.nii.gz").read_bytes() == b"precious"


def test_interrupted_in_the_middle_of_segmenting(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = PUNet.encode

    def interrupt(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return encode(*arguments, **options)

    monkeypatch.setattr(PUNet, "encode", interrupt)
    code, out, err = run(*words(SEGMENT))
    assert (code, out) == (130, "") and "interrupted" in sentence(err)
    assert not (folder / "found.nii.gz").exists()


INTERRUPTED = """
import sys
from PromptSegLib.apps.cli import main
from PromptSegLib.learning import tuning
from PromptSegLib.networks import presets
from Testing.support import TINY
presets.PRESETS[TINY.name] = TINY
tune = tuning.tune
def loud(*arguments, report, **options):
    def say(progress):
        print("step", progress.step, file=sys.stderr, flush=True)
        report(progress)
    return tune(*arguments, report=say, **options)
tuning.tune = loud
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_ctrl_c_leaves_a_valid_token(folder: Path) -> None:
    arguments = words(TUNE, seconds="200", image=str(folder / "scan.nii.gz"), labels=str(folder / "drawing.nii.gz"))
    arguments = [*words(" ".join(arguments), out=str(folder / "new.promptseg")), "--json"]
    command = [sys.executable, "-c", INTERRUPTED, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first == "step 1\n", first + process.stderr.read()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the best token so far was written" in err and "Traceback" not in err
    assert json.loads(out)["interrupted"] is True
    network = load_backbone(Path(os.environ["PROMPTSEG_BACKBONES"]) / f"{DEFAULT_BACKBONE}.safetensors")
    shapes = tuning.token_shapes(network, "end")
    load_token(folder / "new.promptseg").require_backbone(network.name, network.fingerprint(), shapes)


values = st.sampled_from(["a.promptseg", "b", "scan.nii.gz", "7", "x=y", "ü"])
lists = st.tuples(st.sampled_from(["--image", "--labels", "--tokens"]), st.lists(values, min_size=1, max_size=4))
singles = st.tuples(st.sampled_from(["--out", "--label", "--name"]), st.lists(values, min_size=1, max_size=1))
flags = st.tuples(st.sampled_from(["--json", "--complete", "-h"]), st.just([]))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(command=st.sampled_from(["tune", "segment"]), options=st.lists(lists | singles | flags, max_size=6))
def test_lists_are_spread(command: str, options: list[tuple[str, list[str]]]) -> None:
    given_words, expected, with_equals = [command], [command], [command]
    for name, found in options:
        given_words += [name, *found]
        for value in found:
            expected += [name, value]
        if not found:
            expected.append(name)
        with_equals += [f"{name}={found[0]}", *found[1:]] if found else [name]
    assert spread_lists(given_words) == expected
    assert spread_lists(expected) == expected
    spread = spread_lists(with_equals)
    assert [word for part in spread for word in (part.split("=", 1) if part.startswith("--") else [part])] == expected


def test_an_error_is_one_sentence_whatever_it_holds(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise InputError("[/b] a path with [red]brackets[/red] " + "and many words " * 30)

    monkeypatch.setattr(tuning, "tune", fail)
    code, _, err = run(*words(TUNE))
    assert code == 2 and "[red]brackets[/red]" in sentence(err)


def test_progress_is_drawn_only_when_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    for watched, quiet in ((True, False), (True, True), (False, False)):
        screen = StringIO()
        monkeypatch.setattr(console, "errors", Console(file=screen, force_terminal=watched, width=200))
        with console.progress_bar("Learning [/b]", quiet) as show:
            show(0.5, "[red]")
        drawn = screen.getvalue()
        assert ("Learning [/b]" in drawn and "[red]" in drawn) if watched and not quiet else not drawn
