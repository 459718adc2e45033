"""`bench straggler`: four workers, one ten times slower; how long each mode takes to an accuracy.

Twice: on the simulated cluster, in simulated seconds, where nothing but the modes' rules makes the
difference; and with real processes whose steps sleep, so that four workers fit on any machine. A
step lasts 10 ms, one of the straggler 100 ms. The quorum of 0.75 holds for steps and for epochs:
otherwise an epoch would end only when the straggler is done with its last portion.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..common.errors import RoleError
from ..common.job import Job
from .report import Row, compare, number
from .runs import Run, train_cluster
from .simulated import Simulation

WORKERS = 4
STEP = 0.01
"""Seconds of a step."""
SLOWER = 10
"""Times; the straggler is the last worker."""
TARGET = 0.90
"""Test accuracy on the digits inside of scikit-learn."""
WITHIN = 1.3
"""What a quorum is to keep the time to: times that without a straggler."""
UNDISTURBED = "bsp, no straggler"
QUORUM = "bsp with a quorum of 0.75"
BSP, SSP, ASYNC = "bsp", "ssp", "async"
MODES: Mapping[str, Mapping[str, Any]] = {
    UNDISTURBED: {"train.mode": "bsp"},
    BSP: {"train.mode": "bsp"},
    QUORUM: {"train.mode": "bsp", "train.quorum": 0.75, "job.epoch_quorum": 0.75},
    SSP: {"train.mode": "ssp"},
    ASYNC: {"train.mode": "async", "train.in_flight": 1},
}
SETTINGS: Mapping[str, Any] = {
    "job.epochs": 10,
    "job.evaluate_every": 0.1,
    "data.source": "digits",
    "data.batch_size": 16,
    "dataserver.portion": 2,
    "paramserver.count": 1,
    "worker.count": WORKERS,
}
PLACES = ("simulated", "processes")

Found = Mapping[str, Sequence[float]]
"""Seconds to `TARGET` by mode, a number a round."""


def bench_straggler(rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Seconds to an accuracy in each mode, against the same without a straggler.

    Arguments:
        rounds: interleaved rounds, each with a seed of its own; of real processes a run that
            compiles what is to be compiled goes before them.
    Raises:
        RoleError: a run failed.
    """
    rows = []
    with TemporaryDirectory(prefix="dualshard-") as folder:
        for place in PLACES:
            found: dict[str, list[float]] = {mode: [] for mode in MODES}
            if place != "simulated":
                _real(UNDISTURBED, 0, Path(folder) / "warm-up", {"job.epochs": 1})
            for turn in range(rounds):
                for index, mode in enumerate(MODES):
                    if place == "simulated":
                        run = _simulated(mode, turn)
                    else:
                        run = _real(mode, turn, Path(folder) / f"{turn}-{index}", {})
                    found[mode].append(run.seconds_to(TARGET))
                    seconds = number(found[mode][-1]) if found[mode][-1] < inf else "not reached"
                    say(f"{place}, round {turn + 1} of {rounds}: {mode}: {seconds} s")
            rows += make_rows(place, found)
    return rows


def _settings(mode: str, seed: int) -> dict[str, Any]:
    return {**SETTINGS, **MODES[mode], "job.seed": seed}


def _slower(mode: str) -> int:
    return 1 if mode == UNDISTURBED else SLOWER


def _simulated(mode: str, seed: int) -> Run:
    """One run on the simulated cluster, in its seconds."""
    tables: dict[str, dict[str, Any]] = {}
    for key, value in {**_settings(mode, seed), "model.args": {"hidden": [32]}}.items():
        section, name = key.split(".")
        tables.setdefault(section, {})[name] = value
    job = Job.from_dict(tables)
    straggler, slower = WORKERS - 1, _slower(mode)
    sim = Simulation(
        job, seed=seed, compute=lambda rank: STEP * (slower if rank == straggler else 1)
    )
    sim.run()
    for actor in sim.actors.values():
        if actor.ended.status:
            raise RoleError(f"{actor.name} ended with {actor.ended}")
    rows = tuple((row["seconds"], row["accuracy"]) for row in sim.evaluations())
    return Run(0.0, rows)


def _real(mode: str, seed: int, folder: Path, more: Mapping[str, Any]) -> Run:
    """One run of real processes, whose model sleeps."""
    arguments = f"seconds={STEP}, slower={_slower(mode)}, straggler={WORKERS - 1}"
    model = {"model.ref": "dualshard.bench.sleepy:build", "model.args": f"{{{arguments}}}"}
    settings = {**_settings(mode, seed), **model, **more}
    return train_cluster(settings.pop("data.source"), folder, settings)


def make_rows(place: str, found: Found) -> list[Row]:
    """The rows of one place: the promise is that of the quorum, and that ssp beats bsp."""
    start = f"{place}: seconds to {TARGET:.0%}"
    alone = found[UNDISTURBED]
    rows = [compare(f"{start}, {UNDISTURBED}", "s", alone)]
    for mode in (BSP, QUORUM, SSP, ASYNC):
        goal = 1 / WITHIN if mode == QUORUM else None
        name = f"{start}, {mode}, against {UNDISTURBED}"
        rows.append(compare(name, "s", found[mode], alone, goal, less_is_better=True))
    name = f"{start}, {SSP}, against {BSP}"
    return [*rows, compare(name, "s", found[SSP], found[BSP], 1.0, less_is_better=True)]
