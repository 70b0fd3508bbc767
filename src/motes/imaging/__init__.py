"""Pixels in and out: reading, writing, resizing and scaling images without losing counts.

Importing this package imports numpy only; OpenCV, Pillow and tifffile are loaded by the first file that needs them.
"""

from __future__ import annotations

from motes.imaging.headers import MAX_PIXELS
from motes.imaging.masks import read_mask
from motes.imaging.paths import IMAGE_SUFFIXES, atomic_path, check_writable, is_image_path
from motes.imaging.reading import Image, image_size, read_image
from motes.imaging.resizing import FILTERS, resize
from motes.imaging.scaling import fix_scaling, network_input, scale, scaling_limits
from motes.imaging.writing import write_image

__all__ = [
    "FILTERS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Image",
    "atomic_path",
    "check_writable",
    "fix_scaling",
    "image_size",
    "is_image_path",
    "network_input",
    "read_image",
    "read_mask",
    "resize",
    "scale",
    "scaling_limits",
    "write_image",
]
