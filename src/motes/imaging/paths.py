"""Which files are images, and writing a file so that it is there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from motes.errors import ImageError
from motes.naming import nearest

IMAGE_SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")
"""In lower case; `is_image_path` compares without regard to case."""


def is_image_path(path: str | Path) -> bool:
    """Whether the name says image. Hidden files do not: macOS leaves ``._a.png``, interrupted writes ``.motes-...``."""
    path = Path(path)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``, with its suffix; on success it is renamed to ``path``, else removed.

    Missing parent folders are made. An OSError inside (full disk, read-only folder) is raised again with the name of
    ``path`` instead of the temporary one.

    Example:
        >>> with atomic_path("table.csv") as temporary:
        ...     temporary.write_text("x,y", encoding="utf-8")
    """
    path = Path(path)
    temporary = path.with_name(f".motes-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as e:
        _remove(temporary)
        if e.filename in (None, str(temporary)):  # numpy's own errors come without a number
            raise OSError(e.errno or errno.EIO, e.strerror or str(e), str(path)) from e
        raise
    except BaseException:
        _remove(temporary)
        raise


def check_writable(folder: str | Path) -> None:
    """Raises OSError, naming ``folder``, where files cannot be written into it (or it cannot be made); leaves nothing.

    For commands that work for minutes before they write.
    """
    folder = Path(folder)
    existing = next((p for p in (folder, *folder.parents) if p.exists()), Path())
    probe = existing / f".motes-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        probe.touch()
    except OSError as e:
        raise OSError(e.errno or errno.EIO, e.strerror or str(e), str(folder)) from e
    _remove(probe)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def check_file(path: Path) -> int:
    """Size in bytes of a file that can be read and is not empty; anything else is an ImageError."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ImageError(f"{path}: is a folder, expected an image file")
        if not path.is_file():
            raise ImageError(f"{path}: is neither a file nor a folder, expected an image file")
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(f"{path}: no such file", _where_instead(path)) from None
    except OSError as e:
        raise ImageError(f"{path}: cannot be opened: {e.strerror or e}") from None
    except ValueError as e:  # a NUL character in the name
        raise ImageError(f"{str(path)!r}: is not a file name: {e}") from None
    if size == 0:
        raise ImageError(f"{path}: is empty (0 bytes), expected an image")
    return size


def _where_instead(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"there is no folder '{path.parent}'"
    with suppress(OSError), os.scandir(path.parent) as entries:
        names = [e.name for e, _ in zip(entries, range(5000), strict=False)]
        close = nearest(path.name, names)
        return f"did you mean '{close}'?" if close else None
    return None
