"""One side of the preparation benchmark: raw iSAID files into patches and masks of ids, in a process of its own."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from memory import peak_bytes
from sides import answer

from motes.data.classes import class_table

COLOURS, INSTANCES = "_instance_color_RGB", "_instance_id_RGB"
SPLITS = ("train", "val")
TABLE = class_table("isaid")

Way = Callable[[Path, Path, int, int, int], None]
"""(source, target, patch, stride, threads) writes target/{train,val}/{images,masks}."""


def published(source: Path, target: Path, patch: int, stride: int, threads: int) -> None:
    """The published way: one script cuts images and coloured masks file by file, windows at the border as often as its
    loops come to them; a second one reads every piece of a mask again and turns its colours into ids."""
    from PIL import Image

    for folder in _folders(target, "images", "colours", "masks"):
        for image, mask in _pairs(source / folder.name):
            for file, to in ((image, folder / "images"), (mask, folder / "colours")):
                pixels = np.array(Image.open(file))
                for name, piece in _pieces(pixels, image.stem, patch, stride):
                    path = to / f"{name}{file.stem.removeprefix(image.stem)}.png"
                    if piece is None:
                        shutil.copy(file, path)
                    else:
                        Image.fromarray(piece).save(path)
        for path in sorted((folder / "colours").iterdir()):
            ids = _ids(np.array(Image.open(path).convert("RGB")))
            Image.fromarray(ids).save(folder / "masks" / path.name)
        shutil.rmtree(folder / "colours")


def lean(source: Path, target: Path, patch: int, stride: int, threads: int) -> None:
    """The same tools, less work: a mask is turned into ids before it is cut, and every window is written once."""
    from PIL import Image

    for folder in _folders(target, "images", "masks"):
        for image, mask in _pairs(source / folder.name):
            pixels, ids = np.array(Image.open(image)), _ids(np.array(Image.open(mask).convert("RGB")))
            for name, piece in dict(_pieces(pixels, image.stem, patch, stride)).items():
                path = folder / "images" / f"{name}.png"
                if piece is None:
                    shutil.copy(image, path)
                else:
                    Image.fromarray(piece).save(path)
            for name, piece in dict(_pieces(ids, image.stem, patch, stride)).items():
                Image.fromarray(ids if piece is None else piece).save(folder / "masks" / f"{name}{COLOURS}.png")


def motes(source: Path, target: Path, patch: int, stride: int, threads: int) -> None:
    """What ``motes data prepare isaid SRC DST --rule split`` does."""
    from motes.data.prepare import prepare
    from motes.data.raw_files import isaid_files

    done = prepare(isaid_files(source, SPLITS), target, TABLE, "split", patch, stride, threads=threads or None)
    if done.failed:
        raise SystemExit(done.failed[0])


WAYS: dict[str, Way] = {f.__name__: f for f in (published, lean, motes)}


def _folders(target: Path, *names: str) -> Iterator[Path]:
    for split in SPLITS:
        for name in names:
            (target / split / name).mkdir(parents=True)
        yield target / split


def _pairs(split: Path) -> Iterator[tuple[Path, Path]]:
    for image in sorted((split / "images").glob("*.png")):
        if not image.stem.endswith((COLOURS, INSTANCES)):
            yield image, image.with_name(f"{image.stem}{COLOURS}.png")


def _pieces(pixels: np.ndarray, stem: str, patch: int, stride: int) -> Iterator[tuple[str, np.ndarray | None]]:
    """(name, window) by the rule of the devkit; (name of the file, None) for one that stays whole."""
    height, width = pixels.shape[:2]
    if height <= patch or width <= patch:
        yield stem, None
        return
    for x in range(0, width, stride):
        for y in range(0, height, stride):
            left, top = min(x, width - patch), min(y, height - patch)
            piece = pixels[top : top + patch, left : left + patch]
            yield f"{stem}_{top}_{top + patch}_{left}_{left + patch}", piece


def _ids(rgb: np.ndarray) -> np.ndarray:
    ids = np.zeros(rgb.shape[:2], np.uint8)
    for i, colour in enumerate(TABLE.colours):
        ids[np.all(rgb == np.array(colour), axis=2)] = i
    return ids


def main(name: str, source: Path, folder: Path, patch: int, stride: int, threads: int) -> None:
    way, written = WAYS[name], folder / name

    def warm() -> None:
        """One split of nothing but the first image and mask: imports and what is made once are not timed."""
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            few = Path(scratch) / "source"
            image, mask = next(pair for split in SPLITS for pair in _pairs(source / split))
            for split in SPLITS:
                (few / split / "images").mkdir(parents=True)
                for file in (image, mask):
                    shutil.copy(file, few / split / "images")
            way(few, Path(scratch) / "target", patch, stride, threads)

    def timed() -> float:
        """Seconds for all files. What the last call wrote is removed before the clock starts."""
        shutil.rmtree(written, ignore_errors=True)
        start = time.perf_counter()
        way(source, written, patch, stride, threads)
        return time.perf_counter() - start

    answer({"warm": warm, "timed": timed, "peak": peak_bytes})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:7]))
