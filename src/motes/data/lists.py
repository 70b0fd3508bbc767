"""Split lists: text files with one image id a line."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from motes.errors import DataError
from motes.imaging import IMAGE_SUFFIXES, atomic_path
from motes.naming import nearest

if TYPE_CHECKING:
    from motes.data.dataset import Dataset, Sample

SHIPPED = "lists/"
"""How the names of lists begin that come with motes (``lists/sirst_hold.txt``)."""


def read_list(path: Path) -> list[str]:
    """The ids of a list, in its order, repeated ones kept.

    Blank lines, a byte-order mark, UTF-16 (what Windows' ``>`` writes) and Windows line ends are fine; an id loses an
    image suffix and the folders in front of it (``images/Misc_1.png`` is ``Misc_1``).

    Raises:
        DataError: the file cannot be read as text.
    """
    return [bare_id(line) for line in _lines(path)]


def read_ids(file: str) -> list[str]:
    """The ids of a list as recipes and ``--split`` name it: a text file, or one that comes with motes.

    As :func:`read_list`, and what follows an id on its line (after a space, a tab or ``#``) is a remark.

    Raises:
        DataError: there is no such list, or it cannot be read as text.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        folder = resources.files("motes") / "recipes" / "lists"
        known = sorted(f"{SHIPPED}{entry.name}" for entry in folder.iterdir())
        if file not in known:
            close = nearest(file, known) if file.startswith(SHIPPED) else None
            raise DataError(f"no list of ids at {file}", f"did you mean '{close}'?" if close else None)
        path = Path(str(folder)) / file.removeprefix(SHIPPED)
    words = (line.split("#")[0].split() for line in _lines(path))
    return [bare_id(found[0]) for found in words if found]


def listed(data: Dataset, file: str) -> list[Sample]:
    """The samples that a list file names (see :func:`read_ids`), in its order, each once.

    Raises:
        DataError: there is no such list, it is empty, or it names a frame that the data set does not have.
    """
    ids = list(dict.fromkeys(read_ids(file)))
    if not ids:
        raise DataError(f"{file} lists no ids")
    missing = [i for i in ids if i not in data.samples]
    if missing:
        close = nearest(missing[0], data.samples)
        raise DataError(
            f"{file}: {len(missing)} of {len(ids)} ids are not in {data.root}, for instance {missing[0]}",
            f"the nearest image is '{close}'" if close else None,
        )
    return [data.samples[i] for i in ids]


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


def _lines(path: Path) -> Iterator[str]:
    """The lines that are not blank."""
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
    return (line for line in text.splitlines() if line.strip())
