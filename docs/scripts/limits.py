"""Measures what the shipped networks cannot do, and writes the tables and pictures of docs/limits.md.

    python docs/scripts/limits.py --model motes --model motes-s --model repisdnet-sirst  # SIRST: --sirst
    python docs/scripts/limits.py --every 1          # all frames of test_v1 instead of each fourth

Conditions that are measured are kept in --work (by the content of the weights), so that the same command goes on after
Ctrl-C and measures only what is new. Two minutes on one free core for RepISD-Net.

Nothing is chosen by these numbers. The real frames are SIRST's test_v1, as they are and changed on purpose; the
synthetic ones come from the commands that the page shows.
"""

from __future__ import annotations

import argparse
import json
import shlex
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import digest, into_page  # beside this file

from motes.cli.app import app
from motes.data import open_dataset
from motes.evaluation.gallery import enlarged, failures, titled
from motes.imaging import atomic_path, read_image, read_mask, resize, write_image
from motes.inference import Detector
from motes.inference.backend import list_weights
from motes.metrics import SegmentationScore, components, protocol
from motes.metrics.intervals import wilson
from motes.metrics.plotting import COLOURS, DASHES, figure_of

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "limits.md"
IMAGES = REPOSITORY / "docs" / "images"

Frame = tuple[str, np.ndarray, np.ndarray]
"""Name, counts [H, W, C], label [H, W] bool."""
Change = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Condition:
    """A line of a table: SIRST's frames changed by ``change``, or those that ``motes data synthesize`` makes."""

    table: str
    label: str
    change: Change | None = None
    command: str = ""


# ---------------------------------------------------------------- real frames, changed on purpose


