"""Ready-made nets for images, by name: `--model lenet`. Only recipes; see `zoo.py` for the list.

All end in softmax and cross-entropy and take the shape of their images, (height, width) or (height,
width, channels), and the number of classes from the data. Weights start as He's, those of the last
layer as Xavier's. `label_smoothing` is that of `SoftmaxCrossEntropy`.
"""

from collections.abc import Sequence

from . import arguments
from .nn.activations import ReLU
from .nn.chain import Chain
from .nn.convolution import Conv2D
from .nn.dense import Dense
from .nn.dropout import Dropout
from .nn.initialisers import xavier_uniform
from .nn.layer import Layer, Sample
from .nn.losses import SoftmaxCrossEntropy
from .nn.norm import BatchNorm
from .nn.pooling import GlobalAveragePool, MaxPool
from .nn.residual import Residual
from .nn.sequential import Sequential


def lenet(
    sample_shape: Sequence[int] = (28, 28), classes: int = 10, label_smoothing: float = 0.0
) -> Sequential:
    """Two 5x5 convolutions of 16 and 32 channels, each with ReLU and 2x2 maximum, then 128 units.

    After Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
    recognition", 1998, section 2, in today's form: more channels, rectifiers, maxima.

    Raises:
        UserError: the samples are no images of at least 16x16, or `classes` is out of range.
    """
    return _lenet("lenet", sample_shape, classes, False, label_smoothing)


def lenet_bn(
    sample_shape: Sequence[int] = (28, 28), classes: int = 10, label_smoothing: float = 0.0
) -> Sequential:
    """`lenet` with batch normalisation before each ReLU; convolutions have no biases."""
    return _lenet("lenet_bn", sample_shape, classes, True, label_smoothing)


def cifar(
    sample_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    batchnorm: bool = False,
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
) -> Sequential:
    """Three blocks of two 3x3 convolutions and a 2x2 maximum, of 32, 64 and 128 channels.

    After the blocks 128 units; ReLU after each layer but the last. The pairs of 3x3 convolutions
    are those of K. Simonyan, A. Zisserman, "Very deep convolutional networks", ICLR 2015.

    Arguments:
        batchnorm: normalise before each ReLU; convolutions have no biases then.
        dropout: the fraction that is dropped before each of the two dense layers.
    Raises:
        UserError: the samples are no images of at least 8x8, or an argument is out of range.
    """
    *_, channels = sample = arguments.image("cifar", sample_shape, 8)
    arguments.flag("batchnorm", batchnorm)
    fix = "give the fraction that is dropped, 0.5 for half"
    arguments.number("dropout", dropout, "a number from 0 to below 1", fix, below=1)
    layers: list[Layer] = []
    for filters in (32, 64, 128):
        layers += _convolution(channels, filters, 3, batchnorm, padding=1)
        layers += [*_convolution(filters, filters, 3, batchnorm, padding=1), MaxPool(2)]
        channels = filters
    loss = SoftmaxCrossEntropy(label_smoothing)
    return _topped(layers, sample, classes, batchnorm, loss, dropout)


def resnet20(
    sample_shape: Sequence[int] = (32, 32, 3), classes: int = 10, label_smoothing: float = 0.0
) -> Sequential:
    """A 3x3 convolution, nine residual blocks of two, the mean over the image, one dense layer.

    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016,
    section 4.2 with n = 3: three stages of 16, 32 and 64 channels, the second and third beginning
    with stride 2. Where the shape changes the shortcut is a 1x1 convolution with batch
    normalisation (their option B; the paper's nets for CIFAR have option A, which pads with zeros).

    Raises:
        UserError: the samples are no images, or `classes` is out of range.
    """
    *_, channels = sample = arguments.image("resnet20", sample_shape, 1)
    arguments.classes(classes)
    layers = _convolution(channels, 16, 3, batchnorm=True, padding=1)
    channels = 16
    for filters, first in ((16, 1), (32, 2), (64, 2)):
        for stride in (first, 1, 1):
            layers += [_block(channels, filters, stride), ReLU()]
            channels = filters
    layers += [GlobalAveragePool(), Dense(channels, classes, xavier_uniform)]
    return Sequential(layers, SoftmaxCrossEntropy(label_smoothing), sample_shape=sample)


def _lenet(
    net: str, shape: Sequence[int], classes: int, batchnorm: bool, label_smoothing: float
) -> Sequential:
    *_, channels = sample = arguments.image(net, shape, 16)
    layers: list[Layer] = []
    for filters in (16, 32):
        layers += [*_convolution(channels, filters, 5, batchnorm), MaxPool(2)]
        channels = filters
    return _topped(layers, sample, classes, batchnorm, SoftmaxCrossEntropy(label_smoothing))


def _topped(
    layers: Sequence[Layer],
    sample: Sample,
    classes: int,
    batchnorm: bool,
    loss: SoftmaxCrossEntropy,
    dropout: float = 0.0,
) -> Sequential:
    """A net of convolutions with 128 hidden units and one output a class on top."""
    arguments.classes(classes)
    height, width, channels = Chain(layers).outputs(sample)
    dropped: list[Layer] = [Dropout(dropout)] if dropout else []
    hidden: list[Layer] = [Dense(height * width * channels, 128)]
    hidden += [BatchNorm(128), ReLU()] if batchnorm else [ReLU()]
    again: list[Layer] = [Dropout(dropout)] if dropout else []
    last = Dense(128, classes, xavier_uniform)
    net = [*layers, *dropped, *hidden, *again, last]
    return Sequential(net, loss, sample_shape=sample)


def _convolution(
    inputs: int, outputs: int, kernel: int, batchnorm: bool, padding: int = 0
) -> list[Layer]:
    """A convolution and ReLU; with batch normalisation between, it needs no bias."""
    convolution = Conv2D(inputs, outputs, kernel, padding=padding, bias=not batchnorm)
    return [convolution, BatchNorm(outputs), ReLU()] if batchnorm else [convolution, ReLU()]


def _block(inputs: int, outputs: int, stride: int) -> Residual:
    """Two 3x3 convolutions, the first with `stride`, around which the inputs take a shortcut."""
    body: list[Layer] = [
        *(Conv2D(inputs, outputs, 3, stride, padding=1, bias=False), BatchNorm(outputs), ReLU()),
        *(Conv2D(outputs, outputs, 3, padding=1, bias=False), BatchNorm(outputs)),
    ]
    if stride == 1 and inputs == outputs:
        return Residual(body)
    return Residual(body, [Conv2D(inputs, outputs, 1, stride, bias=False), BatchNorm(outputs)])
