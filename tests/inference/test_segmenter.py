"""Class maps of images of any size: seams, phases, padding, batches, scales, published rules, bounded memory."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from class_network import CARD, RADIUS, Colours, field, make_onnx
from motes.cards import Card, InputSpec, Scaling
from motes.errors import CardError, CheckpointError, ImageError, MotesError
from motes.imaging import network_input
from motes.inference.class_windows import enlarge, merge, spans, top_class
from motes.inference.segmenter import Segmenter, softmax

REFERENCE = Path(__file__).parents[1] / "reference" / "isaid"


def segmenter(coarse: float = 0.0, card: Card = CARD, **options: object) -> Segmenter:
    return Segmenter(backend=Colours(card, coarse), **options)


def test_published_merge() -> None:
    """Windows 32/16 over 40x56, their mean and their classes, as the authors' code has them. The case's maps do not add
    up to 1, so they cannot come out of a softmax."""
    case = np.load(REFERENCE / "merge.npz")
    rows, columns = (spans(n, 32, 16, "mean") for n in (40, 56))
    boxes = [[c.start, r.start, c.stop, r.stop] for r in rows for c in columns]
    np.testing.assert_array_equal(boxes, case["windows"])
    count = np.zeros((40, 56))
    for x0, y0, x1, y1 in boxes:
        count[y0:y1, x0:x1] += 1
    np.testing.assert_array_equal(count, case["count"])
    for finish, expected in ((np.copy, case["merged"]), (top_class, case["label"])):
        patches = dict(zip((r.start for r in rows), np.split(case["patches"].copy(), len(rows)), strict=True))
        bands = [band for _, band in merge(rows, columns, lambda r, p=patches: p[r.start], finish)]
        np.testing.assert_allclose(np.concatenate(bands, axis=-2), expected, rtol=0, atol=2e-7)


def test_published_padding() -> None:
    """FarSeg and FactSeg normalise, then pad with 0 to a multiple of 32."""
    case = np.load(REFERENCE / "transforms.npz")
    seen: list[np.ndarray] = []

    class Seeing(Colours):
        def run(self, batch: np.ndarray) -> np.ndarray:
            seen.append(batch)
            return super().run(batch)

    spec = InputSpec(mean=CARD.input.mean, std=CARD.input.std, stride=32)
    Segmenter(backend=Seeing(CARD.replace(input=spec)), protocol="window").labels(case["image"])
    assert seen[0].shape == (1, 3, 64, 64)
    np.testing.assert_allclose(seen[0][0], case["eval_image"], atol=2e-6)


@pytest.mark.parametrize("size", [(100, 131), (96, 128), (40, 300), (65, 64)])
@pytest.mark.parametrize("coarse", [0.0, 1.0])
def test_windows_leave_no_seams(size: tuple[int, int], coarse: float) -> None:
    """Equal to the untiled result everywhere: the margin is wider than the receptive field, the phase is kept, and the
    right and bottom border is padded as the whole image's is."""
    image, _ = field(*size)
    whole = segmenter(coarse).probabilities(image)
    tiled = segmenter(coarse, window=64, stride=32)
    assert tiled.steps(image) > 1 and RADIUS <= (64 - 32) // 4
    np.testing.assert_allclose(tiled.probabilities(image), whole, atol=3e-6)
    assert (tiled.labels(image) == whole.argmax(0)).mean() > 0.999  # but for ties


def test_plain_mean_has_seams() -> None:
    """The test above can fail: windows out of phase, with their borders counted, give something else."""
    image, _ = field(100, 131)
    whole = segmenter(1.0).probabilities(image)
    published = segmenter(1.0, protocol="window", window=64, stride=36).probabilities(image)
    assert np.abs(published - whole).max() > 0.05


@pytest.mark.parametrize(
    ("length", "window", "stride", "grid"),
    [(5, 32, 16, 8), (33, 32, 16, 8), (100, 32, 24, 8), (100, 32, 8, 8), (100, 32, 32, 8), (333, 64, 60, 4)],
)
@pytest.mark.parametrize("blend", ["mean", "ramp"])
def test_weights_add_up(length: int, window: int, stride: int, grid: int, blend: str) -> None:
    found = spans(length, window, stride, blend, grid)
    total = np.zeros(length)
    for span in found:
        total[span.start : span.stop] += span.weight
        assert span.stop - span.start <= window
        assert blend == "mean" or span.start % grid == 0
    np.testing.assert_allclose(total, 1, atol=1e-6)
    starts = [s.start for s in found]
    assert all(0 < b - a <= stride for a, b in pairwise(starts))


