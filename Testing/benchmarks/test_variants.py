"""What each variant trains, and the table that they make, on a network that costs milliseconds."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from PromptSegLib.errors import InputError
from PromptSegLib.learning.pretraining.recipe import seen_classes
from PromptSegLib.networks.backbone import count_parameters
from PromptSegLib.networks.catalog import BackboneInfo
from PromptSegLib.networks.families import build_backbone
from PromptSegLib.networks.head import is_direction
from Testing.benchmarks import __main__ as benchmarks
from Testing.benchmarks import comparing, variants
from Testing.benchmarks.methods import weights_tuner, working
from Testing.benchmarks.methods.method import Setup
from Testing.benchmarks.methods.partial import adapters, low_rank
from Testing.benchmarks.methods.variants import KEYS, Variant, variants_of
from Testing.benchmarks.methods.weights_tuner import WeightsTuner
from Testing.benchmarks.plots import plot_variants
from Testing.benchmarks.results import Results
from Testing.benchmarks.variant_table import HEADER, PAPER_GAPS, Row, gap, print_rows
from Testing.support import FAST, TINY_UNETR, drawn_scan, dsc, scan, tiny_backbone, wholly_drawn

VARIANTS = {variant.method.key: variant for variant in variants_of(tiny_backbone(), "decoder")}
SETUP = Setup(tiny_backbone(), replace(FAST, steps=1, prompting="decoder"), seconds=6)

WHOLE = [wholly_drawn(*scan())]

ATTENTION_CHANNELS = 8 + 12 + 16 + 20 + 24 + 20 + 16 + 12 + 8
"""Of the tiny network's nine blocks, each of two layers."""

HEAD = 2 * 16 * 8 + 2


