"""Fits the `peak` of a motes_seg, which turns the peaks of its blobs into probabilities, and writes it into the card.

    python docs/scripts/calibrate_peaks.py IN.safetensors OUT.safetensors DATA SIRST --rate 0.2

On held-out sets of docs/scripts/held_out.py, which no longer count as held out for OUT. The scale is that of the
logistic curve between true and false blobs; the middle is where --rate false blobs a frame are left on frames without
targets, so that this is what threshold 0.5 gives. Prints what each peak would have given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from held_out import SETS  # beside this file
from scipy.optimize import minimize

from motes.checkpoints import load_network, write_safetensors
from motes.data import Sample
from motes.imaging import read_image, read_mask
from motes.inference import Detector
from motes.metrics import components, protocol
from motes.models.backend import TorchBackend

EMPTY, LABELLED = ("clutter_held", "held8_empty"), ("held8", "near_twins", "pasted_held")
SHOWN = (0, 2, 4, 6, 8, 10, 12, 14)
"""Peaks of the table, raw logits."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("sirst", type=Path)
    parser.add_argument("--rate", type=float, default=0.2, help="false blobs a frame without targets")
    options = parser.parse_args()
    net, card = load_network(options.file)
    net.peak = None
    detector = Detector(backend=TorchBackend(net, card))
    sets = {s.name: s.frames(options.data, options.sirst).samples for s in SETS if s.name in EMPTY + LABELLED}
    found = {name: list(blobs(detector, samples)) for name, samples in sets.items()}
    frames = sum(len(sets[name]) for name in EMPTY)
    false = np.sort([peak for name in EMPTY for peak, true in found[name] if not true])[::-1]
    left = int(options.rate * frames)
    middle = float(false[left]) if left < len(false) else 0.0
    peaks, true = (np.array(v, float) for v in zip(*(b for rows in found.values() for b in rows), strict=True))
    scale = logistic_scale(peaks, true)
    for name, rows in found.items():
        told = [f"{t}: {sum(p > t and y for p, y in rows)}, {sum(p > t and not y for p, y in rows)}" for t in SHOWN]
        print(f"{name:14} {len(sets[name])} frames; peak: true, false blobs  {'  '.join(told)}")
    print(f"middle {middle:.2f}, scale {scale:.2f}")
    card = card.replace(options={**card.options, "peak": [round(middle, 2), round(scale, 2)]})
    write_safetensors(options.out, net.state_dict(), card)


def blobs(detector: Detector, samples: Sequence[Sample]) -> Iterator[tuple[float, bool]]:
    """(largest raw logit, whether a target's centre is near its own) of every blob above probability 0.5."""
    near = protocol("native").distance
    for sample in samples:
        probability = detector.probability(read_image(sample.image).pixels).astype(np.float64)
        found = components(probability > 0.5)
        targets = components(read_mask(sample.mask) if sample.mask else np.zeros(probability.shape, bool))
        logits = np.log(np.maximum(probability, 1e-8) / np.maximum(1 - probability, 1e-8))
        peaks = np.full(len(found), -np.inf)
        np.maximum.at(peaks, found.owners, logits.ravel()[found.pixels])
        apart = np.linalg.norm(found.centroids[:, None] - targets.centroids[None], axis=2)
        yield from zip(peaks.tolist(), (apart < near).any(axis=1).tolist(), strict=True)


def logistic_scale(peaks: np.ndarray, true: np.ndarray) -> float:
    """1 / slope of the logistic regression of ``true`` on ``peaks``, both kinds with the same weight."""
    weight = np.where(true > 0, 0.5 / max(true.sum(), 1), 0.5 / max((1 - true).sum(), 1))

    def loss(at: np.ndarray) -> float:
        z = (peaks - at[0]) / np.exp(at[1])
        return float((weight * (np.logaddexp(0, z) - true * z)).sum())

    return float(np.exp(minimize(loss, (peaks.mean(), 1.0), method="Nelder-Mead").x[1]))


if __name__ == "__main__":
    main()
