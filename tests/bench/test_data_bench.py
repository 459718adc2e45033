"""`bench data`: its rows, that what is compared is the same thing, and each part for a moment."""

import cv2
import numpy as np
import pytest

from dualshard.bench import augmenting, delivered, jpegs, leases, waits
from dualshard.bench.augmenting import bench_augmenting, opencv_maps
from dualshard.bench.data import PARTS, bench_data
from dualshard.bench.delivered import (
    LANE,
    LARGE,
    LOADER,
    PROCESSOR,
    SMALL,
    TCP,
    Case,
    bench_delivered,
)
from dualshard.bench.jpegs import SIZE, picture, write_pictures
from dualshard.bench.leases import MODES, Ledger, kept_bytes
from dualshard.bench.peers import peer
from dualshard.bench.waits import Waits, read_waits
from dualshard.bench.written import elastic_loop, move_by_gathering, move_by_windows

# Pixels.


def test_rows_compare_with_loops_and_with_one_thread():
    affine = [[200.0], [390.0], [100.0], [110.0]]
    rows = augmenting.make_rows(affine, [[60.0], [10.0]], [[10.0], [1.0]])
    assert [(row.ratio, row.holds) for row in rows] == [
        (2.0, True),
        (1.95, True),
        (1.1, None),
        (6.0, True),
        (10.0, False),
    ]


def test_maps_keep_the_centre_but_for_the_shift():
    maps = opencv_maps(np.random.default_rng(1), 50)
    moved = maps @ np.array([13.5, 13.5, 1], np.float32) - 13.5
    assert (np.abs(moved) <= 2 + 1e-4).all()
    assert np.ptp(moved) > 3
    np.testing.assert_allclose(np.linalg.det(maps[:, :, :2]), 1, rtol=1e-5)


def test_the_elastic_loop_without_noise_is_the_affine_one():
    random = np.random.default_rng(2)
    images = cv2.GaussianBlur(random.integers(0, 256, (28, 28, 5), np.uint8), (5, 5), 2)
    images = np.ascontiguousarray(images.transpose(2, 0, 1))
    maps, moved = opencv_maps(random, 5), np.empty_like(images)
    elastic_loop(images, maps, 0.0, 4.0, random, moved)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for image, one, warped in zip(images, maps, moved, strict=True):
        expected = cv2.warpAffine(image, one, (28, 28), flags=flags)
        assert np.abs(warped.astype(int) - expected).max() <= 2
    elastic_loop(images, maps, 34.0, 4.0, random, displaced := np.empty_like(images))
    assert np.abs(displaced.astype(int) - moved).max() > 20


@pytest.mark.parametrize("move", [move_by_gathering, move_by_windows])
def test_numpy_crops_flips_and_blanks(move):
    n, pad = 200, 2
    codes = np.arange(1, 1 + 8 * 9, dtype=np.uint8).reshape(8, 9)
    images = np.repeat(np.broadcast_to(codes, (n, 8, 9))[..., None], 3, axis=3)
    moved = move(images, pad, 3, np.random.default_rng(3))
    assert moved.shape == images.shape
    steps = set()
    for image in moved[..., 0].astype(int):
        inner = image[pad:-pad, pad:-pad]  # whatever the crop, these are pixels, or blank
        beside = (inner[:, 1:] - inner[:, :-1])[(inner[:, 1:] > 0) & (inner[:, :-1] > 0)]
        steps |= set(beside.tolist())
        assert len(set(beside.tolist())) <= 1
    assert steps == {1, -1}
    blank = (moved[:, pad:-pad, pad:-pad] == 0).all(axis=3).sum(axis=(1, 2))
    assert blank.min() == 0
    assert blank.max() == 9


def test_each_side_of_the_pixels_is_measured():
    rows = bench_augmenting(1, 0.01, lambda line: None)
    assert len(rows) == 5
    assert all(row.value > 0 and row.ratio > 0 for row in rows)


# JPEG.


def test_pictures_compress_like_photographs_and_are_the_same_every_time(tmp_path):
    written = write_pictures(tmp_path, 3, SIZE)
    assert written == write_pictures(tmp_path, 3, SIZE)
    assert [path.read_bytes() for path in sorted(tmp_path.glob("*/*.jpg"))] == [
        written[0],
        written[2],
        written[1],
    ]
    pixels = 3 * SIZE[0] * SIZE[1]
    assert all(0.1 < len(data) / pixels < 0.25 for data in written)
    image = picture(np.random.default_rng(0), 40, 60)
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    assert image.std() > 30


