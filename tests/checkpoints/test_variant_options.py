"""A weight file whose network is a variant with other options than the variant's own comes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import motes
from motes.checkpoints import load_network, write_safetensors


@pytest.mark.parametrize("options", [{}, {"width": 32}, {"levels": (3, 4, 5), "width": 32}])
def test_options_that_change_a_variant_are_kept(options: dict, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = motes.create_model("fcos", "small", backbone="test_resnet", **options)
    file = tmp_path / "net.safetensors"
    write_safetensors(file, {k: v.numpy() for k, v in net.state_dict().items()}, net.card)
    loaded, card = load_network(file)
    assert {k: v.shape for k, v in loaded.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
    assert card.options == {
        "backbone": "test_resnet",
        **{k: list(v) if k == "levels" else v for k, v in options.items()},
    }
