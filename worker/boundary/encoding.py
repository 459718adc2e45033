"""How activations, targets and gradients travel, and what does not fit. Pure.

The codes are those of `common.codecs`, without error feedback: what is sent is a value, not one
term of a sum. Nothing that a peer sends raises anything but `Misfit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ...common import codecs
from ...common.errors import RemoteError
from ...common.messages import Activations, Gradients, Targets
from ...common.rule_kernels import finite
from ...common.types import Array, Float32


class Misfit(RemoteError):
    """A peer sent what does not fit. `code` is `malformed`, `nonfinite` or `crowded`."""

    def __init__(self, key: str, value: object, expected: str, code: str = "malformed") -> None:
        """`key` is the field, `value` what it held."""
        self.code = code
        super().__init__(f"{key} = {str(value)[:80]}: expected {expected}")


def need(fits: bool, key: str, value: object, expected: str, code: str = "malformed") -> None:
    """Raise `Misfit` unless it fits."""
    if not fits:
        raise Misfit(key, value, expected, code)


@dataclass(frozen=True, slots=True)
class Coded:
    """An array on its way, not to be sent unless `finite`. For f32 `values` is the array itself."""

    encoding: str
    shape: list[int]
    values: Array
    extra: Array
    finite: bool


def encode(name: str, array: Float32) -> Coded:
    """The code of a float32 array (n, ...) in fresh buffers, for f32 the array itself."""
    assert array.dtype == np.float32
    flat = np.ascontiguousarray(array).reshape(-1)
    codec = codecs.make_codec(name)
    code = codec.encode(flat, codec.buffers(flat.size), None)
    return Coded(name, list(array.shape), code.payload, code.extra, code.finite)


def decode(
    message: Activations | Targets | Gradients, encoding: str, shape: Sequence[int] | None = None
) -> Float32:
    """The array that a message holds, fresh and finite.

    Arguments:
        encoding: the one that the job says.
        shape: what it has to be, where that is known.
    Raises:
        Misfit: it is no such array.
    """
    found = list(message.shape)
    need(message.encoding == encoding, "encoding", message.encoding, encoding)
    need(bool(found) and all(size >= 1 for size in found), "shape", found, "sizes of at least 1")
    if shape is not None:
        need(found == list(shape), "shape", found, str(list(shape)))
    # Before anything is allocated: all codes that are used here hold an element per element.
    elements = prod(found)
    need(message.values.shape == (elements,), "values", message.values.shape, str((elements,)))
    flat = np.empty(elements, np.float32)
    try:
        codecs.decode(encoding, message.values, message.extra, flat)
    except ValueError as broken:
        raise Misfit("values", broken, f"a code of {encoding}") from None
    need(finite(flat), "values", "NaN or infinity", "finite numbers", "nonfinite")
    return flat.reshape(found)
