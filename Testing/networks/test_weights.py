"""Backbone files: what is written is what is read, and a bad file is refused in one sentence."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.imaging import files
from PromptSegLib.networks import catalog, presets
from PromptSegLib.networks.catalog import find_backbone, list_backbones, read_info
from PromptSegLib.networks.presets import PUNetPreset
from PromptSegLib.networks.punet import PUNet
from PromptSegLib.networks.weights import load_backbone, save_backbone

TINY = PUNetPreset("tiny", (24, 24), (4, 4), (4, 8, 8), heads=2, prompt_tokens=2)
CARD = {"license": "CC BY 4.0", "classes": ["liver", "spleen"], "steps": 3}


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset whose file is a few kilobytes."""
    monkeypatch.setitem(presets.PRESETS, TINY.name, TINY)
    torch.manual_seed(0)


@pytest.fixture
def network() -> PUNet:
    network = PUNet(TINY, "tiny-1")
    with torch.no_grad():
        network.decode(network.encode(torch.randn(2, 1, 24, 24)))  # in training mode: moves the running statistics
    return network


@pytest.fixture
def path(network: PUNet, tmp_path: Path) -> Path:
    path = tmp_path / "tiny-1.safetensors"
    save_backbone(network, path, CARD)
    return path


def rewrite(path: Path, tensors: dict[str, Tensor] | None = None, **metadata: str) -> None:
    """The same file with other tensors or other metadata."""
    with safe_open(path, framework="pt") as file:
        known = file.metadata()
    save_file(tensors if tensors is not None else load_file(path), path, known | metadata)


def test_round_trip(network: PUNet, path: Path) -> None:
    loaded = load_backbone(path)
    assert loaded.name == "tiny-1" and loaded.preset == TINY
    expected = network.state_dict()
    assert any((tensor != 0).any() for name, tensor in expected.items() if name.endswith("running_mean"))
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        like = expected[name].half().float() if tensor.is_floating_point() else expected[name]
        assert torch.equal(tensor, like), name


def test_loaded_network_is_frozen(path: Path) -> None:
    loaded = load_backbone(path)
    assert not any(module.training for module in loaded.modules())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_fingerprint_is_that_of_the_file(path: Path, tmp_path: Path) -> None:
    loaded = load_backbone(path)
    assert loaded.fingerprint() == load_backbone(path).fingerprint()
    save_backbone(loaded, tmp_path / "copy.safetensors", CARD)
    assert load_backbone(tmp_path / "copy.safetensors").fingerprint() == loaded.fingerprint()


def test_file_is_in_half_precision(path: Path) -> None:
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16, torch.int64}


def test_the_catalog_loads_no_torch() -> None:
    """Slicer's window lists backbones before torch is installed."""
    code = "import sys, PromptSegLib.networks.catalog; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2], check=False).returncode
        == 0
    )


def test_description_is_read_without_the_weights(path: Path) -> None:
    info = read_info(path)
    assert (info.name, info.preset, info.card, info.path) == ("tiny-1", "tiny", CARD, path)


# Bad files


def test_missing_file(tmp_path: Path) -> None:
    missing = tmp_path / "none.safetensors"
    with pytest.raises(InputError, match=r"there is no backbone file .*none.safetensors"):
        find_backbone(str(missing))
    with pytest.raises(InputError, match=r"cannot read the backbone .*none.safetensors"):
        load_backbone(missing)


@pytest.mark.parametrize("kept", [0, 4, 200, -1])
def test_truncated_file(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"cannot read the backbone .*tiny-1.safetensors"):
        load_backbone(path)


def test_file_of_another_kind(tmp_path: Path) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("these are no weights, only words")
    with pytest.raises(InputError, match="cannot read the backbone"):
        read_info(text)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(InputError, match="is not a PromptSeg backbone: choose"):
        read_info(other)


def test_other_version(path: Path) -> None:
    rewrite(path, version="2")
    with pytest.raises(InputError, match=r"has backbone format 2, .*: update PromptSeg"):
        load_backbone(path)


def test_unknown_preset(path: Path) -> None:
    rewrite(path, preset="giant")
    with pytest.raises(InputError, match="there is no preset 'giant'"):
        load_backbone(path)


def test_wrong_shape(path: Path) -> None:
    tensors = load_file(path)
    tensors["stem.first.conv.weight"] = torch.zeros(4, 1, 5, 5)
    rewrite(path, tensors)
    with pytest.raises(InputError, match=r"'stem.first.conv.weight' has shape \(4, 1, 5, 5\), not \(4, 1, 3, 3\)"):
        load_backbone(path)


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_wrong_names(path: Path, change: str) -> None:
    tensors = load_file(path)
    if change == "missing":
        del tensors["stem.first.conv.weight"]
    else:
        tensors["bonus"] = torch.zeros(1)
    rewrite(path, tensors)
    with pytest.raises(InputError, match="does not hold the weights of preset tiny"):
        load_backbone(path)


