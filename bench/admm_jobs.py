"""The jobs of `bench admm`, by keys of the job file: A, B, C of docs/admm.md, and what they are
compared with at equal compute. Pure data.

A sweep of A or B trains `PASSES` times on every image; the others get as many epochs. Rates and
schedules were chosen on a validation split (`--validation`), never on the test set.
"""

from collections.abc import Mapping
from typing import Any

PASSES = 3
"""Passes over a macro-batch: epochs of compute in one sweep."""
BATCH, MACRO, LARGE = 128, 1024, 1024
"""Samples of a minibatch, of a macro-batch, and of the large-batch baseline's minibatch."""
RATE, SIGMOID_RATE, LARGE_RATE = 1e-3, 1.2e-2, 4e-3
"""Of Adam."""
TWO, FOUR = ("relu2",), ("relu1", "relu2", "relu3")
"""The layers behind which the net is cut."""
SIGMOID = ("sigmoid2",)
UNDER_WAY, LATE = 12, 30.0
"""Macro-batches under way at once, a whole sweep over 12,000 images; and how many times slower the
upper machine must be for the lower one to send them all before the first targets come. These are 0
rounds late, the next ones 1, and the last ones 11."""

Settings = dict[str, Any]


def common(epochs: int, more: Mapping[str, Any]) -> Settings:
    """What all have in common: the net 784-256-128-64-10, Adam, one evaluation at the end."""
    return {
        "job.epochs": epochs,
        "job.evaluate_every": epochs,
        "job.checkpoint_every": 0,
        "model.args": "{hidden=[256,128,64]}",
        "data.batch_size": BATCH,
        "optimizer.rule": "adam",
        "optimizer.lr": RATE,
        "optimizer.schedule": "linear",
        "paramserver.count": 1,
        **more,
    }


def cut(coupling: str, cuts: tuple[str, ...], epochs: int, more: Mapping[str, Any]) -> Settings:
    """A net cut behind these layers, a worker a part."""
    named = ",".join(f'"{name}"' for name in cuts)
    return {
        **common(epochs, {}),
        "train.mode": "admm",
        "partition.coupling": coupling,
        "partition.cuts": f"[{named}]",
        "worker.count": len(cuts) + 1,
        **more,
    }


def agreeing(
    sweeps: int, cuts: tuple[str, ...] = TWO, coupling: str = "activations", **more: Any
) -> Settings:
    """A, or with coupling `weights` B."""
    admm = {"admm.macro_batch": MACRO, "admm.passes": PASSES}
    return cut(coupling, cuts, sweeps, {**admm, **with_dots(more)})


def sigmoid(sweeps: int) -> Settings:
    """A with a net of sigmoids."""
    net = '{hidden=[256,128,64],activation="sigmoid"}'
    return agreeing(sweeps, SIGMOID) | {"model.args": net, "optimizer.lr": SIGMOID_RATE}


def backprop(epochs: int, cuts: tuple[str, ...] = TWO, **more: Any) -> Settings:
    """Exact gradients through the same cut."""
    return cut("backprop", cuts, epochs, with_dots(more))


def large_batch(epochs: int) -> Settings:
    """The same with minibatches as large as A's macro-batches, and as few rounds."""
    return backprop(epochs) | {"data.batch_size": LARGE, "optimizer.lr": LARGE_RATE}


def whole(mode: str, epochs: int, workers: int = 2, **more: Any) -> Settings:
    """Whole nets on several workers: `local` or `easgd`."""
    return common(epochs, {"train.mode": mode, "worker.count": workers, **with_dots(more)})


def with_dots(more: Mapping[str, Any]) -> Settings:
    """`admm_wait` as the key `admm.wait`."""
    return {key.replace("_", ".", 1): value for key, value in more.items()}
