"""A data set again, with Gaussian noise on its images: how NoisySIRST is made of SIRST.

NoisySIRST came with SeRankDet (sigma 10, 20 and 30 grey levels, masks unchanged). Its files are on a network disk only,
and whether its noise was clipped or seeded is not published; this noise is clipped to the files' depth, and the same
seed gives the same frames.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from motes.data.dataset import Dataset
from motes.data.parallel import in_threads
from motes.errors import DataError
from motes.imaging import atomic_path, read_image, write_image

RECORD = "noise.json"


def add_noise(pixels: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """``pixels`` [H, W, C] plus Gaussian noise of ``sigma`` counts; same dtype, rounded and clipped to its range.

    All bands get the same noise: an infrared frame stored as RGB is one band three times. Floats are not clipped.
    """
    noise = rng.normal(0.0, sigma, (*pixels.shape[:2], 1))
    noisy = pixels + noise
    if np.issubdtype(pixels.dtype, np.floating):
        return noisy.astype(pixels.dtype)
    limits = np.iinfo(pixels.dtype)
    return np.clip(np.rint(noisy), limits.min, limits.max).astype(pixels.dtype)


def write_noisy(
    data: Dataset, out: Path, sigma: float, seed: int = 0, advance: Callable[[], object] | None = None
) -> int:
    """Copies the folder of ``data`` to ``out``, its images with noise; returns how many images were written now.

    Everything else (masks, lists, boxes) is copied as it is. Files that are there already are kept, so an interrupted
    call is continued by the same call. Images with several pages keep their first.

    Raises:
        DataError: ``out`` lies in the data set, or was made from another set or with another sigma or seed.
    """
    root, out, real = data.root, out.resolve(), data.root.resolve()
    if out == real or real in out.parents or out in real.parents:
        raise DataError(f"{out} and the data set {real} lie in each other", "write to a folder beside it")
    if not sigma > 0:
        raise DataError(f"sigma is {sigma}, expected grey levels above 0", "NoisySIRST has 10, 20 and 30")
    record = {"source": real.name, "frames": len(data.samples), "sigma": sigma, "seed": seed}
    _agree(out, record)
    images = {s.image.resolve(): s.name for s in data.samples.values()}
    for folder, _, files in os.walk(root, followlinks=True):
        for file in files:
            source = Path(folder) / file
            target = out / source.relative_to(root)
            if source.resolve() not in images and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(target) as temporary:
                    shutil.copyfile(source, temporary)

    def one(item: tuple[Path, str]) -> bool:
        source, name = item
        target = out / source.relative_to(root)
        written = not target.exists()
        if written:
            rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(target, add_noise(read_image(source).pixels, sigma, rng))
        if advance is not None:
            advance()
        return written

    return sum(in_threads(one, [(s.image, s.name) for s in data.samples.values()]))


def _agree(out: Path, record: dict[str, object]) -> None:
    file = out / RECORD
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found != record:
            raise DataError(f"{out} was made with {found}, not with {record}", "choose another folder")
        return
    if out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out} is not empty and holds no {RECORD}", "choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