@pytest.mark.parametrize("blend", ["mean", "ramp"])
def test_streaming_merge_equals_a_full_sum(blend: str) -> None:
    rng = np.random.default_rng(1)
    rows, columns = spans(83, 32, 16, blend, 4), spans(101, 32, 16, blend, 4)
    maps = {(r.start, c.start): rng.random((3, r.stop - r.start, c.stop - c.start)) for r in rows for c in columns}
    expected = np.zeros((3, 83, 101))
    for r in rows:
        for c in columns:
            expected[:, r.start : r.stop, c.start : c.stop] += maps[r.start, c.start] * np.outer(r.weight, c.weight)
    bands = list(merge(rows, columns, lambda r: (maps[r.start, c.start].astype(np.float32) for c in columns), np.copy))
    assert [top for top, _ in bands] == [0, *np.cumsum([b.shape[1] for _, b in bands])[:-1]]
    np.testing.assert_allclose(np.concatenate([b for _, b in bands], axis=1), expected, atol=1e-6)


@pytest.mark.parametrize("batch", [2, 3, 16])
@pytest.mark.parametrize("protocol", ["native", "window", "multiscale"])
def test_any_batch_size(batch: int, protocol: str) -> None:
    image, _ = field(100, 131)
    options = {"protocol": protocol, "window": 64, "stride": 32}
    one, several = segmenter(1.0, **options), segmenter(1.0, batch=batch, **options)
    np.testing.assert_allclose(several.probabilities(image), one.probabilities(image), atol=1e-6)
    np.testing.assert_array_equal(several.labels(image), one.labels(image))
    assert max(s[0] for s in several.backend.shapes) == min(batch, 4)  # of one row of windows


def test_it_finds_the_colours() -> None:
    image, ids = field(150, 170)
    assert (segmenter(window=64, stride=32).labels(image) == ids).mean() > 0.9


def test_small_images_run_whole() -> None:
    found = segmenter()
    found.labels(field(10, 13)[0])
    assert found.backend.shapes == [(1, 3, 16, 16)]
    found = segmenter()
    found.labels(field(900, 1000)[0])  # less than two windows of 896
    assert found.backend.shapes == [(1, 3, 904, 1000)]


@pytest.mark.parametrize("protocol", ["native", "window", "multiscale", "patch", "gaofen"])
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (130, 3)])
def test_images_of_any_shape(protocol: str, size: tuple[int, int]) -> None:
    window = {} if protocol in ("patch", "gaofen") else {"window": 64, "stride": 32}
    maps = segmenter(protocol=protocol, **window).probabilities(np.full((*size, 3), 90, np.uint8))
    assert maps.shape == (4, *size)
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-5)


def test_windows_fit_the_network() -> None:
    spec = InputSpec(stride=32, min_size=64, max_size=256)
    found = segmenter(card=CARD.replace(input=spec))
    assert (found.rule.window, found.rule.stride) == (256, 128)
    assert segmenter(window=50, stride=25).rule.window == 56
    assert segmenter(window=50, stride=25).rule.stride == 24
    assert segmenter(protocol="window", window=50, stride=25).rule.window == 50  # published windows stay


def test_mirrored_pass() -> None:
    """Averaging with the mirrored image makes the result of a mirrored image the mirror of the result."""
    image, _ = field(64, 96)
    flipped = np.ascontiguousarray(image[:, ::-1])
    plain, both = segmenter(protocol="patch"), segmenter(protocol="patch", flip=True)
    asymmetry = np.abs(plain.probabilities(flipped)[:, :, ::-1] - plain.probabilities(image)).max()
    assert asymmetry > 0.01
    np.testing.assert_allclose(both.probabilities(flipped)[:, :, ::-1], both.probabilities(image), atol=1e-6)


def test_scales_are_averaged() -> None:
    image, _ = field(64, 96)
    maps = [segmenter(protocol="patch", scales=(s,)).probabilities(image) for s in (0.5, 1.0, 1.5)]
    both = segmenter(protocol="patch", scales=(0.5, 1.0, 1.5)).probabilities(image)
    np.testing.assert_allclose(both, np.mean(maps, axis=0), atol=1e-6)
    assert np.abs(maps[0] - maps[1]).max() > 0.1
    np.testing.assert_allclose(both.sum(0), 1, atol=1e-5)


