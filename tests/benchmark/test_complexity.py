"""The counted costs are the published ones."""

from __future__ import annotations

import pytest

import motes
from motes.benchmark import complexity, complexity_of_forms
from motes.errors import MotesError


@pytest.mark.parametrize(
    ("variant", "params", "numbers", "at_256", "at_512"),
    [
        (None, 558_530, 561_765, 11_939_099_136, 47_756_358_144),
        ("converted", 558_530, 561_765, 11_435_782_656, 45_743_092_224),
        ("deploy", 279_106, 279_369, 6_402_617_856, 25_610_433_024),
    ],
)
def test_repisdnet(variant: str | None, params: int, numbers: int, at_256: int, at_512: int) -> None:
    net = motes.create_model("repisdnet", variant=variant)
    small, large = complexity(net), complexity(net, 512, 512)
    assert (small.params, small.numbers) == (params, numbers)
    assert (small.published_macs, large.published_macs) == (at_256, at_512)
    # The training form runs the central difference as one convolution, so it costs what the converted form costs.
    assert small.macs == (11_435_782_656 if variant is None else at_256)


def test_counting_neither_runs_nor_changes_the_network() -> None:
    net = motes.create_model("repisdnet")
    net.train()
    # All but the 1x1 convolutions of the pyramid's few bins grows with the frame.
    assert complexity(net, 8192, 8192).macs == pytest.approx(1024 * complexity(net).macs, rel=1e-5)
    assert net.training
    assert next(net.parameters()).device.type == "cpu"
    assert int(net.cls[1].num_batches_tracked) == 0


def test_impossible_size() -> None:
    with pytest.raises(MotesError, match="repisdnet cannot take a frame of 1x1 px"):
        complexity(motes.create_model("repisdnet"), 1, 1)


@pytest.mark.parametrize("name", [*motes.list_models("irstd"), *motes.list_models("aerial")])
def test_cards_hold_what_is_counted(name: str) -> None:
    assert complexity_of_forms(name) == {k: dict(v) for k, v in motes.model_card(name).complexity.items()}
