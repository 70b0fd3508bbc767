"""Detector: any size, any depth, tiles, and the threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spot_network import CARD, sky

import motes
from motes.cards import Card, InputSpec
from motes.errors import CardError, CheckpointError, ImageError, MotesError
from motes.imaging import Image, write_image
from motes.inference import Detector, OnnxBackend
from motes.inference.thresholds import threshold_for

SPOTS = [(20, 30), (127, 40), (128, 90), (90, 128), (63, 64), (150, 150)]


def nearest_distance(found: motes.Detections, spots: list[tuple[int, int]]) -> float:
    points = np.array(spots, float)
    return float(np.linalg.norm(found.centroids[:, None] - points[None], axis=2).min(axis=1).max())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_finds_the_spots_of_any_depth(spot_onnx: Path, dtype: type) -> None:
    found = Detector(spot_onnx).detect(sky(170, 180, SPOTS, dtype))
    assert len(found) == len(SPOTS)
    assert nearest_distance(found, SPOTS) < 0.3
    assert found.size == (170, 180)
    assert (found.scr > 5).all()


@pytest.mark.parametrize("network", ["spot_onnx", "spot_minmax_onnx"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiles_give_the_pixels_of_the_whole_frame(network: str, dtype: type, request: pytest.FixtureRequest) -> None:
    """Also under a scaling by the frame's extremes: its statistics are those of the frame, not of the tile."""
    path = request.getfixturevalue(network)
    frame = sky(201, 333, SPOTS, dtype)
    whole = Detector(path).probability(frame)
    tiled = Detector(path, tile=96, overlap=32)
    assert tiled.is_cut(frame.shape)
    np.testing.assert_allclose(tiled.probability(frame), whole, atol=2e-6)


def test_a_target_on_a_seam_is_found_once(spot_onnx: Path) -> None:
    spots = [(x, y) for x in range(20, 300, 20) for y in range(20, 300, 20)]  # some lie on every seam
    found = Detector(spot_onnx, tile=64, overlap=24).detect(sky(320, 320, spots))
    assert len(found) == len(spots)
    assert nearest_distance(found, spots) < 0.3
    assert set(found.areas.tolist()) <= set(range(5, 26))


def test_common_camera_formats_are_not_cut(spot_onnx: Path) -> None:
    assert not Detector(spot_onnx).is_cut((512, 640))
    assert Detector(spot_onnx).is_cut((1024, 1280))
    assert Detector(spot_onnx, tile=512).is_cut((512, 640))


class Recorder:
    """A backend that keeps what it was given and answers the first channel."""

    def __init__(self, **spec: object) -> None:
        self.card = Card(name="recorder", task="irstd", input=InputSpec(channels=1, **spec))  # type: ignore[arg-type]
        self.batches: list[np.ndarray] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(batch)
        return batch[:, :1]


@pytest.mark.parametrize(
    ("size", "padded"), [((1, 1), (16, 16)), ((3, 40), (16, 48)), ((16, 16), (16, 16)), ((17, 31), (32, 32))]
)
def test_pads_to_stride_and_smallest_side_and_crops_back(size: tuple[int, int], padded: tuple[int, int]) -> None:
    backend = Recorder(stride=16, min_size=10, mean=(0.5,), std=(0.25,))
    frame = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    probability = Detector(backend=backend).probability(frame)
    (batch,) = backend.batches
    assert batch.shape == (1, 1, *padded)
    np.testing.assert_allclose(batch[0, 0, : size[0], : size[1]], (frame / 255 - 0.5) / 0.25, atol=1e-6)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-(frame / 255 - 0.5) / 0.25)), atol=1e-6)


def test_padding_reflects_the_networks_input() -> None:
    backend = Recorder(stride=4)
    Detector(backend=backend).probability(np.arange(30, dtype=np.uint8).reshape(5, 6))
    row = backend.batches[0][0, 0, 0] * 255
    np.testing.assert_allclose(row, [0, 1, 2, 3, 4, 5, 4, 3], atol=1e-4)


