"""What a training starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

import motes
from motes.checkpoints import write_safetensors
from motes.errors import CheckpointError
from motes.training.network import load_start, make_network
from motes.training.recipe import load_recipe


def test_weights_of_the_same_network_made_with_other_options_are_refused_and_both_are_named(tmp_path: Path) -> None:
    plain, file = motes.create_model("motes_seg", "s"), tmp_path / "plain.safetensors"
    write_safetensors(file, plain.state_dict(), plain.card)
    recipe = load_recipe("motes_seg_sensors", [f"model.init={file}"])
    net = make_network(recipe)
    with pytest.raises(CheckpointError, match=r"stem.conv.weight \[24, 1, 6, 6\] instead of \[24, 2, 6, 6\]") as error:
        load_start(net, recipe)
    assert error.value.hint == (
        "it was made with the options {'width': 24}, model.options makes them {'width': 24, 'contrast': True}"
    )
    same = load_recipe("motes_seg_sensors", [f"model.init={file}", "model.options.contrast=false"])
    assert load_start(make_network(same), same) == f"weights of {file}"
