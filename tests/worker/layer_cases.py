"""One small case for each kind of layer and each odd shape, and the checks that all must pass.

The checks take the array module `xp`, so that the same ones run with NumPy and on a device. The
oracles are central differences in float64, and PyTorch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualshard.worker.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from dualshard.worker.nn.convolution import Conv2D
from dualshard.worker.nn.dense import Dense
from dualshard.worker.nn.dropout import Dropout
from dualshard.worker.nn.flatten import Flatten
from dualshard.worker.nn.layer import Layer
from dualshard.worker.nn.losses import SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError
from dualshard.worker.nn.norm import BatchNorm, LayerNorm
from dualshard.worker.nn.pooling import AveragePool, GlobalAveragePool, MaxPool
from dualshard.worker.nn.residual import Residual

SEED = 7
"""Of the random stream of every forward: the same mask each time."""


@dataclass(frozen=True)
class Case:
    """A layer, the shape of one sample, and PyTorch's form of it: (torch, parameters, x) -> y."""

    name: str
    build: Callable[[], Layer]
    sample: tuple[int, ...]
    oracle: Callable[[Any, dict[str, Any], Any], Any]
    fewest: int = 1
    """The smallest batch that PyTorch takes."""


def _first(x):
    """From channels last to PyTorch's channels first."""
    return (x if x.ndim == 4 else x[..., None]).permute(0, 3, 1, 2)


def _last(x):
    return x.permute(0, 2, 3, 1)


def _conv(stride=1, padding=0, part=""):
    def oracle(torch, p, x):
        weight = p[f"{part}weight"].permute(3, 2, 0, 1)
        bias = p.get(f"{part}bias")
        return _last(torch.nn.functional.conv2d(_first(x), weight, bias, stride, padding))

    return oracle


def _pool(name, size, stride=None):
    return lambda torch, p, x: _last(getattr(torch.nn.functional, name)(_first(x), size, stride))


def _norm(torch, p, x, part=""):
    """Batch normalisation over the last axis, by statistics of the batch."""
    names = ("mean", "variance", "weight", "bias")
    mean, variance, weight, bias = (p[part + name] for name in names)
    rows = x.reshape(-1, x.shape[-1])
    arguments = (mean.detach().clone(), variance.detach().clone(), weight, bias, True)
    return torch.nn.functional.batch_norm(rows, *arguments).reshape(x.shape)


def _layer_norm(*shape):
    def oracle(torch, p, x):
        weight, bias = p["weight"].reshape(shape), p["bias"].reshape(shape)
        return torch.nn.functional.layer_norm(x, shape, weight, bias)

    return oracle


def _dropout(rate):
    def oracle(torch, p, x):
        seed = int(np.random.default_rng(SEED).integers(2**64, dtype=np.uint64))
        kept = [splitmix64(seed, k) >> 40 < round((1 - rate) * 2**24) for k in range(x.numel())]
        return x * torch.tensor(kept).reshape(x.shape) / (1 - rate)

    return oracle


