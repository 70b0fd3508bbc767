"""What users name, and what results are called."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from motes.errors import DataError
from motes.imaging import write_image
from motes.inference.sources import frames_of, pages_of


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "b.png",
        "a.png",
        "sub/c.png",
        "sub/deep/a.PNG",
        "notes.txt",
        ".hidden.png",
        ".cache/d.png",
        "sub/.x/e.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(sources: list, root: Path, **options: object) -> list[str]:
    return [f.path.relative_to(root).as_posix() for f in frames_of(sources, **options)]  # type: ignore[arg-type]


def test_folders_are_sorted_and_hidden_files_left_out(tree: Path) -> None:
    assert names([tree], tree) == ["a.png", "b.png"]
    assert names([tree], tree, recursive=True) == ["a.png", "b.png", "sub/c.png", "sub/deep/a.PNG"]


def test_patterns_that_the_shell_did_not_expand(tree: Path) -> None:
    assert names([f"{tree}/*.png"], tree) == ["a.png", "b.png"]
    assert names([f"{tree}/**/c.*"], tree) == ["sub/c.png"]


def test_order_of_the_user_and_each_file_once(tree: Path) -> None:
    assert names([tree / "b.png", tree, tree / "a.png"], tree) == ["b.png", "a.png"]


def test_a_file_that_looks_like_a_pattern(tree: Path) -> None:
    (tree / "x[1].png").write_bytes(b"x")
    assert names([tree / "x[1].png"], tree) == ["x[1].png"]


def test_results_inside_a_source_are_not_sources(tree: Path) -> None:
    (tree / "out" / "masks").mkdir(parents=True)
    (tree / "out" / "masks" / "a.png").write_bytes(b"x")
    assert "out/masks/a.png" not in names([tree], tree, recursive=True, exclude=tree / "out")


def test_a_list_on_stdin_keeps_what_is_missing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{tree}/b.png\n\n {tree}/gone.png \n"))
    assert names(["-"], tree) == ["b.png", "gone.png"]
    assert names(["-"], tree, listed=[f"{tree}/a.png"]) == ["a.png"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a.pgn", r"a\.pgn: no such file or folder \(did you mean '.*a\.png'"),
        ("sbu/c.png", r"did you mean '.*sub'"),
        ("empty", "no images in this folder"),
        ("sub/deep/..", r"no error"),
        ("*.tiff", "the pattern matches no image"),
        ("*.txt", "1 other files match"),
    ],
)
def test_nothing_to_see_is_one_sentence(tree: Path, source: str, message: str) -> None:
    if message == "no error":
        assert frames_of([tree / source])
        return
    with pytest.raises(DataError, match=message):
        frames_of([f"{tree}/{source}"])


def test_a_folder_of_folders_names_the_option(tree: Path) -> None:
    (tree / "sub" / "c.png").unlink()
    with pytest.raises(DataError, match="--recursive"):
        frames_of([tree / "sub"])


@pytest.mark.parametrize(
    ("paths", "stems", "images"),
    [
        (["x.png", "y.png"], ["x", "y"], ["x.png", "y.png"]),
        (["a/x.png", "b/x.png", "b/y.png"], ["a_x", "b_x", "y"], ["a/x.png", "b/x.png", "y.png"]),
        (["a/x.png", "a/x.tif"], ["x_png", "x_tif"], ["x.png", "x.tif"]),
        (["a/x.png", "b/X.png"], ["a_x", "b_X"], ["a/x.png", "b/X.png"]),
        (["1/a/x.png", "2/a/x.png"], ["1_a_x", "2_a_x"], ["1/a/x.png", "2/a/x.png"]),
    ],
)
def test_results_of_equal_names_are_told_apart(tmp_path: Path, paths: list, stems: list, images: list) -> None:
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    frames = frames_of([tmp_path / p for p in paths])
    assert ([f.stem for f in frames], [f.image for f in frames]) == (stems, images)
    backwards = frames_of([tmp_path / p for p in reversed(paths)])
    assert [f.stem for f in reversed(backwards)] == stems


def test_pages_are_frames(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(
        tmp_path / "stack.tif", np.arange(2 * 8 * 9, dtype=np.uint16).reshape(2, 8, 9), photometric="minisblack"
    )
    write_image(tmp_path / "one.tif", np.ones((4, 4), np.uint8))
    one, stack = frames_of([tmp_path])
    assert [(stem, name) for _, stem, name in pages_of(one)] == [("one", "one.tif")]
    assert [(stem, name, int(image.pixels[0, 0, 0])) for image, stem, name in pages_of(stack)] == [
        ("stack_p0001", "stack_p0001.tif", 0),
        ("stack_p0002", "stack_p0002.tif", 72),
    ]
