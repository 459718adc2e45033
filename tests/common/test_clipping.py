"""Clipping against PyTorch, and on what is not finite."""

from typing import Any

import numpy as np
import pytest

from dualshard.common.clipping import clip
from dualshard.common.job import OptimizerSection
from dualshard.common.types import Float32


def drawn(size: int) -> Float32:
    return np.random.default_rng(size).standard_normal(size).astype(np.float32)


def torch_clipped(g: Float32, section: OptimizerSection) -> Float32:
    torch: Any = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.zeros(g.size))
    parameter.grad = torch.from_numpy(g.copy())
    if section.clip_value:
        torch.nn.utils.clip_grad_value_([parameter], section.clip_value)
    if section.clip:
        torch.nn.utils.clip_grad_norm_([parameter], section.clip)
    clipped: Float32 = parameter.grad.numpy()
    return clipped


@pytest.mark.parametrize("size", [1, 7, 1003, 100_003])
@pytest.mark.parametrize(
    "settings", [{}, {"clip": 0.5}, {"clip_value": 0.2}, {"clip": 0.5, "clip_value": 0.2}]
)
def test_clipping_equals_pytorch(size: int, settings: dict[str, float]) -> None:
    section, g = OptimizerSection(**settings), drawn(size)
    expected = torch_clipped(g, section)
    clip(g, section)
    assert g.dtype == np.float32
    # PyTorch sums the squares in float32.
    np.testing.assert_allclose(g, expected, rtol=5e-5)


def test_what_is_small_enough_keeps_its_bits() -> None:
    g = drawn(100)
    before = g.tobytes()
    clip(g, OptimizerSection())
    clip(g, OptimizerSection(clip=1000.0, clip_value=100.0))
    assert g.tobytes() == before
    empty = np.zeros(0, np.float32)
    clip(empty, OptimizerSection(clip=1.0, clip_value=1.0))
    zeros = np.zeros(5, np.float32)
    clip(zeros, OptimizerSection(clip=1e-9))
    assert not zeros.any()


def test_a_norm_beyond_float32_is_no_overflow() -> None:
    g = np.full(4, 1e38, np.float32)
    clip(g, OptimizerSection(clip=2.0))
    np.testing.assert_allclose(g, 1.0, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "settings", [{"clip": 0.5}, {"clip_value": 0.2}, {"clip": 0.5, "clip_value": 0.2}]
)
def test_what_is_not_finite_becomes_what_pytorch_makes_of_it(
    bad: float, settings: dict[str, float]
) -> None:
    section, g = OptimizerSection(**settings), drawn(1003)
    g[500] = bad
    expected = torch_clipped(g, section)
    clip(g, section)
    np.testing.assert_allclose(g, expected, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_by_norm_hides_nothing_from_the_servers(bad: float) -> None:
    g = drawn(9)
    g[3] = bad
    clip(g, OptimizerSection(clip=0.5))
    assert np.isnan(g[3])
    assert np.isnan(g).all() == np.isnan(bad)


@pytest.mark.parametrize(
    "settings", [{"clip": 0.5}, {"clip_value": 0.2}, {"clip": 0.5, "clip_value": 0.2}]
)
def test_averaged_elements_are_neither_counted_nor_clipped(settings: dict[str, float]) -> None:
    section, g = OptimizerSection(**settings), drawn(1003)
    spans = [slice(0, 10), slice(500, 501), slice(900, 1003)]
    averaged = np.zeros(1003, bool)
    for span in spans:
        averaged[span] = True
    g[averaged] *= 1e6
    before = g.copy()
    clip(g, section, spans)
    np.testing.assert_array_equal(g[averaged], before[averaged])
    np.testing.assert_allclose(g[~averaged], torch_clipped(before[~averaged], section), rtol=5e-5)
    clip(g := before.copy(), OptimizerSection(), spans)
    np.testing.assert_array_equal(g, before)


def test_what_is_not_finite_among_averaged_elements_stays() -> None:
    g = drawn(9)
    g[4] = np.nan
    clip(g, OptimizerSection(clip=0.5, clip_value=0.1), [slice(3, 6)])
    assert np.isnan(g[4])
    assert np.isfinite(np.delete(g, 4)).all()
