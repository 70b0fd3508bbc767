"""Pictures of class maps for people: the image in the colours of its classes, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from motes.inference.class_statistics import count_ids
from motes.inference.class_writers import percent
from motes.inference.overlay import FAINT, INK, LARGE, PAPER, display

SMALL = 480
"""Images are enlarged (whole factors) until a side has SMALL px, and reduced (whole factors) below LARGE."""

STRENGTH = 0.45
"""How much of a class's colour is mixed into its pixels."""

_GAP, _LINE, _FONT, _SIZE = 8, 20, 0, 0.45  # 0 = cv2.FONT_HERSHEY_SIMPLEX

# Hues that stay apart on roofs, roads and fields; the tables' own colours are often too dark for that.
_VIVID = (
    *((230, 25, 75), (60, 220, 90), (255, 225, 25), (0, 150, 255), (245, 130, 48), (190, 60, 230), (70, 240, 240)),
    *((240, 50, 230), (170, 255, 60), (255, 150, 180), (0, 200, 170), (200, 160, 255), (200, 110, 40), (255, 250, 170)),
    *((170, 20, 20), (130, 255, 190), (150, 150, 0), (255, 200, 140), (70, 90, 255), (255, 255, 255)),
)


def draw_classes(
    pixels: Any,
    ids: np.ndarray,
    names: Sequence[str],
    *,
    truth: np.ndarray | None = None,
    background: int | None = 0,
    caption: str = "",
    large: int = LARGE,
) -> np.ndarray:
    """Counts [H, W, C] and ids [H, W] -> RGB uint8 picture: the image with its classes painted over it, and a legend.

    With ``truth`` the picture has two halves, the truth on the left and the prediction on the right. Reduced by n, a
    cell of n x n px shows a foreground class wherever it has a pixel of one: small objects do not get lost. Background
    is not painted, ignored pixels are grey.

    Args:
        pixels: any dtype; what can be sliced by rows is enough.
        ids: prediction.
        names: of the classes.
        truth: [H, W] ids of the labels, 255 where ignored.
        background: id that is not painted, or None.
        caption: a line below.
        large: longest side of one half, px.
    """
    frame = _resized(pixels, large, _image_cells)
    colours = vivid_colours(len(names), background)
    panels = []
    for part in (truth, ids) if truth is not None else (ids,):
        small = _resized(part, large, _top_cells if background is not None else _first_cells)
        panels.append(paint(frame, small, colours, background))
    canvas = panels[0]
    if len(panels) > 1:
        gap = np.full((canvas.shape[0], _GAP, 3), PAPER, np.uint8)
        canvas = np.concatenate([_headed(panels[0], "truth"), _headed(gap, ""), _headed(panels[1], "prediction")], 1)
    labelled = None if truth is None else count_ids(truth, len(names))
    canvas = _beside(canvas, _legend(names, colours, count_ids(ids, len(names)), labelled, background))
    return _captioned(canvas, caption)


