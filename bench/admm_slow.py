"""Parts `slow` and `replicas` of `bench admm`: machines of different speed."""

from typing import Any

from .admm_accuracy import BACKPROP, on
from .admm_jobs import PASSES, agreeing, backprop, common, with_dots
from .admm_runs import (
    SLOWER,
    SMALL,
    Found,
    Ground,
    Side,
    accuracy_row,
    less_row,
    percent,
    promise_row,
    within_row,
)
from .report import Row

SWEEPS = 4
PARTS = ("lower", "upper")
"""What the slow machine holds, by rank."""
PROMISED = 93.0
"""Test accuracy in per cent of asynchronous A with a slow machine."""

WORKERS, STRAGGLER = 4, 3
STEP = 0.02
"""Seconds that a step of a replica sleeps, so that four fit on two cores; the straggler's last
`SLOWER` times as long."""
EPOCHS, BATCH, STEPS = 6, 32, 16
"""Of replicas: passes over the images, samples of a minibatch, steps between two rounds."""
QUORUM = 0.75
PARTIAL, FULL, AVERAGED = "C, 75 % barrier", "C, full barrier", "local SGD, full barrier"
TWICE, WITHIN = 2.0, 1.0
"""Times as fast as the full barrier; points of accuracy."""


def slow_sides() -> dict[str, Side]:
    """A and backprop, with either machine slow."""
    ours, exact = agreeing(SWEEPS, admm_wait=False), backprop(SWEEPS * PASSES)
    return {
        **{named("A, asynchronous", part): Side(ours, rank) for rank, part in enumerate(PARTS)},
        **{named(BACKPROP, part): Side(exact, rank) for rank, part in enumerate(PARTS)},
    }


def named(side: str, part: str) -> str:
    """A side, with the machine of this part slow."""
    return f"{side}, {part} machine {SLOWER:g} times slower"


def bench_slow(ground: Ground) -> list[Row]:
    """12,000 images, two parts; one process stands still two thirds of the time."""
    return slow_rows(ground.run(on(slow_sides(), ground.source(SMALL)), "slow"))


def slow_rows(found: Found) -> list[Row]:
    """The promise for either machine, and backprop beside it."""
    rows = []
    for part in PARTS:
        name, other = named("A, asynchronous", part), named(BACKPROP, part)
        ours, exact = found[name], found[other]
        rows += [
            promise_row(f"12k, {name}", ours, PROMISED),
            accuracy_row(f"12k, {name}, against {BACKPROP}", ours, exact),
            less_row(
                f"12k, {name}: time to the end, against {BACKPROP}",
                "s",
                [run.seconds for run in ours],
                [run.seconds for run in exact],
            ),
        ]
    return rows


def replica_sides() -> dict[str, Side]:
    """Consensus with a partial and a full barrier, and periodic averaging beside it."""
    admm = {"train_mode": "admm", "partition_coupling": "replicas"}
    return {
        PARTIAL: Side(_replicas(**admm, admm_quorum=QUORUM, job_epoch_quorum=QUORUM)),
        FULL: Side(_replicas(**admm, admm_quorum=1.0)),
        AVERAGED: Side(_replicas(train_mode="local")),
    }


def _replicas(**more: Any) -> dict[str, Any]:
    model = f"seconds={STEP}, slower={SLOWER:g}, straggler={STRAGGLER}, hidden=[256,128,64]"
    sleeping = {
        "model.ref": "dualshard.bench.sleepy:build",
        "model.args": f"{{{model}}}",
        "data.batch_size": BATCH,
        "dataserver.portion": 4,
        "train.n_push": STEPS,
        "worker.count": WORKERS,
    }
    return common(EPOCHS, {**sleeping, **with_dots(more)})


def bench_replicas(ground: Ground) -> list[Row]:
    """12,000 images, dealt out at random to four workers with whole nets, one of them slow."""
    return replica_rows(ground.run(on(replica_sides(), ground.source(SMALL)), "replicas"))


def replica_rows(found: Found) -> list[Row]:
    """That the partial barrier is twice as fast, and about as good."""
    partial, full, averaged = found[PARTIAL], found[FULL], found[AVERAGED]
    rows = [
        less_row(
            f"12k, {PARTIAL}: time to the end, against {other}",
            "s",
            [run.seconds for run in partial],
            [run.seconds for run in runs],
            goal,
        )
        for other, runs, goal in ((FULL, full, TWICE), (AVERAGED, averaged, None))
    ]
    return [
        rows[0],
        within_row(f"12k, {PARTIAL}", percent(partial), percent(full), WITHIN, FULL),
        rows[1],
        accuracy_row(f"12k, {PARTIAL}, against {AVERAGED}", partial, averaged),
    ]
