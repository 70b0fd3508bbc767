"""White top-hat: what is brighter than its surroundings and smaller than the structuring element.

V. T. Tom, T. Peli, M. Leung, J. E. Bondaryk, "Morphology-based algorithm for point target detection in infrared
backgrounds", Proc. SPIE 1954, 1993.
"""

from __future__ import annotations

import numpy as np


def top_hat(image: np.ndarray, size: int = 5) -> np.ndarray:
    """``image`` minus its opening with a ``size`` x ``size`` square.

    Args:
        image: [H, W] counts, any real dtype; kept as they are, never rescaled.
        size: side of the square in px, odd; it must be larger than the target, a 3x3 one erases targets of 3x3.

    Returns:
        [H, W] float32 counts, >= 0. Pixels outside the frame never win, so the border needs no padding rule.
    """
    import cv2

    frame = np.ascontiguousarray(image, dtype=np.float32)
    square = np.ones((size, size), np.uint8)
    # OpenCV's default border is +inf for erosion and -inf for dilation: exactly "outside never wins".
    opening = cv2.dilate(cv2.erode(frame, square), square)
    return np.asarray(np.subtract(frame, opening, out=opening))
