"""The curve of pre-training, on networks that cost milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from PromptSegLib.errors import InputError
from PromptSegLib.imaging.volume import Volume
from PromptSegLib.networks import presets
from PromptSegLib.networks.catalog import BackboneInfo
from PromptSegLib.networks.weights import save_backbone
from Testing.benchmarks import data, pretraining
from Testing.benchmarks.pretraining import ACROSS, HEADER, IN_SCAN, Probe, Probing, curves, in_order, smoothed
from Testing.benchmarks.results import Rows
from Testing.benchmarks.scoring import average_precision
from Testing.support import TINY, scan, tiny_backbone

LOSSES = "step,segmentation,synthetic\n1,0.9,\n2,0.7,5\n3,0.5,\n"


def test_average_precision_by_hand() -> None:
    truth = np.array([[True, False], [True, False]])
    assert average_precision(np.array([[4.0, 2.0], [3.0, 1.0]]), truth) == 1
    assert average_precision(np.array([[4.0, 3.0], [2.0, 1.0]]), truth) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([[1.0, 3.0], [2.0, 4.0]]), truth) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert average_precision(np.zeros((2, 2)), truth) == 0.5, "equal scores come together, wherever they stand"
    assert average_precision(np.zeros((2, 2)), np.zeros((2, 2), dtype=bool)) == 0


def test_losses_are_averaged_over_the_steps_that_had_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.losses.csv"
    path.write_text(LOSSES)
    monkeypatch.setattr(pretraining, "SMOOTHED", 2)
    found = smoothed(path)
    assert found["segmentation"][0].tolist() == [1, 2, 3] and found["synthetic"][0].tolist() == [2]
    assert found["segmentation"][1] == pytest.approx([0.9, 0.8, 0.6]) and found["synthetic"][1] == pytest.approx([5])
    path.write_text("step,segmentation\n")
    for wrong in (path, tmp_path / "missing.csv"):
        with pytest.raises(InputError, match=r"holds no losses .* give the NAME.losses.csv of a run"):
            smoothed(wrong)


def info(name: str, file: str, **card: object) -> BackboneInfo:
    return BackboneInfo(name, "tiny", card, Path(file))


def test_backbones_are_ordered_by_step() -> None:
    whole = {"schedule": {"steps": 1000}, "went on from": "a-1"}
    last, kept = info("a-2", "a-2", **whole), info("a-2", "a-2-step400", step=400, **whole)
    start = info("a-1", "a-1", schedule={"steps": 8000})
    assert in_order([last, start, kept]) == {0: start, 400: kept, 1000: last}
    assert list(in_order([last, start, kept])) == [0, 400, 1000]
    with pytest.raises(InputError, match="a-2-step400 and a-2-copy are both of step 400"):
        in_order([kept, info("a-2", "a-2-copy", step=400)])
    with pytest.raises(InputError, match="a-3 does not say of which step it is"):
        in_order([info("a-3", "a-3")])


def test_patients_count_alike() -> None:
    def probe(source: str, organ: str, dsc: float) -> Probe:
        return Probe("a", 4, ACROSS, source, organ, 1, dsc, dsc / 2)

    rows = [probe("one", "spleen", 0.2), probe("one", "liver", 0.4), probe("two", "spleen", 0.8)]
    found = curves(rows)
    assert found["DSC"][ACROSS][4] == pytest.approx([0.3, 0.8])
    assert found["average precision"][ACROSS][4] == pytest.approx([0.15, 0.4])


def _small_scans(part: str, count: int, organs: object = ()) -> Iterator[tuple[str, Volume, Volume]]:
    assert part == "train", "steps are chosen by it"
    for number in range(count):
        image, truth = scan(seed=number)
        yield f"patient {number}", image, image.with_array(truth.astype(np.uint8) * data.PHANTOM_CLASSES["spleen"])


def test_the_curve_from_files_to_the_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run computes only what is missing."""
    monkeypatch.delenv("PROMPTSEG_DATA", raising=False)
    monkeypatch.setitem(presets.PRESETS, TINY.name, TINY)
    monkeypatch.setattr(pretraining, "scans", _small_scans)
    files = [tmp_path / f"tiny-1{ending}.safetensors" for ending in ("", "-step2")]
    # Of random features, too, some tell the organ by its brightness, and some do not.
    save_backbone(tiny_backbone(), files[0], {"schedule": {"steps": 4}})
    save_backbone(tiny_backbone(seed=1), files[1], {"schedule": {"steps": 4}, "step": 2})
    losses, out = tmp_path / "tiny-1.losses.csv", tmp_path / "out"
    losses.write_text(LOSSES)

    def run(names: list[Path]) -> list[list[str]]:
        pretraining.main(
            list(map(str, names)),
            losses=losses,
            organs="spleen",
            source_scans=1,
            others=1,
            device="cpu",
            out=out,
            plot_folder=tmp_path,
        )
        header, *lines = (line.split(",") for line in (out / "pretraining.csv").read_text().splitlines())
        assert header == list(HEADER)
        return lines

    (first, second) = run(files[1:])
    assert first[0] == second[0] == "2" and first[1].startswith("tiny-1-step2 ")
    assert (first[2], second[2]) == (ACROSS, IN_SCAN)
    probed: list[str] = []
    add = Probing._add

    def count(self: Probing, where: str, source: str, *rest: object) -> Probe:
        probed.append(f"{self.step} {where} {source}")
        return add(self, where, source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Probing, "_add", count)
    lines = run(files)
    # The first patient is the one that is learned from.
    assert probed == [f"4 {where} patient 1" for where in (ACROSS, IN_SCAN)]
    assert lines[:2] == [first, second] and [line[0] for line in lines[2:]] == ["4", "4"]
    for before, after in zip(lines[:2], lines[2:], strict=True):
        assert float(before[5]) < 0.1 and float(after[5]) > 0.4, "average precision"
    assert len(list(Rows(Probe, out / "probes.csv"))) == 4
    assert "Linear probe on new classes" in capsys.readouterr().out
    assert (tmp_path / "pretraining.png").stat().st_size > 10_000
