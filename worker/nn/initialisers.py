"""First values of weights: functions of a shape and a random stream. Nothing is kept here.

`shape` is (fan_in, ..., fan_out): the last axis counts outputs, all others count inputs.

He: K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", ICCV 2015, eq. 10, keeps the
variance of the signal through rectifiers: Var(w) = 2 / fan_in.
Xavier: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
networks", AISTATS 2010, eq. 12, for units that are linear around zero (tanh, sigmoid, outputs):
Var(w) = 2 / (fan_in + fan_out); eq. 16 is the uniform form.
"""

from collections.abc import Callable
from math import prod, sqrt

import numpy as np

from ...common.types import Float32

Initialiser = Callable[[tuple[int, ...], np.random.Generator], Float32]


def he_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Float32:
    """Gaussian with variance 2 / fan_in."""
    return _normal(shape, rng, 2.0 / _fan_in(shape))


def he_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> Float32:
    """Uniform with variance 2 / fan_in."""
    return _uniform(shape, rng, 2.0 / _fan_in(shape))


def xavier_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Float32:
    """Gaussian with variance 2 / (fan_in + fan_out)."""
    return _normal(shape, rng, 2.0 / (_fan_in(shape) + shape[-1]))


def xavier_uniform(shape: tuple[int, ...], rng: np.random.Generator) -> Float32:
    """Uniform with variance 2 / (fan_in + fan_out)."""
    return _uniform(shape, rng, 2.0 / (_fan_in(shape) + shape[-1]))


def _fan_in(shape: tuple[int, ...]) -> int:
    return prod(shape[:-1])


def _normal(shape: tuple[int, ...], rng: np.random.Generator, variance: float) -> Float32:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(sqrt(variance))


def _uniform(shape: tuple[int, ...], rng: np.random.Generator, variance: float) -> Float32:
    limit = np.float32(sqrt(3.0 * variance))  # the variance of U(-a, a) is a² / 3
    return (rng.random(shape, dtype=np.float32) * np.float32(2) - np.float32(1)) * limit
