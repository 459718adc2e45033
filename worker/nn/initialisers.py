"""First values of weights: functions of a shape and a random stream. Nothing is kept here.

`shape` is (fan_in, ..., fan_out): the last axis counts outputs, all others count inputs.

He: K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers", ICCV 2015, eq. 10, keeps the
variance of the signal through rectifiers: Var(w) = 2 / fan_in.
Xavier: X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
networks", AISTATS 2010, eq. 12, for units that are linear around zero (tanh, sigmoid, outputs):
Var(w) = 2 / (fan_in + fan_out); eq. 16 is the uniform form.
Orthogonal: A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of
learning in deep linear neural networks", ICLR 2014, section 3: all singular values are one.
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


def orthogonal(shape: tuple[int, ...], rng: np.random.Generator) -> Float32:
    """A random matrix (fan_in, fan_out) of orthonormal columns, or rows where fan_in < fan_out.

    The Q of a Gaussian matrix, with signs such that R has a positive diagonal: without them Q would
    not be uniform over all such matrices (F. Mezzadri, Notices of the AMS 54, 2007, section 5).
    """
    rows, columns = _fan_in(shape), shape[-1]
    gaussian = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(gaussian)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return np.ascontiguousarray(q if rows >= columns else q.T, np.float32).reshape(shape)


def uniform(limit: float) -> Initialiser:
    """Uniform between -limit and limit, whatever the shape."""

    def draw(shape: tuple[int, ...], rng: np.random.Generator) -> Float32:
        return _uniform(shape, rng, limit * limit / 3)

    return draw


def _fan_in(shape: tuple[int, ...]) -> int:
    return prod(shape[:-1])


def _normal(shape: tuple[int, ...], rng: np.random.Generator, variance: float) -> Float32:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(sqrt(variance))


def _uniform(shape: tuple[int, ...], rng: np.random.Generator, variance: float) -> Float32:
    limit = np.float32(sqrt(3.0 * variance))  # the variance of U(-a, a) is a² / 3
    return (rng.random(shape, dtype=np.float32) * np.float32(2) - np.float32(1)) * limit
