"""Every network gives its authors' numbers for the same weights and input (tests/reference/<network>/)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
import motes.checkpoints.matching
from fill import fill_input, fill_state

REFERENCE = Path(__file__).resolve().parents[1] / "reference"

LIMITS = {"pfnet": 6e-5}
"""Largest difference relative to max|out| where float32 itself is off by more than 2e-5 (the spec says why)."""

ELSEWHERE = {
    "farseg": ("case-64x64", "case-logits-b2-96x64", "case-scaled-64x64"),
    "pfnet": (
        "case-boundary",
        "case-gaofen-448x448",
        "case-gaofen-scaled-448x448",
        "case-gaofen-scaled-512x480",
        "case-loss-edge",
        "case-loss-joint",
        "case-loss-ohem-default",
        "case-loss-ohem-thresh0.2-kept450",
        "case-loss-ohem-thresh0.7-kept100",
        "case-loss-ohem-thresh0.7-kept720",
        "case-upernet-64x64",
        "case-upernet-logits-128x160",
    ),
    "rdian": ("case-fixed-64x64", "case-trained-scene"),
    "repisdnet": ("case-reparam",),
    "serankdet": (
        "case-module-max_channel1",
        "case-ties-96x96",
        "case-tiefree-128x64",
        "case-tiefree-80x112",
        "case-tiefree-batch2-96x96",
    ),
}
"""Cases of another kind (a module or loss alone, other weights, ties): tested in test_<network>.py or tests/losses."""

NETWORKS = [*motes.list_models("irstd"), *motes.list_models("aerial")]
"""Detectors have test_box_alignment.py."""

CASES = [
    (name, path.stem)
    for name in NETWORKS
    for path in sorted((REFERENCE / name).glob("case-*.npz"))
    if path.stem not in ELSEWHERE.get(name, ()) and not path.stem.startswith("case-loss")
]


def variant_of(name: str, case: str) -> str | None:
    """The longest of the card's variants that the file is named after."""
    found = [v for v in motes.model_card(name).variants if re.match(rf"case-{re.escape(v)}-", case)]
    return max(found, key=len, default=None)


def filled(name: str, variant: str | None) -> torch.nn.Module:
    """The network in eval mode with the weights that follow from its published parameter names."""
    keys = REFERENCE / name / f"keys-{variant}.json"
    if not keys.exists():
        keys = REFERENCE / name / "keys.json"
    net = motes.create_model(name, variant=variant)
    state = fill_state(json.loads(keys.read_text()))
    motes.checkpoints.load_published(net, state)
    return net.eval()


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}/{c}" for n, c in CASES])
def test_equals_the_authors_code(name: str, case: str) -> None:
    stored = np.load(REFERENCE / name / f"{case}.npz")
    x = torch.from_numpy(fill_input(tuple(int(n) for n in stored["shape"])))
    net = filled(name, variant_of(name, case))
    with torch.inference_mode():
        outputs = net.published_outputs(x)
        logits = net(x)
    for key in (k for k in stored.files if k.startswith(("out", "logits", "edge", "relation"))):
        expected = stored[key]
        assert outputs[key].shape == expected.shape
        assert np.abs(outputs[key].numpy() - expected).max() <= LIMITS.get(name, 2e-5) * np.abs(expected).max()
    assert logits.shape == (x.shape[0], len(net.card.classes), *x.shape[2:])
    assert torch.isfinite(logits).all()


KEYS = [
    (name, path.stem.partition("-")[2] or None)
    for name in NETWORKS
    for path in sorted((REFERENCE / name).glob("keys*.json"))
]


@pytest.mark.parametrize(("name", "variant"), KEYS, ids=[f"{n}/{v}" for n, v in KEYS])
def test_stores_what_the_authors_store(name: str, variant: str | None) -> None:
    with torch.device("meta"):
        net = motes.create_model(name, variant)
    published = json.loads((REFERENCE / name / f"keys{'-' + variant if variant else ''}.json").read_text())
    module = motes.checkpoints.matching.module_of(net)
    shapes = {k: np.empty(shape, bool) for k, (shape, _) in published.items()}
    renamed = motes.checkpoints.matching.published_to_own(module, shapes)
    own = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    if not any(motes.checkpoints.matching.is_counter(k) for k in renamed):  # Jittor counts no batches
        own = {k: v for k, v in own.items() if not motes.checkpoints.matching.is_counter(k)}
    assert {k: v.shape for k, v in renamed.items()} == own
