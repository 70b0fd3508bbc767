"""Scores networks on held-out stand-ins for a camera that was never seen: docs/held-out.md says what they are.

    python docs/scripts/held_out.py DATA SIRST FILE.onnx [FILE.onnx ...]       # a table, and rows as JSON (--json)
    python docs/scripts/held_out.py DATA SIRST repisdnet-sirst acm-sirst --page # and into docs/held-out.md
    python docs/scripts/ship_network.py FILE.onnx held-out.json                # the rows into the file's card

DATA holds the sets, each made here once where that is possible; `clutter_held` comes from docs/scripts/clutter.py.
Threshold: the card's. What is measured is kept in --work, by the content of weights and frames. A set that is not
there, or that a network was trained on, is told on one line and left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import digest, into_page  # beside this file

from motes.cli.app import app
from motes.cli.models import HELD_OUT, held_out_cells
from motes.data import Sample, open_dataset
from motes.data.lists import listed
from motes.errors import DataError, MotesError
from motes.evaluation import predict
from motes.evaluation.run import overlap
from motes.imaging import atomic_path, read_image, read_mask, resize, write_image
from motes.inference import Detector
from motes.inference.backend import find_weights
from motes.metrics import Protocol, SegmentationScore, protocol
from motes.training.pasting import paste_targets
from motes.training.recipe import TransformPart
from motes.training.selection import empty_frames

PAGE = Path(__file__).resolve().parents[1] / "held-out.md"
TWINS = "lists/sirst_near_twins.txt"
CLUTTER = "docs/scripts/clutter.py fetches them"
MIXED = "--size 512x640 --bits 8 --scene mixed"
CLOUDS = "--size 1024x1280 --scene cloud"
URBAN = "--size 512x640 --bits 8 --scene urban"

PASTED, LEAST, TRIES, AROUND = 3, 3.0, 100, 10
"""Targets a frame, the least rise of one over the spread within AROUND px of it, draws before giving up."""
PASTING = TransformPart(pasted=1, paste_scale=(0.7, 2.0), paste_gain=(1.0, 1.0))


@dataclass(frozen=True)
class Frames:
    """What is scored, and the frames that it was made of, which must not have been trained on."""

    samples: Sequence[Sample]
    made_of: Sequence[Sample]


@dataclass(frozen=True)
class HeldSet:
    name: str
    about: str
    frames: Callable[[Path, Path], Frames]  # of (DATA, SIRST)
    protocols: tuple[str, ...] = ("native",)


# ---------------------------------------------------------------- the sets


def synthetic(name: str, options: str) -> Callable[[Path, Path], Frames]:
    """As `motes data synthesize` made it once; a later generator makes other frames of the same kind."""

    def frames(data: Path, _: Path) -> Frames:
        if not (data / name).is_dir():
            whole = ["--test", "0", "--val", "0"]
            app(["data", "synthesize", str(data / name), *options.split(), *whole], standalone_mode=False)
        samples = open_dataset(data / name).split(None)
        return Frames(samples, samples)

    return frames


def clutter(folder: str, infrared: bool = False) -> Callable[[Path, Path], Frames]:
    def frames(data: Path, _: Path) -> Frames:
        samples = [s for s in pictures(data / folder) if s.name.startswith("infrared-") == infrared]
        if not samples:
            raise DataError(f"no {'infrared pictures' if infrared else 'photographs'} in {data / folder}", CLUTTER)
        return Frames(samples, samples)

    return frames


def pictures(root: Path) -> list[Sample]:
    """Held-out frames without targets."""
    if not root.is_dir():
        raise DataError(f"no folder {root}", CLUTTER)
    return empty_frames(root)


def twins(_: Path, sirst: Path) -> Frames:
    samples = listed(open_dataset(sirst), TWINS)
    return Frames(samples, samples)


def enlarged(data: Path, sirst: Path) -> Frames:
    """The near-twins at twice their size, in the layout of SIRST."""
    sources = twins(data, sirst).samples
    made = []
    for source in sources:
        sample = place(data / "near_twins_x2", source.name)
        if not sample.mask.exists():
            pixels, label = read_image(source.image).pixels, read_mask(source.mask)
            size = (2 * label.shape[0], 2 * label.shape[1])
            share = resize(label.astype(np.float32), size, "bilinear")
            write(sample, resize(pixels, size, "bicubic"), share >= 0.5)
        made.append(sample)
    return Frames(made, sources)


def pasted(name: str, folder: str) -> Callable[[Path, Path], Frames]:
    """Frames without targets that have been given targets of the near-twins, in the layout of SIRST."""

    def frames(data: Path, sirst: Path) -> Frames:
        donors, grounds = twins(data, sirst).samples, pictures(data / folder)
        made = []
        for ground in grounds:
            sample = place(data / name, ground.name)
            if not sample.mask.exists():
                write(sample, *with_targets(ground, donors))
            made.append(sample)
        return Frames(made, [*grounds, *donors])

    return frames


def with_targets(ground: Sample, donors: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """[H, W, 1] uint8 and [H, W] bool: a frame with PASTED targets, each plain to see where it lies."""
    rng = np.random.default_rng(zlib.crc32(ground.name.encode()))
    before = read_image(ground.image).pixels.mean(axis=2, keepdims=True).astype(np.float32) / 255
    label, found = np.zeros(before.shape[:2], bool), 0
    for _ in range(TRIES):
        donor = donors[int(rng.integers(len(donors)))]
        pixels = read_image(donor.image).pixels.mean(axis=2, keepdims=True).astype(np.float32) / 255
        after, both = paste_targets(before, label, pixels, read_mask(donor.mask), PASTING, rng)
        after = np.clip(after, 0, 1)
        if (both & ~label).any() and contrast(before, after, both & ~label, both) >= LEAST:
            before, label, found = after, both, found + 1
        if found == PASTED:
            return np.rint(255 * before).astype(np.uint8), label
    raise DataError(f"{ground.image}: only {found} of {PASTED} targets could be pasted in {TRIES} tries")


def contrast(before: np.ndarray, after: np.ndarray, target: np.ndarray, targets: np.ndarray) -> float:
    """How far a target is above what is around it, and above what was there before, on average: the lesser of both, in
    standard deviations of what is around it."""
    rows, columns = (np.flatnonzero(target.any(axis=a)) for a in (1, 0))
    window = tuple(slice(max(int(at[0]) - AROUND, 0), int(at[-1]) + AROUND + 1) for at in (rows, columns))
    around = after[window][~targets[window]]
    rise = min(after[target].mean() - around.mean(), (after - before)[target].mean())
    return float(rise / max(float(around.std()), 1e-6))


def place(root: Path, name: str) -> Sample:
    """Where a frame lies in the layout of SIRST."""
    return Sample(name, root / "PNGImages" / f"{name}.png", root / "SIRST" / "BinaryMask" / f"{name}_pixels0.png")


def write(sample: Sample, pixels: np.ndarray, label: np.ndarray) -> None:
    write_image(sample.image, pixels)
    write_image(sample.mask, label)  # last: where it is, both are


SETS = (
    HeldSet(
        "held8",
        "synthetic 8-bit frames of 512x640 px",
        synthetic("held8", f"{MIXED} --count 30 --seed 77 --targets 1:3 --snr 8:40 --min-scr 4 --target-size 2:7"),
    ),
    HeldSet(
        "held8_empty",
        "synthetic 8-bit frames of 512x640 px without targets",
        synthetic("held8_empty", f"{MIXED} --count 15 --seed 99 --targets 0:0"),
    ),
    HeldSet(
        "clouds_held",
        "synthetic 8-bit clouds of 1024x1280 px",
        synthetic(
            "clouds_held",
            f"{CLOUDS} --bits 8 --count 8 --seed 505 --targets 1:4 --snr 10:60 --min-scr 4 --target-size 2:9",
        ),
    ),
    HeldSet(
        "clouds_empty",
        "synthetic 8-bit clouds of 1024x1280 px without targets",
        synthetic("clouds_empty", f"{CLOUDS} --bits 8 --count 8 --seed 606 --targets 0:0"),
    ),
    HeldSet(
        "clouds_empty_14",
        "synthetic 14-bit clouds of 1024x1280 px without targets",
        synthetic("clouds_empty_14", f"{CLOUDS} --bits 14 --count 8 --seed 607 --targets 0:0"),
    ),
    HeldSet(
        "urban_held",
        "synthetic 8-bit cities of 512x640 px",
        synthetic(
            "urban_held", f"{URBAN} --count 20 --seed 707 --targets 1:3 --snr 10:60 --min-scr 4 --target-size 2:7"
        ),
    ),
    HeldSet(
        "urban_empty",
        "synthetic 8-bit cities of 512x640 px without targets",
        synthetic("urban_empty", f"{URBAN} --count 15 --seed 808 --targets 0:0"),
    ),
    HeldSet("clutter_held", "photographs without targets", clutter("clutter_held")),
    HeldSet("infrared_held", "satellite pictures of a coast without targets", clutter("clutter_held", infrared=True)),
    HeldSet("buildings_held", "photographs of buildings and animals without targets", clutter("buildings_held")),
    HeldSet("near_twins", "frames of SIRST that resemble its test", twins, ("native", "repisdnet")),
    HeldSet("near_twins_x2", "the same, enlarged by 2", enlarged),
    HeldSet(
        "pasted_held",
        "clutter_held and infrared_held with targets of near_twins",
        pasted("pasted_held", "clutter_held"),
    ),
    HeldSet(
        "pasted_buildings", "buildings_held with targets of near_twins", pasted("pasted_buildings", "buildings_held")
    ),
)


# ---------------------------------------------------------------- scoring


def measure(model: str, held: HeldSet, frames: Frames, rule: Protocol, work: Path) -> dict[str, Any]:
    """A row of `Card.measured`, from --work where it is there."""
    key = f"{digest(model)[:12]}-{held.name}-{rule.name}-{content(frames.samples)}"
    file = work / f"{key}.json"
    if not file.exists():
        found = scored(Detector(model, threads=1), frames.samples, rule)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(found), encoding="utf-8")
    numbers = json.loads(file.read_text(encoding="utf-8"))
    return {"data": held.name, "about": held.about, "held_out": True, "protocol": rule.name, **numbers}


def scored(detector: Detector, samples: Sequence[Sample], rule: Protocol) -> dict[str, Any]:
    """Counts and rates; a protocol of fixed thresholds keeps them, ``native`` takes the card's."""
    rule = rule.at(detector.threshold) if rule.name == "native" else rule
    score = SegmentationScore(rule)
    for sample in samples:
        if sample.empty:
            pixels = read_image(sample.image).pixels
            probability, label = detector.probability(pixels), np.zeros(pixels.shape[:2], bool)
        else:
            found = predict(detector, sample, rule)
            probability, label = found.probability, found.label
        score.update(probability, label, sample.name)
    values, images = score.compute(intervals=False), score.per_image()
    row: dict[str, Any] = {"threshold": rule.threshold}
    if rule.target_threshold != rule.threshold:
        row["target_threshold"] = rule.target_threshold
    row |= {"frames": len(score), "megapixels": round(sum(int(i["pixels"] or 0) for i in images) / 1e6, 4)}
    if targets := int(values["pd"].denominator or 0):
        row |= {"iou": round(float(values["iou"].value or 0), 6), "pd": round(float(values["pd"].value or 0), 6)}
        row["targets"] = f"{int(values['pd'].numerator or 0)}/{targets}"
    return row | {"false_blobs": sum(int(i["false_blobs"] or 0) for i in images)}


