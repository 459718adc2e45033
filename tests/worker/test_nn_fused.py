"""The kernels of a GPU, run through a C++ compiler, against the layers over NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_kernels import FakeCupy, compile_for_a_gpu
from layer_cases import CASES, Run

from dualshard.worker.layout import Layout
from dualshard.worker.nn.activations import ReLU, Sigmoid, Tanh
from dualshard.worker.nn.convolution import Conv2D
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.dropout import Dropout
from dualshard.worker.nn.flatten import Flatten
from dualshard.worker.nn.fused import Fused, fused
from dualshard.worker.nn.layer import Layer
from dualshard.worker.nn.losses import SoftmaxCrossEntropy
from dualshard.worker.nn.norm import BatchNorm
from dualshard.worker.nn.pooling import MaxPool
from dualshard.worker.nn.residual import Residual
from dualshard.worker.nn.sequential import Sequential

ON_HOST = [case for case in CASES if case.name != "gelu"]  # CuPy's own erf needs a GPU


@pytest.fixture(scope="module")
def cupy(tmp_path_factory: pytest.TempPathFactory) -> FakeCupy:
    return FakeCupy(tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("case", ON_HOST, ids=lambda case: case.name)
def test_a_layer_on_a_device_is_the_one_on_the_host(
    case: Any, samples: int, cupy: FakeCupy
) -> None:
    there, here = (Run(xp, case, samples, np.float32) for xp in (cupy, np))
    for training in (False, True):
        outputs = there.forward(training)
        assert outputs.dtype == np.float32
        np.testing.assert_allclose(outputs, here.forward(training), rtol=1e-5, atol=1e-5)
    found, delta = there.backward()
    expected, source = here.backward()
    np.testing.assert_allclose(delta, source, rtol=1e-5, atol=1e-5)
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-5, atol=1e-5)


def net() -> Sequential:
    """Every layer that a kernel helps, in the places where two become one."""
    layers: list[Layer] = [
        *(Conv2D(2, 4, 3, padding=1), ReLU(), MaxPool(2)),
        Residual([Conv2D(4, 4, 3, padding=1), Tanh(), Conv2D(4, 4, 1, bias=False), BatchNorm(4)]),
        *(ReLU(), MaxPool(3, 2), Flatten(), Dropout(0.3)),
        *(Dense(8, 6), Sigmoid(), Dense(6, 3)),
    ]
    return Sequential(layers, SoftmaxCrossEntropy(0.1), l2=0.01, sample_shape=(7, 11, 2))


def views(layout: Layout, flat: np.ndarray) -> dict[str, np.ndarray]:
    """No `Parameters`, so that the host's net takes its layers and not its compiled form."""
    return dict(layout.views(flat))


def test_a_net_on_a_device_is_the_one_on_the_host(cupy: FakeCupy) -> None:
    random = np.random.default_rng(5)
    batch = random.random((9, 7, 11, 2), np.float32), random.integers(0, 3, 9)
    found = []
    for xp in (cupy, np):
        model = net()
        layout = Layout(model.shapes())
        parameters, gradients = (np.zeros(layout.size, np.float32) for _ in range(2))
        model.start(layout.views(parameters), np.random.default_rng(1))
        assert model.use(xp)
        rng = np.random.default_rng(2)
        arrays = views(layout, parameters), views(layout, gradients)
        measures = model.gradients(*arrays, batch, rng)
        tested = model.evaluate(arrays[0], batch)
        found.append((gradients, measures, tested))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4, atol=1e-6)
    assert found[0][0].any()
    for measures, expected in zip(found[0][1:], found[1][1:], strict=True):
        assert measures == pytest.approx(expected, rel=1e-5)


def test_a_net_on_a_device_never_takes_the_compiled_step(cupy: FakeCupy) -> None:
    model = Sequential([Dense(4, 5), ReLU(), Dense(5, 2)], SoftmaxCrossEntropy())
    layout = Layout(model.shapes())
    vectors = [layout.views(np.zeros(layout.size, np.float32)) for _ in range(2)]
    batch = np.ones((3, 4), np.float32), np.zeros(3, np.int64)

    def compiled(*arguments: Any) -> None:
        raise AssertionError("arrays of a device in the host's machine code")

    model._program.run = compiled  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="machine code"):
        model.gradients(*vectors, batch, np.random.default_rng(0))
    model.use(cupy)
    model.gradients(*vectors, batch, np.random.default_rng(0))
    model.evaluate(vectors[0], batch)


def test_an_activation_is_applied_once_and_by_the_layer_before(cupy: FakeCupy) -> None:
    class Mine(Dense):
        pass

    made = [Dense(4, 4), ReLU(), Mine(4, 4), ReLU(), Dense(4, 4), Dense(4, 2)]
    model = Sequential(made, SoftmaxCrossEntropy())
    model.use(cupy)
    assert [layer.behind for layer in made] == ["relu", "", "", "", "", ""]
    assert [layer.applied for layer in made if isinstance(layer, ReLU)] == [True, False]
    model.use(np)
    assert not any(layer.behind or getattr(layer, "applied", False) for layer in made)
    assert not any(layer.unwanted for layer in made)


@pytest.mark.parametrize("kind", ["relu", "sigmoid", "tanh"])
def test_nan_stays_nan(kind: str, cupy: FakeCupy) -> None:
    z = np.array([[np.nan, 1.0]], np.float32)
    fused(cupy).activate(kind, z, np.zeros(2, np.float32))
    assert np.isnan(z[0, 0])
    slope = fused(cupy).slope(kind, z, np.ones((1, 2), np.float32))
    assert slope[0, 0] != 0.0


def test_a_gpus_compiler_takes_the_kernels(tmp_path: Path) -> None:
    cupy = FakeCupy(tmp_path)
    Fused(cupy)
    assert len(cupy.codes) == 12
    compile_for_a_gpu(tmp_path, list(cupy.codes.values()))
