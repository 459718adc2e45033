"""`bench data`: its rows, and that OpenCV is given the maps that ours applies."""

import numpy as np

from dualshard.bench.data import bench_data, make_rows, opencv_maps


def test_rows_compare_with_opencv_and_with_one_thread():
    rows = make_rows([200.0], [390.0], [100.0], [110.0])
    assert [(row.ratio, row.holds) for row in rows] == [(2.0, True), (1.95, True), (1.1, None)]


def test_maps_keep_the_centre_but_for_the_shift():
    maps = opencv_maps(np.random.default_rng(1), 50)
    moved = maps @ np.array([13.5, 13.5, 1], np.float32) - 13.5
    assert (np.abs(moved) <= 2 + 1e-4).all()
    assert np.ptp(moved) > 3
    np.testing.assert_allclose(np.linalg.det(maps[:, :, :2]), 1, rtol=1e-5)


def test_each_side_is_measured():
    rows = bench_data(1, 0.01, lambda line: None)
    assert len(rows) == 3
    assert all(row.value > 0 and row.ratio > 0 for row in rows)
