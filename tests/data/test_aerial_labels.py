"""Class tables, and label files of every form into ids and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from motes.data.classes import TABLES, ClassTable, as_yaml, class_table, distinct_colours
from motes.data.labels import grey_to_ids, read_counted, read_labels, to_colours, to_ids, write_labels
from motes.errors import DataError, ImageError
from motes.imaging import write_image

CASES = Path(__file__).parents[1] / "reference" / "isaid"
ISAID = class_table("isaid")
FOREIGN = {(0, 0, 62), (0, 0, 64), (0, 94, 1), (1, 0, 63), (63, 63, 0), (127, 127, 127), (189, 0, 0), (255, 255, 255)}


@pytest.fixture(scope="module")
def cases() -> dict[str, np.ndarray]:
    with np.load(CASES / "masks.npz") as file:
        return dict(file)


def test_the_official_converter_agrees(cases: dict[str, np.ndarray]) -> None:
    for rgb, expected in zip(cases["rgb"], cases["ids"], strict=True):
        np.testing.assert_array_equal(to_ids(rgb, ISAID)[0], expected)


def test_foreign_colours_become_background_and_are_counted(cases: dict[str, np.ndarray]) -> None:
    assert [to_ids(rgb, ISAID)[1] for rgb in cases["rgb"][:2]] == [{}, {}]
    assert to_ids(cases["rgb"][2], ISAID)[1] == dict.fromkeys(FOREIGN, 20)


def test_the_exchange_of_storage_tank_and_roundabout(cases: dict[str, np.ndarray]) -> None:
    table = class_table("isaid-factseg")
    assert (table.names[2], table.names[12]) == ("Roundabout", "storage_tank")
    for rgb, theirs in zip(cases["rgb"][:2], cases["ids_factseg"][:2], strict=True):
        np.testing.assert_array_equal(to_ids(rgb, table)[0], theirs)
    # Foreign colours: theirs finds ships where R + 2G + 3B is a ship's.
    ours, theirs = to_ids(cases["rgb"][2], table)[0], cases["ids_factseg"][2]
    differ = ours != theirs
    assert {tuple(c) for c in cases["rgb"][2][differ].tolist()} == {(63, 63, 0), (189, 0, 0)}
    assert set(theirs[differ]) == {1} and set(ours[differ]) == {0}


@pytest.mark.parametrize("n", range(3))
def test_colour_and_grey_files_read_alike(n: int, cases: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(read_labels(CASES / f"mask{n}_instance_color_RGB.png", ISAID), cases["ids"][n])
    np.testing.assert_array_equal(read_labels(CASES / f"mask{n}_ids.png", ISAID), cases["ids"][n])


def test_a_colour_table_of_every_value_is_exact() -> None:
    colours = np.random.default_rng(0).permutation(1 << 24)[: 1 << 20]
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8).reshape(1024, 1024, 3)
    rgb[:16, 0] = ISAID.colours
    ids, unknown = to_ids(rgb, ISAID)
    expected = np.zeros((1024, 1024), np.uint8)
    for i, colour in enumerate(ISAID.colours):
        expected[(rgb == colour).all(-1)] = i
    np.testing.assert_array_equal(ids, expected)
    known = (rgb[..., None, :] == np.array(ISAID.colours)).all(-1).any(-1)
    assert sum(unknown.values()) == (~known).sum()


IDS = np.array([[0, 1, 2, 3], [5, 3, 0, 2]], np.uint8)
SIX = class_table("potsdam")


def as_palette(path: Path, palette: list[int], ids: np.ndarray = IDS) -> None:
    picture = Pillow.fromarray(ids, mode="P")
    picture.putpalette(palette)
    picture.save(path)


def test_every_form_of_one_mask(tmp_path: Path) -> None:
    write_labels(tmp_path / "ids.png", IDS)
    write_image(tmp_path / "colours.png", to_colours(IDS, SIX))
    write_image(tmp_path / "colours.tif", to_colours(IDS, SIX))
    write_image(tmp_path / "three.png", np.repeat(IDS[..., None], 3, axis=2))
    write_image(tmp_path / "sixteen.png", IDS.astype(np.uint16))
    as_palette(tmp_path / "theirs.png", [c for colour in SIX.colours for c in colour])
    as_palette(tmp_path / "voc.png", [c for colour in distinct_colours(6) for c in colour])
    order = [3, 5, 1, 0, 4, 2]  # a palette that some tool has sorted its own way
    places = np.argsort(order).astype(np.uint8)
    as_palette(tmp_path / "sorted.png", [c for i in order for c in SIX.colours[i]], places[IDS])
    for file in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(read_labels(file, SIX), IDS, err_msg=file.name)
        assert read_counted(file, SIX).unknown == {}, file.name


def test_a_palette_of_background_alone_is_read_by_its_index(tmp_path: Path) -> None:
    as_palette(tmp_path / "a.png", [c for colour in distinct_colours(6) for c in colour], IDS * 0)
    assert read_labels(tmp_path / "a.png", SIX).max() == 0  # black is Potsdam's ignored colour


def test_ids_that_a_png_tool_packed_into_four_bits(tmp_path: Path) -> None:
    import struct
    import zlib

    rows = b"\0\x01\x23" + b"\0\x53\x02"  # no filter, two ids a byte: IDS
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 4, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", SIX), IDS)


def test_written_ids_are_mode_l_and_come_back(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 16, (97, 131)).astype(np.uint8)
    ids[0, 0] = 255
    write_labels(tmp_path / "new" / "a.png", ids)
    with Pillow.open(tmp_path / "new" / "a.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.array(image), ids)
    np.testing.assert_array_equal(read_labels(tmp_path / "new" / "a.png", ISAID), ids)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]


def test_pillow_destroys_palettes_without_a_palette_and_that_is_seen(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 16, (20, 20)).astype(np.uint8)
    Pillow.fromarray(ids, mode="P").save(tmp_path / "a.png")
    with Pillow.open(tmp_path / "a.png") as image:
        if np.array(image).max() > 1:
            pytest.skip("this Pillow keeps them")
    assert read_counted(tmp_path / "a.png", ISAID).collapsed
    with pytest.raises(ImageError, match=r"its ids are lost, only 0 and 1 are left .*mode L"):
        read_labels(tmp_path / "a.png", ISAID)


def test_gaofen_255_is_a_class(tmp_path: Path) -> None:
    stored = np.array([[0, 255], [255, 0]], np.uint8)
    write_image(tmp_path / "a.png", stored)
    for name in ("gaofen-img", "gaofen-sar"):
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png", class_table(name)), stored // 255)
        np.testing.assert_array_equal(to_colours(stored // 255, class_table(name))[..., 1], stored)
    assert grey_to_ids(stored + np.uint8(7), class_table("gaofen-img"))[1] == {(6, 6, 6): 2, (7, 7, 7): 2}


def test_potsdam_borders_are_ignored() -> None:
    ids, unknown = to_ids(np.array([[[0, 0, 0], [255, 255, 0], [1, 1, 1]]], np.uint8), SIX)
    assert ids.tolist() == [[255, 4, 0]] and unknown == {(1, 1, 1): 1}
    np.testing.assert_array_equal(to_colours(ids, SIX)[0, 0], [0, 0, 0])


@pytest.mark.parametrize("name", TABLES)
def test_ids_survive_colours(name: str) -> None:
    table = TABLES[name]
    ids = np.arange(table.num_classes, dtype=np.uint8)[None].repeat(3, axis=0)
    back, unknown = to_ids(to_colours(ids, table), table)
    np.testing.assert_array_equal(back, ids)
    assert unknown == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full((4, 4), 77, np.uint8), r"a.png: 1 value that is no class's: 77 x 16 px \(class table 'isaid' has 16"),
        (np.full((4, 4, 3), (9, 0, 0), np.uint8), r"a.png: 1 colour that is no class's: \(9, 0, 0\) x 16 px"),
        (np.full((4, 4), 300, np.uint16), "a.png: holds uint16 values up to 300, expected ids or colours of 8 bits"),
        (b"", "a.png: is empty"),
        (b"no image at all", "a.png: is not an image but a text file"),
    ],
)
def test_no_label_file(tmp_path: Path, content: np.ndarray | bytes, message: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / "a.png").write_bytes(content)
    else:
        write_image(tmp_path / "a.png", content)
    with pytest.raises(ImageError, match=message):
        read_labels(tmp_path / "a.png", ISAID)


def test_a_jpeg_is_no_label_file(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ImageError, match="is a JPEG, whose colours are not exact"):
        read_labels(tmp_path / "a.jpg", ISAID)


@pytest.mark.parametrize(
    ("ids", "name", "message"),
    [
        (np.zeros((2, 2, 3), np.uint8), "a.png", "expected \\[H, W\\] uint8 ids"),
        (np.zeros((2, 2), np.int64), "a.png", "found \\[2, 2\\] of int64"),
        (np.zeros((2, 2), np.uint8), "a.jpg", "ids are written as .png"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, ids: np.ndarray, name: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        write_labels(tmp_path / name, ids)
    assert not list(tmp_path.iterdir())


def test_class_lists(tmp_path: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("# ids from 0\nbackground 0 0 0\nsmall boat, 0, 0, 63\npier\n", encoding="utf-8")
    table = class_table(text)
    assert (table.name, table.names) == ("mine", ("background", "small boat", "pier"))
    assert table.colours[:2] == ((0, 0, 0), (0, 0, 63)) and table.colours[2] not in table.colours[:2]
    yaml = tmp_path / "mine.yaml"
    for known in TABLES.values():
        yaml.write_text(as_yaml(known), encoding="utf-8")
        assert class_table(yaml) == known
    yaml.write_text("[sea, ice]", encoding="utf-8")
    assert class_table(yaml).names == ("sea", "ice")
    yaml.write_text("{sea: [0, 0, 9], ice:}", encoding="utf-8")
    assert class_table(yaml).colours[0] == (0, 0, 9)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("isiad", None, "unknown class table 'isiad' \\(did you mean 'isaid'"),
        ("none.txt", None, "no such class list"),
        ("a.txt", "# nothing\n", "lists no class"),
        ("a.txt", "sea\nsea\n", "the name sea twice"),
        ("a.txt", "sea 1 2 3\nice 1 2 3\n", r"the colour \(1, 2, 3\) twice"),
        ("a.txt", "sea 1 2 300\n", "line 1: the colour is \\[1, 2, 300\\]"),
        ("a.yaml", "{classes: [a, b], ignor: 3}", "unknown key 'ignor' \\(did you mean 'ignore'"),
        ("a.yaml", "{classes: [a, b], ignore: 1}", "ignores id 1, expected 2 to 255"),
        ("a.yaml", "{classes: [a, b], values: {0: 7}}", "stores a value for id 7"),
        ("a.yaml", "{classes: [a, b], values: [0]}", "expected a mapping of grey values"),
        ("a.yaml", "3", "is not a class list"),
        ("a.yaml", "{a: [1", "is not YAML"),
    ],
)
def test_no_class_list(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        class_table(name if name == "isiad" else tmp_path / name)


def test_colours_of_voc() -> None:
    assert distinct_colours(4) == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert len(set(distinct_colours(256))) == 256
    assert ClassTable("a", ("x",), ((0, 0, 0),)).num_classes == 1
