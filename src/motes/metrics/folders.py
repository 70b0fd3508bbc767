"""Maps and masks of any method, found in folders and paired by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motes.errors import DataError
from motes.imaging import is_image_path, read_image
from motes.naming import nearest

_ENDING = re.compile(
    r"[_-](pixels0|instance_color_rgb|preds?|predictions?|probs?|probability|masks?|gt|labels?|outputs?|out|results?|res|seg|heatmap|map)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Pairs:
    """What belongs together.

    Attributes:
        pairs: (name of the mask, map file, mask file), in the order of the masks.
        missing: names of masks without a map.
        extra: map files without a mask.
    """

    pairs: list[tuple[str, Path, Path]]
    missing: list[str]
    extra: list[Path]


def shorter_names(stem: str) -> list[str]:
    """The stem, then the stem without what scripts put behind it: ``Misc_1_pixels0``, ``Misc_1``."""
    names = [stem]
    while (shorter := _ENDING.sub("", names[-1])) != names[-1]:
        names.append(shorter)
    return names


def image_files(folder: Path, what: str) -> dict[str, Path]:
    """Image files directly in ``folder``, by stem, in the order of their names.

    Raises:
        DataError: no such folder, no image in it, or two images of one stem.
    """
    if not folder.is_dir():
        beside = [p.name for p in folder.parent.iterdir() if p.is_dir()] if folder.parent.is_dir() else []
        close = nearest(folder.name, beside)
        kind = "is a file" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {kind}, expected a folder of {what}", f"did you mean '{close}'?" if close else None)
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_image_path(path):
            continue
        if path.stem in files:
            raise DataError(
                f"{folder} holds two {what} of '{path.stem}': {files[path.stem].name} and {path.name}",
                "keep one of them in the folder",
            )
        files[path.stem] = path
    if not files:
        below = sorted(p.name for p in folder.iterdir() if p.is_dir() and any(map(is_image_path, p.iterdir())))
        raise DataError(
            f"{folder} holds no image, expected {what}", f"did you mean '{folder / below[0]}'?" if below else None
        )
    return files


def pair(maps: Mapping[str, Path], masks: Mapping[str, Path]) -> Pairs:
    """Pair maps with masks by stem, taking off as few endings as it takes; every map goes with one mask at most.

    Raises:
        DataError: two maps fit a mask equally well, or nothing fits at all.
    """
    by_name: dict[str, list[tuple[int, str]]] = {}
    for stem in sorted(maps):
        for cost, name in enumerate(shorter_names(stem)):
            by_name.setdefault(name, []).append((cost, stem))
    fits = sorted(
        (cost + more, mask, stem)
        for mask in masks
        for cost, name in enumerate(shorter_names(mask))
        for more, stem in by_name.get(name, [])
    )
    chosen: dict[str, tuple[int, str]] = {}
    used: set[str] = set()
    for cost, mask, stem in fits:
        if stem in used:
            continue
        if mask not in chosen:
            chosen[mask] = (cost, stem)
            used.add(stem)
        elif chosen[mask][0] == cost and chosen[mask][1] != stem:
            raise DataError(
                f"mask '{masks[mask].name}' fits two maps: {maps[chosen[mask][1]].name} and {maps[stem].name}",
                "keep one map an image in the folder",
            )
    pairs = [(name, maps[chosen[name][1]], mask) for name, mask in masks.items() if name in chosen]
    missing = [name for name in masks if name not in chosen]
    if not pairs and masks and maps:
        one, other = next(iter(maps.values())), next(iter(masks.values()))
        raise DataError(
            f"no map of {one.parent} has the name of a mask of {other.parent} ('{one.name}', '{other.name}')",
            "maps and masks are matched by stem; endings like _pred, _mask, _pixels0 do not matter",
        )
    return Pairs(pairs, missing, [path for stem, path in maps.items() if stem not in used])


def read_map(path: Path, full_scale: float | None = None, logits: bool = False) -> np.ndarray:
    """A probability map, float32 [H, W] in [0, 1].

    8-bit files are divided by 255, 16-bit ones by 65535, floats are taken as they are.

    Args:
        path: PNG, BMP, JPEG, TIFF or .npy with one channel (or several equal ones).
        full_scale: the count that means 1, where it is another one.
        logits: the file holds logits: apply a sigmoid.

    Raises:
        DataError: several different channels, or values outside [0, 1].
        ImageError: the file cannot be read.
    """
    pixels = read_image(path).pixels
    if pixels.shape[2] > 1 and (pixels != pixels[:, :, :1]).any():
        raise DataError(f"{path}: has {pixels.shape[2]} different channels, expected a map of one channel")
    plane = pixels[:, :, 0]
    if logits:
        return (1 / (1 + np.exp(-plane.astype(np.float64)))).astype(np.float32)
    if full_scale is None and plane.dtype.kind != "f":
        if plane.dtype not in (np.uint8, np.uint16):
            raise DataError(f"{path}: holds {plane.dtype} counts, and none of them is known to mean 1", "give --scale")
        full_scale = np.iinfo(plane.dtype).max
    probability = (plane if full_scale is None else plane / full_scale).astype(np.float32)
    low, high = float(probability.min(initial=0)), float(probability.max(initial=0))
    if low < 0 or high > 1:
        raise DataError(
            f"{path}: has values from {low:g} to {high:g}, expected probabilities from 0 to 1",
            "give --scale for counts or --logits for logits",
        )
    return probability


def full_scale_of(paths: Iterable[Path]) -> float | None:
    """1 if the maps are integer files that never exceed 1 (masks written as 0/1); None for every other folder.

    Reads on only until the first file with a larger value.
    """
    seen = False
    for path in paths:
        pixels = read_image(path, finite=False).pixels
        if pixels.dtype.kind == "f" or pixels.max(initial=0) > 1:
            return None
        seen = seen or bool(pixels.any())
    return 1.0 if seen else None
