"""A dense data set out of a sparse one: more of its own targets pasted into every frame, as BAG-CP does.

What DenseSIRST is to SIRST. A frame is a function of the seed, its name and the frames it takes targets from, so an
interrupted set is gone on with, and parts of it may be made elsewhere.
"""

from __future__ import annotations

import json
import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motes.data.annotations import mask_of_boxes, read_boxes, read_sky
from motes.data.copy_paste import MODES, Pasted, Patch, cut_patches, paste
from motes.data.dataset import Dataset, Sample
from motes.data.lists import write_list
from motes.data.synthetic_sets import LAYOUTS, SAVE_EVERY, write_palette, write_text
from motes.errors import DataError
from motes.imaging import atomic_path, read_image, read_mask, write_image
from motes.interrupts import raise_swallowed_interrupt
from motes.naming import look_up

NOTES = "densify.json"
"""In the new set's root: from what and with which settings it was made, and how many targets each frame got."""

DONORS = 64
"""Frames tried for one frame's targets, before fewer are pasted."""


@dataclass(frozen=True)
class Densified:
    """What `densify` did: frames made now, frames that were there, targets before and after, frames left as they
    were for want of sky."""

    made: int
    kept: int
    before: int
    after: int
    unchanged: int


def densify(
    dataset: Dataset,
    out: Path,
    *,
    mode: str = "sky",
    targets: tuple[int, int] = (1, 26),
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Densified:
    """Writes every frame of a data set with more targets into ``out``, in the devkit's layout; splits are copied.

    A frame gets so many targets of other frames that it has a number drawn from ``targets`` (as published: 1 to 26 are
    in a frame of DenseSIRST); one that has as many already stays as it is. Frames of the training splits give to
    training frames only, those of test splits to test frames only. Targets come with their mask; of a frame without
    one, all pixels of a box are the target's. All of them are named Target, whatever their names were.

    Args:
        dataset: from ``open_dataset``: masks or boxes, and sky maps for mode ``sky``.
        out: a new folder, or one that the same call has begun to fill.
        mode: one of ``motes.data.copy_paste.MODES``.
        targets: fewest and most in a frame.
        seed: another seed, other frames.
        progress: called with frames done and frames in all.

    Raises:
        DataError: no sky maps in mode ``sky``, a folder that holds something else, or a frame that cannot be read.
        OSError: the disk is full; what was finished is kept.
    """
    samples = list(dataset.samples.values())
    check(dataset, samples, out, mode, targets)
    settings = json.loads(
        json.dumps({"from": str(dataset.root.resolve()), "mode": mode, "targets": list(targets), "seed": seed})
    )
    done = begun(out, settings)
    groups = _groups(dataset)
    made, noted = 0, time.monotonic()
    _note(out, settings, done)
    try:
        for i, sample in enumerate(samples):
            raise_swallowed_interrupt()
            paths = _paths(out, sample)
            if sample.name not in done or not all(p.is_file() for p in paths.values()):
                donors = [s for s in samples if groups[s.name] == groups[sample.name] and s.name != sample.name]
                done[sample.name] = _write(sample, donors, paths, mode, targets, seed)
                made += 1
                if time.monotonic() - noted > SAVE_EVERY:
                    _note(out, settings, done)
                    noted = time.monotonic()
            if progress:
                progress(i + 1, len(samples))
    finally:
        _note(out, settings, done)
    for name, ids in dataset.splits.items():
        write_list(out / "Splits" / f"{name.replace('/', '_')}.txt", [i for i in ids if i in done])
    before, after = (sum(done[s.name][k] for s in samples) for k in ("before", "after"))
    unchanged = sum(done[s.name]["before"] == done[s.name]["after"] for s in samples)
    return Densified(made, len(samples) - made, before, after, unchanged)


def check(dataset: Dataset, samples: Sequence[Sample], out: Path, mode: str, targets: tuple[int, int]) -> None:
    """Complains of what would fail later."""
    look_up("mode of copy-paste", mode, MODES, DataError)
    if not 0 <= targets[0] <= targets[1]:
        raise DataError(f"targets is {targets[0]} to {targets[1]}, expected two rising numbers from 0 on")
    if out.resolve() == dataset.root.resolve():
        raise DataError(f"{out} is the data set itself", "choose a new folder")
    bare = [s for s in samples if s.sky is None]
    if MODES[mode].sky and bare:
        how_many = "no sky maps" if len(bare) == len(samples) else f"no sky map of {len(bare)} of {len(samples)} images"
        raise DataError(
            f"{dataset.root} has {how_many}, which mode '{mode}' pastes into, for instance {bare[0].name}",
            "--mode gaussian_clusters needs none",
        )


def begun(out: Path, settings: dict[str, Any]) -> dict[str, dict[str, int]]:
    """The frames that ``out`` holds, after a check that they are from the same settings."""
    file = out / NOTES
    if not file.is_file():
        if out.exists() and (not out.is_dir() or any(not p.name.startswith(".") for p in out.iterdir())):
            raise DataError(f"{out} is not empty and holds no {NOTES}", "choose an empty or a new folder")
        return {}
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
        before, frames = there["settings"], there["frames"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{file} does not say what the set was made from", "choose an empty or a new folder") from None
    for key in sorted(before.keys() | settings.keys()):
        if before.get(key) != settings.get(key):
            raise DataError(
                f"{out} holds a set made with {key} {before.get(key)}, not {settings.get(key)}",
                "choose a new folder, or the same options to go on",
            )
    return dict(frames)


def _write(
    sample: Sample, donors: Sequence[Sample], paths: dict[str, Path], mode: str, targets: tuple[int, int], seed: int
) -> dict[str, int]:
    """All files of a frame, the image last."""
    rng = np.random.default_rng((seed, zlib.crc32(sample.name.encode())))
    pixels, truth = read_image(sample.image).pixels, read_boxes(sample)
    mask = _mask(sample, truth.boxes, pixels)
    sky = read_sky(sample) if sample.sky is not None else None
    wanted = int(rng.integers(targets[0], targets[1] + 1)) - len(truth.boxes)
    patches = _patches(donors, wanted, rng)
    allowed = None if sky is None else sky == 1
    done = paste(pixels, truth.boxes, truth.labels, mask, patches, rng, mode, allowed)
    write_image(paths["mask"], done.mask)
    write_palette(paths["palette"], done.mask)
    if sky is not None and sample.sky is not None:
        with atomic_path(paths["sky"]) as temporary:
            shutil.copyfile(sample.sky, temporary)
    centres = ((done.boxes[:, :2] + done.boxes[:, 2:] - 1) / 2).tolist()
    write_text(paths["points"], "".join(f"{x:g} {y:g}\n" for x, y in centres))
    write_text(paths["boxes"], _xml(sample.name, done))
    write_image(paths["image"], done.pixels)
    return {"before": len(truth.boxes), "after": len(done.boxes)}


def _patches(donors: Sequence[Sample], count: int, rng: np.random.Generator) -> list[Patch]:
    """``count`` targets of random other frames, as many as ``DONORS`` of them hold."""
    found: list[Patch] = []
    for i in rng.permutation(len(donors))[:DONORS] if count > 0 else ():
        donor = donors[int(i)]
        pixels, truth = read_image(donor.image).pixels, read_boxes(donor)
        cut = cut_patches(pixels, truth.boxes, truth.labels, _mask(donor, truth.boxes, pixels))
        found += [cut[int(k)] for k in rng.permutation(len(cut))]
        if len(found) >= count:
            break
    while found and len(found) < count:  # few donors: their targets come again
        found += found[: count - len(found)]
    return found[: max(count, 0)]


def _mask(sample: Sample, boxes: NDArray[np.float32], pixels: NDArray[Any]) -> NDArray[np.bool_]:
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    mask = mask_of_boxes(boxes, size) if sample.mask is None else read_mask(sample.mask)
    if mask.shape != size:
        raise DataError(
            f"{sample.mask} is {mask.shape[0]}x{mask.shape[1]} px, its image {size[0]}x{size[1]}",
            "`motes data check` lists all such pairs",
        )
    return mask


def _groups(dataset: Dataset) -> dict[str, str]:
    """Name -> "test" or "train": what is tested on gives nothing to what is trained on."""
    tested = {i for name, ids in dataset.splits.items() if "test" in name.lower() for i in ids}
    trained = {i for name, ids in dataset.splits.items() if "train" in name.lower() for i in ids}
    return {name: "test" if name in tested - trained else "train" for name in dataset.samples}


def _paths(out: Path, sample: Sample) -> dict[str, Path]:
    plan = LAYOUTS["sirstdevkit"]
    suffix = sample.image.suffix.lower() if sample.image.suffix.lower() in (".png", ".bmp", ".tif", ".tiff") else ".png"
    patterns = {"image": plan.image, "mask": plan.mask, **plan.devkit, "points": "SIRST/Point_label/{id}_pixels0.txt"}
    if sample.sky is None:
        del patterns["sky"]
    else:
        patterns["sky"] = plan.devkit["sky"].removesuffix(".png") + sample.sky.suffix
    return {k: out / p.format(id=sample.name, suffix=suffix) for k, p in patterns.items()}


def _note(out: Path, settings: dict[str, Any], frames: dict[str, dict[str, int]]) -> None:
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(frame)}" for name, frame in frames.items())
    write_text(out / NOTES, f'{{"settings": {json.dumps(settings)},\n"frames": {{\n{lines}\n}}}}\n')


def _xml(name: str, done: Pasted) -> str:
    """As DenseSIRST's: counted from 0, ending past the last pixel."""
    height, width = done.mask.shape
    objects = "".join(
        "  <object>\n    <name>Target</name>\n    <bndbox>\n"
        + "".join(f"      <{k}>{int(v)}</{k}>\n" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        + "    </bndbox>\n  </object>\n"
        for box in done.boxes.tolist()
    )
    size = f"  <size>\n    <width>{width}</width>\n    <height>{height}</height>\n    <depth>1</depth>\n  </size>\n"
    return f"<annotation>\n  <filename>{name}</filename>\n{size}{objects}</annotation>\n"
