"""The one rule by which a mask file becomes target pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PillowImage

from motes.imaging import read_mask, write_image

T, F = True, False


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 255, 0], "uint8", [F, T, F]),
        ([0, 1, 0], "uint8", [F, T, F]),
        ([0, 1, 2], "uint8", [F, T, T]),  # labels
        ([0, 100, 0], "uint8", [F, T, F]),
        ([0, 128, 0], "uint8", [F, T, F]),
        ([64, 127, 128, 255], "uint8", [F, F, T, T]),  # anti-aliased: half and more
        ([0, 0, 0], "uint8", [F, F, F]),  # no target: normal
        ([255, 255], "uint8", [T, T]),
        ([0, 65535, 20000], "uint16", [F, T, F]),
        ([0, 255, 90], "uint16", [F, T, F]),
        ([0, 1, 0], "uint16", [F, T, F]),
        ([0, 1000, 0], "uint16", [F, T, F]),
        ([0.0, 1.0, 0.4, 0.6], "float32", [F, T, F, T]),
        ([0.0, 255.0, 90.0], "float32", [F, T, F]),
        ([-1, 0, 1], "int16", [F, F, T]),
    ],
)
def test_one_channel(tmp_path, values, dtype, expected):
    for suffix in (".tif", ".npy", ".png") if dtype in ("uint8", "uint16") else (".tif", ".npy"):
        path = tmp_path / f"mask{suffix}"
        write_image(path, np.array([values, values], dtype))
        mask = read_mask(path)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, [expected, expected])


@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (0, 0, 255), (1, 1, 1), (128, 0, 0)])
@pytest.mark.parametrize("alpha", [False, True])
def test_colours(tmp_path, colour, alpha):
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[1, 2] = colour
    pixels = np.dstack([pixels, np.full((4, 5), 255, np.uint8)]) if alpha else pixels
    write_image(tmp_path / "mask.png", pixels)
    np.testing.assert_array_equal(np.argwhere(read_mask(tmp_path / "mask.png")), [[1, 2]])


@pytest.mark.parametrize(
    ("palette", "background"),
    [
        ([0, 0, 0, 128, 0, 0], 0),  # VOC
        ([0, 0, 0, 1, 1, 1], 0),  # grey ramp
        ([255, 255, 255, 0, 0, 0], 1),  # an optimiser sorted white first
        ([120, 120, 120, 4, 200, 3], 0),  # a background with a colour of its own
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_palettes(tmp_path, suffix, palette, background):
    labels = np.array([[0, 1, 1], [1, 0, 1]], np.uint8)
    image = PillowImage.frombytes("P", (3, 2), labels.tobytes())
    image.putpalette(palette)
    image.save(tmp_path / f"mask{suffix}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"mask{suffix}"), labels != background)


def test_noise_of_jpeg_is_no_target(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[10:14, 10:14] = 255
    write_image(tmp_path / "mask.jpg", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.jpg"), mask > 0)
    write_image(tmp_path / "faint.jpg", np.where(mask > 0, 3, 0).astype(np.uint8))
    assert not read_mask(tmp_path / "faint.jpg").any()


def test_both_masks_of_sirst_agree_with_the_value_255(sirst_root):
    for binary in sorted((sirst_root / "SIRST" / "BinaryMask").glob("*.png"))[:25]:
        mask = read_mask(binary)
        with PillowImage.open(binary) as other:
            np.testing.assert_array_equal(mask, np.asarray(other) == 255)
        palette = sirst_root / "SIRST" / "PaletteMask" / binary.name.replace("_pixels0", "")
        np.testing.assert_array_equal(read_mask(palette), mask)
