"""Frames: determinism, and that noise, blur, positions, SNR and SCR are what they are said to be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from motes.data.scenes import KINDS
from motes.data.sensor import Optics, Sensor, display_range
from motes.data.skies import fractal
from motes.data.synthesize import SIRST_LIKE, demo_scene, noise_scene, scene
from motes.errors import DataError

CLEAN = Sensor(shot=0, column=0, row=0, pixel=0, gain=0, vignetting=0, drift=0, dead=0, hot=0)


def signal_of(seed: int, **options) -> tuple[np.ndarray, object]:
    """What targets add to a frame, from the same frame without targets."""
    options = {"kind": "flat", "bits": 16, "sensor": CLEAN, "targets": 1} | options
    with_targets = scene(64, 64, seed, **options)
    without = scene(64, 64, seed, **(options | {"targets": 0}))
    return with_targets.pixels.astype(float) - without.pixels, with_targets


def test_same_seed_same_frame():
    a, b, c = scene(48, 64, (3, 1)), scene(48, 64, (3, 1)), scene(48, 64, (3, 2))
    assert np.array_equal(a.pixels, b.pixels) and np.array_equal(a.mask, b.mask) and a.targets == b.targets
    assert not np.array_equal(a.pixels, c.pixels)


def test_targets_do_not_change_the_rest_of_the_frame():
    sensor = Sensor(shot=0, dead=0, hot=0)
    bright, none = scene(64, 80, 4, sensor=sensor, targets=2, snr=50), scene(64, 80, 4, sensor=sensor, targets=0)
    assert bright.mask.any() and not none.mask.any() and none.targets == []
    far = np.ones_like(bright.mask)
    for t in bright.targets:
        far[max(round(t.y) - 14, 0) : round(t.y) + 15, max(round(t.x) - 14, 0) : round(t.x) + 15] = False
    assert np.array_equal(bright.pixels[far], none.pixels[far])
    assert (bright.pixels[bright.mask] > none.pixels[bright.mask]).all()


@pytest.mark.parametrize(
    ("bits", "dtype", "most"), [(8, np.uint8, 255), (14, np.uint16, 16383), (16, np.uint16, 65535)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_bits(kind, bits, dtype, most):
    frame = scene(48, 64, 1, kind=kind, bits=bits, sensor=Sensor(hot=0.01), snr=1e4)
    assert frame.pixels.dtype == dtype and frame.pixels.shape == (48, 64)
    assert frame.pixels.max() <= most
    assert frame.kind == kind or kind == "mixed"
    if bits == 16:
        assert np.median(frame.pixels) > 16383
    assert np.ptp(frame.pixels) > 5


@pytest.mark.parametrize("size", [(16, 16), (16, 201), (203, 17)])
@pytest.mark.parametrize("kind", ["cloud", "sky", "sea", "ground", "urban"])
def test_small_and_narrow_frames(kind, size):
    for seed in range(6):
        frame = scene(*size, seed, kind=kind, targets=(0, 4), size=(1, 12), extended=0.7)
        assert frame.pixels.shape == frame.mask.shape == frame.sky.shape == size


def test_a_city_hides_the_sky_and_varies_more_than_it():
    for seed in range(4):
        frame = scene(256, 320, seed, kind="urban", bits=14, targets=0, sensor=CLEAN)
        assert 0.1 < frame.sky.mean() < 0.98 and frame.sky[0].mean() > frame.sky[-1].mean()
        edges = np.abs(np.diff(frame.pixels.astype(float), axis=1))
        both = frame.sky[:, 1:] & frame.sky[:, :-1]
        assert edges[~both].mean() > 2 * edges[both].mean()  # the noise is in both


@pytest.mark.parametrize("bits", [14, 16])
def test_temporal_noise_is_as_stated(bits):
    frame = scene(200, 200, 5, kind="flat", bits=bits, targets=0, sensor=CLEAN)
    kelvin = (2**bits - 1) / 140
    assert frame.noise == pytest.approx(0.05 * kelvin, rel=1e-5)
    assert frame.pixels.std() == pytest.approx(frame.noise, rel=0.02)


def test_shot_noise_grows_with_the_signal():
    sensor = Sensor(shot=1)
    assert sensor.noise_sigma(400.0, 14) == pytest.approx(2 * sensor.noise_sigma(100.0, 14))
    assert Sensor(shot=0).noise_sigma(400.0, 14) == pytest.approx(Sensor(shot=0).noise_sigma(100.0, 14))


@pytest.mark.parametrize("snr", [3, 10, 80])
def test_snr_is_peak_over_noise(snr):
    added, frame = signal_of(6, snr=snr)
    (target,) = frame.targets
    assert target.snr == pytest.approx(snr, rel=1e-5)
    assert target.amplitude == pytest.approx(snr * math.hypot(frame.noise, math.sqrt(1 / 12)), rel=1e-3)
    assert added.max() == pytest.approx(target.amplitude, abs=1)


@pytest.mark.parametrize("sigma", [0.5, 0.9, 2.0])
def test_point_targets_have_the_width_of_the_optics_and_lie_where_stated(sigma):
    rows, columns = np.mgrid[:64, :64]
    for seed in range(5):
        added, frame = signal_of(seed, snr=600, psf=sigma, extended=0)
        (target,) = frame.targets
        assert target.kind == "point" and target.sigma == pytest.approx(sigma)
        total = added.sum()
        x, y = (added * columns).sum() / total, (added * rows).sum() / total
        assert (x, y) == pytest.approx((target.x, target.y), abs=0.02)
        variance = (added * ((columns - x) ** 2 + (rows - y) ** 2)).sum() / total / 2
        assert variance == pytest.approx(sigma**2 + 1 / 12, rel=0.03)  # 1/12: the pixel itself


def test_extended_targets_keep_their_centre():
    rows, columns = np.mgrid[:64, :64]
    kinds = set()
    for seed in range(8):
        added, frame = signal_of(seed, snr=600, extended=1, size=(3, 9))
        (target,) = frame.targets
        kinds.add(target.kind)
        x, y = (added * columns).sum() / added.sum(), (added * rows).sum() / added.sum()
        assert (x, y) == pytest.approx((target.x, target.y), abs=0.03)
    assert kinds == {"disc", "cross", "pair"}


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
def test_mask_is_the_stated_fraction_of_the_peak(fraction):
    added, frame = signal_of(2, snr=900, mask_fraction=fraction, extended=0.5)
    clear = np.abs(added / added.max() - fraction) > 0.002  # quantisation decides the others
    assert np.array_equal(frame.mask[clear], (added > fraction * added.max())[clear])


def test_mask_holds_at_least_the_brightest_pixel():
    added, frame = signal_of(2, snr=900, mask_fraction=1.0)
    assert frame.mask.sum() == 1 and frame.mask.ravel()[added.argmax()]


def test_every_target_is_one_component_with_its_box():
    import cv2

    seen = 0
    for seed in range(25):
        frame = scene(96, 128, seed, targets=(0, 6), extended=0.7, size=(2, 12))
        count, _, stats, _ = cv2.connectedComponentsWithStats(frame.mask.astype(np.uint8), connectivity=8)
        boxes = {(int(x), int(y), int(x + w), int(y + h), int(a)) for x, y, w, h, a in stats[1:]}
        assert boxes == {(*t.box, t.area) for t in frame.targets} and count - 1 == len(frame.targets)
        seen += len(frame.targets)
    assert seen > 50


def test_scr_can_be_recomputed_from_the_frame():
    frame = scene(96, 96, 11, kind="cloud", targets=1, snr=40, extended=0, psf=0.8, sensor=Sensor(dead=0, hot=0))
    (target,) = frame.targets
    x1, y1, x2, y2 = target.box
    rows, columns = np.mgrid[:96, :96]
    distance = np.hypot(rows - target.y, columns - target.x)
    near = (rows >= y1 - 10) & (rows < y2 + 10) & (columns >= x1 - 10) & (columns < x2 + 10) & (distance > 3)
    local = frame.pixels[near].astype(float)
    scr = (frame.pixels[frame.mask].max() - local.mean()) / local.std()
    assert target.scr == pytest.approx(scr, rel=0.05)


def test_scr_can_be_asked_for():
    ratios = [t.scr for seed in range(30) for t in scene(96, 96, seed, scr=12, targets=1, kind="cloud").targets]
    assert np.median(ratios) == pytest.approx(12, rel=0.2)


def test_camera_gives_frames_one_fixed_pattern():
    sensor = Sensor(netd=0.02, pixel=3, gain=0, vignetting=0, drift=0, dead=2e-3)
    one, same, other = (
        scene(64, 64, seed, kind="flat", targets=0, sensor=sensor, camera=camera)
        for seed, camera in [(1, 5), (2, 5), (3, 6)]
    )
    live = (one.pixels > 0) & (other.pixels > 0)

    def alike(a, b):
        return np.corrcoef(a.pixels[live].astype(float), b.pixels[live].astype(float))[0, 1]

    assert alike(one, same) > 0.8 and abs(alike(one, other)) < 0.2
    assert np.array_equal(one.stuck, same.stuck) and len(one.stuck) > 0


def test_dead_and_hot_pixels_are_listed():
    frame = scene(64, 64, 2, kind="flat", targets=0, sensor=Sensor(dead=0.005, hot=0.005))
    at = frame.pixels[frame.stuck[:, 1], frame.stuck[:, 0]]
    rest = np.ones_like(frame.mask)
    rest[frame.stuck[:, 1], frame.stuck[:, 0]] = False
    assert (at == 0).any() and (at > frame.pixels[rest].max()).any()
    assert ((at == 0) | (at > frame.pixels[rest].max())).all() and frame.pixels[rest].min() > 0


@pytest.mark.parametrize("b", [2.5, 3.0, 3.5])
def test_clouds_have_the_stated_spectral_slope(b):
    field = fractal(256, 256, np.random.default_rng(1), b, periodic=True)
    assert field.mean() == pytest.approx(0, abs=1e-5) and field.std() == pytest.approx(1, rel=1e-5)
    power = np.abs(np.fft.fft2(field)) ** 2
    radius = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
    edges = np.geomspace(4 / 256, 0.4, 12)
    ring = np.digitize(radius, edges)
    mean = [power[ring == i].mean() for i in range(1, 12)]
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(mean), 1)[0]
    assert slope == pytest.approx(-b, abs=0.15)


def test_stretched_clouds_are_longer_along_the_rows():
    field = fractal(128, 128, np.random.default_rng(2), 3.0, stretch=5)
    assert np.diff(field, axis=1).std() < 0.5 * np.diff(field, axis=0).std()


@pytest.mark.parametrize("kind", ["sea", "ground"])
def test_sky_is_above_the_horizon(kind):
    for seed in range(5):
        sky = scene(96, 96, seed, kind=kind).sky
        assert sky[0].mean() > 0.5 and not sky[-1].any()
    assert scene(32, 32, 0, kind="cloud").sky.all()


def test_display_never_shows_much_noise_and_holds_the_scene():
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.normal(7000, rng.choice([0.1, 30, 500]), (40, 40)).astype(np.float32)
        display = display_range(counts, 5.0, rng)
        assert 5 / display.step() <= 2.56
        assert np.median(display.grey(counts)) == pytest.approx(127, abs=127)


def test_snr_of_8_bit_frames_counts_quantisation():
    frame = scene(128, 128, 3, kind="cloud", bits=8, snr=10, targets=1)
    (target,) = frame.targets
    assert target.amplitude == pytest.approx(10 * math.hypot(frame.noise, math.sqrt(1 / 12)), rel=0.1)


def test_sirst_like_frames():
    frame = scene(128, 128, 0, **SIRST_LIKE)
    assert frame.pixels.dtype == np.uint8 and frame.targets


def test_noise_scene():
    frame = noise_scene(128, 160, 1)
    assert frame.pixels.dtype == np.uint16 and frame.mask.sum() == 9
    rest = frame.pixels[~frame.mask].astype(float)
    assert rest.mean() == pytest.approx(7400, abs=1) and rest.std() == pytest.approx(25, rel=0.02)
    assert frame.pixels[frame.mask].mean() - 7400 == pytest.approx(180, abs=25)
    (target,) = frame.targets
    assert (target.x, target.y, target.box) == (80, 64, (79, 63, 82, 66))
    assert target.snr == pytest.approx(180 / 25, rel=1e-3)
    assert np.array_equal(frame.pixels, noise_scene(128, 160, 1).pixels)
    assert noise_scene(32, 32, 0, targets=[]).targets == []
    with pytest.raises(DataError, match="does not fit"):
        noise_scene(32, 32, 0, targets=[(0, 0, 3, 180)])


def test_demo_scene():
    frame = demo_scene()
    assert frame.pixels.shape == (512, 640) and frame.pixels.dtype == np.uint16 and frame.pixels.max() < 16384
    assert len(frame.targets) == 4 and all(6 <= t.snr <= 12 and t.scr > 4 for t in frame.targets)
    assert 1 <= len(frame.stuck) <= 9
    assert 0.2 < frame.sky.mean() < 0.9


def test_optics():
    assert Optics(10, 1.2, 12, 0).sigma == pytest.approx(0.42)
    assert Optics(10, 1.2, 12, 0.56).sigma == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"height": 8}, "size 8x64: height and width must be 16 to 8192 pixels"),
        ({"width": 100_000}, "64x100000"),
        ({"bits": 12}, "bits is 12, expected one of 8, 14, 16"),
        ({"kind": "clouds"}, "did you mean 'cloud'"),
        ({"snr": (9, 3)}, "snr is 9 to 3: the range is upside down"),
        ({"snr": (-1, 3)}, "snr is -1 to 3, expected values from 0.1"),
        ({"snr": (1, 2, 3)}, "expected a number or a range of two"),
        ({"snr": math.nan}, "snr is nan"),
        ({"scr": 0}, "scr is 0 to 0"),
        ({"targets": (0, 2.5)}, "whole numbers"),
        ({"psf": 0}, "psf is 0 to 0, expected values from 0.2"),
        ({"extended": 1.5}, "extended is 1.5, expected a share"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
    ],
)
def test_bad_input_is_one_sentence(options, said):
    with pytest.raises(DataError) as e:
        scene(**({"height": 64, "width": 64, "seed": 0} | options))
    assert said in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("field", ["netd", "dead", "drift", "shot"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_bad_sensor(field, value):
    with pytest.raises(DataError, match=field):
        Sensor(**{field: value})
