"""Components: numbering, areas, centroids, boxes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from motes.metrics import components


@pytest.mark.parametrize(
    ("size", "density"), [((64, 64), 0.1), ((7, 12), 1.0), ((33, 70), 0.4), ((1, 50), 0.5), ((900, 40), 0.3)]
)
def test_same_as_scipy(size, density):
    """scipy numbers in raster order of the first pixel, as the authors' labelling does."""
    mask = np.random.default_rng(size[0]).random(size) < density
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found = components(mask)
    np.testing.assert_array_equal(found.labels, labels)
    index = np.arange(1, count + 1)
    np.testing.assert_array_equal(found.areas, ndimage.sum_labels(mask, labels, index))
    centres = np.array(ndimage.center_of_mass(mask, labels, index))
    np.testing.assert_allclose(found.centroids, centres[:, ::-1], atol=1e-9)
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
    np.testing.assert_array_equal(found.boxes(), boxes)


def test_numbered_by_first_pixel_not_by_block():
    mask = np.zeros((4, 8), bool)
    mask[1, 0] = True  # its 2x2 block comes first, its pixel second
    mask[0, 5] = True
    np.testing.assert_array_equal(components(mask).centroids, [[5, 0], [0, 1]])


def test_corners_touch():
    assert len(components(np.eye(5, dtype=bool))) == 1


@pytest.mark.parametrize("shape", [(8, 8), (0, 5), (5, 0)])
def test_nothing(shape):
    found = components(np.zeros(shape, bool))
    assert len(found) == 0
    assert found.centroids.shape == (0, 2)
    assert found.boxes().shape == (0, 4)
    assert found.labels.shape == shape


def test_any_dtype_and_stride():
    mask = np.zeros((6, 12), np.int16)
    mask[2:4, 2:6] = 7
    assert components(mask[:, ::2]).areas.tolist() == [4]


@pytest.mark.parametrize("seed", range(20))
def test_sparse_masks_are_read_without_their_empty_lines(seed):
    """A few blobs, some one empty line apart, at the edges too: nothing joins, nothing moves."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((120, 90), bool)
    for _ in range(rng.integers(1, 4)):
        y, x = rng.choice([0, 40, 117]), rng.choice([0, 30, 87])
        mask[y : y + 3, x : x + 3] = rng.random(mask[y : y + 3, x : x + 3].shape) < 0.4
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found = components(mask)
    assert found.cells.size < mask.size
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.pixels, np.flatnonzero(mask))
    np.testing.assert_array_equal(found.owners + 1, labels[mask])
    centres = np.array(ndimage.center_of_mass(mask, labels, np.arange(1, count + 1))).reshape(-1, 2)
    np.testing.assert_allclose(found.centroids, centres[:, ::-1], atol=1e-9)
