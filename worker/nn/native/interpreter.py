"""The compiled step: one function that runs any net written as a table of operations.

A net is data here, so that a new net compiles nothing. A row of the table is one operation with
its bias and activation; its columns are named below. All callees but those of `blas` live in this
file: numba's cache notices a change of this file, but not of one that it calls into.

The arithmetic agrees with the layers and losses (the plain reference) up to float32 rounding.
"""

import math
from typing import Any

import numpy as np

from ....common.compiled import compiled
from ....common.types import Array, Float32
from .blas import blend, product

# The columns of a program. WEIGHT and BIAS count elements of the flat vector. SOURCE and TARGET
# count values of one sample: in a batch of n, a matrix (n, width) begins at n times that.
# SKIPPED is 1 where the gradient of the weight is not wanted, for its factors are enough.
INPUTS, OUTPUTS, WEIGHT, BIAS, ACTIVATION, SOURCE, TARGET, SKIPPED, COLUMNS = range(9)
LINEAR, RELU, SIGMOID, TANH = range(4)
SOFTMAX, LOGISTIC = range(2)
# The columns of a descent: what is kept of a parameter and the rate of its gradient, by operation.
KEEP_WEIGHT, RATE_WEIGHT, KEEP_BIAS, RATE_BIAS, PACES = range(5)

# Plain literals would be float64 in compiled code and drag the arithmetic with them.
_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
_LOG2_E, _LOG_2 = np.float32(1 / math.log(2)), np.float32(math.log(2))
_LIMIT = np.float32(87)
_BYTE = np.float32(1 / 255)
_SERIES = tuple(np.float32(1 / math.factorial(k)) for k in range(2, 8))


