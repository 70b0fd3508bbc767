"""Split lists: text files with one image id a line."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from pathlib import Path

from motes.errors import DataError
from motes.imaging import IMAGE_SUFFIXES, atomic_path


def read_list(path: Path) -> list[str]:
    """The ids of a list, in its order, repeated ones kept.

    Blank lines, a byte-order mark, UTF-16 (what Windows' ``>`` writes) and Windows line ends are fine; an id loses an
    image suffix and the folders in front of it (``images/Misc_1.png`` is ``Misc_1``).

    Raises:
        DataError: the file cannot be read as text.
    """
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise DataError(f"cannot read the list {path}: {e.strerror}") from None
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file (expected one id a line, UTF-8)") from None
    if "\0" in text:
        raise DataError(f"{path} is not a text file (expected one id a line, UTF-8)")
    return [bare_id(line) for line in text.splitlines() if line.strip()]


def write_list(path: Path, ids: Iterable[str]) -> None:
    """Write one id a line (UTF-8, ``\\n``), whole or not at all."""

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{i}\n" for i in ids)


def bare_id(text: str) -> str:
    """An id without folders and without an image suffix."""
    name = text.strip().replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem and f".{suffix.lower()}" in IMAGE_SUFFIXES else name


def looks_like_list(path: Path) -> bool:
    """Whether the first lines hold one word each, as ids do and a README does not."""
    with path.open("rb") as file:
        head = file.read(4096)
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    lines = [line for line in head.decode(encoding, errors="replace").splitlines()[:20] if line.strip()]
    return all(len(line.split()) == 1 for line in lines) and path.stem.lower() not in NOT_LISTS


NOT_LISTS = ("readme", "license", "licence", "requirements", "classes", "labels")
