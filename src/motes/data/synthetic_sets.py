"""Synthetic frames written as a data set, in any of the layouts that ``open_dataset`` reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from motes.data.lists import write_list
from motes.data.targets import Scene, Target
from motes.errors import DataError
from motes.interrupts import raise_swallowed_interrupt
from motes.naming import look_up

METADATA = "targets.json"
SAVE_EVERY = 5.0  # seconds between two writes of the metadata; what is younger at a crash is made again


@dataclass(frozen=True)
class Layout:
    """Where the files of a frame lie under the root. Patterns know ``{id}``, ``{split}`` and ``{suffix}``.

    Args:
        image, mask: patterns.
        lists: pattern of a list -> the parts ("train", "val", "test") it holds.
        folder: part -> the name that ``{split}`` stands for, where each split has folders of its own.
        name: pattern of an id; knows ``{n}``, the frame's number from 0.
        devkit: folders of boxes, points, palette masks and sky maps.
    """

    image: str
    mask: str
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    folder: dict[str, str] = field(default_factory=dict)
    name: str = "synthetic_{n:05d}"
    devkit: dict[str, str] = field(default_factory=dict)


_TWO = {"train": ("train", "val"), "test": ("test",)}

LAYOUTS: dict[str, Layout] = {
    "sirstdevkit": Layout(
        "PNGImages/{id}{suffix}",
        "SIRST/BinaryMask/{id}_pixels0.png",
        {
            "Splits/train_v1.txt": ("train",),
            "Splits/val_v1.txt": ("val",),
            "Splits/trainval_v1.txt": ("train", "val"),
            "Splits/test_v1.txt": ("test",),
        },
        devkit={
            "boxes": "SIRST/BBox/{id}.xml",
            "points": "SIRST/Point_label/{id}.xml",
            "palette": "SIRST/PaletteMask/{id}.png",
            "sky": "SkySeg/BinaryMask/{id}_pixels0.png",
        },
    ),
    "open-sirst-v2": Layout(
        "mixed/{id}{suffix}",
        "annotations/masks/{id}_pixels0.png",
        {"splits/trainval_full.txt": ("train", "val"), "splits/test_full.txt": ("test",)},
        devkit={"boxes": "annotations/bboxes/{id}.xml", "points": "annotations/centroids/{id}.xml"},
    ),
    "basicirstd": Layout(
        "images/{id}{suffix}", "masks/{id}.png", {f"img_idx/{k}_synthetic.txt": v for k, v in _TWO.items()}
    ),
    "dnanet": Layout("images/{id}{suffix}", "masks/{id}.png", {f"synthetic/{k}.txt": v for k, v in _TWO.items()}),
    "serankdet": Layout(
        "{split}/images/{id}{suffix}",
        "{split}/masks/{id}.png",
        folder={"train": "trainval", "val": "trainval", "test": "test"},
    ),
    "factseg": Layout(
        "{split}/images/images/{id}{suffix}",
        "{split}/masks/images/{id}.png",
        folder={"train": "train", "val": "train", "test": "test"},
    ),
    "irstd1k": Layout(
        "IRSTD1k_Img/{id}{suffix}",
        "IRSTD1k_Label/{id}.png",
        {"trainval.txt": ("train", "val"), "test.txt": ("test",)},
        name="XDU{n}",
    ),
    "plain": Layout("images/{id}{suffix}", "masks/{id}.png", {f"{k}.txt": v for k, v in _TWO.items()}),
}
ALIASES = {"sirst-devkit": "sirstdevkit", "sirst": "sirstdevkit"}


@dataclass(frozen=True)
class Written:
    """What ``write_dataset`` did: frames made now, frames that were there, frames and targets in the set, by split."""

    made: int
    kept: int
    targets: int
    parts: dict[str, int]


@dataclass(frozen=True)
class Shares:
    """Shares of the frames in the test and the validation split."""

    test: float = 0.2
    val: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.test <= 1 and 0 <= self.val <= 1 and self.test + self.val <= 1):
            message = f"shares of test {self.test} and val {self.val}: expected shares that sum to 1 at most"
            raise DataError(message)

    def part(self, i: int) -> str:
        """Split of frame i, whatever the count: steps of the golden ratio fill 0..1 evenly from the start."""
        place = (i + 4) * 0.6180339887498949 % 1
        return "test" if place < self.test else "val" if place < self.test + self.val else "train"


def write_frames(
    root: Path,
    layout: str,
    count: int,
    settings: dict[str, Any],
    make: Callable[[int], Scene],
    shares: Shares,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write frames 0 .. count - 1 of ``make`` into ``root``; see ``synthesize.write_dataset``.

    Args:
        settings: what ``make`` depends on; a set is only continued with the same settings.
    """
    layout = look_up("layout", ALIASES.get(layout.lower(), layout), LAYOUTS, DataError)
    if isinstance(count, bool) or count != int(count) or not 1 <= count <= 10_000_000:
        raise DataError(f"count is {count}, expected a whole number of at least 1")
    settings = json.loads(json.dumps({"layout": layout, **settings, **asdict(shares)}))
    try:
        return _write(root, LAYOUTS[layout], int(count), settings, make, shares, progress)
    except OSError as e:
        hint = "what was finished is kept; the same command goes on from there"
        raise DataError(f"cannot write to {e.filename or root}: {e.strerror or e}", hint) from None


