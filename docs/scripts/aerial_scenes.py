"""Draw docs/images/aerial-scenes.png: ``python docs/scripts/aerial_scenes.py``."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from motes.data.aerial_scenes import scene
from motes.data.classes import class_table
from motes.data.labels import to_colours

IMAGES = Path(__file__).resolve().parents[1] / "images"


def main() -> None:
    columns = []
    for i, name in enumerate(("isaid", "potsdam", "gaofen-img")):
        table = class_table(name)
        rgb, ids = scene((3, i), (240, 320), table)
        columns.append(np.vstack([rgb & 0xF0, to_colours(ids, table)]))  # 16 levels: a smaller file
    picture = cv2.cvtColor(np.hstack(columns), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(IMAGES / "aerial-scenes.png"), picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
