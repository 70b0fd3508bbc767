"""From what the user names (files, folders, patterns, a list on stdin) to frames with names that cannot collide."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from motes.errors import DataError
from motes.imaging import IMAGE_SUFFIXES, Image, is_image_path, read_image
from motes.naming import nearest


@dataclass(frozen=True)
class Frame:
    """One image file of a run.

    Attributes:
        path: the file.
        stem: what its results are called, unique in the run.
        image: how the ``image`` column of tables calls it: the file name, or with folders where two share it.
    """

    path: Path
    stem: str
    image: str

    def page_stem(self, page: int, pages: int) -> str:
        """``stem``, or ``stem_p0001`` for the first page of several."""
        return f"{self.stem}_p{page + 1:04d}" if pages > 1 else self.stem

    def page_image(self, page: int, pages: int) -> str:
        """``image``, or ``stack_p0001.tif`` for the first page of several."""
        if pages == 1:
            return self.image
        path = Path(self.image)
        return path.with_name(f"{path.stem}_p{page + 1:04d}{path.suffix}").as_posix()


def pages_of(frame: Frame) -> Iterator[tuple[Image, str, str]]:
    """(image, stem of its results, name in tables) of every page of a file, one in memory at a time.

    Raises:
        ImageError: the file, or one of its pages, cannot be read.
    """
    page, pages = 0, 1
    while page < pages:
        image = read_image(frame.path, page)
        pages = image.pages
        yield image, frame.page_stem(page, pages), frame.page_image(page, pages)
        page += 1


def frames_of(
    sources: Iterable[str | Path],
    *,
    recursive: bool = False,
    exclude: Path | None = None,
    listed: Iterable[str] | None = None,
) -> list[Frame]:
    """The frames that ``sources`` name, each file once, in the order named, folders and patterns sorted.

    Args:
        sources: files, folders, glob patterns (``**`` descends), or ``-`` for one path a line on stdin.
        recursive: descend into folders.
        exclude: a folder whose files are never frames (the output folder, which may lie inside a source).
        listed: the lines that ``-`` stands for; None reads stdin.

    Raises:
        DataError: a source that does not exist, a folder or a pattern without images, or nothing at all. A path of the
            list on stdin that does not exist is kept: it fails when it is read, and the others are still done.
    """
    paths: dict[str, Path] = {}
    outside = exclude.resolve() if exclude is not None else None
    for source in sources:
        for path in _expand(source, recursive, listed):
            if outside is None or outside not in path.resolve().parents:
                # Not the resolved path: in a store of linked files two names of equal content lead to one file.
                paths.setdefault(os.path.abspath(path), path)  # noqa: PTH100
    if not paths:
        raise DataError("no images to look at", "name files, folders or patterns")
    return _named(list(paths.values()))


def _expand(source: str | Path, recursive: bool, listed: Iterable[str] | None) -> list[Path]:
    text = str(source)
    if text == "-":
        lines = (line.strip() for line in (sys.stdin if listed is None else listed))
        paths = [Path(line) for line in lines if line]
        if not paths:
            raise DataError("the list on stdin names no image", "expected one path a line")
        return paths
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path, recursive)
    if path.exists():
        return [path]
    if glob.has_magic(text):
        found = sorted(Path(p) for p in glob.glob(str(path), recursive=True))  # noqa: PTH207
        images = [p for p in found if is_image_path(p) and not p.is_dir()]
        if not images:
            raise DataError(
                f"{text}: the pattern matches no image", f"{len(found)} other files match" if found else None
            )
        return images
    raise DataError(f"{text}: no such file or folder", _hint(path))


def _in_folder(folder: Path, recursive: bool) -> list[Path]:
    try:
        entries = folder.rglob("*") if recursive else folder.iterdir()
        inside = [(p.relative_to(folder), p) for p in entries if is_image_path(p) and not p.is_dir()]
    except OSError as e:
        raise DataError(f"{folder}: cannot be listed: {e.strerror or e}") from None
    visible = [(inner, p) for inner, p in inside if not any(part.startswith(".") for part in inner.parts)]
    if not visible:
        deeper = not recursive and any(is_image_path(p) for p in folder.rglob("*"))
        hint = "there are some in its subfolders: add --recursive" if deeper else f"known: {' '.join(IMAGE_SUFFIXES)}"
        raise DataError(f"{folder}: no images in this folder", hint)
    return [p for _, p in sorted(visible, key=lambda pair: pair[0].parts)]


def _hint(path: Path) -> str | None:
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    close = nearest(path.name, (p.name for p in parent.iterdir())) if parent.is_dir() else None
    return f"did you mean '{parent / close}'?" if close else f"nothing like it in '{parent}'"


def _named(paths: Sequence[Path]) -> list[Frame]:
    """Stems that differ even where file systems ignore case, and do not depend on the order of the paths.

    ``x.png`` and ``x.tif`` of one folder become ``x_png`` and ``x_tif``; ``a/x.png`` and ``b/x.png`` become ``a_x`` and
    ``b_x``, with as many folders in front as it takes.
    """
    beside = _repeated([f"{p.parent}/{p.stem}" for p in paths])
    tails = [f"{p.stem}_{p.suffix[1:].lower()}" if i in beside else p.stem for i, p in enumerate(paths)]
    stems = _told_apart(paths, tails, "_")
    images = _told_apart(paths, [p.name for p in paths], "/")
    images = [name.encode("utf-8", "replace").decode("utf-8") for name in images]  # names need not be Unicode on Linux
    return [Frame(*triple) for triple in zip(paths, stems, images, strict=True)]


def _told_apart(paths: Sequence[Path], tails: Sequence[str], join: str) -> list[str]:
    """``tails`` with as many folder names in front as make them differ, and a number where not even those do."""
    folders = [Path(os.path.abspath(p)).parent.parts[1:] for p in paths]  # noqa: PTH100
    names, depth = list(tails), [0] * len(paths)
    while deeper := [i for i in _repeated(names) if depth[i] < len(folders[i])]:
        for i in deeper:
            depth[i] += 1
            names[i] = join.join([*folders[i][-depth[i] :], tails[i]])
    for i in sorted(_repeated(names))[1:]:  # "a_b/x" and "a/b_x": nothing but a number is left
        names[i] = f"{names[i]}-{i + 1}"
    return names


def _repeated(names: Sequence[str]) -> set[int]:
    """Indices of the names that occur more than once, case ignored."""
    seen: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        seen.setdefault(name.casefold(), []).append(i)
    return {i for group in seen.values() if len(group) > 1 for i in group}
