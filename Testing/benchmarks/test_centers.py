"""The study of centers, small: two made-up centers, a tiny network, steps counted in fractions of a second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.networks.backbone import BackboneModule, freeze
from PromptSegLib.networks.families import build_backbone
from Testing.benchmarks import leaving_out
from Testing.benchmarks.center_groups import Center, Patient, differences
from Testing.benchmarks.center_tables import change, each_table, main_table, plot
from Testing.benchmarks.centers import chosen_organs
from Testing.benchmarks.data import NEW_CLASSES
from Testing.benchmarks.leaving_out import CenterResult, Study
from Testing.benchmarks.methods import center_methods, working
from Testing.benchmarks.methods.center_methods import CENTER_METHODS, CENTER_TOKEN, NONE, CenterMethod, choose
from Testing.benchmarks.methods.method import Setup
from Testing.benchmarks.results import Rows
from Testing.benchmarks.simulated_centers import CHANGES, changed
from Testing.support import FAST, TINY_SWIN, drawn_scan, scan, tiny_backbone, tuned_token

SMALL = replace(FAST, steps=2, probe_steps=60)


def _read(seed: int, inverted: bool = False) -> tuple[Volume, Volume]:
    image, truth = scan(seed=seed)
    values = np.where(image.array > -500, 240 - image.array, image.array) if inverted else image.array
    return image.with_array(values.astype(np.int16)), image.with_array(truth.astype(np.uint8))


def _centers() -> list[Center]:
    """Of the second one, contrast is the other way round: what is bright elsewhere is dark there."""
    centers = []
    for name in ("real", "inverted"):
        read = partial(_read, inverted=name == "inverted")
        patients = [Patient(f"p{seed}", "", frozenset({"organ"}), partial(read, seed)) for seed in range(8)]
        centers.append(Center(name, tuple(patients[:5]), tuple(patients[5:7])))
    return centers


@pytest.fixture(scope="module", autouse=True)
def without_onednn() -> Iterator[None]:
    """Its backward pass frees memory twice where convolutions have as few channels as the tiny network's."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@dataclass
