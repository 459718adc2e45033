"""Convolution and pooling beside what all layers are tested for: chunks, ties, sizes refused."""

import numpy as np
import pytest
from layer_cases import CASES, Run

from dualshard.common.errors import UserError
from dualshard.worker.nn import convolution
from dualshard.worker.nn.convolution import Conv2D
from dualshard.worker.nn.pooling import AveragePool, GlobalAveragePool, MaxPool

CONVOLUTIONS = [case for case in CASES if case.name.startswith("convolution")]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: case.name)
@pytest.mark.parametrize("limit", [1, 500])
def test_a_batch_in_chunks_gives_the_same(case, limit, monkeypatch):
    whole, chunked = Run(np, case, 7), Run(np, case, 7)
    expected, (gradients, delta) = whole.forward(), whole.backward()
    monkeypatch.setattr(convolution, "_COLUMNS", limit)
    np.testing.assert_allclose(chunked.forward(), expected, rtol=1e-12, atol=1e-12)
    again, source = chunked.backward()
    np.testing.assert_allclose(source, delta, rtol=1e-12, atol=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(again[name], gradient, rtol=1e-12, atol=1e-12)


def test_weights_start_with_the_variance_of_their_window():
    layer = Conv2D(20, 50, 5)
    parameters = {name: np.full(shape, np.nan) for name, shape in layer.shapes().items()}
    layer.start(parameters, np.random.default_rng(1))
    assert parameters["weight"].var() == pytest.approx(2 / (5 * 5 * 20), rel=0.05)
    assert not parameters["bias"].any()


def test_the_first_of_equal_maxima_gets_the_gradient():
    layer, image = MaxPool(2), np.zeros((1, 2, 4, 1), np.float32)
    image[0, :, 2:, 0] = [[1, 5], [5, 5]]
    assert layer.forward({}, image, None).ravel().tolist() == [0, 5]
    source = layer.backward({}, {}, np.array([2, 3], np.float32).reshape(1, 1, 2, 1))
    assert source[0, :, :, 0].tolist() == [[2, 0, 0, 3], [0, 0, 0, 0]]


def test_infinity_in_one_delta_stays_in_its_window():
    layer, image = MaxPool(2), np.arange(8, dtype=np.float32).reshape(1, 2, 4, 1)
    layer.forward({}, image, None)
    source = layer.backward({}, {}, np.array([np.inf, 1], np.float32).reshape(1, 1, 2, 1))
    assert source[0, :, :, 0].tolist() == [[0, 0, 0, 0], [0, np.inf, 0, 1]]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: Conv2D(1, 2, 0),
            "Conv2D.kernel = 0: expected a whole number of 1 or more, or two; "
            "write 1, or (1, 1) for height and width",
        ),
        (
            lambda: Conv2D(1, 2, 3, stride=(1, 2, 3)),
            "Conv2D.stride = (1, 2, 3): expected a whole number of 1 or more, or two; "
            "write 1, or (1, 1) for height and width",
        ),
        (
            lambda: Conv2D(1, 2, 3, padding=-1),
            "Conv2D.padding = -1: expected a whole number of 0 or more, or two; "
            "write 1, or (1, 1) for height and width",
        ),
        (
            lambda: MaxPool(2.0),
            "MaxPool.size = 2.0: expected a whole number of 1 or more, or two; "
            "write 1, or (1, 1) for height and width",
        ),
        (
            lambda: AveragePool(2, True),
            "AveragePool.stride = True: expected a whole number of 1 or more, or two; "
            "write 1, or (1, 1) for height and width",
        ),
    ],
)
def test_bad_sizes_are_named(build, sentence):
    with pytest.raises(UserError) as error:
        build()
    assert str(error.value) == sentence


SHRINK = "use larger images, a smaller window, or fewer layers that shrink before it"
PLACE = "put it before Flatten and Dense, and give the net sample_shape=(height, width, 1)"


@pytest.mark.parametrize(
    ("layer", "sample", "sentence"),
    [
        (
            Conv2D(3, 2, 5, padding=1),
            (2, 8, 3),
            "Conv2D.kernel = 5x5: expected at most the image of 4x10 that reaches it, "
            f"border included; {SHRINK}",
        ),
        (
            MaxPool(2),
            (4, 1, 3),
            "MaxPool.size = 2x2: expected at most the image of 4x1 that reaches it, "
            f"border included; {SHRINK}",
        ),
        (
            Conv2D(3, 2, 3),
            (8, 8),
            "Conv2D.inputs = 3: expected 1, the channels of a sample of shape (8, 8); "
            "write Conv2D(1, 2, ...)",
        ),
        (
            Conv2D(3, 2, 3),
            (64,),
            f"Conv2D = a sample of shape (64,): expected (height, width, channels); {PLACE}",
        ),
        (
            GlobalAveragePool(),
            (64,),
            "GlobalAveragePool = a sample of shape (64,): expected (height, width, channels); "
            f"{PLACE}",
        ),
    ],
)
def test_samples_that_do_not_fit_are_refused(layer, sample, sentence):
    with pytest.raises(UserError) as error:
        layer.outputs(sample)
    assert str(error.value) == sentence
