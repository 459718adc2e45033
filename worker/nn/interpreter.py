"""The compiled step: one function that runs any net written as a table of operations.

A net is data here, so that a new net compiles nothing. A row of the table is one operation with
its bias and activation; its columns are named below. All callees but `product` live in this file:
numba's cache notices a change of this file, but not of one that it calls into.

The arithmetic agrees with the layers and losses (the plain reference) up to float32 rounding.
"""

import math
from typing import Any

import numpy as np

from ...common.compiled import compiled
from ...common.types import Array, Float32
from .blas import product

# The columns of a program. WEIGHT and BIAS count elements of the flat vector. SOURCE and TARGET
# count values of one sample: in a batch of n, a matrix (n, width) begins at n times that.
# SKIPPED is 1 where the gradient of the weight is not wanted, for its factors are enough.
INPUTS, OUTPUTS, WEIGHT, BIAS, ACTIVATION, SOURCE, TARGET, SKIPPED, COLUMNS = range(9)
LINEAR, RELU, SIGMOID, TANH = range(4)
SOFTMAX, LOGISTIC = range(2)

# Plain literals would be float64 in compiled code and drag the arithmetic with them.
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_LOG2_E, _LOG_2 = np.float32(1 / math.log(2)), np.float32(math.log(2))
_LIMIT = np.float32(87)
_SERIES = tuple(np.float32(1 / math.factorial(k)) for k in range(2, 8))


@compiled
def run(
    program: Array,
    loss_kind: int,
    l2: float,
    parameters: Float32,
    labels: Array,
    values: Float32,
    deltas: Float32,
    gradients: Float32,
    begin: int,
    end: int,
) -> tuple[bool, float, float]:
    """Run a batch of n samples forward and loss, and backward through operations [begin, end).

    A step may be cut into several calls, from the last operation to the first: forward and loss
    run only where `end` is the number of operations. It is one function for whole steps and for
    parts, so that both give the same bits. `begin` = `end` computes no gradient.

    Arguments:
        program: (operations, COLUMNS) int64.
        parameters, gradients: the flat vectors; of `gradients` the part of [begin, end) is written.
        labels: (n,) int64.
        values: begins with the inputs (n, features); the rest is scratch, as all of `deltas` is.
            The calls of one step share both.
    Returns:
        whether all labels are classes (if not, nothing was computed), mean loss, accuracy; the
        last two are 0 without forward.
    """
    n, mean, accuracy = labels.size, 0.0, 0.0
    if end == len(program):
        classes = program[-1, OUTPUTS]
        for label in labels:
            if label < 0 or label >= classes:
                return False, 0.0, 0.0
        for row in program:
            _dense_forward(row, parameters, values, n)
        logits = values[n * program[-1, TARGET] :]
        slopes = deltas[n * program[-1, TARGET] :]
        if loss_kind == SOFTMAX:
            loss, correct = softmax_cross_entropy(logits, labels, slopes, classes)
        else:
            loss, correct = sigmoid_cross_entropy(logits, labels, slopes, classes)
        mean, accuracy = loss / n, correct / n
        if l2 != 0.0:
            mean += 0.5 * l2 * _squares(program, parameters)
    for row in program[begin:end][::-1]:
        _dense_backward(row, parameters, values, deltas, gradients, n)
        if l2 != 0.0:
            _decay(row, np.float32(l2), parameters, gradients)
    return True, mean, accuracy


@compiled
def _dense_forward(row: Array, parameters: Float32, values: Float32, n: int) -> None:
    width = row[OUTPUTS]
    inputs, outputs = values[n * row[SOURCE] :], values[n * row[TARGET] :]
    product(n, width, row[INPUTS], inputs, False, parameters[row[WEIGHT] :], False, outputs)
    bias = parameters[row[BIAS] : row[BIAS] + width]
    for sample in range(n):
        _activate(row[ACTIVATION], outputs[sample * width : (sample + 1) * width], bias)


@compiled
def _dense_backward(
    row: Array, parameters: Float32, values: Float32, deltas: Float32, gradients: Float32, n: int
) -> None:
    """From d(loss)/d(outputs) to the gradients of weight and bias, and d(loss)/d(inputs).

    Afterwards `deltas` holds, at TARGET, d(loss)/d(x W + b), the second factor of the weight's
    gradient; the first, x, is in `values`. Nothing overwrites them until the next step. The inputs
    of the net (SOURCE 0) need no derivative.
    """
    width, fan_in = row[OUTPUTS], row[INPUTS]
    inputs, outputs = values[n * row[SOURCE] :], values[n * row[TARGET] :]
    slopes = deltas[n * row[TARGET] :]
    bias = gradients[row[BIAS] : row[BIAS] + width]
    bias[:] = _ZERO
    for sample in range(n):
        begin, end = sample * width, (sample + 1) * width
        _deactivate(row[ACTIVATION], outputs[begin:end], slopes[begin:end], bias)
    if row[SKIPPED] == 0:
        product(fan_in, width, n, inputs, True, slopes, False, gradients[row[WEIGHT] :])
    if row[SOURCE] > 0:
        weight, source = parameters[row[WEIGHT] :], deltas[n * row[SOURCE] :]
        product(n, fan_in, width, slopes, False, weight, True, source)


