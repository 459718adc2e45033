"""A PyTorch module and its loss as a `Model`. The only file of a worker that imports torch.

The module's parameters become views of the worker's flat vector, and their `.grad` views of the
flat gradient, so that nothing is copied between the two: NumPy arrays through shared memory, CuPy
arrays through DLPack. Names are those of `state_dict()`.

Persistent buffers of floats (the running statistics of batch normalisation) are averaged state: a
lane's module updates a copy of its own, and the difference before - after goes where a gradient
would, so that whoever steps with p -= g has the module's own update. All other buffers (counts,
constants that are not saved) stay in the lane.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ...common.errors import UserError
from ...common.types import Arrays, Float32, Metrics
from ..layout import Parameters
from ..model import Model, Shapes

_ROWS = 256
"""Samples that `evaluate` takes at a time."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a tensor of the module hangs: `owner.name`."""

    owner: Any
    name: str
    tensor: Any
    averaged: bool

    def now(self) -> Any:
        """The tensor that hangs there now: a module may have replaced it."""
        held = self.owner._buffers if self.averaged else self.owner._parameters
        return held.get(self.name)


class TorchModel(Model):
    """A module that learns with a loss. One instance serves one lane, with a module of its own.

    `loss(outputs, labels)` returns the mean over the batch as a tensor of one number, or a pair of
    that and a dictionary of measures; None is cross-entropy. `accuracy` is measured where outputs
    are (n, k) with k >= 2.

    Random numbers (dropout) come from PyTorch's one generator a process, which each minibatch seeds
    anew from its own stream. So with one compute thread a minibatch has the same numbers whenever
    it is computed; threads that compute at the same time draw from it in any order.
    PyTorch itself is held to one thread, as the worker has threads of its own.

    Arrays of CuPy are wrapped where they lie, and the module is moved there; of this nothing has
    been run on a GPU.
    """

    def __init__(self, module: Any, loss: Any, ref: str, classes: int) -> None:
        """Take a module over.

        Raises:
            UserError: the loss cannot be called, or a parameter is lazy, or not of float32.
        """
        torch.set_num_threads(1)
        self._module, self._loss, self._ref, self._classes = module, loss, ref, classes
        if loss is not None and not callable(loss):
            raise self._wrong("a loss that can be called", f"it is of type {type(loss).__name__}")
        self._slots = dict(_slots(module))
        for name, slot in self._slots.items():
            self._check(name, slot)
        self._shapes = {name: tuple(slot.tensor.shape) for name, slot in self._slots.items()}
        self._first = {name: slot.tensor.detach().clone() for name, slot in self._slots.items()}
        self._at: tuple[Any, Any] = (None, None)
        self._values: dict[str, Any] = {}
        self._slopes: dict[str, Any] = {}

    def _check(self, name: str, slot: _Slot) -> None:
        if isinstance(slot.tensor, torch.nn.parameter.UninitializedTensorMixin):
            fix = f"{name} has none yet: run a batch through the module in the builder"
            raise self._wrong("parameters of a known shape", fix)
        if slot.tensor.dtype != torch.float32:
            fix = f"{name} is {slot.tensor.dtype}: build the module with .float()"
            raise self._wrong("parameters of torch.float32", fix)

    def _wrong(self, expected: str, found: str) -> UserError:
        return UserError("model.ref", self._ref, expected, found)

    def use(self, xp: ModuleType) -> bool:
        return xp is np or torch.cuda.is_available()

    def shapes(self) -> Shapes:
        return {name: tuple(slot.tensor.shape) for name, slot in _slots(self._module)}

    def start(self, parameters: Mapping[str, Float32], rng: np.random.Generator) -> None:
        """The values that the module was built with: the worker seeds PyTorch before it builds."""
        for name, first in self._first.items():
            _tensor(parameters[name]).copy_(first)

    def decayed(self, name: str) -> bool:
        slot = self._slots[name]
        return len(self._shapes[name]) > 1 and not slot.averaged and slot.tensor.requires_grad

    def averaged(self, name: str) -> bool:
        return self._slots[name].averaged

    def gradients(
        self,
        parameters: Mapping[str, Float32],
        gradients: Mapping[str, Float32],
        batch: Arrays,
        rng: np.random.Generator,
    ) -> Metrics:
        with _stream_of(batch[0]):
            self._point(parameters, gradients)
            self._seed(int(rng.integers(2**63)))
            if not self._module.training:
                self._module.train()
            self._begin()
            loss, measures = self._measure(*map(_tensor, batch))
            if not loss.requires_grad:
                raise self._wrong("a loss that depends on the parameters", "it has no gradient")
            loss.backward()
            self._end()
            return measures

    def evaluate(self, parameters: Mapping[str, Float32], batch: Arrays) -> Metrics:
        totals: Metrics = {}
        with _stream_of(batch[0]), torch.no_grad():
            self._point(parameters, None)
            if self._module.training:
                self._module.eval()
            for name, slot in self._averaged():
                slot.now().copy_(self._values[name])
            for begin in range(0, len(batch[1]), _ROWS):
                inputs, labels = (_tensor(array[begin : begin + _ROWS]) for array in batch)
                for name, mean in self._measure(inputs, labels)[1].items():
                    totals[name] = totals.get(name, 0.0) + float(mean) * len(labels)
        return {name: total / len(batch[1]) for name, total in totals.items()}

    def _seed(self, number: int) -> None:
        """What `torch.manual_seed` does for the device in use, at a hundredth of its time."""
        torch.default_generator.manual_seed(number)
        if next(iter(self._values.values())).is_cuda:
            torch.cuda.manual_seed(number)

    def _averaged(self) -> Iterator[tuple[str, _Slot]]:
        return ((name, slot) for name, slot in self._slots.items() if slot.averaged)

    def _point(self, parameters: Mapping[str, Any], gradients: Mapping[str, Any] | None) -> None:
        """Let the module's parameters and their gradients be these arrays."""
        fixed = isinstance(parameters, Parameters)  # always the same arrays
        if not fixed or parameters is not self._at[0]:
            self._values = {name: _tensor(parameters[name]) for name in self._slots}
            self._module.to(next(iter(self._values.values())).device)
            for name, slot in self._slots.items():
                if not slot.averaged:
                    slot.tensor.grad = None
                    slot.tensor.data = self._values[name]
            self._at = (parameters, None)
        if gradients is not None and (not fixed or gradients is not self._at[1]):
            self._slopes = {name: _tensor(gradients[name]) for name in self._slots}
            self._at = (parameters, gradients)

    def _begin(self) -> None:
        """Before a training step: gradients of zero, and averaged state as it is now."""
        with torch.no_grad():
            for name, slot in self._slots.items():
                slope = self._slopes[name]
                if slot.averaged:
                    slope.copy_(self._values[name])
                    slot.now().copy_(slope)
                    continue
                slope.zero_()
                if slot.tensor.requires_grad:
                    slot.tensor.grad = slope

    def _end(self) -> None:
        """After a training step: how far the averaged state went; no tensor was replaced."""
        for name, slot in self._slots.items():
            now, slope = slot.now(), self._slopes[name]
            if slot.averaged:
                now = slot.owner._buffers[slot.name] = now.detach()
                slope.sub_(now)
            elif now is not slot.tensor or now.data_ptr() != self._values[name].data_ptr():
                fix = f"{name} was replaced while it computed: write into it instead"
                raise self._wrong("parameters that stay where they are", fix)
            elif now.requires_grad and now.grad is not slope:
                fix = f"that of {name} was replaced: leave .grad alone"
                raise self._wrong("gradients that stay where they are", fix)

    def _measure(self, inputs: Any, labels: Any) -> tuple[Any, dict[str, Any]]:
        """The loss as a tensor, and all measures."""
        outputs = self._module(inputs)
        if self._loss is None:
            self._check_outputs(outputs, len(labels))
            loss: Any = torch.nn.functional.cross_entropy(outputs, labels)
        else:
            loss = self._loss(outputs, labels)
        own: Any = {}
        if isinstance(loss, tuple) and len(loss) == 2:
            loss, own = loss
        if not isinstance(own, dict):
            found = f"it is of type {type(own).__name__}"
            raise self._wrong("a dictionary of measures beside the loss", found)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise self._wrong("a loss of one number", f"loss() returned {shape}")
        measures = {"loss": float(loss.detach())}
        if _are_scores(outputs, len(labels)):
            classes = labels if labels.ndim == 1 else labels.argmax(1)
            right = int((outputs.detach().argmax(1) == classes).sum())
            measures["accuracy"] = right / len(labels)
        return loss, measures | {name: _plain(value) for name, value in own.items()}

    def _check_outputs(self, outputs: Any, samples: int) -> None:
        shape = (
            tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        )
        if not _are_scores(outputs, samples, self._classes):
            expected = f"outputs of shape {(samples, self._classes)}, a number for each class"
            raise self._wrong(expected, f"forward() returned {shape}")


