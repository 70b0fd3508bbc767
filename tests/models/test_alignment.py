"""Every network gives its authors' numbers for the same weights and input (tests/reference/<network>/)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
from fill import fill_input, fill_state

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
LIMIT = 2e-5  # of max|out|

CASES = [
    (name, path.stem)
    for name in motes.list_models()
    for path in sorted((REFERENCE / name).glob("case-*.npz"))
    if path.stem != "case-reparam"
]


def variant_of(name: str, case: str) -> str | None:
    found = [v for v in motes.model_card(name).variants if re.match(rf"case-{re.escape(v)}-", case)]
    return max(found, key=len, default=None)


def filled(name: str, variant: str | None) -> torch.nn.Module:
    keys = REFERENCE / name / f"keys-{variant}.json"
    if not keys.exists():
        keys = REFERENCE / name / "keys.json"
    net = motes.create_model(name, variant=variant)
    state = fill_state(json.loads(keys.read_text()))
    net.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()}, strict=True)
    return net.eval()


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}/{c}" for n, c in CASES])
def test_equals_the_authors_code(name: str, case: str) -> None:
    stored = np.load(REFERENCE / name / f"{case}.npz")
    x = torch.from_numpy(fill_input(tuple(int(n) for n in stored["shape"])))
    net = filled(name, variant_of(name, case))
    with torch.inference_mode():
        outputs = net.published_outputs(x)
        logits = net(x)
    for key in (k for k in stored.files if k != "shape"):
        expected = stored[key]
        assert outputs[key].shape == expected.shape
        assert np.abs(outputs[key].numpy() - expected).max() <= LIMIT * np.abs(expected).max()
    assert logits.shape == (x.shape[0], 1, *x.shape[2:])
    assert torch.isfinite(logits).all()