def _write(
    root: Path,
    plan: Layout,
    count: int,
    settings: dict[str, Any],
    make: Callable[[int], Scene],
    shares: Shares,
    progress: Callable[[int, int], None] | None,
) -> Written:
    frames = _open(root, settings)
    parts = [shares.part(i) for i in range(max(count, len(frames)))]
    names = [plan.name.format(n=i) for i in range(len(parts))]
    for folder in {_folder_of(plan, p, part) for p in _patterns(plan) for part in ("train", "test")}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    _save_metadata(root, settings, frames)
    made, saved = 0, time.monotonic()
    try:
        for i in range(count):
            raise_swallowed_interrupt()
            paths = {k: root / p for k, p in _paths(plan, names[i], parts[i], settings["suffix"]).items()}
            if names[i] not in frames or not all(p.is_file() for p in paths.values()):
                frames[names[i]] = _write_frame(paths, names[i], make(i))
                made += 1
                if time.monotonic() - saved > SAVE_EVERY:
                    _save_metadata(root, settings, frames)
                    saved = time.monotonic()
            if progress:
                progress(i + 1, count)
    finally:
        _save_metadata(root, settings, {n: frames[n] for n in names if n in frames})
    complete = [(n, p) for n, p in zip(names, parts, strict=True) if n in frames]
    for path, holds in plan.lists.items():
        write_list(root / path, [n for n, p in complete if p in holds])
    sizes = {part: sum(p == part for _, p in complete) for part in ("train", "val", "test")}
    return Written(made, count - made, sum(len(f["targets"]) for f in frames.values()), sizes)


def _open(root: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The frames that ``root`` holds, by id, after a check that they are from the same settings."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file, but a data set is a folder")
    file = root / METADATA
    if not file.is_file():
        if root.is_dir() and any(not p.name.startswith(".") for p in root.iterdir()):
            raise DataError(f"{root} is not empty and holds no {METADATA}", "choose an empty or a new folder")
        return {}
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
        before, frames = there["settings"], there["frames"]
    except (ValueError, KeyError, TypeError):
        raise DataError(
            f"{file} is not the metadata of a synthetic data set", "choose an empty or a new folder"
        ) from None
    for key in sorted(before.keys() | settings.keys()):
        if before.get(key) != settings.get(key):
            message = f"{root} holds a set made with {key} {_said(before, key)}, not {_said(settings, key)}"
            raise DataError(message, "choose a new folder, or the same options to add frames")
    return frames


def _said(settings: dict[str, Any], key: str) -> str:
    return str(settings[key]) if key in settings else "left at its default"


def _patterns(plan: Layout) -> list[str]:
    return [plan.image, plan.mask, *plan.devkit.values(), *plan.lists]


def _folder_of(plan: Layout, pattern: str, part: str) -> Path:
    return Path(pattern.replace("{split}", plan.folder.get(part, part))).parent


def _paths(plan: Layout, name: str, part: str, suffix: str) -> dict[str, Path]:
    patterns = {"image": plan.image, "mask": plan.mask, **plan.devkit}
    split = plan.folder.get(part, part)
    return {k: Path(p.format(id=name, split=split, suffix=suffix)) for k, p in patterns.items()}


def _write_frame(paths: dict[str, Path], name: str, frame: Scene) -> dict[str, Any]:
    """All files of a frame, the image last; returns its metadata."""
    from motes.imaging import write_image

    if "boxes" in paths:
        write_text(paths["boxes"], _xml(name, frame, _box_lines))
    if "points" in paths:
        write_text(paths["points"], _xml(name, frame, _point_lines))
    if "palette" in paths:
        write_palette(paths["palette"], frame.mask)
    if "sky" in paths:
        write_image(paths["sky"], frame.sky.astype(np.uint8)[..., None] * 255)
    write_image(paths["mask"], frame.mask.astype(np.uint8)[..., None] * 255)
    write_image(paths["image"], frame.pixels[..., None])
    return {
        "scene": frame.kind,
        "bits": frame.bits,
        "noise": round(frame.noise, 4),
        "stuck": frame.stuck.tolist(),
        "targets": [
            {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(t).items()} for t in frame.targets
        ],
    }


def _save_metadata(root: Path, settings: dict[str, Any], frames: dict[str, Any]) -> None:
    """``targets.json``, one frame a line."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(frame)}" for name, frame in frames.items())
    write_text(root / METADATA, f'{{"settings": {json.dumps(settings)},\n"frames": {{\n{lines}\n}}}}\n')


def write_text(path: Path, text: str) -> None:
    from motes.imaging import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_palette(path: Path, mask: np.ndarray) -> None:
    """Palette PNG: index 1 is a target, shown in dark red, as in the devkit."""
    from PIL import Image as Pillow

    from motes.imaging import atomic_path

    picture = Pillow.fromarray(mask.astype(np.uint8), mode="P")
    picture.putpalette([0, 0, 0, 128, 0, 0])
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def _xml(name: str, frame: Scene, lines: Callable[[Target, np.ndarray], str]) -> str:
    height, width = frame.mask.shape
    objects = "".join(
        f"  <object>\n    <name>Target</name>\n{lines(t, frame.pixels)}  </object>\n" for t in frame.targets
    )
    size = f"  <size>\n    <width>{width}</width>\n    <height>{height}</height>\n    <depth>1</depth>\n  </size>\n"
    return f"<annotation>\n  <filename>{name}</filename>\n{size}{objects}</annotation>\n"


def _box_lines(target: Target, pixels: np.ndarray) -> str:
    """The devkit counts from 1 and ends past the last pixel."""
    values = zip(("xmin", "ymin", "xmax", "ymax"), target.box, strict=True)
    inner = "".join(f"      <{k}>{v + 1}</{k}>\n" for k, v in values)
    return f"    <bndbox>\n{inner}    </bndbox>\n"


def _point_lines(target: Target, pixels: np.ndarray) -> str:
    """True centre, counted from 1 as in the devkit."""
    return f"    <centroid>\n      <yc>{target.y + 1:.4f}</yc>\n      <xc>{target.x + 1:.4f}</xc>\n    </centroid>\n"
