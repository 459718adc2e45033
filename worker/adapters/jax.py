"""A JAX loss function and its parameter tree as a `Model`. The only file that imports jax.

`init(key)` returns a tree of float32 arrays; `loss(tree, inputs, labels)` the mean loss over the
batch. A leaf is named by its path, `dense/kernel`. The tree that `loss` is given is read from views
of the worker's vector, and each gradient is copied once, from where XLA made it to its place.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...common.errors import UserError
from ...common.types import Arrays, Float32, Metrics
from ..model import Model, Shapes

_ROWS = 256
"""Samples that `evaluate` takes at a time."""


class JaxModel(Model):
    """A pure function that learns. Any number of lanes may run what is compiled for one.

    `loss` returns one number, or a pair of it and either a dictionary of measures or the outputs
    (n, k), of which `accuracy` is measured. A parameter of it that is called `key` is given a key
    of the minibatch's own random stream while training, and None in an evaluation.

    It computes where JAX does by default, and the worker's arrays stay on the host.
    """

    def __init__(self, init: Callable[..., Any], loss: Callable[..., Any], ref: str) -> None:
        """Trace `init` for the shapes of its tree; nothing is computed.

        Raises:
            UserError: a leaf is not of float32, or two have the same path.
        """
        self._init = init
        tree = jax.eval_shape(init, jax.random.key(0))
        leaves, self._tree = jax.tree_util.tree_flatten_with_path(tree)
        self._leaves = {_name(path): leaf for path, leaf in leaves}
        if len(self._leaves) < len(leaves):
            fix = f"two leaves of {', '.join(self._leaves)} have the same"
            raise UserError("model.ref", ref, "a path for each parameter", fix)
        for name, leaf in self._leaves.items():
            if leaf.dtype != np.float32:
                fix = f"{name} is {leaf.dtype}: let init() return jnp.float32"
                raise UserError("model.ref", ref, "parameters of float32", fix)
        self._gradients, self._value = _compiled(loss, ref)

    def shapes(self) -> Shapes:
        return {name: tuple(leaf.shape) for name, leaf in self._leaves.items()}

    def start(self, parameters: Mapping[str, Float32], rng: np.random.Generator) -> None:
        self._write(parameters, self._init(_key(rng)))

    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        tree = self._read(parameters)
        (loss, measures), slopes = self._gradients(tree, *batch, _key(rng))
        self._write(gradients, slopes)
        return {"loss": float(loss)} | {name: float(value) for name, value in measures.items()}

    def evaluate(self, parameters: Mapping[str, Float32], batch: Arrays) -> Metrics:
        tree, totals = self._read(parameters), dict[str, float]()
        for begin in range(0, len(batch[1]), _ROWS):
            inputs, labels = (array[begin : begin + _ROWS] for array in batch)
            loss, measures = self._value(tree, inputs, labels, None)
            for name, mean in ({"loss": loss} | measures).items():
                totals[name] = totals.get(name, 0.0) + float(mean) * len(labels)
        return {name: total / len(batch[1]) for name, total in totals.items()}

    def _read(self, parameters: Mapping[str, Float32]) -> Any:
        """The parameters as the tree that `loss` knows."""
        return jax.tree.unflatten(self._tree, [parameters[name] for name in self._leaves])

    def _write(self, arrays: Mapping[str, Float32], tree: Any) -> None:
        """Copy the leaves of a tree into the worker's arrays."""
        for name, leaf in zip(self._leaves, jax.tree.leaves(tree), strict=True):
            arrays[name][...] = leaf


@lru_cache
def _compiled(loss: Callable[..., Any], ref: str) -> tuple[Any, Any]:
    """`loss` with its gradient, and alone; both return measures too. Compiled once a process, for
    all lanes, and once more for each size of a batch."""
    keyed = "key" in inspect.signature(loss).parameters

    def measured(tree: Any, inputs: Any, labels: Any, key: Any) -> tuple[Any, dict[str, Any]]:
        found = loss(tree, inputs, labels, **({"key": key} if keyed else {}))
        value, more = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        if jnp.shape(value) != ():
            fix = f"loss() returned {jnp.shape(value)}"
            raise UserError("model.ref", ref, "a loss of one number", fix)
        if isinstance(more, Mapping):
            return value, dict(more)
        classes = labels if labels.ndim == 1 else jnp.argmax(labels, axis=-1)
        return value, {"accuracy": jnp.mean(jnp.argmax(more, axis=-1) == classes)}

    return jax.jit(jax.value_and_grad(measured, has_aux=True)), jax.jit(measured)


def _key(rng: np.random.Generator) -> Any:
    return jax.random.key(int(rng.integers(2**31)))


_PARTS = ("key", "idx", "name")
"""Where the kinds of entries of a path keep what they are called."""


def _name(path: tuple[Any, ...]) -> str:
    """`dense/kernel` of a leaf's path; a tree that is one array is called `parameters`."""
    parts = (
        next(getattr(entry, part) for part in _PARTS if hasattr(entry, part)) for entry in path
    )
    return "/".join(map(str, parts)) or "parameters"