def scaled(factor: float) -> Change:
    """Shrunk by areas or enlarged by cubic splines; a target keeps the pixel at its centre at least."""

    def change(pixels: np.ndarray, label: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        size = (max(8, round(label.shape[0] * factor)), max(8, round(label.shape[1] * factor)))
        if factor >= 1:
            return resize(pixels, size, "bicubic"), resize(label, size, "nearest")
        mask = resize(label.astype(np.float32), size, "area") >= 0.5
        for x, y in components(label).centroids:
            row, column = int((y + 0.5) * size[0] / label.shape[0]), int((x + 0.5) * size[1] / label.shape[1])
            mask[min(row, size[0] - 1), min(column, size[1] - 1)] = True
        return resize(pixels, size, "area"), mask

    return change


def noisy(sigma: float) -> Change:
    def change(pixels: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        noise = rng.normal(0, sigma, label.shape)[:, :, None]
        return np.clip(np.round(pixels + noise), 0, 255).astype(np.uint8), label

    return change


def inverted(pixels: np.ndarray, label: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return 255 - pixels, label


def flatter(factor: float) -> Change:
    def change(pixels: np.ndarray, label: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        middle = np.median(pixels)
        return np.round(middle + factor * (pixels - middle)).astype(np.uint8), label

    return change


def blurred(sigma: float) -> Change:
    def change(pixels: np.ndarray, label: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        import cv2

        return np.atleast_3d(cv2.GaussianBlur(pixels, (0, 0), sigma)), label

    return change


def stuck(share: float) -> Change:
    def change(pixels: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        hot = rng.random(label.shape) < share
        return np.where(hot[:, :, None], np.uint8(255), pixels), label

    return change


def counts14(hot: bool) -> Change:
    """8 counts a grey level on 7000; ``hot``: a tenth of the frame at full scale, where there is no target."""

    def change(pixels: np.ndarray, label: np.ndarray, _: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        counts = 7000 + 8 * pixels.astype(np.uint16)
        if hot:
            strip = max(1, label.shape[0] // 10)
            free = [rows for rows in (slice(-strip, None), slice(0, strip)) if not label[rows].any()]
            counts[(free or [slice(0, 0)])[0]] = 16383
        return counts, label

    return change


def synthetic(table: str, label: str, options: str) -> Condition:
    name = f"{table}-{label}".replace(" ", "").replace(",", "-").replace(":", "-")
    seed = zlib.crc32(name.encode()) % 10000
    return Condition(table, label, command=f"motes data synthesize {name} --seed {seed} {options}")


SCENES = ("cloud", "sky", "sea", "ground")
CONDITIONS = [
    *(Condition("scale", f"{f:g} x", scaled(f)) for f in (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4)),
    Condition("changes", "as they are", lambda pixels, label, _: (pixels, label)),
    Condition("changes", "one pixel in 10,000 stuck at 255", stuck(1e-4)),
    Condition("changes", "14 bits, 7000 + 8 x", counts14(hot=False)),
    Condition("changes", "the same, a tenth at full scale", counts14(hot=True)),
    Condition("changes", "intensity inverted", inverted),
    *(Condition("changes", f"noise, sigma {s} grey levels", noisy(s)) for s in (5, 10)),
    Condition("changes", "contrast x 0.2", flatter(0.2)),
    Condition("changes", "blur, sigma 1 px", blurred(1.0)),
    *(
        synthetic("contrast", f"{s}, SCR {r}", f"--count 5 --scene {s} --targets 3 --scr {r} --bits 14 --size 256x320")
        for s in SCENES
        for r in ("3:6", "6:12", "12:30")
    ),
    *(
        synthetic(
            "contrast", f"mixed, SNR {r}", f"--count 5 --scene mixed --targets 3 --snr {r} --bits 14 --size 256x320"
        )
        for r in ("5:15", "15:60")
    ),
    *(
        synthetic("size", label, f"--count 5 --scene sky --targets 3 --scr 12:30 --bits 14 --size 256x320 {options}")
        for label, options in (
            ("points", "--extended 0"),
            *(
                (f"{a} to {b} px", f"--extended 1 --target-size {a}:{b}")
                for a, b in ((2, 4), (5, 8), (10, 16), (20, 30))
            ),
        )
    ),
    *(
        synthetic("empty", f"{s}, {b} bits", f"--count 5 --scene {s} --targets 0 --bits {b} --size 256x320")
        for s in SCENES
        for b in (14, 8)
    ),
    *(
        synthetic("frames", f"{w}x{h}", f"--count {n} --scene mixed --targets 3 --scr 6:30 --bits 14 --size {h}x{w}")
        for n, h, w in ((6, 256, 320), (3, 512, 640), (3, 1024, 1280))
    ),
]


def frames(condition: Condition, sirst: Path, every: int, work: Path) -> Iterable[Frame]:
    """The frames of a condition, one after the other."""
    if condition.change is not None:
        samples = open_dataset(sirst).split("test_v1")[::every]
    else:
        words = shlex.split(condition.command)[1:]
        words[2] = str(work / words[2])
        app(words, standalone_mode=False)
        samples = open_dataset(words[2]).split(None)
    for sample in samples:
        assert sample.mask is not None
        pixels, label = read_image(sample.image).pixels, read_mask(sample.mask)
        if condition.change is not None:
            pixels, label = condition.change(pixels, label, np.random.default_rng(zlib.crc32(sample.name.encode())))
        yield sample.name, pixels, label


def measure(model: str, condition: Condition, sirst: Path, every: int, work: Path) -> dict:
    """Counts and metrics of one network under one condition, from --work where they are there."""
    key, file = record(model, condition, every, work)
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    detector, rule = Detector(model, threads=1), protocol("native")
    score, kept = SegmentationScore(rule), 0
    for name, pixels, label in frames(condition, sirst, every, work):
        probability = detector.probability(pixels)
        score.update(probability, label, name)
        mask = probability > rule.target_threshold
        for kind, x, y, area in failures(label, mask, rule) if condition.command else ():
            if kept < 12:
                picture = titled(enlarged(pixels, label, mask, x, y), f"{kind}: {condition.label}, {area} px")
                write_image(work / "failures" / f"{key}-{kind}-{kept:02d}.png", picture)
                kept += 1
    values = score.compute(intervals=False)
    found = {
        "frames": len(score),
        "targets": int(values["pd"].denominator or 0),
        "detected": int(values["pd"].numerator or 0),
        "iou": values["iou"].value,
        "false": sum(int(row["false_blobs"] or 0) for row in score.per_image()),
        "pixels": sum(int(row["pixels"] or 0) for row in score.per_image()),
    }
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(found), encoding="utf-8")
    return found


def record(model: str, condition: Condition, every: int, work: Path) -> tuple[str, Path]:
    """What a condition of a network is called, by the content of its weights, and where its numbers are kept."""
    facts = f"{condition.label} {condition.command} {every if condition.change else ''}"
    weights = digest(model)[:12]
    key = f"{weights}-{condition.table}-{zlib.crc32(facts.encode()):08x}"
    return key, work / f"{key}.json"


def table(name: str, rows: list[tuple[Condition, dict[str, dict]]], models: list[str]) -> str:
    """Markdown: a line a condition, three columns a network."""
    empty = name == "empty"
    head = ["", "frames" if empty else "frames, targets"]
    for model in models:
        head += [f"{model}: false alarms a frame"] if empty else [f"{model}: IoU", "Pd", "false alarms a frame"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for condition, found in rows:
        first = found[models[0]]
        cells = [condition.label, f"{first['frames']}" if empty else f"{first['frames']}, {first['targets']}"]
        for model in models:
            one = found[model]
            rate = f"{one['false'] / one['frames']:.2f}"
            pd = f"{one['detected']}/{one['targets']}"
            cells += [rate] if empty else [f"{one['iou']:.3f}" if one["iou"] is not None else "-", pd, rate]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw_scale(rows: list[tuple[Condition, dict[str, dict]]], models: list[str]) -> None:
    """IoU, Pd and false alarms a frame over the scale."""
    factors = [float(condition.label.split()[0]) for condition, _ in rows]
    with figure_of(IMAGES / "limits-scale.png", 7.2, 2.5) as figure:
        for axes, what in zip(figure.subplots(1, 3), ("IoU", "Pd", "false alarms a frame"), strict=True):
            for k, model in enumerate(models):
                look = {"color": COLOURS[k], "linestyle": DASHES[k], "marker": "o", "markersize": 3, "label": model}
                found = [f[model] for _, f in rows]
                if what == "IoU":
                    axes.plot(factors, [f["iou"] for f in found], **look)
                elif what == "Pd":
                    bounds = [wilson(f["detected"], f["targets"]) or (0, 1) for f in found]
                    axes.fill_between(factors, *np.transpose(bounds), color=COLOURS[k], alpha=0.12, linewidth=0)
                    axes.plot(factors, [f["detected"] / f["targets"] for f in found], **look)
                else:
                    axes.plot(factors, [f["false"] / f["frames"] for f in found], **look)
            axes.set_xscale("log", base=2)
            axes.set_xticks(factors, [f"{f:g}" for f in factors])
            axes.minorticks_off()
            axes.set(xlabel="SIRST's test frames, scaled by", ylabel=what)
            axes.set_ylim(0, 1.03 if what != "false alarms a frame" else None)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(models))


def draw_failures(model: str, work: Path) -> None:
    """Failures on synthetic frames, which may be shown: six of each kind and kind of scene, at most."""
    weights = digest(model)[:12]
    chosen: list[Path] = []
    for kind in ("missed", "false"):
        found = sorted((work / "failures").glob(f"{weights}-*-{kind}-*.png"))
        # Spread over the conditions: the first of each, then the second of each, ...
        order: dict[str, int] = {}
        ranked = []
        for path in found:
            condition = path.name.rsplit("-", 2)[0]
            order[condition] = order.get(condition, -1) + 1
            ranked.append((order[condition], condition, path))
        chosen += [path for _, _, path in sorted(ranked)[:12]]
    cells = [read_image(path).pixels for path in chosen]
    cells = [np.broadcast_to(c, (*c.shape[:2], 3)) for c in cells]
    cells += [np.full_like(cells[0], 24)] * (-len(cells) % 6)
    rows = [np.concatenate(cells[i : i + 6], axis=1) for i in range(0, len(cells), 6)]
    write_image(IMAGES / "limits-failures.png", np.concatenate(rows) & np.uint8(0xFC))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sirst", type=Path, default=REPOSITORY.parent / "shared" / "data" / "sirst")
    parser.add_argument(
        "--model", action="append", help="default: every shipped network; the first is shown in pictures"
    )
    parser.add_argument("--every", type=int, default=4, help="each n-th frame of test_v1")
    parser.add_argument("--work", type=Path, default=Path("/tmp/motes-limits"))
    parser.add_argument("--only", help="this table alone; nothing is written into the page")
    parser.add_argument("--cached", action="store_true", help="measure nothing: write what is measured")
    options = parser.parse_args()
    models = options.model or sorted(list_weights(), reverse=True)
    rows: dict[str, list] = {}
    for condition in CONDITIONS:
        if options.only not in (None, condition.table):
            continue
        if options.cached and not all(record(m, condition, options.every, options.work)[1].exists() for m in models):
            print("not measured yet:", condition.table, condition.label)
            continue
        found = {m: measure(m, condition, options.sirst, options.every, options.work) for m in models}
        rows.setdefault(condition.table, []).append((condition, found))
        print(condition.table, condition.label, found, flush=True)
    if options.only:
        return
    blocks = {name: table(name, lines, models) for name, lines in rows.items()}
    made = [condition.command for name in ("contrast", "size", "empty", "frames") for condition, _ in rows[name]]
    blocks["commands"] = "\n".join(["```sh", *made, "```"])
    into_page(PAGE, blocks)
    draw_scale(rows["scale"], models)
    draw_failures(models[0], options.work)


if __name__ == "__main__":
    main()
