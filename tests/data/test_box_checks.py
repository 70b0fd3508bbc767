"""What ``motes data check`` says of bad boxes and sky maps, as a user reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from motes.data import check, open_dataset
from motes.imaging import write_image

FRAMES = ("a", "b", "c")


def voc(box: tuple[float, ...] | None, name: str = "Target", size: str = "48x40") -> str:
    width, height = size.split("x")
    tags = ("xmin", "ymin", "xmax", "ymax")
    inner = "".join(f"<{t}>{v}</{t}>" for t, v in zip(tags, box or (), strict=False))
    box_text = "" if box is None else f"<bndbox>{inner}</bndbox>"
    shape = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{shape}<object><name>{name}</name>{box_text}</object></annotation>"


def boxed(root: Path) -> Path:
    """Three unlike frames of 48x40 px with one box each, Pascal VOC, no masks."""
    for n, name in enumerate(FRAMES):
        pixels = np.random.default_rng(n).integers(0, 200, (40, 48, 1), dtype=np.uint8)
        write_image(root / "JPEGImages" / f"{name}.png", pixels)
        annotation(root, name, voc((5, 6, 8, 9)))
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "test.txt").write_text("a\nb\n", encoding="utf-8")
    return root


def annotation(root: Path, name: str, text: str) -> None:
    file = root / "Annotations" / f"{name}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def writes(text: str) -> Callable[[Path], None]:
    return lambda root: annotation(root, "a", text)


def gone(root: Path) -> None:
    (root / "Annotations" / "a.xml").unlink()


def mistyped(root: Path) -> None:
    objects = "".join(voc((i, 6, i + 2, 9)).split("</size>")[1].removesuffix("</annotation>") for i in range(1, 8))
    annotation(root, "b", f"<annotation>{objects}</annotation>")
    annotation(root, "a", voc((5, 6, 8, 9), "Traget"))


CASES = [
    (writes(voc((5, 6, 4, 9))), "box-empty", "error", "1 of 1 boxes is without area: box 1 (5, 6, 4, 9)"),
    (writes(voc((50, 6, 55, 9))), "box-outside", "error", "1 of 1 boxes is outside the image of 48x40 px: box 1 (50, "),
    (writes(voc((0, 0, 3, 3))), "box-over-edge", "warning", "1 of 1 boxes is partly outside the image of 48x40 px"),
    (writes(voc((5, 6, 8, 9))[:-9]), "unreadable-boxes", "error", "a.xml is not readable as XML"),
    (writes(voc((5, "six", 8, 9))), "unreadable-boxes", "error", "<ymin> 'six', a number was expected"),
    (writes(voc(None)), "object-without-box", "warning", "1 of 1 objects have no box"),
    (writes("<annotation></annotation>"), "no-target", "note", "no box"),
    (writes(voc((5, 6, 8, 9), size="40x48")), "annotation-size", "warning", "image 48x40, annotation 40x48"),
    (gone, "image-without-boxes", "error", "no boxes for"),
    (mistyped, "class-name", "warning", "1 objects are named 'Traget', 8 'Target'"),
]


@pytest.mark.parametrize(("spoil", "kind", "severity", "says"), CASES, ids=[c[1] + str(i) for i, c in enumerate(CASES)])
def test_each_is_found_once(spoil, kind: str, severity: str, says: str, tmp_path: Path, motes) -> None:
    assert check(open_dataset(boxed(tmp_path))) == []
    spoil(tmp_path)
    code, out, _ = motes("data", "check", tmp_path, "--json")
    found = json.loads(out)["findings"]
    assert [(f["kind"], f["severity"]) for f in found if f["kind"] != "no-target" or kind == "no-target"] == [
        (kind, severity)
    ]
    assert says in next(f for f in found if f["kind"] == kind)["message"]
    assert code == (severity == "error")
    _, out, _ = motes("data", "check", tmp_path)
    assert sum(kind in line for line in out.splitlines()) == 1


def sky_kit(root: Path) -> Path:
    from motes.data.synthesize import write_dataset

    write_dataset(root, "sirstdevkit", 3, height=48, width=64, bits=8, targets=(1, 2), scr=(15, 40), kind="sky")
    return root


def sky_of(root: Path) -> Path:
    return sorted((root / "SkySeg" / "BinaryMask").iterdir())[0]


@pytest.mark.parametrize(
    ("spoil", "kind", "says"),
    [
        (lambda root: sky_of(root).unlink(), "sky-missing", "no sky map for"),
        (lambda root: write_image(sky_of(root), np.zeros((9, 9), np.uint8)), "sky-size", "9x9 px, its image 48x64"),
        (lambda root: sky_of(root).write_bytes(b"no image"), "unreadable-sky", "synthetic_00000_pixels0.png"),
    ],
)
def test_sky_maps(spoil, kind: str, says: str, tmp_path: Path) -> None:
    root = sky_kit(tmp_path / "kit")
    assert [f for f in check(open_dataset(root)) if f.severity == "error"] == []
    spoil(root)
    (found,) = [f for f in check(open_dataset(root)) if f.severity == "error"]
    assert found.kind == kind and says in found.message and found.names == ("synthetic_00000",)