def test_same_frame_same_bytes(spot_onnx: Path) -> None:
    frame = sky(150, 150, SPOTS[:3])
    first, second = (Detector(spot_onnx, tile=64).probability(frame) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_logits_far_from_zero_do_not_overflow() -> None:
    backend = Recorder(mean=(0.5,), std=(1e-4,))
    with np.errstate(all="raise"):
        probability = Detector(backend=backend).probability(np.array([[0, 255]], np.uint8))
    np.testing.assert_allclose(probability, [[0, 1]], atol=1e-6)


def test_threshold_by_number_by_card_and_by_rate(spot_onnx: Path) -> None:
    assert Detector(spot_onnx).threshold == 0.5
    assert Detector(spot_onnx, threshold=0.25).threshold == 0.25
    assert Detector(spot_onnx, fa=5).threshold == 0.5
    assert Detector(spot_onnx, fa=4.9).threshold == 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "probability in"),
        ({"threshold": 0.5, "fa": 1}, "exclude each other"),
        ({"fa": 0.1}, "ends at 0.5 false alarms per megapixel, asked for 0.1"),
        ({"fa": -1}, ">= 0"),
        ({"tile": 2}, "too small"),
        ({"tile": 64, "overlap": 60}, "does not fit"),
        ({"size": 5}, "no option 'size'"),
    ],
)
def test_bad_options_are_one_sentence(spot_onnx: Path, options: dict, message: str) -> None:
    with pytest.raises(MotesError, match=message):
        Detector(spot_onnx, **options)


def test_a_bumpy_calibration_is_read_from_the_strict_end() -> None:
    card = CARD.replace(calibration={"threshold": [0.1, 0.3, 0.5, 0.7], "fa_per_mpx": [9, 1, 3, 0]})
    assert threshold_for(card, 2) == 0.7  # at 0.3 the rate is 1, but it rises again after it
    assert threshold_for(card, 3) == 0.3
    with pytest.raises(CardError, match="no calibration curve"):
        threshold_for(CARD.replace(calibration={}), 2)


def test_a_network_for_another_task_is_refused() -> None:
    backend = Recorder()
    backend.card = backend.card.replace(task="aerial")
    with pytest.raises(CardError, match="task 'aerial', detection needs 'irstd'"):
        Detector(backend=backend)


def test_an_answer_of_the_wrong_shape_is_refused() -> None:
    backend = Recorder()
    backend.run = lambda batch: batch[:, :, ::2, ::2]  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match=r"input of 8x8 with shape \[1, 1, 4, 4\]"):
        Detector(backend=backend).probability(np.zeros((8, 8), np.uint8))


def test_channels_that_do_not_fit_are_refused(spot_onnx: Path) -> None:
    with pytest.raises(ImageError, match="7 channels"):
        Detector(spot_onnx).probability(np.zeros((8, 8, 7), np.uint8))


def test_detect_takes_files_folders_patterns_and_arrays(spot_onnx: Path, tmp_path: Path) -> None:
    first, second = sky(64, 64, [(20, 30)]), sky(64, 64, [(40, 10), (50, 50)], np.uint16)
    write_image(tmp_path / "a.png", first)
    write_image(tmp_path / "b.tif", second)
    for source in (
        tmp_path,
        [tmp_path / "a.png", second],
        str(tmp_path / "*.*"),
        [Image(first[:, :, None]), tmp_path / "b.tif"],
    ):
        assert [len(found) for found in motes.detect(source, spot_onnx)] == [1, 2]
    found = motes.detect(tmp_path / "b.tif", spot_onnx)[0]
    assert (found.path, found.name, found.size) == (tmp_path / "b.tif", "b.tif", (64, 64))
    assert len(motes.detect(first, backend=OnnxBackend(spot_onnx), threshold=0.2)) == 1


def test_openvino_gives_the_same_pixels(spot_onnx: Path) -> None:
    pytest.importorskip("openvino")
    frame = sky(90, 75, [(20, 30)])
    expected = Detector(spot_onnx).probability(frame)
    np.testing.assert_allclose(Detector(spot_onnx, "openvino", threads=1).probability(frame), expected, atol=2e-6)
    # A CPU without bfloat16 computes in float32 here too.
    np.testing.assert_allclose(Detector(spot_onnx, "openvino-bf16", threads=1).probability(frame), expected, atol=2e-2)