class Contract:
    """The toy network of the GaoFen case: red moved right by a pixel, the mean of green and blue, both pooled 4x4."""

    card = Card(
        name="toy", task="aerial", classes=("background", "ice"),
        input=InputSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), stride=4),
    )  # fmt: skip

    def run(self, batch: np.ndarray) -> np.ndarray:
        red = np.zeros_like(batch[:, 0])
        red[:, :, 1:] = batch[:, 0, :, :-1]
        logits = np.stack([red, (batch[:, 1] + batch[:, 2]) / 2], axis=1)
        b, k, h, w = logits.shape
        return logits.reshape(b, k, h // 4, 4, w // 4, 4).mean((3, 5))


def test_gaofen_contract(reference_root: Path) -> None:
    """Pixels with a margin below 1e-4 may differ."""
    case = np.load(reference_root / "gaofen" / "cases" / "contract.npz")
    ids = Segmenter(backend=Contract(), protocol="gaofen").labels(case["image"])
    sure = np.abs(case["margin"]) >= 1e-4
    np.testing.assert_array_equal(ids[sure], case["mask"][sure] > 0)
    without = Segmenter(backend=Contract(), protocol="gaofen", flip=False).labels(case["image"])
    assert (without[sure] != (case["mask"][sure] > 0)).any()


def test_resized_protocols_answer_at_native_size() -> None:
    image, _ = field(70, 50)
    found = segmenter(protocol="pfnet")
    maps = found.probabilities(image)
    assert found.backend.shapes == [(1, 3, 896, 896)]
    assert maps.shape == (4, 70, 50)
    np.testing.assert_array_equal(found.labels(image), maps.argmax(0))


def test_one_logit_is_two_classes() -> None:
    class One(Colours):
        def run(self, batch: np.ndarray) -> np.ndarray:
            return batch[:, :1]

    image, _ = field(32, 32)
    found = Segmenter(backend=One(CARD.replace(classes=("ship",))))
    assert found.names == ("background", "ship")
    z = network_input(image, CARD.input)[0]
    np.testing.assert_allclose(found.probabilities(image)[1], 1 / (1 + np.exp(-z)), atol=1e-6)


def test_deep_counts_are_scaled_by_the_whole_image() -> None:
    """Else a dark corner would be stretched into noise, and the result would depend on the windows."""
    spec = InputSpec(stride=8, scaling_deep=Scaling("minmax"))
    image = field(100, 131)[0].astype(np.uint16) * 100
    image[:40, :40] //= 8
    whole = segmenter(card=CARD.replace(input=spec)).probabilities(image)
    tiled = segmenter(card=CARD.replace(input=spec), window=64, stride=32).probabilities(image)
    np.testing.assert_allclose(tiled, whole, atol=3e-6)


def test_memory_is_bounded() -> None:
    """An image 4 times as high takes no more than its labels more; maps of all classes would be 64 times that."""
    taken = []
    for height in (256, 1024):
        image = np.zeros((height, 256, 3), np.uint8)
        found = segmenter(window=64, stride=32)
        tracemalloc.start()
        found.labels(image)
        taken.append(tracemalloc.get_traced_memory()[1] - height * 256)
        tracemalloc.stop()
    assert taken[1] < taken[0] + 100_000


def test_advance_is_called_once_a_window() -> None:
    calls: list[int] = []
    found = segmenter(window=64, stride=32, batch=3)
    found.labels(field(100, 131)[0], lambda: calls.append(1))
    assert len(calls) == found.steps(np.zeros((100, 131, 3))) == 3 * 4


def test_onnx_file(tmp_path: Path) -> None:
    image, _ = field(90, 100)
    path = make_onnx(tmp_path / "colours.onnx")
    found = Segmenter(path, window=64, stride=32, batch=2, threads=1).probabilities(image)
    np.testing.assert_allclose(found, segmenter().probabilities(image), atol=2e-5)


def test_ties_go_to_the_lowest_id() -> None:
    scores = np.random.default_rng(0).integers(0, 3, (5, 20, 30)).astype(np.float32)
    np.testing.assert_array_equal(top_class(scores), scores.argmax(0))


@pytest.mark.parametrize("size", [(40, 50), (7, 9), (13, 17), (1, 1)])
def test_enlarging_keeps_the_corners(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).random((2, 13, 17))
    y, x = (np.linspace(0, old - 1, new) if new > 1 else np.zeros(1) for old, new in zip((13, 17), size, strict=True))
    down = np.stack([[np.interp(y, np.arange(13), column) for column in plane.T] for plane in maps])
    both = np.stack([[np.interp(x, np.arange(17), row) for row in plane.T] for plane in down])
    np.testing.assert_allclose(enlarge(maps.astype(np.float32), size), both, atol=1e-6)
    np.testing.assert_allclose(enlarge(maps.astype(np.float32), size, slice(3, 6)), both[:, 3:6], atol=1e-6)


def test_softmax_of_log_probabilities_is_the_probability() -> None:
    p = softmax(np.random.default_rng(0).normal(0, 200, (4, 6, 7)))
    np.testing.assert_allclose(p.sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(softmax(np.log(np.maximum(p, 1e-30))), p, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, CheckpointError, "no network for classes is shipped"),
        ({"backend": Colours(CARD.replace(task="irstd"))}, CardError, "motes detect"),
        ({"backend": Colours(), "protocol": "windw"}, MotesError, "did you mean 'window'"),
        ({"backend": Colours(), "window": 64, "stride": 100}, MotesError, "do not cover an image"),
        ({"backend": Colours(), "scales": ()}, MotesError, "scales"),
    ],
)
def test_what_is_refused(options: dict, error: type[MotesError], says: str) -> None:
    with pytest.raises(error, match=says):
        Segmenter(**options)


def test_images_that_do_not_fit() -> None:
    with pytest.raises(ImageError, match="has 4 channels, the network takes 3"):
        segmenter().labels(np.zeros((20, 20, 4), np.uint8))
    with pytest.raises(CheckpointError, match="one logit for each of 5 classes"):
        segmenter(card=CARD.replace(classes=("a", "b", "c", "d", "e"))).labels(np.zeros((20, 20, 3), np.uint8))
