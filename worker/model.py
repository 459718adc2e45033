"""The contract of a model: named parameters, and one call that turns a batch into gradients.

Anything that fills these four methods can be trained: `--model file.py:build`, where `build` is
called with `model.args` and returns a `Model`. It is called once per compute thread, so that a
model may keep scratch buffers without any lock.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..common.sharding import SHARD_ELEMENTS
from ..common.types import Array, Arrays, Float32, Metrics

Shapes = dict[str, tuple[int, ...]]
Ready = Callable[[int], None]
Factors = tuple[Array, Array]
"""Activations (k, inputs) and error vectors (k, outputs) of k samples, float32."""


class Pace(NamedTuple):
    """How plain SGD steps a parameter: p -= shrink p + rate g."""

    rate: float
    shrink: float = 0.0


def as_float32(inputs: Array) -> Float32:
    """Images in bytes as float32 in [0, 1]; float32 as it is."""
    if inputs.dtype == np.uint8:
        return np.multiply(inputs, np.float32(1 / 255), dtype=np.float32)
    return inputs


class Model(ABC):
    """A net whose parameters and gradients are float32 arrays owned by the worker.

    The worker hands in the arrays by name; they are views into one flat vector. With several
    threads, `parameters` is shared and may change between any two reads (lock-free training);
    `gradients`, `batch` and `rng` belong to the calling thread alone.
    """

    @abstractmethod
    def shapes(self) -> Shapes:
        """The name and shape of every parameter, in the order of the flat vector."""

    @abstractmethod
    def start(self, parameters: Mapping[str, Float32], rng: np.random.Generator) -> None:
        """Fill `parameters` with their first values, in place. Same `rng`, same values."""

    @abstractmethod
    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        """Write d(mean loss over the batch)/d(parameter) into every array of `gradients`.

        Arguments:
            batch: inputs (n, ...) float32 and labels (n,) int64; 1 <= n <= `data.batch_size`.
            rng: the thread's own random stream (dropout and the like).
        Returns:
            `loss` and what else the model measures (`accuracy`), means over the batch.
        """

    @abstractmethod
    def evaluate(self, parameters: Mapping[str, Float32], batch: Arrays) -> Metrics:
        """The same measures without gradients or randomness; any n >= 1."""

    def decayed(self, name: str) -> bool:
        """Whether weight decay applies to a parameter: weights yes, biases (one axis) no."""
        return len(self.shapes()[name]) > 1

    def averaged(self, name: str) -> bool:
        """Whether a parameter is a running average, such as the statistics of a BatchNorm, and not
        trained: no by default.

        What `gradients` writes for it is how far it is to go back, momentum * (running - batch):
        whoever steps does p -= g there, without rate, rule, decay or clipping.
        """
        return False

    # Optional, for a GPU.

    def use(self, xp: ModuleType) -> bool:
        """Compute on arrays of the module `xp`, numpy or cupy, from now on; whether it can.

        On a GPU `parameters`, `gradients` and `batch` are CuPy arrays, work goes to the calling
        thread's current stream, and measures may stay there as arrays of one element: who waits for
        one holds up all that could run meanwhile.
        """
        return xp is np

    def check(self, batch: Arrays) -> None:
        """Refuse a batch that does not fit, while it is on the host: raise a `UserError`. Called
        before each batch goes to a GPU, where looking at it would hold up the rest."""
        return

    # Optional. A model that leaves these alone is trained all the same, with more to send at once.

    def on_ready(self, callback: Ready | None, granule: int = SHARD_ELEMENTS) -> None:
        """Ask that `gradients` call back while it runs, to send what is ready; None: no more.

        From the thread that computes, `callback(begin)` says that the elements from `begin` to the
        end of the flat gradient are final. `begin` falls from call to call, by `granule` or more
        except for the last: a model that calls back ends with 0, before `gradients` returns.
        """
        return

    def factors(self) -> Mapping[str, Factors]:
        """Pairs (a, d) with gradient a^T d, for weights whose last gradient has this form.

        For each such weight (m, n) and k samples: a (k, m) are the layer's inputs and d (k, n) the
        derivatives of the mean loss (1/k included) with respect to its linear outputs: less to
        send where k (m + n) < m n (T. Chilimbi et al., "Project Adam", OSDI 2014, section 3.2).
        Views of scratch, or of the batch: valid until the next call of `gradients` or `evaluate`.
        Inside of `callback(begin)` those of the weights from `begin` on hold already.
        """
        return {}

    def skip_products(self, names: Collection[str]) -> None:
        """Leave the gradients of these weights unwritten from now on: `factors` are all one wants.

        Replaces the names given before. Names that `factors` does not offer are ignored.
        """
        return

    def descend(
        self,
        parameters: Mapping[str, Float32],
        batches: Sequence[Arrays],
        paces: Mapping[str, Pace],
        random: Callable[[int], np.random.Generator],
    ) -> list[Metrics] | None:
        """Make a step of plain SGD for each minibatch, in place: p -= shrink p + rate g.

        Workers that step by themselves (modes `local` and `easgd`) ask for it: a model that offers
        it can leave out what `gradients` must write, and Python's lock between two steps. The
        result is that of `gradients` and a step, batch by batch, but for rounding.

        Arguments:
            parameters: written here, and perhaps by other threads at the same time.
            batches: inputs (n, ...) float32, or uint8 that count 1/255, and labels (n,) int64.
            paces: of every parameter, by name.
            random: `random(i)` is the stream of minibatch i, valid until the next call.
        Returns:
            the measures of each minibatch, before its step; None where it is not offered: nothing
            has changed then.
        """
        return None
