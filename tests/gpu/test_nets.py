"""Whole nets on a device against the same nets on the host."""

import numpy as np
import pytest

from dualshard.worker.layout import Layout
from dualshard.worker.zoo import ZOO

SHAPES = {"cifar": (32, 32, 3), "resnet20": (32, 32, 3)}
"""Samples of the nets that are not for images of 28x28."""


@pytest.mark.parametrize("name", ZOO)
def test_a_net_has_the_gradients_and_measures_of_the_host(name, cupy):
    shape = SHAPES.get(name, (28, 28, 1))
    random = np.random.default_rng(3)
    inputs, labels = random.random((8, *shape), np.float32), random.integers(0, 10, 8)
    here, there = ZOO[name](), ZOO[name]()
    assert there.use(cupy)
    layout = Layout(here.shapes())
    parameters, expected = (np.zeros(layout.size, np.float32) for _ in range(2))
    here.start(layout.views(parameters), np.random.default_rng(1))
    measures = here.gradients(
        layout.views(parameters), layout.views(expected), (inputs, labels), np.random.default_rng(2)
    )
    moved = layout.views(cupy.asarray(parameters))
    gradients = layout.views(cupy.full(layout.size, np.nan, np.float32))
    batch = cupy.asarray(inputs), cupy.asarray(labels)
    found = there.gradients(moved, gradients, batch, np.random.default_rng(2))
    assert all(isinstance(value, cupy.ndarray) for value in found.values()), "nobody has waited"
    assert {name: float(value) for name, value in found.items()} == pytest.approx(measures, 1e-3)
    # Single elements may differ: where a rectifier is at its kink, or two pixels are the largest.
    distance = np.linalg.norm(gradients.flat.get() - expected)
    assert distance < 0.01 * np.linalg.norm(expected)
    tested = here.evaluate(layout.views(parameters), (inputs, labels))
    found = there.evaluate(moved, batch)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(tested, 1e-3)
