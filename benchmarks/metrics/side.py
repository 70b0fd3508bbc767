"""One side of the comparison: ``side.py NAME MAPS.npz FOLDER PYTHON``; started by ``run.py``.

The two other sides need numpy < 2, so they hand over to the Python of their own environment.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from sides import answer

THRESHOLDS = [k / 11 for k in range(11)]  # pyirstdmetrics' own with num_bins=11
NATIVE = ("motes", "motes_opdc")


def main() -> None:
    name, folder, python = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if name not in NATIVE and Path(sys.executable) != Path(python):
        raise SystemExit(subprocess.run([python, __file__, *sys.argv[1:]], check=False).returncode)
    sets = {p.stem: np.load(p) for p in folder.glob("*.npz")}
    maps = {blobs: list(zip(file["maps"], file["labels"])) for blobs, file in sets.items()}  # noqa: B905
    run = {"motes": motes, "motes_opdc": motes_opdc, "pyirstd": pyirstd, "pyirstd_opdc": pyirstd_opdc}
    run["skimage"] = skimage_loop

    run[name](
        maps[min(maps)][:1] + (maps[max(maps)][:1] if name in NATIVE else [])
    )  # imports and first calls are not timed
    last: dict[str, dict[str, list[float]]] = {}

    def seconds(blobs: str) -> float:
        start = time.perf_counter()
        last[blobs] = run[name](maps[blobs])
        return time.perf_counter() - start

    answer({"seconds": seconds, "numbers": lambda blobs: last[blobs]})


def motes(pairs) -> dict[str, list[float]]:
    """Everything ``SegmentationScore`` computes, intervals included: more than the others are asked for."""
    from motes.metrics import SegmentationScore

    score = SegmentationScore(sweep=THRESHOLDS)
    for probability, label in pairs:
        score.update(probability, label)
    values, curve = score.compute(), score.target_curve()
    return {
        "iou": [values["iou"].value],
        "niou": [values["niou"].value],
        "pd": curve.pd.tolist(),
        "fa": curve.fa.tolist(),
    }


def motes_opdc(pairs) -> dict[str, list[float]]:
    from motes.metrics import SegmentationScore

    score = SegmentationScore("pyirstdmetrics", sweep=THRESHOLDS)
    for probability, label in pairs:
        score.update(probability, label)
    score.compute()
    curve = score.target_curve()
    return {"pd": curve.pd.tolist(), "fa": curve.fa.tolist()}


def pyirstd(pairs) -> dict[str, list[float]]:
    """IoU and nIoU at 0.5, Pd and Fa at eleven thresholds, by pyirstdmetrics."""
    import py_irstd_metrics as m

    pixels = m.CMMetrics(
        metric_handlers={
            "iou": m.IoUHandler(with_dynamic=False, with_binary=True, sample_based=False),
            "niou": m.IoUHandler(with_dynamic=False, with_binary=True, sample_based=True),
        }
    )
    targets = m.ProbabilityDetectionAndFalseAlarmRate(num_bins=11, distance_threshold=3)
    for probability, label in pairs:
        pixels.update(probability, label)
        targets.update(probability, label)
    found, curve = pixels.get(), targets.get()
    return {
        "iou": [float(found["iou"]["binary"])],
        "niou": [float(found["niou"]["binary"])],
        "pd": np.ravel(curve["probability_detection"]).tolist(),
        "fa": np.ravel(curve["false_alarm"]).tolist(),
    }


def pyirstd_opdc(pairs) -> dict[str, list[float]]:
    """Pd, Fa and hIoU under OPDC matching at eleven thresholds, by pyirstdmetrics."""
    import py_irstd_metrics as m

    targets = m.MatchingBasedMetrics(num_bins=11, matching_method=m.OPDCMatching())
    for probability, label in pairs:
        targets.update(probability, label)
    curve = targets.get()
    return {
        "pd": np.ravel(curve["probability_detection"]).tolist(),
        "fa": np.ravel(curve["false_alarm"]).tolist(),
    }


def skimage_loop(pairs) -> dict[str, list[float]]:
    """The loop every paper's code has, written with care: scikit-image's label and regionprops, distances by numpy."""
    from skimage import measure

    def blobs(mask):
        found = measure.regionprops(measure.label(mask, connectivity=2))
        return np.array([b.area for b in found]), np.array([b.centroid for b in found]).reshape(-1, 2)

    tp, union, ious, pixels = 0, 0, [], 0
    targets, detected, false = 0, np.zeros(11), np.zeros(11)
    for probability, label in pairs:
        mask = probability > 0.5
        tp += np.count_nonzero(mask & label)
        union += np.count_nonzero(mask | label)
        ious.append(np.count_nonzero(mask & label) / max(np.count_nonzero(mask | label), 1))
        pixels += label.size
        _, centres = blobs(label)
        targets += len(centres)
        for k, threshold in enumerate(THRESHOLDS):
            areas, found = blobs(probability > threshold)
            free = np.ones(len(areas), bool)
            for centre in centres:
                near = np.flatnonzero(free & (np.linalg.norm(found - centre, axis=1) < 3))
                if len(near):
                    free[near[0]] = False
                    detected[k] += 1
            false[k] += areas[free].sum() if len(areas) else 0
    return {
        "iou": [tp / union],
        "niou": [float(np.mean(ious))],
        "pd": (detected / targets).tolist(),
        "fa": (false / pixels).tolist(),
    }


if __name__ == "__main__":
    main()
