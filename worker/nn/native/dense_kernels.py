"""Compiled products of one dense layer, for nets that are run stage by stage. No layers.

Perceptrons, which are nothing but dense layers, run in one call: see `interpreter`.
"""

import numpy as np

from ....common.compiled import compiled
from ....common.types import Float32
from .blas import product


@compiled
def apply_weight(
    n: int, inputs: int, outputs: int, x: Float32, parameters: Float32, weight: int, z: Float32
) -> None:
    """z = x W, with W at element `weight` of the flat vector."""
    product(n, outputs, inputs, x, False, parameters[weight:], False, z)


@compiled
def weight_gradient(
    n: int, inputs: int, outputs: int, x: Float32, error: Float32, gradients: Float32, weight: int
) -> None:
    """x^T `error` to element `weight` of the flat gradient."""
    product(inputs, outputs, n, x, True, error, False, gradients[weight:])


@compiled
def lead_back(
    n: int,
    inputs: int,
    outputs: int,
    error: Float32,
    parameters: Float32,
    weight: int,
    source: Float32,
    add: bool,
) -> None:
    """source = `error` W^T, or that added to it."""
    if not add:
        product(n, inputs, outputs, error, False, parameters[weight:], True, source)
        return
    extra = np.empty(n * inputs, np.float32)
    product(n, inputs, outputs, error, False, parameters[weight:], True, extra)
    for i in range(n * inputs):
        source[i] += extra[i]
