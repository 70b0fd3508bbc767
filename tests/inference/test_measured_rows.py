"""What rows of measured results a card takes."""

from __future__ import annotations

from typing import Any

import pytest

from motes.cards import Card
from motes.errors import CardError

ROW: dict[str, Any] = {
    "data": "held8",
    "about": "synthetic frames",
    "held_out": True,
    "protocol": "native",
    "threshold": 0.5,
    "frames": 30,
    "megapixels": 9.83,
    "iou": 0.25,
    "pd": 0.5,
    "targets": "28/56",
    "false_blobs": 78,
}


def card(row: Any) -> Card:
    return Card.from_dict({"name": "spot", "task": "irstd", "measured": [row]})


def without(*keys: str) -> dict[str, Any]:
    return {k: v for k, v in ROW.items() if k not in keys}


@pytest.mark.parametrize("row", [ROW, without("pd", "targets", "iou"), {"data": "SIRST", "iou": 0.7, "fa": 1e-5}])
def test_taken_and_written_again(row: dict[str, Any]) -> None:
    assert Card.from_json(card(row).to_json()).measured == (row,)


@pytest.mark.parametrize(
    ("row", "message", "hint"),
    [
        ({**ROW, "false_blob": 3}, "row 1: unknown field 'false_blob'", "did you mean 'false_blobs'?"),
        ({"data": "SIRST", "iuo": 0.7}, "unknown field 'iuo'", "did you mean 'iou'?"),
        (["held8"], "expected a mapping, found list", None),
        (without("protocol", "frames"), "a held-out row needs protocol, frames", None),
        ({**ROW, "held_out": "yes"}, "held_out is true or false, found 'yes'", None),
        ({**ROW, "frames": 0}, "frames is a number from 1 on, found 0", None),
        ({**ROW, "false_blobs": "78/30"}, "false_blobs is a number from 0 on, found '78/30'", None),
        ({**ROW, "threshold": True}, "threshold is a number from 0 on, found True", None),
        ({**ROW, "targets": "0/0"}, "targets are 'found/all', for instance 39/56, found '0/0'", None),
        ({**ROW, "targets": 56}, "targets are 'found/all', for instance 39/56, found 56", None),
        (without("pd"), "pd and targets go together", "leave both out where the frames hold no target"),
    ],
)
def test_refused(row: Any, message: str, hint: str | None) -> None:
    with pytest.raises(CardError) as caught:
        card(row)
    assert message in str(caught.value)
    assert caught.value.hint == hint