def content(samples: Sequence[Sample]) -> str:
    """Short hash of images and masks."""
    found = hashlib.sha256()
    for file in sorted(f for s in samples for f in (s.image, s.mask) if f is not None):
        found.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:12]


def rows_of(
    models: Sequence[str], data: Path, sirst: Path, work: Path, only: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(network, row), set after set; what is left out is told on stderr."""
    for held in SETS:
        if only and held.name not in only:
            continue
        try:
            frames = held.frames(data, sirst)
        except MotesError as error:
            print(f"{held.name}: left out: {error}", file=sys.stderr)
            continue
        for model in models:
            if known := overlap(Detector(model).card, frames.made_of):
                print(f"{held.name}: left out of {model}: {known[0].partition(':')[0]}", file=sys.stderr)
                continue
            for rule in held.protocols:
                yield model, measure(model, held, frames, protocol(rule), work)


def table(rows: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Markdown: a line a set, protocol and network."""
    columns = [c.lstrip(">") for c in HELD_OUT]
    lines = [[columns[0], "network", *columns[2:]], ["---"] * 4 + ["---:"] * (len(columns) - 4)]
    for model, row in rows:
        cells = ["-" if cell is None else cell for cell in held_out_cells(row)]
        lines.append([cells[0], Path(model).stem, *cells[2:]])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("sirst", type=Path)
    parser.add_argument("models", nargs="+", metavar="FILE", help="an .onnx file, or the name of a shipped network")
    parser.add_argument("--work", type=Path, default=Path("/tmp/motes-held-out"))
    parser.add_argument("--json", type=Path, help="default: held-out.json in --work")
    parser.add_argument("--only", nargs="+", default=[], choices=[held.name for held in SETS])
    parser.add_argument("--page", action="store_true", help="write the table into docs/held-out.md")
    options = parser.parse_args(words)
    rows = []
    for model, row in rows_of(options.models, options.data, options.sirst, options.work, options.only):
        rows.append((model, row))
        print(Path(model).name, *held_out_cells(row)[:1], *held_out_cells(row)[2:], file=sys.stderr, flush=True)
    found = [
        {"file": str(find_weights(model)), "weights": digest(model), "rows": [row for m, row in rows if m == model]}
        for model in options.models
    ]
    file = options.json or options.work / "held-out.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(rows))
    print(f"rows: {file}", file=sys.stderr)
    if options.page:
        into_page(PAGE, {"held-out": table(rows)})


if __name__ == "__main__":
    main()
