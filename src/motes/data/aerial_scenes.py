"""Synthetic aerial scenes with exact labels, and miniatures of the aerial layouts: for tests, the demo and smoke runs.

Ground, water and roads with texture; on them objects of the classes of any table, most of them a few pixels long. One
seed gives one scene on one version of numpy and OpenCV. Nothing learned from these says anything about real images.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motes.data.aerial_layouts import COLOURS, INSTANCES, POTSDAM_TEST, VAIHINGEN_TEST
from motes.data.aerial_objects import GRASS, KINDS, ROAD, SHAPES, SOIL, WATER, Brush, Canvas, Kind
from motes.data.classes import ClassTable, as_yaml, class_table
from motes.data.lists import write_list
from motes.errors import DataError
from motes.interrupts import raise_swallowed_interrupt
from motes.naming import look_up

METADATA = "aerial.json"


def scene(
    seed: int | Sequence[int] | np.random.Generator,
    size: int | tuple[int, int],
    table: ClassTable,
    *,
    objects: int | None = None,
    grey: bool | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One scene: RGB [H, W, 3] uint8 and ids [H, W] uint8.

    Args:
        seed: number, numbers, or a generator to draw from.
        size: (height, width) px; a number is both.
        table: the classes. Those that `KINDS` does not know are drawn as coloured blobs.
        objects: how many; default: one on each 40 x 40 px, two at least.
        grey: three equal channels with speckle, as a radar image; default: for tables whose name ends in ``sar``.

    Raises:
        DataError: a size below 16 or above 16384 px.
    """
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    height, width = (size, size) if isinstance(size, int) else size
    if not (16 <= height <= 16384 and 16 <= width <= 16384):
        raise DataError(f"size {height}x{width}: height and width must be 16 to 16384 pixels")
    kinds = _kinds(table)
    canvas = _ground(rng, height, width, table, kinds)
    count = max(2, height * width // 1600) if objects is None else objects
    ids = list(kinds)
    if ids:
        shares = np.array([kinds[i].share for i in ids])
        drawn = rng.choice(ids, size=count, p=shares / shares.sum())
        # Large ones first: a car stays visible on a field, and a field does not bury a car.
        for i in sorted(drawn.tolist(), key=lambda i: -kinds[i].length[1]):
            _place(canvas, i, kinds[i])
    rgb = canvas.rgb
    if grey or (grey is None and table.name.endswith("sar")):
        rgb = rgb.mean(axis=2, keepdims=True) * rng.gamma(6.0, 1 / 6.0, (height, width, 1)).astype(np.float32)
        rgb = np.repeat(rgb, 3, axis=2)
    else:
        rgb = _blurred(rgb) + rng.normal(0, 3.0, (height, width, 3)).astype(np.float32)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8), canvas.ids


@dataclass(frozen=True)
class Form:
    """Where the files of a layout lie. Patterns know ``{split}`` and ``{name}``.

    Attributes:
        table: the class table.
        image, mask: patterns.
        ids: masks hold ids; else the colours of the table, or for the GaoFen contest 0 and 255.
        name: pattern of a name; knows ``{n}``, the image's number from 0.
        instances: pattern of iSAID's instance masks.
        copies: all images are also written as this split.
    """

    table: str
    image: str
    mask: str
    ids: bool = False
    name: str = "P{n:04d}"
    instances: str = ""
    copies: str = ""


_SPLIT = "{split}/images/{name}.png"
_GAOFEN = ("{split}/image/{name}", "{split}/gt/{name}.png")

FORMS: dict[str, Form] = {
    "isaid": Form("isaid", _SPLIT, f"{{split}}/images/{{name}}{COLOURS}.png", instances=f"{{name}}{INSTANCES}.png"),
    "isaid-masks": Form("isaid", _SPLIT, f"{{split}}/masks/{{name}}{COLOURS}.png"),
    "patches": Form("isaid", _SPLIT, f"{{split}}/masks/{{name}}{COLOURS}.png", True, "P{n:04d}_0_{h}_0_{w}"),
    "gaofen-img": Form("gaofen-img", f"{_GAOFEN[0]}.tif", _GAOFEN[1], name="{n}", copies="all"),
    "gaofen-sar": Form("gaofen-sar", f"{_GAOFEN[0]}.png", _GAOFEN[1], name="{n}", copies="all"),
    "potsdam": Form("potsdam", "2_Ortho_RGB/{name}_RGB.tif", "5_Labels_all/{name}_label.tif", name="potsdam"),
    "vaihingen": Form("vaihingen", "top/{name}.tif", "gts_for_participants/{name}.tif", name="vaihingen"),
    "classes": Form("isaid", "images/{name}.png", "masks/{name}.png", True, "scene_{n:04d}"),
}
"""Layout -> its files. ``classes`` is plain folders with a class list, for a table of one's own."""


