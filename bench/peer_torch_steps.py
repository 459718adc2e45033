"""The PyTorch side of `bench compute`: forward, backward and a step of SGD, eager.

`python -m dualshard.bench.peer_torch_steps NET DEVICE MEMORY FOLDER` reads the step that our side
has made (`FOLDER/step.npz`), makes the same one with each variant, fails if loss or parameters
differ, and then answers as `peers` says. Variants are the memory formats and the implementations of
SGD that PyTorch has. MEMORY is `plain` or `kept`: whether glibc is told, as it is in our roles, to
keep what is freed. On a GPU minibatches come from pinned memory, as ours do, and clocks stop when
the device has finished.
"""

import sys
from collections.abc import Mapping
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..common.runtime import keep_freed_memory
from ..common.types import Array
from .answering import serve, timed
from .peer_lane import RATE
from .torch_nets import BUILDERS, as_images, as_torch, parameters

FORMATS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
OPTIMIZERS = {"plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
LOSS_TOLERANCE = 1e-4
"""Of the loss."""
STEP_TOLERANCE, ROUNDING = 0.05, 0.001
"""How far a parameter's step may end from that of ours: of the length of the step, and of that of
all parameters together. Some have gradients that are zero but for rounding. In float32 the first
layers of ResNet-20 are 0.2 to 0.3 % from the float64 gradient on either side, and up to 1.5 % from
each other with some minibatches, as rectifiers near zero open or stay shut; a wrong kernel is off
by its whole length."""


class TorchSteps:
    """A net, its optimizer and the minibatches in one memory format."""

    def __init__(self, net: str, device: str, layout: str, optimizer: str, step: Any) -> None:
        self._device, self._format = torch.device(device), FORMATS[layout]
        self._net = BUILDERS[net]().to(self._device, memory_format=self._format)
        self._places = list(parameters(self._net))
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=RATE, **OPTIMIZERS[optimizer])
        self._start = [step[name] for name in step if name.startswith("before.")]
        self._minibatches = [
            (self._kept(as_images(inputs)), self._kept(torch.from_numpy(labels)))
            for inputs, labels in zip(step["inputs"], step["labels"], strict=True)
        ]

    def _kept(self, values: Any) -> Any:
        """Where minibatches wait for their step."""
        if values.ndim == 4:
            values = values.contiguous(memory_format=self._format)
        return values if self._device.type == "cpu" else values.pin_memory()

    def check(self, step: Mapping[str, Array]) -> None:
        """Whether the first step of each parameter is what ours is; else the program ends."""
        self._restart()
        loss, ours = float(self._step(0)), float(step["loss"])
        if not isclose(loss, ours, rel_tol=LOSS_TOLERANCE):
            raise SystemExit(f"its loss is {loss:.6f}, and ours is {ours:.6f}")
        names = [name.partition(".")[2] for name in step if name.startswith("before.")]
        moves = {name: step[f"after.{name}"] - step[f"before.{name}"] for name in names}
        whole = sum(float(np.square(move).sum()) for move in moves.values()) ** 0.5
        for (layer, parameter), (name, move) in zip(self._places, moves.items(), strict=True):
            ours_end = as_torch(layer, step[f"after.{name}"])
            far = float((parameter.detach().cpu() - ours_end).square().sum()) ** 0.5
            long = float(np.square(move).sum()) ** 0.5
            if not far <= STEP_TOLERANCE * long + ROUNDING * whole:
                problem = f"ends {far:.2g} from ours, which is {long:.2g} long"
                raise SystemExit(f"its step of {name} {problem}")

    def measure(self, seconds: float) -> float:
        """Samples/s, for at least so many seconds."""
        self._restart()
        self._step(0)
        self._wait()
        rate = timed(self._step, seconds, self._wait) * len(self._minibatches[0][1])
        if not self._step(0).isfinite():
            raise SystemExit("its loss is not finite")
        return rate

    def _restart(self) -> None:
        """Go back to our first parameters."""
        with torch.no_grad():
            for (layer, parameter), start in zip(self._places, self._start, strict=True):
                parameter.copy_(as_torch(layer, start))

    def _step(self, number: int) -> Any:
        """One step on a minibatch, and its loss before it."""
        inputs, labels = self._minibatches[number % len(self._minibatches)]
        inputs = inputs.to(self._device, non_blocking=True)
        labels = labels.to(self._device, non_blocking=True)
        self._optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self._net(inputs), labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def main() -> None:
    """Check every variant, then answer."""
    net, device, memory, folder = *sys.argv[1:4], Path(sys.argv[4])
    torch.set_num_threads(1)
    if memory == "kept":
        keep_freed_memory()
    with np.load(folder / "step.npz", allow_pickle=False) as file:
        step = dict(file)
    images = any(values.ndim == 4 for name, values in step.items() if name.startswith("before."))
    variants = {}
    for layout in FORMATS if images else ["NCHW"]:
        for optimizer in OPTIMIZERS:
            side = TorchSteps(net, device, layout, optimizer, step)
            side.check(step)
            variants[f"{layout}, {optimizer} SGD"] = side.measure
    serve(variants)


if __name__ == "__main__":
    main()
