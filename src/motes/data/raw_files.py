"""The original files of a data set that is to be prepared: lying in folders, or still in their zip archives."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from motes.data.aerial_layouts import COLOURS, INSTANCES
from motes.data.dataset import Dataset, natural
from motes.data.roles import role
from motes.errors import DataError, ImageError, MotesError
from motes.naming import nearest

ROLES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class RawFile:
    """A file, or a member of a zip archive. ``stamp`` changes where the content does."""

    path: Path
    member: str = ""
    stamp: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.member or self.path.name).suffix

    @contextmanager
    def on_disk(self, folder: Path) -> Iterator[Path]:
        """A path to read it by; what comes out of an archive lies in ``folder`` meanwhile.

        Raises:
            ImageError: the archive's member is damaged; errors about the temporary file name the member instead.
        """
        if not self.member:
            yield self.path
            return
        temporary = folder / f".motes-{os.getpid()}-{secrets.token_hex(4)}{self.suffix}"
        try:
            archive = _archive(self.path, self.path.stat().st_mtime_ns)
            with archive.open(self.member) as source, temporary.open("wb") as to:
                shutil.copyfileobj(source, to, 1 << 20)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as e:
            temporary.unlink(missing_ok=True)
            raise ImageError(f"{self}: cannot be unpacked: {e}") from None
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        try:
            yield temporary
        except MotesError as e:
            raise type(e)(e.message.replace(str(temporary), str(self)), e.hint) from None
        finally:
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class RawSample:
    """One image with its class mask, as distributed."""

    split: str
    stem: str
    image: RawFile
    mask: RawFile | None = None

    @property
    def key(self) -> str:
        return f"{self.split}/{self.stem}"


@dataclass
class Found:
    """What lies in a source folder: samples in natural order, and masks that belong to no image."""

    samples: list[RawSample] = field(default_factory=list)
    orphans: list[RawFile] = field(default_factory=list)


def isaid_files(source: Path, splits: Iterable[str] | None = None) -> Found:
    """The images and class masks of iSAID below ``source``: a folder, however deep, or a zip archive.

    A file is of the split that the innermost folder or archive says whose name holds train, val or test; names are as
    distributed (``P0003.png``, ``P0003_instance_color_RGB.png``). Unpacked files come before archived ones.

    Args:
        source: the folder or archive.
        splits: only these; default: train and val.

    Raises:
        DataError: there is nothing, an archive is damaged, or the split of a file is not said.
    """
    if not source.exists():
        close = nearest(source.name, (p.name for p in source.parent.iterdir())) if source.parent.is_dir() else None
        raise DataError(
            f"no such folder or archive: {source}", f"did you mean {source.parent / close}?" if close else None
        )
    wanted = tuple(splits or ("train", "val"))
    images: dict[tuple[str, str], RawFile] = {}
    masks: dict[tuple[str, str], RawFile] = {}
    homeless: list[RawFile] = []
    for parts, file in _walk(source):
        stem = PurePosixPath(parts[-1]).stem
        split = _split_of(parts[:-1]) or _split_of(source.resolve().with_suffix("").parts[-1:])
        if stem.endswith(INSTANCES):
            continue
        if split is None:
            homeless.append(file)
        elif stem.endswith(COLOURS):
            masks.setdefault((split, stem.removesuffix(COLOURS)), file)
        else:
            images.setdefault((split, stem), file)
    if not images:
        what = f"no images in {source}"
        if homeless:
            raise DataError(
                f"{homeless[0]}: is it of train, val or test? No folder or archive around it says so",
                "put it into a folder of that name",
            )
        raise DataError(what, "expected P0003.png and P0003_instance_color_RGB.png below train/ and val/, or in zips")
    found = Found()
    for (split, stem), image in sorted(images.items(), key=lambda item: (item[0][0], natural(item[0][1]))):
        if split in wanted:
            found.samples.append(RawSample(split, stem, image, masks.pop((split, stem), None)))
    found.orphans = [file for (split, _), file in masks.items() if split in wanted]
    if not found.samples:
        there = ", ".join(sorted({split for split, _ in images}))
        raise DataError(f"{source} has no images of {', '.join(wanted)}", f"it has {there}")
    return found


def dataset_files(data: Dataset, splits: Iterable[str] | None = None) -> Found:
    """The same for a data set of any layout; its train, val and test, or all as ``train`` where it has none.

    A split of another name goes where its role says: ``mine/val`` is ``val``.

    Raises:
        DataError: unknown split.
    """
    names = [data.split_name(s) for s in splits] if splits else [s for s in data.splits if s in ROLES]
    parts = {s: data.split(s) for s in names} if names else {"train": list(data.samples.values())}
    found = Found([], [_file(p) for p in data.orphan_masks])
    for split, samples in parts.items():
        name = role(split)[0]
        part = name if name in ("trainval", "val", "test") else "train"
        for s in samples:
            mask = _file(s.mask) if s.mask else None
            found.samples.append(RawSample(part, s.name, _file(s.image), mask))
    return found


def _file(path: Path) -> RawFile:
    about = path.stat()
    return RawFile(path, "", (about.st_size, about.st_mtime_ns))


def _walk(source: Path) -> Iterator[tuple[tuple[str, ...], RawFile]]:
    """(names of folders and archives around it and its own, file) of every PNG; those in archives last."""
    archives = [source] if source.is_file() else []
    for folder, folders, names in os.walk(source, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith("."):
                continue
            if name.lower().endswith(".png"):
                yield path.relative_to(source).parts, _file(path)
            elif name.lower().endswith(".zip"):
                archives.append(path)
    for path in archives:
        around = path.relative_to(source).parts if path != source else (path.name,)
        try:
            entries = _archive(path, path.stat().st_mtime_ns).infolist()
        except (zipfile.BadZipFile, OSError) as e:
            raise DataError(f"{path}: is not a zip archive that can be read: {e}") from None
        for entry in entries:
            inside = PurePosixPath(entry.filename.replace("\\", "/")).parts
            if (
                inside
                and inside[-1].lower().endswith(".png")
                and not inside[-1].startswith(".")
                and "__MACOSX" not in inside
            ):
                yield (*around, *inside), RawFile(path, entry.filename, (entry.file_size, entry.CRC))


@lru_cache(maxsize=16)
def _archive(path: Path, changed: int) -> zipfile.ZipFile:
    """Kept open: reading its directory for each of thousands of members takes longer than the members. Threads may
    share one."""
    return zipfile.ZipFile(path)


def _split_of(names: Iterable[str]) -> str | None:
    """The split that the innermost of the names holds as a word."""
    found = None
    for name in names:
        words = re.split(r"[^a-z]+", name.lower())
        found = next((ROLES[w] for w in words if w in ROLES), found)
    return found
