"""A miniature of DenseSIRST for the tests of training on boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from motes.data.synthesize import write_dataset
from motes.imaging import write_image

NO_TARGET, NO_SKY = 5, 7  # frames of write_boxes without a target and, if asked for, without a sky map


def write_boxes(root: Path, count: int = 10, side: int = 64, bits: int = 8, sky: bool = True) -> Path:
    """SIRSTdevkit layout: 64 x 72 px frames with 1 to 3 targets, one frame without; lists trainval_v1 and test_v1."""
    write_dataset(
        root, "sirstdevkit", count, seed=3, height=side, width=side + 8, bits=bits, kind="sky", targets=(1, 3),
        snr=(20, 40), extended=1.0, size=(3, 6),
    )  # fmt: skip
    names = sorted(p.stem for p in (root / "PNGImages").iterdir())
    for i, name in enumerate(names):
        if i == NO_TARGET:
            write_image(root / "SIRST/BinaryMask" / f"{name}_pixels0.png", np.zeros((side, side + 8, 1), np.uint8))
            file = root / "SIRST/BBox" / f"{name}.xml"
            text = file.read_text()
            file.write_text(text[: text.find("  <object>")] + "</annotation>\n" if "<object>" in text else text)
        if not sky:
            (root / "SkySeg/BinaryMask" / f"{name}_pixels0.png").unlink()
    cut = count - count // 4
    for stem in ("trainval_v1", "train_v1"):
        (root / "Splits" / f"{stem}.txt").write_text("\n".join(names[:cut]))
    for stem in ("test_v1", "val_v1"):
        (root / "Splits" / f"{stem}.txt").write_text("\n".join(names[cut:]))
    return root
