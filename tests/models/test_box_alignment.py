"""Every detector gives mmdetection's numbers for the same weights and input (tests/reference/<detector>/)."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import motes
import motes.checkpoints.matching
from box_checks import targets_of
from fill import fill_input, fill_state
from motes.benchmark import complexity_of_forms

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
DETECTORS = motes.list_models("detection")
pytest.importorskip("timm")

LIMITS: dict[str, float] = {}
"""Largest difference relative to max|out| where float32 itself is off by more than 2e-5."""

OURS = ("motes_det",)
"""Detectors of our own: nothing is published of them."""

ELSEWHERE = {
    "sparse_rcnn": "its learned boxes are filled in another way",
}
"""Detectors whose cases are in test_<detector>.py, and why."""

LOSSES_ELSEWHERE = {
    **ELSEWHERE,
    **dict.fromkeys(("detr", "conditional_detr", "dab_detr", "deformable_detr"), "layer by layer"),
    "tood": "two phases",
    **dict.fromkeys(
        ("faster_rcnn", "dynamic_rcnn", "cascade_rcnn", "grid_rcnn", "libra_rcnn"), "the proposals are given"
    ),
}

FILES = [
    (name, path.stem)
    for name in DETECTORS
    for path in sorted((REFERENCE / name).glob("*.*"))
    if path.stem.startswith(("case-", "keys", "losses"))
]
CASES = [(n, f) for n, f in FILES if f.startswith("case-") and n not in ELSEWHERE]
KEYS = [(n, f) for n, f in FILES if f.startswith("keys")]
LOSSES = [(n, f) for n, f in FILES if f.startswith("losses") and n not in LOSSES_ELSEWHERE]


def variant_of(name: str, file: str) -> str | None:
    """The longest of the card's variants that the file is named after."""
    found = [v for v in motes.model_card(name).variants if re.match(rf"\w+-{re.escape(v)}(-|$)", file)]
    return max(found, key=len, default=None)


@cache
def filled(name: str, variant: str | None) -> torch.nn.Module:
    """The detector in eval mode with the weights that follow from its published parameter names."""
    keys = REFERENCE / name / f"keys{f'-{variant}' if variant else ''}.json"
    net = motes.create_model(name, variant)
    motes.checkpoints.load_published(net, fill_state(json.loads(keys.read_text())))
    net.bgr = False  # cases hold what the published network gets
    return net.eval()


@pytest.fixture(autouse=True, scope="module")
def forget_networks() -> object:
    yield
    filled.cache_clear()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the cases were computed. Several threads sum in another order: DyHead is then off by 5e-5, Libra R-CNN, whose
    attention has a softmax without scaling, by 1.3e-4."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def largest_of_groups(stored: Mapping[str, np.ndarray], keys: list[str]) -> dict[str, float]:
    """max|out| over the levels of an output's group: where all values of a level are small, sums have cancelled."""
    titles = [str(t) for t in stored["names"]] if "names" in stored else keys
    groups = [title.rpartition(".")[0] or title for title in titles]
    found: dict[str, float] = {}
    for key, group in zip(keys, groups, strict=True):
        found[group] = max(found.get(group, 0.0), float(np.abs(stored[key]).max()))
    return {key: found[group] for key, group in zip(keys, groups, strict=True)}


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}/{c}" for n, c in CASES])
def test_equals_the_published_code(name: str, case: str) -> None:
    stored = np.load(REFERENCE / name / f"{case}.npz")
    images = torch.from_numpy(fill_input(tuple(int(n) for n in stored["shape"])))
    net = filled(name, variant_of(name, case))
    extra = {}
    if "proposals" in stored:
        assert "proposals" in inspect.signature(net.published_outputs).parameters
        extra["proposals"] = torch.from_numpy(stored["proposals"])
    with torch.inference_mode():
        outputs = net.published_outputs(images, **extra)
    names = [k for k in stored.files if k.startswith("out")]
    assert names
    largest = largest_of_groups(stored, names)
    for key in names:
        expected = stored[key]
        assert tuple(outputs[key].shape) == expected.shape, key
        limit = LIMITS.get(name, 2e-5) * max(largest[key], 1e-6)
        assert np.abs(outputs[key].numpy() - expected).max() <= limit, key


@pytest.mark.parametrize(("name", "file"), KEYS, ids=[f"{n}/{f}" for n, f in KEYS])
def test_stores_what_the_published_code_stores(name: str, file: str) -> None:
    with torch.device("meta"):
        net = motes.create_model(name, variant_of(name, file))
    published = json.loads((REFERENCE / name / f"{file}.json").read_text())
    shapes = {k: np.empty(shape, bool) for k, (shape, _) in published.items()}
    renamed = motes.checkpoints.matching.published_to_own(motes.checkpoints.matching.module_of(net), shapes)
    own = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    assert {k: tuple(np.shape(v)) for k, v in renamed.items()} == own


@pytest.mark.parametrize(("name", "file"), LOSSES, ids=[f"{n}/{f}" for n, f in LOSSES])
def test_losses_equal_the_published_ones(name: str, file: str) -> None:
    stored = json.loads((REFERENCE / name / f"{file}.json").read_text())
    images = torch.from_numpy(fill_input(stored["shape"]))
    targets = targets_of(stored["gt_boxes"], tuple(stored["shape"][2:]), len(images))
    net = filled(name, variant_of(name, file))
    with torch.no_grad(), getattr(net, "published_ties", nullcontext)():
        losses = net(images, targets)
    expected = {k: np.sum(v) for k, v in stored["losses"].items() if not k.endswith("acc")}
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        assert losses[key].item() == pytest.approx(value, rel=1e-5, abs=1e-6), key


@pytest.mark.parametrize("name", [n for n in DETECTORS if motes.model_card(n).complexity])
def test_cards_hold_what_is_counted(name: str) -> None:
    assert complexity_of_forms(name) == {k: dict(v) for k, v in motes.model_card(name).complexity.items()}


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_a_small_variant_and_cases(name: str) -> None:
    card = motes.model_card(name)
    assert "small" in card.variants
    assert card.classes == ("Target",)
    if name in OURS:
        assert not card.published
        return
    assert card.input.channels == 3
    assert {f.partition("-")[0] for n, f in FILES if n == name} >= {"case", "keys", "losses"}