def write_aerial(
    root: str | Path,
    layout: str,
    count: int = 6,
    size: int | tuple[int, int] = (160, 200),
    seed: int = 0,
    *,
    table: str | Path | ClassTable | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Writes ``count`` scenes in an aerial layout; returns how many images each split has.

    Scene i is ``scene((seed, i), size, table)``, every fifth one without objects. Splits come in turn: train, val,
    train, test, ...; test images of iSAID have no masks. Files that are there are kept, so an interrupted call is
    continued by the same call; an image is written after its masks.

    Args:
        root: a new or empty folder, or one of an earlier call with the same arguments.
        layout: a key of `FORMS`.
        count: of images.
        size: (height, width) px.
        seed: another seed, other scenes.
        table: another class table than the layout's; with the layout ``classes`` only.
        progress: called with (images done, count).

    Raises:
        DataError: unknown layout, a bad value, or ``root`` holds something else.
    """
    form = FORMS[look_up("layout", layout, FORMS, DataError)]
    if table is not None and layout != "classes":
        raise DataError(f"layout '{layout}' has a class table of its own", "layout 'classes' takes any")
    classes = class_table(form.table if table is None else table)
    height, width = (size, size) if isinstance(size, int) else size
    if count < 1:
        raise DataError(f"count is {count}, expected at least 1")
    root = Path(root)
    settings = {"layout": layout, "size": [height, width], "seed": seed, "table": classes.name}
    try:
        _agree(root, settings)
        if layout == "classes":
            _write_text(root / "classes.yaml", as_yaml(classes))
        splits: dict[str, list[str]] = {}
        for i in range(count):
            raise_swallowed_interrupt()
            split = _split(form, i)
            name = _write_one(root, form, classes, split, i, (height, width), seed)
            splits.setdefault(split, []).append(name)
            if progress:
                progress(i + 1, count)
        if layout == "classes":
            for split, names in splits.items():
                write_list(root / f"{split}.txt", names)
    except OSError as e:
        hint = "what was finished is kept; the same command goes on from there"
        raise DataError(f"cannot write to {e.filename or root}: {e.strerror or e}", hint) from None
    return {split: len(names) for split, names in splits.items()}


def _split(form: Form, i: int) -> str:
    part = ("train", "val", "train", "test")[i % 4]
    lacks = {"test"} if form.copies else {"val"} if form.name in ("potsdam", "vaihingen") else set()
    return "train" if part in lacks else part


def _write_one(root: Path, form: Form, table: ClassTable, split: str, i: int, size: tuple[int, int], seed: int) -> str:
    """Returns the image's name."""
    from motes.data.labels import to_colours, write_labels
    from motes.imaging import write_image

    name = _tile(form.name, split, i) or form.name.format(n=i, h=size[0], w=size[1])
    rgb, ids = scene((seed, i), size, table, objects=0 if i % 5 == 4 else None)
    folders = [split, form.copies] if form.copies else [split]
    for folder in folders:
        image = root / form.image.format(split=folder, name=name)
        mask = root / form.mask.format(split=folder, name=name)
        if image.is_file():
            continue
        if folder == "test" and form.table == "isaid" and "{split}" in form.mask:
            pass  # the masks of its test images are withheld
        elif form.ids:
            write_labels(mask, ids)
        elif form.copies:
            write_image(mask, ids * np.uint8(255))
        else:
            write_image(mask, to_colours(ids, table))
        if form.instances and split != "test":
            write_image(image.with_name(form.instances.format(name=name)), _instances(ids))
        write_image(image, rgb[:, :, :1] if table.name.endswith("sar") else rgb)
    return name


def _instances(ids: np.ndarray) -> np.ndarray:
    """A colour [H, W, 3] for each connected object."""
    import cv2

    _, found = cv2.connectedComponents((ids > 0).astype(np.uint8))
    numbers = np.asarray(found).astype(np.int64)
    return np.stack([numbers & 255, numbers >> 8, numbers * 0], axis=2).astype(np.uint8)


def _tile(kind: str, split: str, i: int) -> str:
    """The name of an ISPRS tile of a split; empty for other layouts."""
    if kind not in ("potsdam", "vaihingen"):
        return ""
    tests = POTSDAM_TEST if kind == "potsdam" else VAIHINGEN_TEST
    if split == "test":
        tile = tests[i % len(tests)]
    else:
        tile = f"{2 + i // 3}_{10 + i % 3}" if kind == "potsdam" else str(2 * i + 41 if i > 18 else 2 * i + 1)
    return f"top_potsdam_{tile}" if kind == "potsdam" else f"top_mosaic_09cm_area{tile}"


def _agree(root: Path, settings: dict[str, object]) -> None:
    file = root / METADATA
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found != settings:
            raise DataError(f"{root} was made with {found}, not with {settings}", "choose a new folder")
        return
    if root.is_dir() and any(not p.name.startswith(".") for p in root.iterdir()):
        raise DataError(f"{root} is not empty and holds no {METADATA}", "choose an empty or a new folder")
    _write_text(file, json.dumps(settings))


def _write_text(path: Path, text: str) -> None:
    from motes.imaging import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def _kinds(table: ClassTable) -> dict[int, Kind]:
    """Id -> look of the classes that are objects: not the background, nor what the ground is made of."""
    rest = {"background", "impervious_surface", "low_vegetation"}
    kinds = {i: KINDS.get(n) for i, n in enumerate(table.names) if n not in rest and (i > 0 or n in KINDS)}
    return {
        i: kind or Kind(("blob", "box", "disc", "hull")[i % 4], (8, 30), 0.6, (_visible(table.colours[i]),), "any")
        for i, kind in kinds.items()
    }


def _visible(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    r, g, b = (60 + c * 180 // 255 for c in colour)
    return r, g, b


def _ground(rng: np.random.Generator, height: int, width: int, table: ClassTable, kinds: dict[int, Kind]) -> Canvas:
    import cv2

    places = {k.place for k in kinds.values()}
    fields = _smooth(rng, height, width, 48)[..., None]
    rgb = np.array(GRASS, np.float32) * (1 - fields) + np.array(SOIL, np.float32) * fields
    rgb *= 0.85 + 0.3 * _smooth(rng, height, width, 6)[..., None]
    names = {n: i for i, n in enumerate(table.names)}
    ground = names.get("low_vegetation", 0)
    ids = np.full((height, width), ground, np.uint8)
    shore = _smooth(rng, height, width, 160)
    # All of it where nothing lives on land; two fifths where something lives on both.
    share = 0.0 if "water" not in places else 1.0 if places == {"water"} else 0.4
    water = shore < np.quantile(shore, share) if 0 < share < 1 else np.full((height, width), share > 0)
    rgb[water] = (np.array(WATER, np.float32) * (0.9 + 0.2 * _smooth(rng, height, width, 10)[..., None]))[water]
    lines = np.zeros((height, width), np.uint8)
    if "road" in places:
        for _ in range(1 + min(height, width) // 160):
            ends = rng.uniform(0, 1, (2, 2)) * (width, height)
            side = int(rng.integers(2))
            ends[0, side], ends[1, side] = -20, (width, height)[side] + 20
            (x0, y0), (x1, y1) = np.rint(ends).astype(int).tolist()
            cv2.line(lines, (x0, y0), (x1, y1), 1, int(rng.integers(8, 16)))
    road = (lines > 0) & ~water
    rgb[road] = (np.array(ROAD, np.float32) * (0.92 + 0.16 * _smooth(rng, height, width, 4)[..., None]))[road]
    ids[road] = names.get("impervious_surface", ground)
    return Canvas(rgb.astype(np.float32), ids, water, road, ground, rng)


def _smooth(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """[H, W] float32 in 0..1: random numbers on a grid of ``cell`` px, interpolated."""
    import cv2

    grid = rng.random((height // cell + 3, width // cell + 3)).astype(np.float32)
    return np.clip(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)


def _blurred(rgb: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(rgb, (0, 0), 0.6)


def _place(canvas: Canvas, i: int, kind: Kind) -> None:
    """Draws one object where it belongs: the best of a few positions that hits no other object."""
    rng = canvas.rng
    height, width = canvas.ids.shape
    length = min(float(rng.uniform(*kind.length)), 0.6 * min(height, width))
    angle = float(rng.uniform(0, np.pi))
    place = kind.place if kind.place != "road" or rng.random() < 0.8 else "land"  # or parked
    for _ in range(12):
        x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
        r = max(1, int(length / 3))
        window = np.s_[max(0, int(y) - r) : int(y) + r + 1, max(0, int(x) - r) : int(x) + r + 1]
        water, road = canvas.water[window], canvas.road[window]
        good = {"water": water, "road": road, "land": ~water}.get(place, np.ones_like(water))
        # Cars stand on roads and fields; everything else keeps clear of what is there.
        free = kind.place == "road" or (canvas.ids[window] == canvas.ground).all()
        if free and good.mean() > 0.5:
            break
    else:
        return
    colour = np.array(kind.colours[rng.integers(len(kind.colours))], float) * rng.uniform(0.92, 1.08)
    half = length / 2, max(0.8, length * kind.aspect / 2)
    SHAPES[kind.shape](Brush(canvas, i, (x, y), half, angle, colour))