def test_jpegs_are_read_and_decoded(monkeypatch):
    monkeypatch.setattr(jpegs, "IMAGES", 4)
    (row,) = bench_data(["jpeg"], 1, 0.01, lambda line: None)
    assert row.value > 0
    assert row.goal == 0.95


# From end to end.


def test_each_way_is_compared_with_the_loader():
    found = {LANE: [800.0], TCP: [400.0], SMALL: [300.0], LOADER: [100.0], LARGE: [200.0]}
    found |= {PROCESSOR + LANE: [3.0], PROCESSOR + LOADER: [24.0]}
    lane, *rest = delivered.make_rows(delivered.CASES[0], found)
    assert (lane.ratio, lane.goal, lane.holds) == (8.0, 8.0, True)
    assert lane.name == "28x28 end to end, same-host lane, against PyTorch's DataLoader"
    assert [(row.ratio, row.holds) for row in rest] == [
        (4.0, None),
        (3.0, None),
        (4.0, None),
        (2.0, None),
        (8.0, None),
    ]


def test_without_pytorch_the_row_says_so():
    found = {LANE: [800.0], TCP: [400.0], SMALL: [300.0], PROCESSOR + LANE: [3.0]}
    rows = delivered.make_rows(delivered.CASES[1], found)
    assert [row.ratio for row in rows] == [None, None, None, 2.0, None]
    assert all(row.goal is None for row in rows)
    assert "PyTorch is not installed" in rows[0].name


@pytest.mark.processes
def test_images_travel_from_a_data_server_to_a_worker(monkeypatch):
    monkeypatch.setattr(delivered, "LOADERS", {})
    monkeypatch.setattr(delivered, "WAYS", {LANE: ("auto", 2), TCP: ("tcp", 2)})
    case = Case("tiny", 5000, (28, 28), ("shift:2", "rotate:15"))
    rows = bench_delivered([case], 1, 0.05, lambda line: None)
    assert len(rows) == 4
    assert all(row.value > 0 for row in rows)


@pytest.mark.processes
def test_the_loader_of_torch_gives_batches(tmp_path):
    pytest.importorskip("torch")
    arguments = ("digits", "shift:1", 32, 1)
    with peer("torch", "peer_loader", tmp_path, *arguments) as made, made.running():
        assert list(made.variants) == ["2 batches ahead", "8 batches ahead"]
        assert made.variants["2 batches ahead"](0.05) > 0


# Waits.


def test_all_waits_count_as_one_workers():
    rows = [
        {"kind": "epoch", "steps": 300},
        {"kind": "evaluation", "seconds": 1.0},
        {"kind": "epoch", "steps": 100},
    ]
    summary = {"wait_seconds": 0.5, "wait_between_seconds": 0.3, "wall_seconds": 2.0}
    found = read_waits(summary, rows)
    assert found.step == pytest.approx(10)
    assert found.within == pytest.approx(1)
    assert found.between == pytest.approx(300)


def test_a_hundredth_of_a_step_may_be_waited():
    within, between = waits.make_rows([Waits(10.0, 0.1, 5.0)])
    assert (within.against, within.ratio, within.holds) == (pytest.approx(0.1), 1.0, True)
    assert (between.value, between.holds) == (5.0, None)
    assert waits.make_rows([Waits(10.0, 0.0, 0.0)])[0].holds


# The state.


@pytest.mark.parametrize("mode", MODES)
def test_every_portion_is_handed_out_once(mode):
    assert sorted(Ledger(50, MODES[mode]).serve(50)) == list(range(50))


def test_a_portion_left_is_kept_as_a_number(monkeypatch):
    monkeypatch.setattr(leases, "SERVED", 20)
    assert kept_bytes(8000, {}) - kept_bytes(4000, {}) < 4000 * 64


def test_many_portions_are_compared_with_few():
    row = leases.make_row("async", [100.0], [50.0])
    assert (row.ratio, row.holds) == (0.5, False)


def test_parts_are_named():
    assert list(PARTS) == ["pixels", "jpeg", "end-to-end", "wait", "state"]