class _Clock:
    """Stands in for time within training: each look at it is a second."""

    now: float = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def _study(methods: Sequence[CenterMethod], folder: Path | None, seconds: float = 0.3) -> Study:
    return Study(
        centers=_centers(),
        left_out=["inverted"],
        organs={"organ": 1},
        methods=methods,
        setup=Setup(tiny_backbone(), replace(SMALL, seconds=seconds)),
        seeds=[0],
        scans=[1, 2],
        base_scans=2,
        base_seconds=1000.0,
        patients=1,
        tokens=folder,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("centers")


@pytest.fixture(scope="module")
def methods() -> list[CenterMethod]:
    return [method for method in choose("center-token,full,deep") if method.fits(tiny_backbone())]


@pytest.fixture(scope="module")
def results(folder: Path, methods: list[CenterMethod]) -> list[CenterResult]:
    rows = Rows(CenterResult, folder / "centers.csv")
    for method in methods:
        # A center token ends by its steps, the others by the clock.
        _study([method], folder / "tokens", 1000.0 if method is CENTER_TOKEN else 0.3).run(rows)
    return list(rows)


def test_every_method_is_tested_on_every_center_after_every_number_of_scans(results: list[CenterResult]) -> None:
    per_method = {key: [r for r in results if r.method == key] for key in ("none", "center-token", "full")}
    assert {r.method for r in results} == {*per_method}
    assert [len(group) for group in per_method.values()] == [2, 4, 4]
    assert all({r.tested for r in group} == {"real", "inverted"} for group in per_method.values())
    assert all(r.before == r.dsc and not r.changed for r in per_method["none"])
    assert all(r.dsc > 0.5 for r in per_method["none"] if not r.is_new), "the token must have learned something"


def test_old_centers_do_not_change_by_a_voxel_with_center_tokens(results: list[CenterResult]) -> None:
    old = [r for r in results if r.method == CENTER_TOKEN.key and not r.is_new]
    assert len(old) == 2 and all(r.dsc == r.before and r.changed == 0 for r in old)
    new = [r for r in results if r.method == CENTER_TOKEN.key and r.is_new]
    assert any(r.changed > 0 and r.dsc > r.before for r in new), "there must be a difference that could change them"
    assert change(old) == "0"
    assert change([replace(old[0], dsc=old[0].before + 1e-4), *old]) == "+0.000"


def test_the_table_and_the_picture_are_complete(results: list[CenterResult], tmp_path: Path) -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(main_table("Title", results))
        console.print(each_table("Each", results))
    text = capture.get()
    for key in ("none", "center-token", "full"):
        assert text.count(CENTER_METHODS[key].name) == (2 if key == "none" else 4)
    plot(tmp_path / "centers.png", "Title", results)
    assert (tmp_path / "centers.png").stat().st_size > 10_000


def test_a_run_that_goes_on_recomputes_nothing(
    folder: Path, methods: list[CenterMethod], results: list[CenterResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("was computed before")

    monkeypatch.setattr(leaving_out, "tune", fail)
    monkeypatch.setattr(leaving_out, "_segment", fail)
    again = Rows(CenterResult, folder / "centers.csv")
    again.add(replace(results[0], source="a patient of another run"))
    skipping = [m if m is NONE else replace(m, learn=fail) for m in methods]
    found = _study(skipping, folder / "tokens").run(again)
    assert [r.key for r in found] == [r.key for r in results]
    assert (folder / "tokens" / "inverted-organ-decoder-0.promptseg").exists()


def _learn(key: str, backbone: BackboneModule, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], set[str]]:
    """Names of the network's tensors and of the token's numbers that a method changed in a few steps."""
    token = tuned_token()
    clock = _Clock()
    for module in (center_methods, working):
        monkeypatch.setattr(module, "time", clock)
    setup = Setup(backbone, replace(SMALL, seconds=8.0))
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    adapted = CENTER_METHODS[key].learn([drawn_scan()], token, setup)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    weights = {name for name, tensor in adapted.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    numbers = {name for name, n in adapted.new.numbers.items() if not np.array_equal(n, token.numbers[name])}
    assert adapted.new.backbone.fingerprint == adapted.backbone.fingerprint()
    return weights, numbers


@pytest.mark.parametrize("key", ["head", "full", "bitfit"])
def test_methods_change_what_they_say_and_nothing_else(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbone()
    weights, numbers = _learn(key, backbone, monkeypatch)
    parameters = {name for name, _ in backbone.named_parameters()}
    assert weights <= parameters, "statistics of batch norms must stay"
    if key == "head":
        assert not weights
    elif key == "bitfit":
        assert weights and all(name.endswith("bias") for name in weights)
    else:
        assert len(weights) > 0.8 * len(parameters)
    assert numbers and all(name.startswith("head") for name in numbers) is (key != "full")


def test_prompts_are_for_transformers() -> None:
    torch.manual_seed(0)
    swin = freeze(build_backbone(TINY_SWIN))
    assert [key for key, method in CENTER_METHODS.items() if not method.fits(tiny_backbone())] == ["shallow", "deep"]
    assert all(method.fits(swin) for method in CENTER_METHODS.values())
    study = _study([CENTER_METHODS["deep"]], None)
    rows = Rows(CenterResult)
    replace(study, setup=replace(study.setup, backbone=swin), scans=[1]).run(rows)
    assert [(r.method, r.tested, r.trained_percent > 0) for r in rows] == [
        ("deep", "real", True),
        ("deep", "inverted", True),
    ]


def test_methods_are_chosen_by_name_beside_no_adaptation() -> None:
    assert [m.key for m in choose("full")] == ["none", "full"]
    assert len(choose("")) == len(CENTER_METHODS)
    with pytest.raises(InputError, match="there is no method 'lora'"):
        choose("lora")


def test_organs_are_chosen_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTSEG_DATA", str(tmp_path))
    assert chosen_organs("") == NEW_CLASSES
    assert chosen_organs("RightParotid, Mandible") == {"RightParotid": 3, "Mandible": 7}
    with pytest.raises(InputError, match="no organ 'Spleen': choose from Brainstem"):
        chosen_organs("Mandible,Spleen")


def test_centers_are_told_apart_by_what_was_done_to_them() -> None:
    patients = [Patient(f"p{seed}", "", frozenset(), partial(_read, seed)) for seed in range(16)]
    centers = [Center("real", tuple(patients), ()), Center("dose", tuple(patients), (), "low dose")]
    table = differences(centers)
    (names, *_), told = table.columns[0:1], list(table.columns[3].cells)
    assert list(names.cells) == ["real", "dose"]
    assert told[0] == "nothing to compare with" and "nothing" not in told[1]


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "unchanged"])
def test_simulated_centers_change_the_body_and_leave_the_air(name: str) -> None:
    image, _ = scan()
    other = changed(image, CHANGES[name], 0)
    body = image.array > image.array.min() + 10
    assert (other.array != image.array)[body].any()
    np.testing.assert_array_equal(other.array[~body], image.array[~body])
    np.testing.assert_array_equal(other.array, changed(image, CHANGES[name], 0).array)