# Finding


@pytest.mark.parametrize(
    "metadata",
    [
        {"card": "[]"},
        {"card": "5"},
        {"card": "[" * 100_000},
        {"name": "a\x1b[2J"},
        {"name": "a\nb"},
        {"preset": "\x07"},
    ],
)
def test_damaged_description(folders: tuple[Path, Path], metadata: dict[str, str]) -> None:
    """It is refused, and does not stand in the way of others."""
    mine = folders[0] / "mine.safetensors"
    rewrite(mine, **metadata)
    with pytest.raises(InputError, match="has a damaged description") as caught:
        read_info(mine)
    assert str(caught.value).isprintable()
    assert [entry.path.name for entry in catalog.list_files() if entry.problem] == [mine.name]
    assert [info.name for info in list_backbones()] == ["tiny-1", "tiny-2"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(path: Path, value: float) -> None:
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = value
    rewrite(path, tensors)
    with pytest.raises(InputError, match=f"'{name}' holds numbers that are not finite: get the file again"):
        load_backbone(path)


@pytest.fixture
def folders(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's folder, named by PROMPTSEG_BACKBONES, and the shipped one; both hold a 'tiny-1'."""
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    own.mkdir()
    shipped.mkdir()
    (own / "mine.safetensors").write_bytes(path.read_bytes())
    (shipped / "tiny-1.safetensors").write_bytes(path.read_bytes())
    save_backbone(PUNet(TINY, "tiny-2"), shipped / "tiny-2.safetensors", {})
    monkeypatch.setenv("PROMPTSEG_BACKBONES", str(own))
    monkeypatch.setattr(catalog, "SHIPPED_FOLDERS", (shipped,))
    return own, shipped


def test_find_by_name_and_by_path(folders: tuple[Path, Path], path: Path) -> None:
    own, shipped = folders
    assert [info.name for info in list_backbones()] == ["tiny-1", "tiny-2"]
    assert find_backbone("tiny-1") == own / "mine.safetensors"
    assert find_backbone("tiny-2") == shipped / "tiny-2.safetensors"
    assert find_backbone(str(path)) == path


def test_what_was_kept_along_pretraining_does_not_stand_in_for_the_whole(folders: tuple[Path, Path]) -> None:
    _, shipped = folders
    save_backbone(PUNet(TINY, "tiny-2"), shipped / "tiny-2-step10.safetensors", {"step": 10})
    assert find_backbone("tiny-2") == shipped / "tiny-2.safetensors"
    assert [info.path.name for info in list_backbones()] == ["mine.safetensors", "tiny-2.safetensors"]


def test_unknown_name_lists_the_known_ones(folders: tuple[Path, Path]) -> None:
    """Whatever else lies beside them."""
    for name in ("broken.safetensors", "._mine.safetensors"):
        (folders[0] / name).write_bytes(b"no backbone")
    assert [info.name for info in list_backbones()] == ["tiny-1", "tiny-2"]
    with pytest.raises(InputError, match="there is no backbone 'tiny-9': choose one of tiny-1, tiny-2"):
        find_backbone("tiny-9")


def test_unknown_name_without_any_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMPTSEG_BACKBONES", raising=False)
    monkeypatch.setattr(catalog, "SHIPPED_FOLDERS", (tmp_path / "absent",))
    with pytest.raises(InputError, match="there is no backbone 'tiny-9': choose one of none"):
        find_backbone("tiny-9")


# Writing


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_keeps_the_old_file(network: PUNet, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    with torch.no_grad():
        network.stem.first.conv.weight += 1
    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(InputError, match=r"no space left to write .*tiny-1.safetensors: free some"):
        save_backbone(network, path, CARD)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_full_disk_leaves_nothing(network: PUNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullFile:
        """A file that takes the first bytes and then finds the disk full."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> FullFile:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[:100])
            no_space()

    open_path = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: FullFile(open_path(path, mode)))
    with pytest.raises(InputError, match="no space left"):
        save_backbone(network, tmp_path / "new.safetensors", CARD)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "new") as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_no_permission(network: PUNet, path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    with pytest.raises(InputError, match=r"tiny-1.safetensors cannot be written here: no permission"):
        save_backbone(network, path, CARD)


def test_missing_folder(network: PUNet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder .*absent does not exist"):
        save_backbone(network, tmp_path / "absent" / "new.safetensors", CARD)


def test_card_survives_any_text(network: PUNet, tmp_path: Path) -> None:
    card = {"note": 'Größe "5 µm"\n', "nested": {"list": [1, 2.5, None, True]}}
    save_backbone(network, tmp_path / "new.safetensors", card)
    assert json.dumps(read_info(tmp_path / "new.safetensors").card) == json.dumps(card)
