"""Large TIFF pages read by rows, so that an image need not fit into memory."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from motes.imaging.paths import check_file
from motes.imaging.reading import file_kind, reporting
from motes.imaging.tiff import MIN_IS_BLACK, RGB, check_whole, open_tiff, tiff_page
from motes.imaging.tiff_segments import assemble, can_assemble

_AXES = ("YX", "YXS", "SYX")


class TiffRows:
    """Pixels [H, W, C] of one page that are read when they are sliced: the counts that `read_image` would give.

    ``rows[a:b, c:d]`` reads the strips or tiles that hold the rows a to b, and keeps these rows for the next slice;
    going from top to bottom reads every strip once or twice. ``np.asarray(rows)`` reads all.

    Attributes:
        shape: (H, W, C).
        dtype: of the counts.
        pages: how many pages the file has.
    """

    ndim = 3

    def __init__(self, path: Path, file: Any, ifd: Any, alpha: bool, close: ExitStack) -> None:
        self.path, self._ifd, self._close = path, ifd, close
        self.pages = len(file.pages)
        samples = int(ifd.samplesperpixel)
        self.shape = (int(ifd.imagelength), int(ifd.imagewidth), samples - alpha)
        self.dtype = np.dtype(ifd.dtype).newbyteorder("=")
        self._kept: tuple[int, np.ndarray] = (0, np.zeros((0, *self.shape[1:]), self.dtype))

    @property
    def size(self) -> int:
        """Values in all, as of an array."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: Any) -> np.ndarray:
        """``rows[a:b]`` or ``rows[a:b, c:d]`` with steps of 1.

        Raises:
            ImageError: the strips cannot be decoded.
        """
        rows, columns = where if isinstance(where, tuple) else (where, slice(None))
        first, last, _ = rows.indices(self.shape[0])
        return self._rows(first, last)[:, columns]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        with reporting(self.path):
            pixels = assemble(self._ifd)[:, :, : self.shape[2]]
        return pixels if dtype is None else pixels.astype(dtype)

    def close(self) -> None:
        """Closes the file."""
        self._close.close()

    def _rows(self, first: int, last: int) -> np.ndarray:
        top, kept = self._kept
        if not top <= first <= last <= top + len(kept):
            again = kept[first - top :] if top <= first < top + len(kept) < last else kept[:0]
            with reporting(self.path):
                more = assemble(self._ifd, first + len(again), last)[:, :, : self.shape[2]]
            top, kept = first, np.concatenate([again, more]) if len(again) else more
            self._kept = (top, kept)
        return kept[first - top : last - top]


def tiff_rows(path: str | Path, page: int = 0) -> TiffRows | None:
    """The page of a TIFF that can be read by rows; None for every other file, which `read_image` reads whole.

    Grey (0 = black) and RGB in whole bytes, with the compressions that `tiff_segments` knows; other extra channels than
    transparency are kept.

    Raises:
        ImageError: the file is missing, damaged or cut short.
    """
    path = Path(path)
    size = check_file(path)
    with reporting(path), ExitStack() as opened:
        if file_kind(path) != "TIFF":
            return None
        file = opened.enter_context(open_tiff(path))
        ifd = tiff_page(file, page, len(file.pages))
        check_whole(ifd, size)
        plain = ifd.photometric in (MIN_IS_BLACK, RGB) and ifd.bitspersample in (8, 16, 32) and ifd.axes in _AXES
        if not plain or not can_assemble(ifd) or np.dtype(ifd.dtype).kind not in "ui":
            return None
        extra = tuple(int(e) for e in (ifd.extrasamples or ()))
        alpha = bool(extra and extra[-1] in (1, 2) and int(ifd.samplesperpixel) > 1)
        return TiffRows(path, file, ifd, alpha, opened.pop_all())
