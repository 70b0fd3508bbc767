"""Bad boxes and sky maps through the commands: one line, exit code 2 and nothing written, or a warning and on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Motes, errors, files, words

from motes.data import open_dataset
from motes.data.box_writing import write_boxes
from motes.data.synthesize import write_dataset
from motes.imaging import write_image

TRAIN = (
    "train {net}_densesirst data.root={w} data.train=trainval_v1 data.val=test_v1 model.options.backbone=test_resnet "
    "model.options.depth=1 model.backbone_weights=none transform.crop=32 loop.epochs=1 loop.batch_size=2 "
    "loop.workers=0 loop.accelerator=cpu --runs {o}"
)
PLAIN = f"{TRAIN} transform.paste_mode=gaussian"
EVALUATE = "evaluate {nets}/{net}.safetensors --data {w} -o {o}"

Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames of 64x72 px in DenseSIRST's layout, each with a target or more: four to train on, two for the rest."""
    root = tmp_path_factory.mktemp("kit")
    write_dataset(
        root, "sirstdevkit", 6, seed=3, height=64, width=72, bits=8, kind="sky", targets=(1, 3), snr=(20, 40),
        extended=1.0, size=(3, 6),
    )  # fmt: skip
    names = sorted(p.stem for p in (root / "PNGImages").iterdir())
    shutil.rmtree(root / "Splits")
    (root / "Splits").mkdir()
    (root / "Splits" / "trainval_v1.txt").write_text("\n".join(names[:4]))
    (root / "Splits" / "test_v1.txt").write_text("\n".join(names[4:]))
    return root


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of two small detectors, one of which has a sky branch."""
    from motes.checkpoints import write_safetensors
    from motes.models import create_model

    folder = tmp_path_factory.mktemp("nets")
    for name in ("fcos", "bafenet"):
        net = create_model(name, "small", backbone="test_resnet", depth=1)
        state = {k: v.numpy() for k, v in net.state_dict().items()}
        write_safetensors(folder / f"{name}.safetensors", state, net.card)
    return folder


@pytest.fixture
def call(motes: Motes, kit: Path, nets: Path, tmp_path: Path):
    """``call(command, spoil, net=, layout=)``: how it ends on a spoilt copy of the set, and what lies in its output."""
    root, out = tmp_path / "set", tmp_path / "out"

    def run(command: str, spoil: Spoil, net: str = "fcos", layout: str | None = None):
        if not root.exists():
            if layout is None:
                shutil.copytree(kit, root)
            else:
                write_boxes(open_dataset(kit).split(None), root, layout, images=True)
            spoil(root)
        done = motes(*words(command, w=root, o=out, nets=nets, net=net), cwd=tmp_path)
        return done, files(out) if out.exists() else {}

    return run


def annotation(root: Path, frame: int = 1) -> Path:
    return root / "SIRST" / "BBox" / f"synthetic_0000{frame}.xml"


def sky(root: Path, frame: int = 1) -> Path:
    return root / "SkySeg" / "BinaryMask" / f"synthetic_0000{frame}_pixels0.png"


def corners(xmin: object, xmax: object) -> Spoil:
    """The first box of a frame between these columns."""

    def spoil(root: Path) -> None:
        text = annotation(root).read_text()
        for tag, value in (("xmin", xmin), ("xmax", xmax)):
            text = re.sub(f"<{tag}>.*?</{tag}>", f"<{tag}>{value}</{tag}>", text, count=1)
        annotation(root).write_text(text)

    return spoil


def cut(root: Path) -> None:
    annotation(root).write_text(annotation(root).read_text()[:60])


def web_page(root: Path) -> None:
    annotation(root).write_text("<html><body>404</body></html>")


def named(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        annotation(root).write_text(annotation(root).read_text().replace("<name>Target<", f"<name>{name}<"))

    return spoil


def without_box(root: Path) -> None:
    annotation(root).write_text(re.sub("<bndbox>.*?</bndbox>", "", annotation(root).read_text(), flags=re.DOTALL))


def without_targets(*frames: int) -> Spoil:
    def spoil(root: Path) -> None:
        for frame in frames:
            annotation(root, frame).write_text("<annotation></annotation>")
            write_image(
                root / "SIRST" / "BinaryMask" / f"synthetic_0000{frame}_pixels0.png", np.zeros((64, 72, 1), np.uint8)
            )

    return spoil


def without_sky(root: Path) -> None:
    shutil.rmtree(root / "SkySeg")


def one_sky_less(frame: int) -> Spoil:
    return lambda root: sky(root, frame).unlink()


def small_sky(frame: int) -> Spoil:
    return lambda root: write_image(sky(root, frame), np.zeros((9, 9, 1), np.uint8))


REFUSED = [
    (corners(900, 905), "lies outside of the image of 72x64 px (`motes data check` lists all such boxes)"),
    (corners(16, 14), "box 1 of 'synthetic_00001' (16, "),
    (corners("nan", 14), "<bndbox> has <xmin> 'nan', a number was expected"),
    (cut, "BBox/synthetic_00001.xml is not readable as XML: no element found"),
    (web_page, "BBox/synthetic_00001.xml is not a Pascal VOC file: it holds <html>, expected <annotation>"),
    (named("Targte"), "is named 'Targte', expected Target (did you mean 'Target'?)"),
    (named("Plane"), "an object of 'synthetic_00001' is named 'Plane', expected Target"),
]


@pytest.mark.parametrize(("spoil", "says"), REFUSED)
@pytest.mark.parametrize("command", [PLAIN, EVALUATE])
def test_bad_boxes_are_refused(call, command: str, spoil: Spoil, says: str) -> None:
    done, written = call(command, spoil)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert says in line and "synthetic_00001" in line
    assert written == {}


@pytest.mark.parametrize(
    ("spoil", "kind", "code"),
    [
        (corners(900, 905), "box-outside", 1),
        (corners(16, 14), "box-empty", 1),
        (corners(-3, 14), "box-over-edge", 0),
        (cut, "unreadable-annotation", 0),
        (web_page, "unreadable-annotation", 0),
        (named("Targte"), "class-name", 0),
        (without_box, "object-without-box", 0),
        (one_sky_less(1), "sky-missing", 1),
        (small_sky(1), "sky-size", 1),
    ],
)
def test_what_check_and_info_say(call, spoil: Spoil, kind: str, code: int) -> None:
    done, _ = call("data check {w} --json", spoil)
    ours = ("box", "unreadable", "class", "object", "sky")
    found = [f for f in json.loads(done.out)["findings"] if f["kind"].startswith(ours) and f["kind"] != "box-mismatch"]
    assert [(f["kind"], f["subject"] in ("synthetic_00001", "set")) for f in found] == [(kind, True)]
    assert (done.code, done.err) == (code, "")
    done, _ = call("data info {w} --json", spoil)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["images"] == 6


SKY = [
    (TRAIN, "fcos", without_sky, "has no sky map, and what is trained needs one"),
    (TRAIN, "fcos", one_sky_less(1), "synthetic_00001.png has no sky map"),
    (PLAIN, "bafenet", one_sky_less(1), "synthetic_00001.png has no sky map"),
    (PLAIN, "fcos", small_sky(1), "synthetic_00001_pixels0.png is 9x9 px, its image 64x72"),
    (PLAIN, "fcos", small_sky(5), "synthetic_00005_pixels0.png is 9x9 px, its image 64x72"),
    (EVALUATE, "bafenet", small_sky(5), "synthetic_00005_pixels0.png is 9x9 px, its image 64x72"),
]


@pytest.mark.parametrize(("command", "net", "spoil", "says"), SKY)
def test_sky_maps_that_are_needed(call, command: str, net: str, spoil: Spoil, says: str) -> None:
    done, written = call(command, spoil, net)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert says in line
    assert written == {}


@pytest.mark.parametrize("spoil", [without_sky, one_sky_less(1), one_sky_less(5)])
def test_sky_maps_that_nothing_needs(call, spoil: Spoil) -> None:
    done, written = call(PLAIN, spoil)
    assert done.code == 0, done.err
    assert done.err == "starts from weights drawn by chance, seed 0\n"
    assert any(name.endswith("best.safetensors") for name in written)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (one_sky_less(5), "1 of 6 images have no sky map: sky IoU is that of the others"),
        (without_sky, "6 of 6 images have no sky map: so there is no sky IoU"),
    ],
)
def test_sky_that_cannot_be_scored_is_said(call, spoil: Spoil, says: str) -> None:
    done, written = call(EVALUATE, spoil, "bafenet")
    assert done.code == 0, done.err
    assert f"warning: {says}" in done.out
    content = json.loads(written["metrics.json"])
    assert content["run"]["warnings"] == [says]


TARGETLESS = [
    (without_targets(1), None),
    (
        without_targets(4, 5),
        "warning: none of the 2 validation frames has a target, so best.safetensors will be of the",
    ),
    (without_targets(0, 1, 2, 3), "warning: none of the 4 training frames has a target"),
]


@pytest.mark.parametrize(("spoil", "says"), TARGETLESS)
@pytest.mark.parametrize("net", ["fcos", "bafenet"])
def test_training_without_targets(call, net: str, spoil: Spoil, says: str | None) -> None:
    done, written = call(TRAIN, spoil, net)
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("warning")]
    assert len(lines) == (says is not None)
    assert says is None or lines[0].startswith(says)
    assert any(name.endswith("best.safetensors") for name in written)


@pytest.mark.parametrize("frames", [(1,), range(6)])
def test_evaluation_without_targets(call, frames: tuple[int, ...]) -> None:
    done, written = call(EVALUATE, without_targets(*frames))
    assert (done.code, done.err) == (0, "")
    assert f"{len(frames)} of 6 images have no target" in done.out
    metrics = json.loads(written["metrics.json"])["metrics"]
    assert (metrics["recall"]["value"] is None) == (len(frames) == 6)
    assert metrics["false_alarms_per_image"]["value"] >= 0


def test_objects_without_a_box_are_left_out_with_a_line(call) -> None:
    done, written = call(PLAIN, without_box)
    assert done.code == 0, done.err
    (line,) = [line for line in done.err.splitlines() if "starts from" not in line]
    assert line.startswith("warning: ")
    assert "without a box left out ('synthetic_00001')" in line
    assert any(name.endswith("best.safetensors") for name in written)


def coco(change: Callable[[dict], object]) -> Spoil:
    def spoil(root: Path) -> None:
        (file,) = (root / "annotations").iterdir()
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return spoil


def yolo(line: str) -> Spoil:
    return lambda root: (root / "labels" / "synthetic_00001.txt").write_text(line)


def half(pattern: str) -> Spoil:
    """A file cut in the middle."""

    def spoil(root: Path) -> None:
        (file,) = root.glob(pattern)
        file.write_text(file.read_text()[: file.stat().st_size // 2])

    return spoil


FORMATS = [
    ("coco", half("annotations/*.json"), "instances_all.json is not readable as JSON"),
    ("coco", coco(lambda c: c["annotations"][0].update(category_id=77)), "is malformed: KeyError 77"),
    ("coco", coco(lambda c: c["annotations"][0].update(bbox=[1, 2, 3])), "bbox is [x, y, width, height]"),
    ("coco", coco(lambda c: c["annotations"][0].update(bbox=[float("nan"), 2, 3, 4])), "finite numbers were expected"),
    ("coco", coco(lambda c: c["annotations"][0].update(bbox=[900, 2, 3, 4])), "lies outside of the image of 72x64 px"),
    ("coco", coco(lambda c: c["annotations"][0].update(bbox=[9, 2, 0, 4])), "(9, 2, 9, 6) has no area"),
    ("coco", coco(lambda c: c["images"][0].update(height="tall")), "has height x width 'tall' x 72"),
    ("coco", coco(lambda c: c["categories"][0].update(name="Ship")), "is named 'Ship', expected Target"),
    ("yolo", yolo("0 0.5 0.5 wide 0.1"), "line 1 is '0 0.5 0.5 wide 0.1', expected 'class x_centre y_centre"),
    ("yolo", yolo("7 0.5 0.5 0.1 0.1"), "line 1 is of class 7, and the set names 1 classes"),
    ("yolo", yolo("0 nan 0.5 0.1 0.1"), "finite numbers were expected"),
    ("yolo", yolo("0 0.5 0.5 0 0"), "has no area"),
    ("labelme", half("images/synthetic_00001.json"), "synthetic_00001.json is not readable as JSON"),
    ("voc", half("Annotations/synthetic_00001.xml"), "synthetic_00001.xml is not readable as XML"),
]


@pytest.mark.parametrize(("layout", "spoil", "says"), FORMATS)
def test_other_formats(call, layout: str, spoil: Spoil, says: str) -> None:
    done, written = call(EVALUATE, spoil, layout=layout)
    assert done.code == 2, done.err
    (line,) = errors(done)
    assert says in line
    assert written == {}
    done, _ = call("data check {w}", spoil)
    assert done.code == (2 if done.err else 1) or "Ship" in says
    if done.err:
        errors(done)


def test_info_counts_boxes_where_there_are_no_masks(call) -> None:
    done, _ = call("data info {w} --json", yolo(""), layout="yolo")
    found = json.loads(done.out)
    boxed = found["boxed"]
    assert (boxed["images"], boxed["empty"], boxed["boxes"]) == (6, 1, found["targets"])
    assert boxed["classes"] == {"Target": found["targets"]}
    assert sum(int(n) * times for n, times in found["targets_per_image"].items()) == found["targets"] > 5
    done, _ = call("data info {w}", yolo(""))
    assert re.search(r"boxed images +6, 1 of them empty", done.out)
    assert "masks" not in done.out


def test_nothing_is_lost(call, tmp_path: Path) -> None:
    """What an evaluation wrote before survives one that is refused."""
    done, before = call(EVALUATE, lambda root: None)
    assert done.code == 0 and before
    corners(900, 905)(tmp_path / "set")
    done, after = call(EVALUATE, lambda root: None)
    assert done.code == 2 and after == before