@pytest.fixture
def five_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second whenever it is looked at, so that no machine is too slow for a step."""
    clock = SimpleNamespace(monotonic=partial(next, itertools.count()))
    monkeypatch.setattr(working, "time", clock)
    monkeypatch.setattr(weights_tuner, "time", clock)


@pytest.mark.usefixtures("five_steps")
@pytest.mark.parametrize("key", ["bias", "adapter", "lora", "decoder-fine-tuning", "full-fine-tuning"])
def test_a_variant_trains_what_it_says_and_nothing_else(key: str) -> None:
    before = tiny_backbone().state_dict()
    fingerprint = tiny_backbone().fingerprint()
    learned = VARIANTS[key].method.learn(WHOLE, SETUP)
    after = learned.backbone.state_dict()
    added, changed, kept = {}, set(), set()
    for name, tensor in after.items():
        name = name.replace("parametrizations.weight.original", "weight")
        if name not in before:
            added[name] = tensor
        else:
            (kept if torch.equal(before[name], tensor) else changed).add(name)
    weights = dict(tiny_backbone().named_parameters())
    # Over a window of one slice, the depth term of the position is the same for all pixels: it has no gradient.
    idle = {name for name in weights if ".position." in name and name.endswith(".2")}
    expected = {
        "bias": {name for name in weights if name.endswith("bias")},
        "adapter": set(),
        "lora": set(),
        "decoder-fine-tuning": {name for name in weights if name.startswith("decoder.")},
        "full-fine-tuning": set(weights),
    }[key]
    assert changed - idle == expected - idle and changed <= expected and changed | kept == set(before)
    assert all(tensor.any() for tensor in added.values())
    trained = sum(weights[name].numel() for name in expected) + sum(tensor.numel() for tensor in added.values())
    assert VARIANTS[key].trained == trained + sum(number.size for number in learned.token.numbers.values())
    assert tiny_backbone().fingerprint() == fingerprint
    image, truth = scan()
    assert dsc(VARIANTS[key].method.find(learned, image, None), truth) > 0.7


def test_shares_are_right_by_count() -> None:
    weights = count_parameters(tiny_backbone())
    trained = {key: variant.trained for key, variant in VARIANTS.items()}
    assert list(trained) == list(KEYS)
    head = HEAD + 2 * (8 + 12 + 16 + 20)
    assert trained["prompts-end"] == head, "directions, too"
    assert trained["prompts-full"] == head + 2 * 4 * (ATTENTION_CHANNELS + 9 * 2)
    assert trained["prompts-start"] == head + 2 * 4 * (8 + 2)
    assert trained["prompts-encoder"] + trained["prompts-decoder"] == trained["prompts-full"] + head
    assert trained["adapter"] == head + 9 * 16 + 2 * 16 * ATTENTION_CHANNELS + ATTENTION_CHANNELS
    assert trained["lora"] == head + 2 * 4 * (1 + 3 + 1 + 1) * ATTENTION_CHANNELS
    assert trained["full-fine-tuning"] == trained["scratch"] == head + weights
    attention_norms = 2 * 2 * ATTENTION_CHANNELS
    assert head + attention_norms < trained["bias"] < trained["decoder-fine-tuning"] < weights


def test_what_is_added_changes_nothing_at_first() -> None:
    image = torch.rand(1, 1, 64, 64) * 2 - 1
    network = build_backbone(tiny_backbone().preset).eval()
    with torch.no_grad():
        before = network.decode(network.encode(image))
        adapters(network)
        low_rank(network)
        assert torch.equal(network.decode(network.encode(image)), before)


@pytest.mark.usefixtures("five_steps")
def test_what_is_fitted_at_last_is_of_the_weights_as_they_are_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """No features of the weights before are kept."""
    tuners = list[WeightsTuner]()
    fit = WeightsTuner._with_directions
    monkeypatch.setattr(WeightsTuner, "_with_directions", lambda tuner: tuners.append(tuner) or fit(tuner))
    VARIANTS["full-fine-tuning"].method.learn(WHOLE, SETUP)
    (tuner,) = tuners
    assert tuner.cache.views and all(view.features is None for view in tuner.cache.views)


@pytest.mark.usefixtures("five_steps")
def test_both_start_from_the_same_head() -> None:
    heads = []
    for key in ("lora", "full-fine-tuning"):
        heads.append(VARIANTS[key].method.learn(WHOLE, replace(SETUP, seconds=0)).token.numbers)
    assert all(name.startswith("head") for name in heads[0])
    assert heads[0].keys() == heads[1].keys() and any(is_direction(name) for name in heads[0])
    assert all(np.array_equal(heads[0][name], heads[1][name]) for name in heads[0])


@pytest.mark.parametrize("prompting", ["full", "end"])
def test_a_prompting_tunes_its_own_prompts_and_finds_the_organ(prompting: str) -> None:
    variant = VARIANTS[f"prompts-{prompting}"]
    tuned = variant.method.learn([drawn_scan(), drawn_scan(seed=1)], replace(SETUP, seconds=1000))
    assert tuned.backbone is tiny_backbone() and tuned.token.prompting == prompting
    assert sum(number.size for number in tuned.token.numbers.values()) == variant.trained
    image, truth = scan()
    assert dsc(variant.method.find(tuned, image, None), truth) > 0.7


@pytest.mark.usefixtures("five_steps")
def test_from_scratch_nothing_of_the_backbone_is_left() -> None:
    learned = VARIANTS["scratch"].method.learn([drawn_scan()], SETUP)
    weights = dict(learned.backbone.named_parameters())
    assert not any(
        torch.equal(weights[name], weight) for name, weight in tiny_backbone().named_parameters() if weight.dim() > 1
    )
    assert not learned.backbone.training
    statistics = learned.backbone.state_dict()["stem.first.norm.running_mean"]
    assert statistics.any()
    image, truth = scan()
    assert VARIANTS["scratch"].method.find(learned, image, None).shape == truth.shape


@pytest.mark.usefixtures("small_benchmarks")
def test_a_run_that_is_resumed_recomputes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "read_info", lambda path: BackboneInfo(path.name, "tiny", {}, path))

    def run(methods: str) -> list[list[str]]:
        benchmarks.main(
            only="variants",
            backbone="a",
            methods=methods,
            organs="spleen",
            scans="1",
            seeds=1,
            others=1,
            seconds=0.5,
            out=tmp_path,
        )
        header, *rows = (line.split(",") for line in (tmp_path / "variants.csv").read_text().splitlines())
        assert header == list(HEADER)
        return rows

    rows = run("prompts-decoder,full-fine-tuning")
    assert [row[:3] for row in rows] == [["a", "1", v] for v in ("prompts: decoder", "full fine-tuning")]
    assert len(list(Results(tmp_path / "a" / "variants.csv"))) == 2

    def fail(*arguments: object) -> None:
        raise AssertionError("learned again")

    monkeypatch.setattr(comparing, "measured", fail)
    for again, row in zip(run("prompts-decoder,full-fine-tuning"), rows, strict=True):
        assert again[:5] == row[:5]
        # The file holds four decimals.
        assert [float(x) for x in again[5:7]] == pytest.approx([float(x) for x in row[5:7]], abs=2e-4)
    with pytest.raises(AssertionError, match="learned again"):
        run("prompts-decoder,full-fine-tuning,bias")


def _row(key: str, scores: list[float], backbone: str = "tiny-1", scans: int = 3) -> Row:
    variant: Variant = VARIANTS[key]
    by_patient = {(0, f"patient {number}"): score for number, score in enumerate(scores)}
    return Row(backbone, scans, variant, variant.trained / 10_000, by_patient, 12.3, key == "prompts-decoder")


def test_the_table_has_all_columns_and_the_gap_beneath(tmp_path: Path) -> None:
    rows = [_row("prompts-decoder", [0.5, 0.7]), _row("full-fine-tuning", [0.6, 0.66, 0.1]), _row("scratch", [0.1])]
    console = Console(width=200, record=True, quiet=False)
    variants.report(rows, console, tmp_path, tmp_path)
    text = console.export_text()
    for column in ("backbone", "drawn scans", "variant", "trained", "%", "DSC", "s", "n"):
        assert column in text
    decoder = VARIANTS["prompts-decoder"].trained
    assert f"{decoder:,}" in text and f"{decoder / 100:.3f}" in text and "0.600 ± 0.100" in text and "12.3" in text
    assert f"3.00 with 3 drawn scans (the paper: {PAPER_GAPS})" in text
    header, first, *_ = (tmp_path / "variants.csv").read_text().splitlines()
    assert header == "backbone,drawn scans,variant,trained,%,DSC,spread,s,n"
    assert first == f"tiny-1,3,prompts: decoder,{decoder},{decoder / 100},0.6,0.1,12.3,2"
    assert (tmp_path / "variants.png").stat().st_size > 10_000


def test_there_is_no_gap_without_both() -> None:
    assert gap([_row("prompts-decoder", [0.5])]) is None
    assert gap([_row("prompts-end", [0.5]), _row("full-fine-tuning", [0.6])]) is None
    console = Console(width=200, record=True)
    print_rows([_row("prompts-end", [0.5])], console)
    assert "the paper" not in console.export_text()


def test_backbones_and_numbers_of_scans_have_panels_and_lines_of_their_own(tmp_path: Path) -> None:
    rows = [
        _row(key, [0.5, 0.6], backbone, scans)
        for backbone in ("a", "b")
        for scans in (1, 3)
        for key in ("prompts-end", "bias", "scratch")
    ]
    plot_variants(tmp_path / "plot.png", rows)
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_only_what_no_backbone_saw_as_a_label_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTSEG_DATA", str(tmp_path))
    first = BackboneInfo("first", "tiny", {"base classes": ["Brainstem", "Larynx", "SpinalCord"]}, Path("first"))
    card = {"base classes": ["Mandible"], "went on from": "first", "base classes before": seen_classes(first)}
    second = BackboneInfo("second", "tiny", card, Path("second"))
    assert variants.new_classes([first], ["Mandible"]) == {"Mandible": 7}
    assert set(variants.new_classes([second], [])) == {"LeftParotid", "RightParotid", "Esophagus"}
    with pytest.raises(InputError, match="Larynx is no new class for second"):
        variants.new_classes([second], ["Larynx"])
    with pytest.raises(InputError, match="no new class to compare"):
        variants.new_classes([first], ["Spine"])


def test_all_scans_are_those_with_all_organs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openkbp").mkdir()
    rows = ["split,pt,Mandible", *(f"train,pt_{n},{n % 3}" for n in range(9)), "validation,pt_9,5"]
    (tmp_path / "openkbp" / "index.csv").write_text("\n".join(rows))
    monkeypatch.setenv("PROMPTSEG_DATA", str(tmp_path))
    assert variants.numbers_of_scans("3,1,all", ["Mandible"]) == [1, 3, 6]
    for wrong in ("7", "0", "few"):
        with pytest.raises(InputError, match=f"--scans has '{wrong}': give numbers from 1 to 6, or all"):
            variants.numbers_of_scans(wrong, ["Mandible"])
    monkeypatch.delenv("PROMPTSEG_DATA")
    with pytest.raises(InputError, match="generated scans have no end"):
        variants.numbers_of_scans("1,all", ["spleen"])


def test_a_transformer_is_refused() -> None:
    with pytest.raises(InputError, match="is a UNETR: variants are compared on a PUNet"):
        variants_of(build_backbone(TINY_UNETR), "deep")