@compiled
def run(
    program: Array,
    loss_kind: int,
    l2: float,
    parameters: Float32,
    labels: Array,
    targets: Float32,
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
        targets: (n * classes,) float32, soft labels; empty: the labels are all there is.
        values: begins with the inputs (n, features); the rest is scratch, as all of `deltas` is.
            The calls of one step share both.
    Returns:
        whether all labels are classes (if not, nothing was computed), mean loss, accuracy; the
        last two are 0 without forward.
    """
    n, mean, accuracy = labels.size, 0.0, 0.0
    if end == len(program):
        if not _are_classes(labels, program[-1, OUTPUTS]):
            return False, 0.0, 0.0
        for row in program:
            _dense_forward(row, parameters, values[n * row[SOURCE] :], values, n)
        mean, accuracy = _measure(
            program, loss_kind, l2, parameters, labels, targets, values, deltas
        )
    for row in program[begin:end][::-1]:
        _dense_backward(row, parameters, values, deltas, gradients, n)
        if l2 != 0.0:
            _decay(row, np.float32(l2), parameters, gradients)
    return True, mean, accuracy


@compiled
def descend(
    program: Array,
    loss_kind: int,
    l2: float,
    paces: Float32,
    parameters: Float32,
    octets: Array,
    floats: Float32,
    labels: Array,
    targets: Float32,
    counts: Array,
    values: Float32,
    deltas: Float32,
    slope: Float32,
    measures: Array,
) -> int:
    """Minibatches one after the other, each with a step along its gradient: p = keep p - rate g.

    The weight's step is made by the product that its gradient would be, after the layer below has
    got its derivatives: no gradient is written. L2 is more decay. Arguments as in `run`, and:

        paces: (operations, PACES), keep and rate of each weight and bias.
        parameters: the flat vector, stepped in place; others may step it meanwhile.
        octets, floats: the inputs of all minibatches, one after the other, (samples * features,)
            uint8 in units of 1/255, or float32; the one of the two that is empty is not used.
        labels: (samples,) int64, as the inputs.
        targets: (samples * classes,) float32, soft labels; empty: the labels are all there is.
        counts: (minibatches,) int64, the samples of each.
        slope: scratch, as wide as the widest operation.
        measures: (minibatches, 2) float64, written: mean loss and accuracy before each step.
    Returns:
        how many minibatches were taken: less than all where a label of the next is not a class.
    """
    done, features, classes = 0, program[0, INPUTS], program[-1, OUTPUTS]
    for step in range(counts.size):
        n = counts[step]
        part = labels[done : done + n]
        if not _are_classes(part, classes):
            return step
        soft = targets[done * classes : (done + n) * classes]  # of nothing: nothing
        inputs = floats[done * features :]
        if octets.size:
            inputs = values
            _fractions(octets[done * features : (done + n) * features], values)
        for row in program:
            source = inputs if row[SOURCE] == 0 else values[n * row[SOURCE] :]
            _dense_forward(row, parameters, source, values, n)
        mean, accuracy = _measure(program, loss_kind, l2, parameters, part, soft, values, deltas)
        measures[step, 0], measures[step, 1] = mean, accuracy
        for operation in range(len(program) - 1, -1, -1):
            row = program[operation]
            source = inputs if row[SOURCE] == 0 else values[n * row[SOURCE] :]
            more = paces[operation, RATE_WEIGHT] * np.float32(l2)
            _dense_step(row, paces[operation], more, parameters, source, values, deltas, slope, n)
        done += n
    return counts.size


@compiled
def _are_classes(labels: Array, classes: int) -> bool:
    fine = True
    for label in labels:
        fine = fine and 0 <= label < classes
    return fine


@compiled
def _fractions(octets: Array, values: Float32) -> None:
    """Bytes as float32 in [0, 1]."""
    for i in range(octets.size):
        values[i] = np.float32(octets[i]) * _BYTE


@compiled
def _measure(
    program: Array,
    loss_kind: int,
    l2: float,
    parameters: Float32,
    labels: Array,
    targets: Float32,
    values: Float32,
    deltas: Float32,
) -> tuple[float, float]:
    """Mean loss and accuracy after a forward pass; d(mean loss)/d(logits) into `deltas`."""
    n, classes, target = labels.size, program[-1, OUTPUTS], program[-1, TARGET]
    logits, slopes = values[n * target :], deltas[n * target :]
    if loss_kind == SOFTMAX:
        loss, correct = softmax_cross_entropy(logits, labels, targets, slopes, classes)
    else:
        loss, correct = sigmoid_cross_entropy(logits, labels, targets, slopes, classes)
    mean = loss / n
    if l2 != 0.0:
        mean += 0.5 * l2 * _squares(program, parameters)
    return mean, correct / n


@compiled
def _dense_forward(
    row: Array, parameters: Float32, inputs: Float32, values: Float32, n: int
) -> None:
    width, weight, outputs = row[OUTPUTS], parameters[row[WEIGHT] :], values[n * row[TARGET] :]
    product(n, width, row[INPUTS], inputs, False, weight, False, outputs)
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
    inputs, slopes = values[n * row[SOURCE] :], deltas[n * row[TARGET] :]
    _dense_slopes(row, values, deltas, gradients[row[BIAS] : row[BIAS] + width], n)
    if row[SKIPPED] == 0:
        weight = gradients[row[WEIGHT] :]
        product(fan_in, width, n, inputs, True, slopes, False, weight)
    _dense_source(row, parameters, deltas, n)


@compiled
def _dense_step(
    row: Array,
    pace: Float32,
    l2: np.float32,
    parameters: Float32,
    inputs: Float32,
    values: Float32,
    deltas: Float32,
    slope: Float32,
    n: int,
) -> None:
    """From d(loss)/d(outputs) to d(loss)/d(inputs), and then the step of weight and bias."""
    width, fan_in = row[OUTPUTS], row[INPUTS]
    _dense_slopes(row, values, deltas, slope[:width], n)
    _dense_source(row, parameters, deltas, n)
    slopes, weight = deltas[n * row[TARGET] :], parameters[row[WEIGHT] :]
    keep, rate = pace[KEEP_WEIGHT] - l2, pace[RATE_WEIGHT]
    blend(fan_in, width, n, -rate, inputs, True, slopes, False, keep, weight)
    keep, rate = pace[KEEP_BIAS], pace[RATE_BIAS]
    bias = parameters[row[BIAS] : row[BIAS] + width]
    for j in range(width):
        bias[j] = keep * bias[j] - rate * slope[j]


@compiled
def _dense_slopes(row: Array, values: Float32, deltas: Float32, bias: Float32, n: int) -> None:
    """From d(loss)/d(outputs) to d(loss)/d(x W + b), in place, and the gradient of the bias."""
    width = row[OUTPUTS]
    outputs, slopes = values[n * row[TARGET] :], deltas[n * row[TARGET] :]
    bias[:] = _ZERO
    for sample in range(n):
        begin, end = sample * width, (sample + 1) * width
        _deactivate(row[ACTIVATION], outputs[begin:end], slopes[begin:end], bias)


@compiled
def _dense_source(row: Array, parameters: Float32, deltas: Float32, n: int) -> None:
    """d(loss)/d(inputs), where they are another operation's outputs."""
    if row[SOURCE] > 0:
        slopes, source = deltas[n * row[TARGET] :], deltas[n * row[SOURCE] :]
        weight, width = parameters[row[WEIGHT] :], row[OUTPUTS]
        product(n, row[INPUTS], width, slopes, False, weight, True, source)


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
    logits: Float32, labels: Array, targets: Float32, slopes: Float32, classes: int
) -> tuple[float, float]:
    """Sum of losses, number of samples that are right; d(mean loss)/d(logits) into `slopes`.

    Whether a sample is right is a matter of `labels` alone, and the loss too where there are no
    `targets`, (n * classes,).
    """
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
        if targets.size:
            target = targets[sample * classes : (sample + 1) * classes]
            loss += math.log(total)
            for j in range(classes):
                slope[j] -= target[j] / n
                loss -= target[j] * (z[j] - z[best])
        else:
            slope[label] -= _ONE / n
            loss += math.log(total) - (z[label] - z[best])
        correct += best == label
    return loss, correct


@compiled
def sigmoid_cross_entropy(
    logits: Float32, labels: Array, targets: Float32, slopes: Float32, classes: int
) -> tuple[float, float]:
    """Sum of losses, number of samples that are right; d(mean loss)/d(logits) into `slopes`.

    `labels` and `targets` as above.
    """
    loss, correct, n = 0.0, 0.0, np.float32(labels.size)
    for sample in range(labels.size):
        z = logits[sample * classes : (sample + 1) * classes]
        slope = slopes[sample * classes : (sample + 1) * classes]
        label = labels[sample]
        for j in range(classes):
            power = math.exp(-abs(z[j]))
            loss += max(z[j], _ZERO) + math.log1p(power)
            slope[j] = (_ONE if z[j] > _ZERO else power) / ((_ONE + power) * n)
        if targets.size:
            target = targets[sample * classes : (sample + 1) * classes]
            for j in range(classes):
                slope[j] -= target[j] / n
                loss -= target[j] * z[j]
        else:
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
