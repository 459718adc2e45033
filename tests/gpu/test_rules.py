"""Update rules and clipping on a device against the host's, and what they must not wait for."""

import numpy as np
import pytest

from dualshard.common.clipping import clip
from dualshard.common.job import OptimizerSection
from dualshard.common.rates import Segment
from dualshard.common.rules import RuleState, make_rule
from dualshard.worker.device_rules import clipping, kernels

SIZE = 100_003


@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"])
def test_a_rule_gives_the_bits_of_the_host(rule, cupy):
    made = make_rule(OptimizerSection(rule=rule, lr=0.01, weight_decay=0.1))
    segments = (
        Segment(0, 400, 1.0, True),
        Segment(400, 700, averaged=True),
        Segment(700, SIZE, 2.0),
    )
    random = np.random.default_rng(1)
    here = random.normal(size=SIZE).astype(np.float32)
    there = cupy.asarray(here)
    state = made.state(SIZE)
    moved = RuleState(0, {name: cupy.zeros(SIZE, np.float32) for name in made.slots})
    for step in range(5):
        gradient = (random.normal(size=SIZE) * 10.0 ** random.integers(-12, 3, SIZE)).astype("f4")
        made.apply(here, gradient, state, 1 / (1 + step), segments)
        device = cupy.asarray(gradient)
        made.apply(there, device, moved, 1 / (1 + step), segments, kernels=kernels(cupy))
        np.testing.assert_array_equal(there.get(), here)
        np.testing.assert_array_equal(device.get(), gradient)
        for name in made.slots:
            np.testing.assert_array_equal(moved.slots[name].get(), state.slots[name])


@pytest.mark.parametrize("value", [0.0, 0.5])
@pytest.mark.parametrize("norm", [0.0, 0.1, 1e9])
@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
def test_clipping_is_the_hosts(value, norm, bad, cupy):
    here = np.random.default_rng(2).normal(size=SIZE).astype(np.float32)
    if bad is not None:
        here[17] = bad
    there, averaged = cupy.asarray(here), [slice(5, 50)]
    section = OptimizerSection(clip_value=value, clip=norm)
    clipping(cupy, section, SIZE, averaged)(there)
    clip(here, section, averaged)
    np.testing.assert_allclose(there.get(), here, rtol=1e-6)
