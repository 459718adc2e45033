"""The nets for images: what they are made of, PyTorch's of the same weights, data of any shape."""

import re
from math import prod
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dualshard.common.errors import UserError
from dualshard.worker.convnets import cifar, lenet, lenet_bn, resnet20
from dualshard.worker.layout import Layout
from dualshard.worker.nn.dropout import Dropout

RECIPES = {
    "lenet": lenet,
    "lenet_bn": lenet_bn,
    "cifar": cifar,
    "cifar, normalised": lambda **of: cifar(**of, batchnorm=True),
    "resnet20": resnet20,
}


def setup(net, sample, samples, seed=0):
    """Flat parameters, flat gradients full of NaN, and a batch."""
    rng, layout = np.random.default_rng(seed), Layout(net.shapes())
    parameters = layout.views(np.empty(layout.size, np.float32))
    gradients = layout.views(np.full(layout.size, np.nan, np.float32))
    net.start(parameters, rng)
    inputs = rng.standard_normal((samples, *sample), dtype=np.float32)
    return parameters, gradients, (inputs, rng.integers(0, 10, samples))


def convolution(torch, inputs, outputs, kernel, batchnorm, padding=0, stride=1):
    layers = [torch.nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=not batchnorm)]
    return [*layers, torch.nn.BatchNorm2d(outputs)] if batchnorm else layers


def torch_lenet(torch, batchnorm):
    nn, layers = torch.nn, []
    for inputs, outputs in ((1, 16), (16, 32)):
        layers += [*convolution(torch, inputs, outputs, 5, batchnorm), nn.ReLU(), nn.MaxPool2d(2)]
    normal = [nn.BatchNorm1d(128)] if batchnorm else []
    return nn.Sequential(
        *layers, Rows(torch), nn.Linear(512, 128), *normal, nn.ReLU(), nn.Linear(128, 10)
    )


def torch_cifar(torch, batchnorm):
    nn, layers, inputs = torch.nn, [], 1
    for outputs in (32, 64, 128):
        for fan_in in (inputs, outputs):
            layers += [*convolution(torch, fan_in, outputs, 3, batchnorm, 1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        inputs = outputs
    normal = [nn.BatchNorm1d(128)] if batchnorm else []
    return nn.Sequential(
        *layers, Rows(torch), nn.Linear(128, 128), *normal, nn.ReLU(), nn.Linear(128, 10)
    )


def torch_resnet20(torch):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.body = nn.Sequential(
                *convolution(torch, inputs, outputs, 3, True, 1, stride),
                nn.ReLU(),
                *convolution(torch, outputs, outputs, 3, True, 1),
            )
            same = inputs == outputs
            self.shortcut = nn.Sequential(
                *([] if same else convolution(torch, inputs, outputs, 1, True, 0, stride))
            )

        def forward(self, x):
            return torch.relu(self.body(x) + self.shortcut(x))

    layers = [*convolution(torch, 1, 16, 3, True, 1), nn.ReLU()]
    for inputs, outputs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
        layers += [Block(inputs, outputs, stride), *(Block(outputs, outputs, 1) for _ in "ab")]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def Rows(torch):
    """Flattening in our order, channels last."""

    class Module(torch.nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1).flatten(1)

    return Module()


def in_torchs_order(value):
    """One of our arrays as PyTorch stores it: outputs first."""
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
    return np.ascontiguousarray(value.transpose(order))


THEIRS = {
    "lenet": (lambda torch: torch_lenet(torch, False), (28, 28)),
    "lenet_bn": (lambda torch: torch_lenet(torch, True), (28, 28)),
    "cifar": (lambda torch: torch_cifar(torch, False), (8, 8)),
    "cifar, normalised": (lambda torch: torch_cifar(torch, True), (8, 8)),
    "resnet20": (torch_resnet20, (8, 8)),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_net_agrees_with_pytorchs_of_the_same_weights(name):
    """In float64: the order of the parameters and every step forward, backward and averaged."""
    torch = pytest.importorskip("torch")
    build, sample = THEIRS[name]
    net, theirs = RECIPES[name](sample_shape=sample), build(torch).double()
    parameters, gradients, (inputs, labels) = setup(net, sample, 6)
    ours = {name: value.astype(float) for name, value in parameters.items()}
    gradients = {name: value.astype(float) for name, value in gradients.items()}
    state = {k: v for k, v in theirs.state_dict().items() if "num_batches" not in k}
    order = dict(zip(ours, state, strict=True))
    for own, their in order.items():
        state[their].copy_(torch.from_numpy(in_torchs_order(ours[own])))

    def loss():
        logits = theirs(torch.from_numpy(inputs[:, None].astype(float)))
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))

    metrics = net.gradients(ours, gradients, (inputs, labels), np.random.default_rng(1))
    expected = loss()
    expected.backward()
    assert metrics["loss"] == pytest.approx(float(expected.detach()), rel=1e-9)
    slopes = dict(theirs.named_parameters())
    for own, their in order.items():
        if net.averaged(own):
            ours[own] -= gradients[own]
            found, exact = ours[own], state[their]
        else:
            found, exact = in_torchs_order(gradients[own]), slopes[their].grad
        np.testing.assert_allclose(found, exact.numpy(), rtol=1e-7, atol=1e-9, err_msg=own)
    theirs.eval()
    evaluated = net.evaluate(ours, (inputs, labels))["loss"]
    assert evaluated == pytest.approx(float(loss().detach()), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "learnt"),
    [
        ("lenet", 80_202),  # 416 + 12,832 + 65,664 + 1,290
        ("lenet_bn", 80_506),  # less 48 biases, and twice 16 + 32 + 128
        ("cifar", 550_570),
        ("resnet20", 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64)),  # 0.27 M, and the projections
    ],
)
def test_sizes_are_those_of_the_nets_by_this_name(name, learnt):
    net = RECIPES[name]()
    sizes = {n: prod(shape) for n, shape in net.shapes().items() if not net.averaged(n)}
    assert sum(sizes.values()) == learnt