def splitmix64(seed, k):
    """Number k of the stream, in Python's integers."""
    mask = 2**64 - 1
    z = (seed + (k + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def _block(stride):
    def oracle(torch, p, x):
        y = _conv(stride, 1, "conv2d1.")(torch, p, x)
        y = torch.relu(_norm(torch, p, y, "batchnorm1."))
        y = _conv(1, 1, "conv2d2.")(torch, p, y)
        if "shortcut.conv2d1.weight" in p:
            x = _conv(stride, 0, "shortcut.conv2d1.")(torch, p, x)
            x = _norm(torch, p, x, "shortcut.batchnorm1.")
        return x + y

    return oracle


def _plain_block():
    return Residual(
        [Conv2D(3, 4, 3, padding=1, bias=False), BatchNorm(4), ReLU(), Conv2D(4, 3, 3, padding=1)]
    )


def _projected_block():
    body = [
        *(Conv2D(2, 3, 3, stride=2, padding=1), BatchNorm(3), ReLU()),
        Conv2D(3, 3, 3, padding=1, bias=False),
    ]
    return Residual(body, [Conv2D(2, 3, 1, stride=2, bias=False), BatchNorm(3)])


CASES = [
    Case("dense", lambda: Dense(6, 4), (2, 3), lambda t, p, x: (
        x.reshape(len(x), -1) @ p["weight"] + p["bias"])),
    Case("convolution", lambda: Conv2D(3, 4, 3), (5, 6, 3), _conv()),
    Case("convolution, no channel axis, all sizes unequal",
         lambda: Conv2D(1, 2, (2, 3), (2, 1), (1, 2)), (5, 4), _conv((2, 1), (1, 2))),
    Case("convolution, odd tail", lambda: Conv2D(2, 3, 3, 2, 1, bias=False), (6, 5, 2),
         _conv(2, 1)),
    Case("convolution, 1x1 with stride", lambda: Conv2D(2, 3, 1, 2), (5, 4, 2), _conv(2)),
    Case("convolution, stride beyond kernel", lambda: Conv2D(2, 2, 2, 3), (7, 9, 2), _conv(3)),
    Case("convolution, one window", lambda: Conv2D(2, 5, 4), (4, 4, 2), _conv()),
    Case("maximum", lambda: MaxPool(2), (5, 7, 3), _pool("max_pool2d", 2)),
    Case("maximum, overlapping", lambda: MaxPool(3, 2), (7, 6, 2), _pool("max_pool2d", 3, 2)),
    Case("maximum, unequal", lambda: MaxPool((1, 2), (2, 3)), (5, 7),
         _pool("max_pool2d", (1, 2), (2, 3))),
    Case("average", lambda: AveragePool(2), (5, 7, 3), _pool("avg_pool2d", 2)),
    Case("average, overlapping", lambda: AveragePool(3, 2), (7, 6), _pool("avg_pool2d", 3, 2)),
    Case("global average", GlobalAveragePool, (3, 5, 4), lambda t, p, x: x.mean(dim=(1, 2))),
    Case("global average, no channel axis", GlobalAveragePool, (3, 5),
         lambda t, p, x: x.mean(dim=(1, 2))[:, None]),
    Case("flatten", Flatten, (3, 2, 4), lambda t, p, x: x.flatten(1)),
    Case("relu", ReLU, (2, 3), lambda t, p, x: t.relu(x)),
    Case("leaky relu", lambda: LeakyReLU(0.1), (2, 3),
         lambda t, p, x: t.nn.functional.leaky_relu(x, 0.1)),
    Case("gelu", GELU, (2, 3), lambda t, p, x: t.nn.functional.gelu(x)),
    Case("sigmoid", Sigmoid, (2, 3), lambda t, p, x: t.sigmoid(x)),
    Case("tanh", Tanh, (2, 3), lambda t, p, x: t.tanh(x)),
    Case("dropout", lambda: Dropout(0.4), (3, 5), _dropout(0.4)),
    Case("no dropout", lambda: Dropout(0.0), (3, 5), lambda t, p, x: x),
    Case("batch normalisation", lambda: BatchNorm(3), (3,), _norm, fewest=2),
    Case("batch normalisation of images", lambda: BatchNorm(3), (2, 5, 3), _norm),
    Case("layer normalisation", lambda: LayerNorm(5), (5,), _layer_norm(5)),
    Case("layer normalisation of images", lambda: LayerNorm(3), (2, 4, 3), _layer_norm(3)),
    Case("layer normalisation over two axes", lambda: LayerNorm((4, 3)), (2, 4, 3),
         _layer_norm(4, 3)),
    Case("residual block", _plain_block, (4, 3, 3), _block(1)),
    Case("residual block with a projection", _projected_block, (5, 4, 2), _block(2)),
]  # fmt: skip

LOSSES = [
    SoftmaxCrossEntropy(),
    SoftmaxCrossEntropy(label_smoothing=0.1),
    SigmoidCrossEntropy(),
    SquaredError(),
]


class Run:
    """A layer with parameters, inputs and a delta, all of them random arrays of `xp`."""

    def __init__(self, xp, case, samples=3, dtype=np.float64, seed=1):
        self.xp, self.case, self.layer = xp, case, case.build()
        self.layer.use(xp)
        rng = np.random.default_rng(seed)
        shapes = self.layer.shapes()
        values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        for name in values:
            if name.endswith("variance"):
                values[name] = 0.5 + values[name] ** 2
        self.parameters = {n: xp.asarray(v.astype(dtype)) for n, v in values.items()}
        self.inputs = xp.asarray(rng.normal(size=(samples, *case.sample)).astype(dtype))
        shape = (samples, *self.layer.outputs(case.sample))
        self.delta = xp.asarray(rng.normal(size=shape).astype(dtype))

    def forward(self, training=True):
        rng = np.random.default_rng(SEED) if training else None
        return self.layer.forward(self.parameters, self.inputs, rng)

    def backward(self):
        """Gradients by name, written over NaN, and the derivative of the inputs."""
        xp = self.xp
        gradients = {name: xp.full_like(value, np.nan) for name, value in self.parameters.items()}
        return gradients, self.layer.backward(self.parameters, gradients, self.delta)

    def learnt(self):
        return self.parameters.keys() - self.layer.averaged()


def host(array):
    """A NumPy array of the same numbers."""
    return array.get() if hasattr(array, "get") else np.asarray(array)


def numeric_gradient(function, at, step=1e-6):
    """Central differences of a scalar function with respect to each element of `at`."""
    gradient = np.empty(at.shape)
    for index in np.ndindex(at.shape):
        kept = float(at[index])
        at[index] = kept + step
        above = float(function())
        at[index] = kept - step
        below = float(function())
        at[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


def check_numeric_gradients(xp, case, samples):
    """Backward against central differences of forward, for inputs and learnt parameters."""
    run = Run(xp, case, samples)

    def scalar():
        return float((run.delta * run.forward()).sum())

    run.forward()
    gradients, delta = run.backward()
    expected = numeric_gradient(scalar, run.inputs)
    np.testing.assert_allclose(host(delta), expected, rtol=1e-6, atol=1e-7)
    for name in run.learnt():
        expected = numeric_gradient(scalar, run.parameters[name])
        np.testing.assert_allclose(host(gradients[name]), expected, rtol=1e-6, atol=1e-7)


def check_torch(xp, case, samples, torch, dtype=np.float64, rtol=1e-9):
    """Forward and backward against PyTorch on the CPU."""
    run = Run(xp, case, max(samples, case.fewest), dtype)
    theirs = {n: torch.from_numpy(host(v).copy()) for n, v in run.parameters.items()}
    for name in run.learnt():
        theirs[name].requires_grad_()
    x = torch.from_numpy(host(run.inputs).copy()).requires_grad_()
    y = case.oracle(torch, theirs, x)
    y.backward(torch.from_numpy(host(run.delta)))
    close = {"rtol": rtol, "atol": 10 * rtol}
    np.testing.assert_allclose(host(run.forward()), y.detach().numpy(), **close)
    gradients, delta = run.backward()
    np.testing.assert_allclose(host(delta), x.grad.numpy(), **close)
    for name in run.learnt():
        np.testing.assert_allclose(host(gradients[name]), theirs[name].grad.numpy(), **close)


def check_how_arrays_lie(xp, case):
    """The same numbers for arrays in any memory order, and none of them is written."""
    plain, odd = Run(xp, case), Run(xp, case)
    expected, (gradients, delta) = plain.forward(), plain.backward()
    odd.inputs = xp.repeat(xp.asfortranarray(odd.inputs), 2, axis=0)[::2]
    odd.delta = xp.asfortranarray(odd.delta)
    before = [array.copy() for array in (odd.inputs, odd.delta, *odd.parameters.values())]
    outputs = odd.forward()
    kept = outputs.copy()
    again, source = odd.backward()
    after = [odd.inputs, odd.delta, *odd.parameters.values()]
    assert all(bool((a == b).all()) for a, b in zip(before, after, strict=True))
    assert bool((outputs == kept).all())
    np.testing.assert_allclose(host(outputs), host(expected), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(host(source), host(delta), rtol=1e-11, atol=1e-11)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(host(again[name]), host(gradient), rtol=1e-11, atol=1e-11)


def check_dtype_and_shape(xp, case, dtype):
    """All results have the dtype of the inputs and live in `xp`; shapes are as promised."""
    run = Run(xp, case, 2, dtype)
    for training in (False, True):
        outputs = run.forward(training)
        assert isinstance(outputs, xp.ndarray)
        assert outputs.dtype == dtype
        assert outputs.shape == (2, *run.layer.outputs(case.sample))
    gradients, delta = run.backward()
    assert (delta.dtype, delta.shape) == (dtype, run.inputs.shape)
    assert isinstance(delta, xp.ndarray)
    assert all(bool(xp.isfinite(gradient).all()) for gradient in gradients.values())


def check_nan(xp, case):
    """NaN in one input comes out, and NaN in the outputs' derivatives reaches the inputs'."""
    run = Run(xp, case)
    run.inputs[...] = np.nan
    assert bool(xp.isnan(run.forward()).any())
    run = Run(xp, case)
    run.forward()
    run.delta[...] = np.nan
    assert bool(xp.isnan(run.backward()[1]).any())


def check_loss(xp, loss, samples):
    """Slope against central differences of the value, in float64; float32 stays float32."""
    rng = np.random.default_rng(2)
    logits = xp.asarray(3 * rng.normal(size=(samples, 4)))
    labels = xp.asarray(rng.integers(0, 4, samples))
    loss.xp = xp
    expected = numeric_gradient(lambda: loss.value(logits, labels), logits)
    np.testing.assert_allclose(host(loss.slope(logits, labels)), expected, rtol=1e-6, atol=1e-8)
    assert loss.slope(logits.astype(np.float32), labels).dtype == np.float32
