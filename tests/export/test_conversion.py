"""``convert``: what is written is what was read, merged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fill import fill_input, fill_state
from motes.checkpoints import load_network, read_card, read_state
from motes.errors import MotesError
from motes.export import convert
from motes.export.parity import Bounds, Tile

TILES = [Tile("small", fill_input((1, 3, 33, 40)))]
REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "repisdnet"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A snapshot as the authors write it, in their older spelling."""
    state = fill_state(json.loads((REFERENCE / "keys.json").read_text()))
    tensors = {k.replace("_cdc", "_pdc"): torch.from_numpy(np.array(v)) for k, v in state.items()}
    file = tmp_path / "published.pth.tar"
    torch.save({"epoch": 1, "mean_IOU": np.float64(0.5), "state_dict": tensors}, file)
    return file


@pytest.mark.parametrize("form", ["train", "converted", "deploy"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_same_output_in_every_form_and_format(published: Path, form: str, suffix: str) -> None:
    output = published.with_name(f"out{suffix}")
    report = convert(published, output, "repisdnet", form, TILES)
    assert report.passed
    assert (report.facts["from"], report.facts["to"]) == ("train", form)
    net, card = load_network(output)
    assert (card.name, card.form) == ("repisdnet", form)
    stored = np.load(REFERENCE / "case-train-64x64.npz")["logits0"]
    with torch.inference_mode():
        found = net(torch.from_numpy(fill_input((1, 3, 64, 64)))).numpy()
    assert np.abs(found[:, 0] - stored[:, 1]).max() < 1.5e-5


def test_names_are_the_published_ones(published: Path) -> None:
    output = published.with_name("deploy.pth")
    convert(published, output, tiles=TILES)
    keys = json.loads((REFERENCE / "keys-deploy.json").read_text())
    state = torch.load(output, weights_only=True)
    assert {k: list(v.shape) for k, v in state.items()} == {k: v[0] for k, v in keys.items()}


def test_card_says_where_it_is_from(published: Path) -> None:
    import hashlib

    output = published.with_name("a.safetensors")
    convert(published, output, form="converted", tiles=TILES)
    card = read_card(output)
    assert (card.variant, card.form) == ("converted", "converted")
    assert card.source_sha256 == hashlib.sha256(published.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_converting_again_gives_the_same_bytes(published: Path, suffix: str) -> None:
    first, second = published.with_name(f"1{suffix}"), published.with_name(f"2{suffix}")
    convert(published, first, tiles=TILES)
    convert(published, second, tiles=TILES)
    assert first.read_bytes() == second.read_bytes()
    convert(first, second, form="deploy", tiles=TILES)
    assert all(np.array_equal(v, read_state(second)[k]) for k, v in read_state(first).items())


def test_what_is_refused_leaves_no_file(published: Path) -> None:
    folder = published.parent
    with pytest.raises(MotesError, match=r"cannot write this format.*motes export"):
        convert(published, folder / "a.onnx")
    with pytest.raises(MotesError, match="not written, form 'deploy' disagrees with 'train'"):
        convert(published, folder / "a.pth", tiles=TILES, bounds=Bounds(logit=0, relative=0))
    convert(published, folder / "merged.pth", tiles=TILES)
    with pytest.raises(MotesError, match="cannot be taken apart"):
        convert(folder / "merged.pth", folder / "a.pth", form="converted")
    assert sorted(p.name for p in folder.iterdir()) == ["merged.pth", "published.pth.tar"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes into read-only folders")
def test_read_only_folder(published: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(OSError, match=r"a\.pth"):
        convert(published, locked / "a.pth", tiles=TILES)


def test_authors_merged_file_is_reproduced(reference_root: Path, tmp_path: Path) -> None:
    folder = reference_root / "repisdnet" / "weights"
    convert(folder / "converted.pth.tar", tmp_path / "merged.pth", tiles=TILES)
    theirs, ours = read_state(folder / "deploy.pth.tar"), read_state(tmp_path / "merged.pth")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        # Their merging forgets the bias of the 1x1 convolution: at most 1.6e-5 here, and nothing but that.
        assert np.abs(ours[name] - value).max() < (2e-5 if name.endswith("rbr_reparam.bias") else 5e-6), name