def vivid_colours(count: int, background: int | None = 0) -> np.ndarray:
    """[256, 3] uint8: colours of pictures by id; the background black, what is no class grey."""
    colours = np.full((256, 3), 128, np.uint8)
    palette = np.resize(np.array(_VIVID, np.uint8), (count, 3))
    if len(_VIVID) < count:  # beyond twenty classes: the same hues, darker every time round
        palette = (palette * (0.75 ** (np.arange(count) // len(_VIVID)))[:, None]).astype(np.uint8)
    places = [i for i in range(count) if i != background]
    colours[places] = palette[: len(places)]
    if background is not None:
        colours[background] = 0
    return colours


def paint(frame: np.ndarray, ids: np.ndarray, colours: np.ndarray, background: int | None = 0) -> np.ndarray:
    """RGB ``frame`` with the colours of ``ids`` [H, W] mixed in, and their borders in full colour."""
    tint = colours[ids]
    strength = np.full(ids.shape, STRENGTH, np.float32)
    edge = np.zeros(ids.shape, bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    strength[edge] = 0.9
    if background is not None:
        strength[ids == background] = 0
    mixed = frame + (tint - frame.astype(np.float32)) * strength[:, :, None]
    return np.asarray(mixed.round().astype(np.uint8))


def _resized(array: Any, large: int, reduce: Any) -> np.ndarray:
    """By a whole factor: enlarged until a side has SMALL px, or reduced below ``large``, in bands of rows."""
    height, width = array.shape[:2]
    n = -(-max(height, width) // large)
    if n <= 1:
        zoom = max(1, -(-SMALL // max(height, width)))
        whole = reduce(np.asarray(array), 1)
        return np.asarray(whole.repeat(zoom, 0).repeat(zoom, 1)) if zoom > 1 else np.asarray(whole)
    n = min(n, height, width)
    step = 256 * n
    rows = height // n * n
    bands = [reduce(np.asarray(array[top : min(top + step, rows)]), n) for top in range(0, rows, step)]
    joined = np.concatenate(bands)
    return display(joined) if joined.ndim == 3 and joined.dtype != np.uint8 else joined


def _image_cells(band: np.ndarray, n: int) -> np.ndarray:
    import cv2

    if n == 1:
        return display(band)
    height, width = band.shape[0] // n, band.shape[1] // n
    reduced = cv2.resize(band[:, : width * n], (width, height), interpolation=cv2.INTER_AREA)
    reduced = reduced[:, :, None] if reduced.ndim == 2 else reduced
    return display(reduced) if reduced.dtype == np.uint8 else np.asarray(reduced)  # deep counts: stretched as a whole


def _top_cells(band: np.ndarray, n: int) -> np.ndarray:
    """The largest id of every cell, ignored pixels last."""
    if n == 1:
        return band
    height, width = band.shape[0] // n, band.shape[1] // n
    moved = band[:, : width * n] + np.uint8(1)  # 255 becomes 0
    return np.asarray(moved.reshape(height, n, width, n).max(axis=(1, 3)) - np.uint8(1))


def _first_cells(band: np.ndarray, n: int) -> np.ndarray:
    return band[n // 2 :: n, n // 2 :: n][: band.shape[0] // n, : band.shape[1] // n]


def _legend(
    names: Sequence[str], colours: np.ndarray, found: np.ndarray, truth: np.ndarray | None, background: int | None
) -> np.ndarray:
    """A column of the classes that occur, with their share of the pixels: labelled, if known, and predicted."""
    occurring = found if truth is None else found + truth
    shown = [i for i in np.flatnonzero(occurring).tolist() if i != background]
    lines = []
    for i in shown:
        share = percent(int(found[i]) / max(int(found.sum()), 1))
        before = "" if truth is None else f"{percent(int(truth[i]) / max(int(truth.sum()), 1))} -> "
        lines.append(f"{names[i]}  {before}{share}")
    lines = lines or ["background only"]
    width = _GAP * 3 + 14 + max(_width(line) for line in lines)
    column = np.full((_GAP + _LINE * len(lines), width, 3), PAPER, np.uint8)
    for row, line in enumerate(lines):
        top = _GAP + row * _LINE
        if shown:
            column[top : top + 14, _GAP : _GAP + 14] = colours[shown[row]]
        _text(column, line, (2 * _GAP + 14, top + 12), INK)
    return column


def _beside(canvas: np.ndarray, column: np.ndarray) -> np.ndarray:
    height = max(len(canvas), len(column))
    parts = []
    for part in (canvas, column):
        more = np.full((height - len(part), part.shape[1], 3), PAPER, np.uint8)
        parts.append(np.concatenate([part, more]))
    return np.concatenate(parts, axis=1)


def _headed(panel: np.ndarray, text: str) -> np.ndarray:
    bar = np.full((_LINE + 4, panel.shape[1], 3), PAPER, np.uint8)
    _text(bar, text, (_GAP, _LINE - 3), INK)
    return np.concatenate([bar, panel])


def _captioned(canvas: np.ndarray, caption: str) -> np.ndarray:
    if not caption:
        return canvas
    bar = np.full((_LINE + 6, canvas.shape[1], 3), PAPER, np.uint8)
    _text(bar, caption.encode("ascii", "replace").decode("ascii"), (_GAP, _LINE - 3), FAINT)
    return np.concatenate([canvas, bar])


def _text(canvas: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    import cv2

    cv2.putText(canvas, text, at, _FONT, _SIZE, colour, 1, cv2.LINE_AA)


def _width(text: str) -> int:
    import cv2

    return int(cv2.getTextSize(text, _FONT, _SIZE, 1)[0][0])