SAMPLES = [(8, 8), (28, 28), (28, 28, 1), (32, 32, 3), (19, 33, 2)]


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
@pytest.mark.parametrize("name", RECIPES)
def test_a_net_fits_images_of_any_size_or_says_which(name, sample):
    if name.startswith("lenet") and sample == (8, 8):
        with pytest.raises(UserError) as error:
            RECIPES[name](sample_shape=list(sample))
        assert str(error.value) == (
            f"model.args.sample_shape = (8, 8): expected images of at least 16x16 for {name}; "
            "use a perceptron (--model mlp) for this data"
        )
        return
    net = RECIPES[name](sample_shape=list(sample), classes=7)
    parameters, gradients, (inputs, labels) = setup(net, sample, 2)
    metrics = net.gradients(parameters, gradients, (inputs, labels % 7), np.random.default_rng(1))
    assert np.isfinite(metrics["loss"])
    assert np.isfinite(gradients.flat).all()


@pytest.mark.parametrize("name", ["lenet", "cifar", "resnet20"])
@pytest.mark.parametrize("least", [(16, 16), (8, 8), (1, 1)])
def test_the_smallest_images_are_as_small_as_is_said(name, least):
    smallest = {"lenet": 16, "cifar": 8, "resnet20": 1}[name]
    if least[0] >= smallest:
        RECIPES[name](sample_shape=least)
    else:
        with pytest.raises(UserError, match=f"at least {smallest}x{smallest} for {name}"):
            RECIPES[name](sample_shape=least)


def test_a_normalised_net_learns_digits_in_an_epoch():
    images, labels = load_digits(return_X_y=True)
    images, rng = (images / 16).astype(np.float32).reshape(-1, 8, 8), np.random.default_rng(0)
    net = cifar(sample_shape=(8, 8), batchnorm=True)
    parameters, gradients, _ = setup(net, (8, 8), 1)
    spans = Layout(net.shapes()).spans()
    rates = np.full(gradients.flat.size, 0.05, np.float32)
    for averaged in filter(net.averaged, spans):
        rates[slice(*spans[averaged])] = 1
    for rows in np.split(rng.permutation(1280), 40):
        net.gradients(parameters, gradients, (images[rows], labels[rows]), rng)
        parameters.flat -= rates * gradients.flat
    test = net.evaluate(parameters, (images[1280:], labels[1280:]))
    assert test["accuracy"] > 0.8


def test_dropout_goes_before_each_dense_layer():
    names = list(cifar(dropout=0.25).layers)
    assert names[-5:] == ["dropout1", "dense1", "relu7", "dropout2", "dense2"]
    layer = cifar(dropout=0.25).layers["dropout1"]
    assert isinstance(layer, Dropout)
    assert layer.rate == 0.25
    assert not any(name.startswith("dropout") for name in cifar().layers)


def test_layers_are_named_by_kind_and_place():
    assert list(lenet_bn().layers) == [
        *("conv2d1", "batchnorm1", "relu1", "maxpool1"),
        *("conv2d2", "batchnorm2", "relu2", "maxpool2"),
        *("dense1", "batchnorm3", "relu3", "dense2"),
    ]
    shapes = resnet20().shapes()
    assert shapes["residual4.conv2d1.weight"] == (3, 3, 16, 32)
    assert shapes["residual4.shortcut.conv2d1.weight"] == (1, 1, 16, 32)
    assert "residual5.shortcut.conv2d1.weight" not in shapes


FLAT = (
    "expected (height, width, channels) of images for {}; "
    "use a perceptron (--model mlp) for this data"
)
BAD = [
    ("sample_shape", [64], "model.args.sample_shape = [64]: " + FLAT),
    ("sample_shape", [8, 8, 0], "model.args.sample_shape = [8, 8, 0]: " + FLAT),
    ("sample_shape", "8x8", "model.args.sample_shape = 8x8: " + FLAT),
    (
        "classes",
        1,
        "model.args.classes = 1: expected a whole number, 2 or more; "
        "give the number of different labels",
    ),
]


@pytest.mark.parametrize("name", ["lenet", "lenet_bn", "cifar", "resnet20"])
@pytest.mark.parametrize(("key", "value", "sentence"), BAD)
def test_bad_arguments_are_named(name, key, value, sentence):
    with pytest.raises(UserError) as error:
        RECIPES[name](**{key: value})
    assert str(error.value) == sentence.format(name)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"batchnorm": 1},
            "model.args.batchnorm = 1: expected true or false; write batchnorm = true",
        ),
        (
            {"dropout": 1.0},
            "model.args.dropout = 1.0: expected a number from 0 to below 1; "
            "give the fraction that is dropped, 0.5 for half",
        ),
    ],
)
def test_bad_options_of_the_cifar_net_are_named(arguments, sentence):
    with pytest.raises(UserError) as error:
        cifar(**arguments)
    assert str(error.value) == sentence


def test_the_example_of_the_page_on_models_is_a_net():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    (code,) = re.findall(r"```python\n([^`]*import Residual\n[^`]*)```", page)
    names = {}
    exec(code, names)
    net = names["build"](classes=10)
    parameters, gradients, batch = setup(net, (28, 28), 3)
    assert np.isfinite(net.gradients(parameters, gradients, batch, np.random.default_rng())["loss"])