@compiled
def _activate(kind: int, z: Float32, bias: Float32) -> None:
    """z = f(z + bias) for one sample. The comparison lets NaN through."""
    if kind == RELU:
        for j in range(z.size):
            shifted = z[j] + bias[j]
            z[j] = _ZERO if shifted < _ZERO else shifted
    elif kind == SIGMOID:
        for j in range(z.size):
            z[j] = _ONE / (_TWO + expm1(-(z[j] + bias[j])))
    elif kind == TANH:
        for j in range(z.size):
            power = expm1(_TWO * (z[j] + bias[j]))
            z[j] = power / (power + _TWO)
    else:
        for j in range(z.size):
            z[j] += bias[j]


@compiled
def _deactivate(kind: int, y: Float32, delta: Float32, bias: Float32) -> None:
    """delta *= f'(z) in terms of y = f(z), and bias += delta, for one sample."""
    if kind == RELU:
        for j in range(y.size):
            delta[j] = _ZERO if y[j] <= _ZERO else delta[j]
            bias[j] += delta[j]
    elif kind == SIGMOID:
        for j in range(y.size):
            delta[j] *= y[j] * (_ONE - y[j])
            bias[j] += delta[j]
    elif kind == TANH:
        for j in range(y.size):
            delta[j] *= _ONE - y[j] * y[j]
            bias[j] += delta[j]
    else:
        for j in range(y.size):
            bias[j] += delta[j]


@compiled
def expm1(x: Any) -> Any:
    """e^x - 1 as arithmetic that the compiler can vectorise (the C library's exp it cannot).

    x = k log 2 + r with |r| <= log(2) / 2; e^r - 1 by its Taylor series to r^7, whose rest is below
    float32 rounding; 2^k by writing the exponent's bits. x is clamped to ±87, NaN stays NaN.
    """
    x = _LIMIT if x > _LIMIT else x
    x = -_LIMIT if x < -_LIMIT else x
    k = np.floor(x * _LOG2_E + _HALF)
    r = x - k * _LOG_2
    c2, c3, c4, c5, c6, c7 = _SERIES
    tail = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * c7))))
    scale = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
    return scale * (r + r * r * tail) + (scale - _ONE)


@compiled
def softmax_cross_entropy(
    logits: Float32, labels: Array, slopes: Float32, classes: int
) -> tuple[float, float]:
    """Sum of losses, number of samples that are right; d(mean loss)/d(logits) into `slopes`."""
    loss, correct, n = 0.0, 0.0, np.float32(labels.size)
    for sample in range(labels.size):
        z = logits[sample * classes : (sample + 1) * classes]
        slope = slopes[sample * classes : (sample + 1) * classes]
        label, best = labels[sample], _largest(z)
        total = _ZERO
        for j in range(classes):
            slope[j] = math.exp(z[j] - z[best])
            total += slope[j]
        for j in range(classes):
            slope[j] /= total * n
        slope[label] -= _ONE / n
        loss += math.log(total) - (z[label] - z[best])
        correct += best == label
    return loss, correct


@compiled
def sigmoid_cross_entropy(
    logits: Float32, labels: Array, slopes: Float32, classes: int
) -> tuple[float, float]:
    """Sum of losses, number of samples that are right; d(mean loss)/d(logits) into `slopes`."""
    loss, correct, n = 0.0, 0.0, np.float32(labels.size)
    for sample in range(labels.size):
        z = logits[sample * classes : (sample + 1) * classes]
        slope = slopes[sample * classes : (sample + 1) * classes]
        label = labels[sample]
        for j in range(classes):
            power = math.exp(-abs(z[j]))
            loss += max(z[j], _ZERO) + math.log1p(power)
            slope[j] = (_ONE if z[j] > _ZERO else power) / ((_ONE + power) * n)
        loss -= z[label]
        slope[label] -= _ONE / n
        correct += _largest(z) == label
    return loss, correct


@compiled
def _largest(z: Float32) -> int:
    best = 0
    for j in range(1, z.size):
        if z[j] > z[best]:
            best = j
    return best


@compiled
def _decay(row: Array, l2: np.float32, parameters: Float32, gradients: Float32) -> None:
    """The gradient of a weight += l2 times the weight."""
    begin = row[WEIGHT]
    for j in range(begin, begin + row[INPUTS] * row[OUTPUTS]):
        gradients[j] += l2 * parameters[j]


@compiled
def _squares(program: Array, parameters: Float32) -> float:
    """The sum of all squared weights."""
    squares = 0.0
    for row in program:
        begin = row[WEIGHT]
        for j in range(begin, begin + row[INPUTS] * row[OUTPUTS]):
            squares += np.float64(parameters[j]) * np.float64(parameters[j])
    return squares
