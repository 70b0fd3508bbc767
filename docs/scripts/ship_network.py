"""Makes a shipped network from trained weights: merged ONNX, its card filled with what is measured here.

    python docs/scripts/ship_network.py best.safetensors ~/data/sirst src/motes/weights/repisdnet-sirst.onnx
    python docs/scripts/ship_network.py acm.safetensors ~/data/sirst src/motes/weights/acm-sirst.onnx
    python docs/scripts/ship_network.py mean.safetensors ~/data/sirst src/motes/weights/motes-s.onnx 'SIRST and clutter'

    python docs/scripts/held_out.py DATA ~/data/sirst src/motes/weights/acm-sirst.onnx --json held-out.json
    python docs/scripts/ship_network.py src/motes/weights/acm-sirst.onnx held-out.json

The numbers in the card come from the exported file itself, run by ONNX Runtime, on SIRST's test_v1 under two protocols;
the calibration curve from the frames of trainval_v1 that are too like a test frame to be trained on
(lists/sirst_near_twins.txt), never from test_v1 itself. The second form puts held-out results into the card of a file
that is there; graph and weights stay as they are. The last word of the third says in the title what was learned from,
where it is more than SIRST. Then docs/scripts/zoo.py, whose page has the file's SHA-256.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import digest  # beside this file
from torch import nn

from motes.benchmark import complexity
from motes.cards import Card
from motes.checkpoints import load_network
from motes.data import Dataset, open_dataset
from motes.evaluation import score_samples
from motes.evaluation.run import overlap
from motes.export import export_onnx, frames_of, synthetic_tiles
from motes.export.forms import reparameterize
from motes.export.onnx_file import facts_of
from motes.imaging import atomic_path
from motes.inference.backend import Backend
from motes.inference.onnx_backend import OnnxBackend
from motes.inference.onnx_card import onnx_with_card, read_onnx_card
from motes.metrics import SegmentationScore, protocol
from motes.training.selection import chosen, fingerprints

THRESHOLDS = [*(k / 20 for k in range(1, 20)), 0.98]
TRAINED_ON, CALIBRATED_ON = "lists/sirst_trainval_clean.txt", "lists/sirst_near_twins.txt"
KEYS = ("iou", "niou", "pd", "fa", "false_alarms_per_megapixel")


def main() -> None:
    if len(sys.argv) == 3:
        add_held_out(*(Path(a).expanduser() for a in sys.argv[1:]))
        return
    weights, root, out = (Path(a).expanduser() for a in sys.argv[1:4])
    learned_from = sys.argv[4] if len(sys.argv) > 4 else "SIRST"
    data = open_dataset(root)
    net, card = load_network(weights)
    tiles = synthetic_tiles(card) + frames_of(card, root, "test_v1", 6)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export_onnx(net, card, file, tiles)
        card = describe(card.replace(complexity=cost(net), variant=None), OnnxBackend(file), data)
        name = card.title if net.card.variant in (None, "deploy") else f"{card.title} ({net.card.variant})"
        card = card.replace(title=f"{name}, trained by motes on {learned_from}")
    report = export_onnx(net, card, out, tiles)
    facts = report.to_dict()
    write_json(out.with_suffix(".parity.json"), facts)
    for row in card.measured:
        print(row)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {report.changed} of {report.pixels} mask pixels changed")


def cost(net: nn.Module) -> dict[str, Any]:
    """Parameters and multiply-accumulates of what is shipped, which may be another size than the default network."""
    merged = reparameterize(net)
    counted = complexity(merged)
    return {merged.card.form: {"params": counted.params, "macs_256": counted.macs}}


def add_held_out(file: Path, found: Path) -> None:
    """Writes the rows of docs/scripts/held_out.py into the card, and the new size and SHA-256 beside the file."""
    entries = json.loads(found.read_text(encoding="utf-8"))
    rows = [row for entry in entries if entry["weights"] == digest(file) for row in entry["rows"]]
    if not rows:
        raise SystemExit(f"{found} holds no rows of the network in {file}: run docs/scripts/held_out.py with this file")
    card = read_onnx_card(file)
    # The row of the near-twins that `describe` makes is one of those that come; older held-out rows go.
    kept = [r for r in card.measured if not r.get("held_out") and not r.get("split", "").startswith(CALIBRATED_ON)]
    card = card.replace(measured=(*kept, *rows))
    data = onnx_with_card(file.read_bytes(), card, str(file))
    with atomic_path(file) as temporary:
        temporary.write_bytes(data)
    parity = file.with_suffix(".parity.json")
    if parity.exists():
        write_json(parity, {**json.loads(parity.read_text(encoding="utf-8")), **facts_of(file, data, card)})
    print(f"{file}: {len(rows)} held-out rows")


def write_json(file: Path, facts: dict[str, Any]) -> None:
    file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def describe(card: Card, backend: Backend, data: Dataset) -> Card:
    """The card with training frames, measured numbers and calibration."""
    fit, twins = (chosen(data, name) for name in (TRAINED_ON, CALIBRATED_ON))
    training = {**card.training, "frames": sorted({*card.training.get("frames", ()), *fingerprints(fit)})}
    card = card.replace(
        training=training,
        licence="Apache-2.0; trained on SIRST v1, whose source states no licence",
    )
    test = data.split("test_v1")
    assert not overlap(card, test + twins), "a frame that is scored was trained on"
    rows = [measured(backend, test, "test_v1", rule) for rule in ("native", "repisdnet")]
    rows.append(measured(backend, twins, f"{CALIBRATED_ON} (not trained on)", "native"))
    return card.replace(measured=tuple(rows), calibration=calibration(backend, twins))


def measured(backend: Backend, samples: list, split: str, rule: str) -> dict[str, Any]:
    """One row: values with the counts behind Pd."""
    values = score_samples(backend, samples, rule).compute(intervals=False)
    row = {key: round(float(values[key].value), 9) for key in KEYS}
    counts = f"{values['pd'].numerator:g}/{values['pd'].denominator:g}"
    return {"data": "SIRST", "split": split, "protocol": rule, "frames": len(samples), **row, "targets": counts}


def calibration(backend: Backend, samples: list) -> dict[str, Any]:
    """Threshold -> false alarms per megapixel and Pd, at native size."""
    score = SegmentationScore(protocol("native"), sweep=THRESHOLDS)
    score_into(score, backend, samples)
    curve = score.target_curve()
    return {
        "data": f"SIRST {CALIBRATED_ON}",
        "frames": len(samples),
        "megapixels": round(float(sum(c[0] for c in pixels_of(score))) / 1e6, 3),
        "threshold": THRESHOLDS,
        "fa_per_mpx": [round(float(v), 4) for v in curve.blobs_per_megapixel],
        "pd": [round(float(v), 4) for v in curve.pd],
    }


def score_into(score: SegmentationScore, backend: Backend, samples: list) -> None:
    from motes.evaluation import predict
    from motes.inference import Detector

    detector = Detector(backend=backend)
    for sample in samples:
        found = predict(detector, sample)
        score.update(found.probability, found.label, name=sample.name)


def pixels_of(score: SegmentationScore) -> np.ndarray:
    return np.array([[row["pixels"]] for row in score.per_image()])


if __name__ == "__main__":
    main()
