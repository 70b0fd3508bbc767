"""A picture of what was found: the frame as a person can see it, boxes, and the best targets enlarged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from motes.inference.detections import Detections

SMALL, LARGE = 720, 2048
"""Frames are enlarged (whole factors) until a side has SMALL px, and reduced where one has more than LARGE."""

CROWD = 40
"""Only this many targets are labelled in the frame; all are marked."""

ACCENT, PAPER, INK, FAINT = (255, 170, 0), (24, 26, 30), (235, 235, 235), (150, 155, 165)  # RGB

_FONT, _SIZE = 0, 0.45  # cv2.FONT_HERSHEY_SIMPLEX
_GAP = 8
_CAPTION = 22  # height of a line of text, px


def draw_overlay(
    pixels: np.ndarray, found: Detections, mask: np.ndarray | None = None, caption: str | None = None
) -> np.ndarray:
    """[H, W] or [H, W, C] counts and their targets -> RGB uint8 picture.

    8-bit frames are shown as they are, deeper ones stretched between their 0.5th and 99.5th percentile. Corners mark
    the targets without covering them. Beside the frame the best ones are enlarged, each with its own stretch: a target
    of three pixels, invisible in the frame, is seen there, with the outline of ``mask`` around it.

    Args:
        pixels: counts of the frame, any dtype.
        found: its targets, best first.
        mask: [H, W] bool, what was segmented; None draws no outlines.
        caption: a line of ASCII below the picture; None describes the frame.
    """
    import cv2

    height, width = pixels.shape[:2]
    frame = display(pixels)
    factor = _factor(height, width)
    if factor >= 1:
        canvas = cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    else:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        canvas = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    canvas = np.ascontiguousarray(canvas)
    _mark(canvas, found, factor)
    crops = _Crops.fitting(canvas.shape[:2], len(found))
    if crops:
        canvas = crops.beside(canvas, pixels, found, mask)
    if caption is None:
        caption = f"{found.name}  {width}x{height} {pixels.dtype}  {_count(len(found))}"
    return _with_caption(canvas, caption)


def display(pixels: np.ndarray, stretch: tuple[float, float] | None = None) -> np.ndarray:
    """Counts -> RGB uint8 [H, W, 3] for looking at; ``stretch`` = percentiles that become black and white."""
    planes = pixels[:, :, None] if pixels.ndim == 2 else pixels
    planes = planes.astype(np.uint8) * np.uint8(255) if planes.dtype == bool else planes
    if planes.shape[2] != 3:
        planes = planes[:, :, :1] if planes.shape[2] == 1 else planes.mean(axis=2, keepdims=True)
    if planes.dtype == np.uint8 and stretch is None:
        shown = planes
    else:
        sample = planes[:: max(1, planes.shape[0] // 1024), :: max(1, planes.shape[1] // 1024)]
        low, high = np.percentile(sample, stretch or (0.5, 99.5))
        if not high > low:
            low, high = float(sample.min()), float(sample.max())
        gain = np.float32(255.0 / (high - low)) if high > low else np.float32(0)
        values = np.subtract(planes, np.float32(low), dtype=np.float32)
        values *= gain
        shown = np.clip(values, 0, 255, out=values).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def _factor(height: int, width: int) -> float:
    side = max(height, width)
    return LARGE / side if side > LARGE else float(max(1, -(-SMALL // side)))


def _mark(canvas: np.ndarray, found: Detections, factor: float) -> None:
    """Corners around every target, its number and score above; in a crowd only of the best ones."""
    margin = max(8, round(2 * factor))
    line = 2 if max(canvas.shape[:2]) > 900 else 1
    boxes = [(found.boxes[i] * factor).round().astype(int).tolist() for i in range(len(found))]
    corners = [(x1 - margin, y1 - margin, x2 - 1 + margin, y2 - 1 + margin) for x1, y1, x2, y2 in boxes]
    for box in reversed(corners):  # the best one last, on top
        _corners(canvas, box, line)
    taken = [(x1, y1, x2 + 1, y2 + 1) for x1, y1, x2, y2 in corners]
    for i, box in enumerate(corners[:CROWD]):
        _label(canvas, f"{i + 1}  {found.scores[i]:.2f}", box, taken)


def _corners(canvas: np.ndarray, box: tuple[int, int, int, int], line: int) -> None:
    """Four corners, with a dark rim that keeps them visible on bright frames."""
    import cv2

    x1, y1, x2, y2 = box
    reach_x, reach_y = max(3, (x2 - x1) // 4), max(3, (y2 - y1) // 4)
    for colour, thick in ((PAPER, line + 2), (ACCENT, line)):
        for x, step_x in ((x1, reach_x), (x2, -reach_x)):
            for y, step_y in ((y1, reach_y), (y2, -reach_y)):
                cv2.line(canvas, (x, y), (x + step_x, y), colour, thick)
                cv2.line(canvas, (x, y), (x, y + step_y), colour, thick)


def _label(canvas: np.ndarray, text: str, box: tuple[int, int, int, int], taken: list) -> None:
    """On a dark plate above or below the box; left out where it would cover a target or another label."""
    import cv2

    (width, height), _ = cv2.getTextSize(text, _FONT, _SIZE, 1)
    x = int(np.clip(box[0], 0, max(0, canvas.shape[1] - width - 6)))
    for top in (box[1] - height - 10, box[3] + 4):
        plate = (x, top, x + width + 6, top + height + 6)
        inside = top >= 0 and plate[3] <= canvas.shape[0]
        if inside and not any(_meet(plate, other) for other in taken):
            break
    else:
        return
    taken.append(plate)
    under = canvas[plate[1] : plate[3], plate[0] : plate[2]]
    under[:] = (under * np.float32(0.35)).astype(np.uint8)
    _text(canvas, text, (x + 3, plate[3] - 4), ACCENT)


def _meet(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text(canvas: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    import cv2

    cv2.putText(canvas, text, at, _FONT, _SIZE, colour, 1, cv2.LINE_AA)


@dataclass(frozen=True)
class _Crops:
    """A strip of enlarged targets: to the right of the frame, or below a wide one."""

    side: int
    count: int
    right: bool

    @classmethod
    def fitting(cls, canvas: tuple[int, ...], targets: int) -> _Crops | None:
        height, width = canvas
        right = width <= 1.6 * height
        length = height if right else width
        room = int(np.clip(length // 190, 2, 8))
        side = max(96, (length - _GAP) // room - _GAP - (_CAPTION if right else 0))
        count = min(targets, room)
        return cls(side, count, right) if targets else None

    def beside(self, canvas: np.ndarray, pixels: np.ndarray, found: Detections, mask: np.ndarray | None) -> np.ndarray:
        cell = self.side + _CAPTION + _GAP
        height, width = canvas.shape[:2]
        if self.right:
            shape = (max(height, self.count * cell + _GAP), self.side + 2 * _GAP, 3)
        else:
            shape = (cell + _GAP, max(width, self.count * (self.side + _GAP) + _GAP), 3)
        strip = np.full(shape, PAPER, np.uint8)
        for i in range(self.count):
            x = _GAP if self.right else _GAP + i * (self.side + _GAP)
            y = _GAP + i * cell if self.right else _GAP
            strip[y : y + self.side, x : x + self.side] = self._enlarged(pixels, found, mask, i)
            scr = f"  SCR {found.scr[i]:.1f}" if np.isfinite(found.scr[i]) else ""
            _text(strip, f"{i + 1}  p {found.scores[i]:.2f}{scr}", (x, y + self.side + 15), INK)
        return _joined(canvas, strip, self.right)

    def _enlarged(self, pixels: np.ndarray, found: Detections, mask: np.ndarray | None, i: int) -> np.ndarray:
        """A square of the frame around target ``i``, ``side`` x ``side`` px, pixels as squares."""
        import cv2

        x1, y1, x2, y2 = found.boxes[i].astype(int).tolist()
        height, width = pixels.shape[:2]
        reach = int(np.clip(3 * max(x2 - x1, y2 - y1), 24, max(24, 4 * max(x2 - x1, y2 - y1))))
        left = int(np.clip((x1 + x2 - reach) // 2, 0, max(0, width - reach)))
        top = int(np.clip((y1 + y2 - reach) // 2, 0, max(0, height - reach)))
        window = (slice(top, min(top + reach, height)), slice(left, min(left + reach, width)))
        crop = display(pixels[window], (1.0, 99.9))
        zoom = self.side / max(crop.shape[:2])
        size = (max(1, round(crop.shape[1] * zoom)), max(1, round(crop.shape[0] * zoom)))
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_NEAREST if zoom > 1 else cv2.INTER_AREA)
        if mask is not None:
            part = cv2.resize(mask[window].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
            outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(crop, outlines, -1, ACCENT, 1)
        square = np.full((self.side, self.side, 3), PAPER, np.uint8)
        square[: crop.shape[0], : crop.shape[1]] = crop[: self.side, : self.side]
        return square


def _joined(first: np.ndarray, second: np.ndarray, right: bool) -> np.ndarray:
    axis = 1 if right else 0
    length = max(first.shape[1 - axis], second.shape[1 - axis])

    def filled(part: np.ndarray) -> np.ndarray:
        more = length - part.shape[1 - axis]
        shape = (more, part.shape[1], 3) if right else (part.shape[0], more, 3)
        return np.concatenate([part, np.full(shape, PAPER, np.uint8)], axis=1 - axis)

    return np.concatenate([filled(first), filled(second)], axis=axis)


def _with_caption(canvas: np.ndarray, caption: str) -> np.ndarray:
    bar = np.full((_CAPTION + 4, canvas.shape[1], 3), PAPER, np.uint8)
    ascii_only = caption.encode("ascii", "replace").decode("ascii")
    _text(bar, ascii_only, (_GAP, _CAPTION - 5), FAINT)
    return np.concatenate([canvas, bar])


def _count(number: int) -> str:
    return "no target" if number == 0 else "1 target" if number == 1 else f"{number} targets"
