"""Compiled passes of one dense layer, for nets that are run stage by stage. No layers.

Perceptrons, which are nothing but dense layers, run in one call: see `interpreter`.
"""

import numpy as np

from ...common.compiled import compiled
from ...common.types import Float32
from .blas import product
from .plane_kernels import activate, deactivate

_ZERO = np.float32(0)


@compiled
def dense_forward(
    n: int,
    inputs: int,
    outputs: int,
    x: Float32,
    parameters: Float32,
    weight: int,
    bias: int,
    kind: int,
    y: Float32,
) -> None:
    """y = f(x W + b). `weight` and `bias` count elements of the flat vector."""
    product(n, outputs, inputs, x, False, parameters[weight:], False, y)
    shift = parameters[bias : bias + outputs]
    for sample in range(n):
        row = y[sample * outputs : (sample + 1) * outputs]
        for j in range(outputs):
            row[j] += shift[j]
    activate(kind, y)


@compiled
def dense_backward(
    n: int,
    inputs: int,
    outputs: int,
    x: Float32,
    parameters: Float32,
    weight: int,
    bias: int,
    kind: int,
    y: Float32,
    delta: Float32,
    error: Float32,
    gradients: Float32,
    whole: bool,
    source: Float32,
    add: bool,
) -> None:
    """The gradients of weight (where `whole`) and bias; d(loss)/d(x W + b) into `error`; and
    d(loss)/dx into `source`, or added to it, unless that is empty."""
    deactivate(kind, y, delta, error)
    total = gradients[bias : bias + outputs]
    total[:] = _ZERO
    for sample in range(n):
        row = error[sample * outputs : (sample + 1) * outputs]
        for j in range(outputs):
            total[j] += row[j]
    if whole:
        product(inputs, outputs, n, x, True, error, False, gradients[weight:])
    if source.size and add:
        extra = np.empty(n * inputs, np.float32)
        product(n, inputs, outputs, error, False, parameters[weight:], True, extra)
        for i in range(n * inputs):
            source[i] += extra[i]
    elif source.size:
        product(n, inputs, outputs, error, False, parameters[weight:], True, source)
