"""The PyTorch side of `bench compute`: forward, backward and a step of SGD, eager.

`python -m dualshard.bench.peer_torch_steps NET DEVICE FOLDER` reads the step that our side has made
(`FOLDER/step.npz`), makes the same one with each variant, fails if loss or parameters differ, and
then answers as `peers` says. Variants are the memory formats and the implementations of SGD that
PyTorch has; on a GPU minibatches come from pinned memory, as ours do, and clocks stop when the
device has finished.
"""

import sys
from collections.abc import Mapping
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..common.types import Array
from .answering import serve, timed
from .peer_lane import RATE
from .torch_nets import BUILDERS, as_images, as_torch, parameters

FORMATS = {"NCHW": torch.contiguous_format, "channels last": torch.channels_last}
OPTIMIZERS = {"plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
LOSS_TOLERANCE = 1e-4
"""Of the loss."""
STEP_TOLERANCE = 0.01
"""Of the length of the step: how far its end may lie from that of ours."""


class TorchSteps:
    """A net, its optimizer and the minibatches in one memory format."""

    def __init__(self, net: str, device: str, layout: str, optimizer: str, step: Any) -> None:
        self._device, self._format = torch.device(device), FORMATS[layout]
        self._net = BUILDERS[net]().to(self._device, memory_format=self._format)
        self._places = list(parameters(self._net))
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=RATE, **OPTIMIZERS[optimizer])
        self._start = values(step, "before")
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
        """Whether the first step is what ours is; else the program ends."""
        self._restart()
        loss, ours = float(self._step(0)), float(step["loss"])
        if not isclose(loss, ours, rel_tol=LOSS_TOLERANCE):
            raise SystemExit(f"its loss is {loss:.6f}, and ours is {ours:.6f}")
        far, long = 0.0, 0.0
        for (layer, parameter), before, after in zip(
            self._places, self._start, values(step, "after"), strict=True
        ):
            end = parameter.detach().cpu()
            far += float((end - as_torch(layer, after)).square().sum())
            long += float(np.square(after - before).sum())
        if not far <= STEP_TOLERANCE**2 * long:
            raise SystemExit(
                f"its step ends {far**0.5:.2g} from ours, which is {long**0.5:.2g} long"
            )

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


def values(step: Mapping[str, Array], moment: str) -> list[Array]:
    """Our parameters `before` or `after` the step, in their order."""
    return [step[name] for name in step if name.startswith(f"{moment}.")]


def main() -> None:
    """Check every variant, then answer."""
    net, device, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    with np.load(folder / "step.npz", allow_pickle=False) as file:
        step = dict(file)
    images = any(layer.ndim == 4 for layer in values(step, "before"))
    variants = {}
    for layout in FORMATS if images else ["NCHW"]:
        for optimizer in OPTIMIZERS:
            side = TorchSteps(net, device, layout, optimizer, step)
            side.check(step)
            variants[f"{layout}, {optimizer} SGD"] = side.measure
    serve(variants)


if __name__ == "__main__":
    main()
