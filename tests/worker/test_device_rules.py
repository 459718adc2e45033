"""The GPU's update rules and clipping, run through a C compiler, against the host's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_kernels import FakeCupy, compile_for_a_gpu

from dualshard.common import rule_kernels
from dualshard.common.clipping import clip
from dualshard.common.job import OptimizerSection
from dualshard.common.rates import Segment
from dualshard.common.rules import RULES as HOST_RULES
from dualshard.common.rules import make_rule
from dualshard.worker.device_rules import RULES, Clipper, DeviceKernels, kernels

SIZE = 1003


@pytest.fixture(scope="module")
def cupy(tmp_path_factory: pytest.TempPathFactory) -> FakeCupy:
    return FakeCupy(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def device(cupy: FakeCupy) -> Any:
    return DeviceKernels(cupy)


def gradients(steps: int) -> np.ndarray:
    """Of very different sizes, some zero and some denormal, for slots that fade."""
    random = np.random.default_rng(3)
    made = random.normal(size=(steps, SIZE)) * 10.0 ** random.integers(-12, 3, SIZE)
    made[:, ::7] = 0
    made[1:, 1::7] = 1e-42
    return made.astype(np.float32)


def test_every_rule_of_the_host_is_there() -> None:
    assert set(RULES) == {rule.kernel for rule in HOST_RULES.values()}
    assert kernels(np) is rule_kernels


@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"])
def test_a_rule_gives_the_bits_of_the_host(rule: str, device: Any) -> None:
    section = OptimizerSection(rule=rule, lr=0.01, weight_decay=0.1)
    made = make_rule(section)
    segments = (Segment(0, 400, 1.0, True), Segment(400, 401, 0.0), Segment(401, SIZE, 2.0))
    start = np.random.default_rng(1).normal(size=SIZE).astype(np.float32)
    ours, theirs = start.copy(), start.copy()
    states = made.state(SIZE), made.state(SIZE)
    for step, gradient in enumerate(gradients(6)):
        scale = 1 / (1 + step)
        made.apply(ours, gradient, states[0], scale, segments, kernels=device)
        made.apply(theirs, gradient, states[1], scale, segments)
        np.testing.assert_array_equal(ours, theirs)
        for name in made.slots:
            np.testing.assert_array_equal(states[0].slots[name], states[1].slots[name])
    assert (ours != start).any()


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("norm", [0.0, 0.1, 1e9])
@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
def test_clipping_is_the_hosts(value: float, norm: float, bad: float | None, cupy: Any) -> None:
    ours = np.random.default_rng(2).normal(size=SIZE).astype(np.float32)
    if bad is not None:
        ours[17] = bad
    theirs = ours.copy()
    Clipper(cupy, value, norm, np.True_)(ours)
    clip(theirs, OptimizerSection(clip_value=value, clip=norm))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_averaged_state_is_neither_counted_nor_clipped(cupy: Any) -> None:
    gradient = np.full(SIZE, 2.0, np.float32)
    counts = np.arange(SIZE) < 9
    Clipper(cupy, 1.5, 1.0, counts)(gradient)
    np.testing.assert_allclose(gradient[:9], 1 / 3, rtol=1e-6)
    np.testing.assert_array_equal(gradient[9:], 2)


def test_a_gpus_compiler_takes_the_kernels(cupy: FakeCupy, device: Any, tmp_path: Path) -> None:
    assert len(cupy.codes) >= len(RULES)
    compile_for_a_gpu(tmp_path, list(cupy.codes.values()))
