"""A batch of one frame, which batch norms of channel gates cannot be trained on: networks say so in one sentence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import motes
from motes.errors import MotesError
from motes.layers.pooled_norm import PooledNorm

SMALL = {"blocks": 1}


@pytest.mark.parametrize(
    ("name", "variant", "options"),
    [
        ("acm", None, SMALL),
        ("acm", "unet-biglobal", {}),
        ("acm", "fpn-topdownglobal", {}),
        ("acm", "fpn-sk", {}),
        ("acm", "port-fpn", SMALL),
        ("acm", "basicirstd", SMALL),
        ("alcnet", "multiple-asymbi", {}),
        ("alcnet", "globalsk-globalsk", {}),
        ("alcnet", "basicirstd", SMALL),
        ("agpcnet", None, {"scales": (3,)}),
        ("pfnet", None, {"backbone": "resnet10t"}),
        ("deeplabv3", None, {"backbone": "resnet10t", "output_stride": 32}),
    ],
)
def test_networks_with_pooled_gates(name: str, variant: str | None, options: dict) -> None:
    net = motes.create_model(name, variant, **options)
    x = torch.rand(2, net.card.input.channels, 96, 96)
    assert net.train()(x)[0].isfinite().all()
    with pytest.raises(MotesError, match="cannot train on a batch of one frame") as error:
        net(x[:1])
    assert "batch size of at least 2" in error.value.hint
    assert net.eval()(x[:1]).isfinite().all()


@pytest.mark.parametrize(
    ("name", "variant", "options"),
    [("acm", "unet-bilocal", {}), ("acm", "fpn-concat", {}), ("alcnet", None, SMALL)],
)
def test_networks_without_them_train_on_one_frame(name: str, variant: str | None, options: dict) -> None:
    net = motes.create_model(name, variant, **options).train()
    assert net(torch.rand(1, 3, 80, 80))[0].isfinite().all()


def test_it_is_a_batch_norm_that_can_be_synchronised() -> None:
    x = torch.rand(3, 4, 1, 1)
    torch.testing.assert_close(PooledNorm(4)(x), nn.BatchNorm2d(4)(x))
    assert PooledNorm(4).state_dict().keys() == nn.BatchNorm2d(4).state_dict().keys()
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(PooledNorm(4))) is nn.SyncBatchNorm
