"""Matching rules against plain loops written from their description."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from motes.metrics import components, protocol
from motes.metrics.matching import diameter, greedy, hits, opdc, quality


def scene(seed, blobs=9, size=48):
    """Random rectangles as targets; as predictions the same ones moved, dropped, and others. Some compete."""
    rng = np.random.default_rng(seed)
    label, found = np.zeros((2, size, size), bool)
    for _ in range(blobs):
        y, x, h, w = *rng.integers(0, size - 6, 2), *rng.integers(1, 5, 2)
        if rng.random() < 0.8:
            label[y : y + h, x : x + w] = True
        if rng.random() < 0.8:
            y, x = np.clip(np.add((y, x), rng.integers(-3, 4, 2)), 0, size - 6)
            found[y : y + h, x : x + w] = True
    return components(label), components(found)


def distance(a, b):
    return math.dist(a, b)


@pytest.mark.parametrize("seed", range(40))
def test_greedy_takes_the_first_free_one(seed):
    targets, found = scene(seed, blobs=14)
    free, expected = list(range(len(found))), []
    for i, centre in enumerate(targets.centroids):
        for j in free:
            if distance(centre, found.centroids[j]) < 3:
                expected.append((i, j))
                free.remove(j)
                break
    assert list(zip(*greedy(targets, found, 3.0), strict=True)) == expected


@pytest.mark.parametrize("seed", range(20))
def test_diameter_hits_the_first_near_target(seed):
    targets, found = scene(seed)
    expected = []
    for j, centre in enumerate(found.centroids):
        for i, other in enumerate(targets.centroids):
            if distance(centre, other) < 0.5 * math.sqrt(4 * targets.areas[i] / math.pi):
                expected.append((i, j))
                break
    assert list(zip(*diameter(targets, found), strict=True)) == expected


def best_assignment(table):
    """All assignments of the shorter side, tried out."""
    rows, columns = table.shape
    if rows > columns:
        return [(i, j) for j, i in best_assignment(table.T)]
    return list(enumerate(min(itertools.permutations(range(columns), rows), key=lambda p: table[range(rows), p].sum())))


@pytest.mark.parametrize("seed", range(30))
def test_opdc_by_trying_all_assignments(seed):
    targets, found = scene(seed, blobs=6, size=24)
    if not len(targets) or not len(found):
        pytest.skip("nothing to match")
    table = np.array([[distance(a, b) for b in found.centroids] for a in targets.centroids])
    iou = np.zeros(table.shape)
    for i, j in np.ndindex(*table.shape):
        a, b = targets.labels == i + 1, found.labels == j + 1
        iou[i, j] = (a & b).sum() / (a | b).sum()
    pairs = [p for p in best_assignment(table) if iou[p] >= 0.5] if (iou >= 0.5).any() else []
    rows = [i for i in range(len(targets)) if i not in [p[0] for p in pairs]]
    columns = [j for j in range(len(found)) if j not in [p[1] for p in pairs]]
    if rows and columns:
        rest = table[np.ix_(rows, columns)]
        pairs += [(rows[i], columns[j]) for i, j in best_assignment(rest) if rest[i, j] < 3]
    got = sorted(zip(*(a.tolist() for a in opdc(targets, found, protocol("hiou"))), strict=True))
    cost = lambda ps: sum(table[p] for p in ps)  # noqa: E731
    assert got == sorted(pairs) or (len(got) == len(pairs) and cost(got) == pytest.approx(cost(pairs)))  # ties


@pytest.mark.parametrize("turns", range(4))
def test_opdc_among_equal_totals_keeps_the_hit(turns):
    """In a line, shifting everything by one costs as much as one long pair: the exact hit must not be lost to it."""
    label, found = np.zeros((2, 50, 50), bool)
    for x in (5, 20):
        label[10:13, x : x + 3] = True
        found[10:13, x + 15 : x + 18] = True
    turned = components(np.rot90(label, turns)), components(np.rot90(found, turns))
    assert len(opdc(*turned, protocol("hiou"))[0]) == 1
    assert quality(*turned, protocol("hiou")).seg_iou == 1


@pytest.mark.parametrize("seed", range(10))
def test_taxonomy_is_complete(seed):
    targets, found = scene(seed)
    q = quality(targets, found, protocol("hiou"))
    assert q.matched + q.missed == len(targets)
    assert q.matched + q.false == len(found)
    assert q.interference + q.m2s == q.false
    assert q.perception + q.s2m == q.missed
    assert q.seg_iou + q.seg_mrg + q.seg_itf + q.seg_pcp == pytest.approx(q.matched)


def test_area_membership_forgets_equal_areas():
    """SCTransNet#14: an unmatched blob as large as a matched one is no false alarm there."""
    label, found = np.zeros((2, 32, 32), bool)
    label[4:7, 4:7] = found[4:7, 4:7] = found[20:23, 20:23] = True
    found[28:30, 2:4] = True
    both = components(label), components(found)
    assert (hits(*both, protocol("native")).false_pixels, hits(*both, protocol("native")).false_blobs) == (13, 2)
    assert (hits(*both, protocol("dnanet")).false_pixels, hits(*both, protocol("dnanet")).false_blobs) == (4, 1)


@pytest.mark.parametrize(
    ("target", "blob", "phantoms", "without"),
    [
        (0, 0, (0, 1, 1), (0, 0, 0)),
        (1, 0, (0, 1, 1), (0, 0, 1)),
        (0, 1, (0, 1, 1), (0, 1, 0)),
        (1, 1, (1, 0, 0), (1, 0, 0)),
    ],
)
def test_phantoms(target, blob, phantoms, without):
    label, found = np.zeros((2, 9, 9), bool)
    label[4, 4], found[4, 4] = target, blob
    for name, expected in (("pyirstdmetrics", phantoms), ("hiou", without)):
        q = quality(components(label), components(found), protocol(name))
        h = hits(components(label), components(found), protocol(name))
        assert (q.matched, q.false, q.missed) == expected
        assert (h.detected, h.false_blobs, h.missed) == expected


def test_shooting_neighbourhoods():
    label, found = np.zeros((2, 30, 30), bool)
    label[10, 10] = label[20, 20] = True
    found[11, 11] = True  # within 1 px: a hit
    found[20, 24] = True  # 4 px away: neither hit nor false alarm
    found[20, 25] = found[2, 2] = True  # 5 px away and far away
    h = hits(components(label), components(found), protocol("shooting-rule"))
    assert (h.detected, h.missed, h.false_pixels, h.false_blobs) == (1, 1, 2, 2)