def _plain(value: Any) -> Any:
    """A measure without the graph that it came from."""
    return value.detach() if isinstance(value, torch.Tensor) else value


def _are_scores(outputs: Any, samples: int, least: int = 2) -> bool:
    """Whether a module's outputs are (samples, k), k >= least."""
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        return False
    return len(outputs) == samples and outputs.shape[1] >= least


def _slots(module: Any) -> Iterator[tuple[str, _Slot]]:
    """All that is trained or averaged, named and ordered as in `state_dict()`.

    A parameter that hangs at two places (tied weights) is named after the first.
    """
    seen: set[int] = set()
    for prefix, owner in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, tensor in owner._parameters.items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield dot + name, _Slot(owner, name, tensor, False)
        for name, tensor in owner._buffers.items():
            saved = tensor is not None and name not in owner._non_persistent_buffers_set
            if saved and tensor.is_floating_point():
                yield dot + name, _Slot(owner, name, tensor, True)


def _stream_of(array: Any) -> AbstractContextManager[Any]:
    """Within it PyTorch gives its work to the stream that CuPy gives its own to."""
    if isinstance(array, np.ndarray):
        return nullcontext()
    cupy: Any = import_module("cupy")
    stream: Any = torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr)
    within: AbstractContextManager[Any] = torch.cuda.stream(stream)
    return within


def _tensor(array: Any) -> Any:
    """A tensor on the memory of a NumPy or CuPy array."""
    if not isinstance(array, np.ndarray):
        return torch.from_dlpack(array)
    # PyTorch has no read-only tensors, and what came by the wire is read-only.
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
