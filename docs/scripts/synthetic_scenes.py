"""Draw docs/images/synthetic-scenes.png and synthetic-targets.png: ``python docs/scripts/synthetic_scenes.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from motes.data.synthesize import SIRST_LIKE, scene

IMAGES = Path(__file__).resolve().parents[1] / "images"
SHEET = {"cloud": (3, 13, 18, 20), "sky": (6, 14), "sea": (0, 20), "ground": (3, 8, 14, 22), "urban": (3, 14, 19, 20)}


def main() -> None:
    frames = [scene(224, 288, (7, seed), kind=kind, **SIRST_LIKE) for kind in SHEET for seed in SHEET[kind]]
    pictures = [_bordered(frame.pixels & 0xFC) for frame in frames]  # 64 grey levels: a smaller file
    rows = [np.hstack(pictures[i : i + 4]) for i in range(0, len(pictures), 4)]
    _write("synthetic-scenes.png", np.vstack(rows))

    crops = [_crop(frame, target) for frame in frames for target in frame.targets][:12]
    _write("synthetic-targets.png", np.vstack([np.hstack(crops[:6]), np.hstack(crops[6:])]))


def _crop(frame, target, half: int = 10, zoom: int = 7) -> np.ndarray:
    """A target's surroundings enlarged, and below it the same with its mask."""
    import cv2

    x = int(np.clip(round(target.x), half, frame.mask.shape[1] - half - 1))
    y = int(np.clip(round(target.y), half, frame.mask.shape[0] - half - 1))
    window = (slice(y - half, y + half + 1), slice(x - half, x + half + 1))
    grey, mask = frame.pixels[window].astype(np.float32), frame.mask[window]
    grey = np.clip((grey - grey.min()) / max(float(np.ptp(grey)), 1) * 255, 0, 255).astype(np.uint8)
    grey, mask = (np.kron(a, np.ones((zoom, zoom), np.uint8)) for a in (grey, mask.astype(np.uint8)))
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    outline = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    outlined = cv2.drawContours(picture.copy(), outline, -1, (60, 220, 60), 1)
    return _bordered(np.vstack([picture, outlined]))


def _bordered(picture: np.ndarray) -> np.ndarray:
    return np.pad(picture, [(0, 3), (0, 3)] + [(0, 0)] * (picture.ndim - 2), constant_values=255)


def _write(name: str, picture: np.ndarray) -> None:
    import cv2

    IMAGES.mkdir(exist_ok=True)
    data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    (IMAGES / name).write_bytes(data.tobytes())
    print(f"{IMAGES / name}: {picture.shape[1]}x{picture.shape[0]}, {len(data) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
