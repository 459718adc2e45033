"""Part `link` of `bench admm`: two hosts joined by 20 ms each way and 10 Mbit/s; how long A and
exact backprop take to an accuracy.

Host A has the controller, the parameter server, the data server and the lower part, host B the
upper part. All of them are on one machine, and `train.transport = tcp` keeps them from sharing
memory: every byte between the hosts goes over the link.
"""

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import inf
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from ..common.config import resolve
from ..common.errors import RoleError
from ..common.job import to_toml
from .admm_jobs import agreeing, backprop
from .admm_runs import ALL, Ground, less_row
from .link import DELAY, RATE, Host, Speed, joined_hosts, obstacle, probe
from .processes import module_command, started
from .report import Row, compare, number
from .runs import read_rows, told

TARGET = 0.97
SWEEPS, EPOCHS = 2, 3
"""After which the target must have been reached: sweeps of A, epochs of backprop. Chosen on a
validation split: the rate falls linearly meanwhile, and shorter jobs may end before the target."""
EVERY = {"A": 0.1, "backprop": 0.05}
"""Sweeps, or epochs, between two evaluations: about the same number of seconds."""
AHEAD = 3
ENCODINGS = ("f32", "f16", "int8")
PIECES = (1, 2, 4)
"""Of a minibatch, under way at once in backprop."""
EXACT, ROUNDED = "exact backprop", "backprop in f16"
FASTER = 3.0
NEAR = 0.9
"""What the link must keep of its delay and of its rate, whose headers take 4 %."""
PORT = 7077
LOOK = 0.2
LIMIT = 900.0
"""Seconds that one run may take."""

Times = Mapping[str, Sequence[float]]
"""Seconds to the target by side, one a seed; infinity where it was not reached."""


def sides(pieces: Sequence[int] = PIECES) -> dict[str, dict[str, Any]]:
    """Settings by side; backprop with each number of pieces."""
    over = {"train.transport": "tcp", "job.lease": "15s"}
    ours = {"job.evaluate_every": EVERY["A"], **over}
    theirs = {"job.evaluate_every": EVERY["backprop"], **over}
    found = {
        named_ours(encoding): {
            **agreeing(SWEEPS, admm_wait=False, admm_ahead=AHEAD, partition_encoding=encoding),
            **ours,
        }
        for encoding in ENCODINGS
    }
    for name, encoding in ((EXACT, "f32"), (ROUNDED, "f16")):
        for count in pieces:
            job = backprop(EPOCHS, partition_micro_batches=count, partition_encoding=encoding)
            found[named_theirs(name, count)] = {**job, **theirs}
    return found


def named_ours(encoding: str) -> str:
    """`A, f16`."""
    return f"A, {encoding}"


def named_theirs(name: str, pieces: int) -> str:
    """`exact backprop, micro_batches 2`."""
    return f"{name}, micro_batches {pieces}"


def bench_link(ground: Ground) -> list[Row]:
    """60,000 images; no rows, and a line that says why, where no link can be made."""
    reason = obstacle()
    if reason:
        ground.say(f"link: left out: {reason}")
        return []
    source = {"data.source": ground.source(ALL)}
    with joined_hosts() as (host_a, host_b):
        speed = probe(host_a, host_b, ground.folder)
        ground.say(
            f"link: round trip {1000 * speed.round_trip:.1f} ms, {8 * speed.up / 1e6:.2f} Mbit/s "
            f"one way, {8 * speed.down / 1e6:.2f} the other"
        )
        times: dict[str, list[float]] = {}
        for seed in range(ground.seeds):
            for index, (name, job) in enumerate(chosen(times).items()):
                folder = ground.folder / f"link-{seed}-{index}"
                settings = {**job, **source, "job.seed": seed}
                times.setdefault(name, []).append(time_to(host_a, host_b, folder, settings))
                seconds = told_seconds(times[name][-1])
                ground.say(f"link, seed {seed}: {name}: {seconds} to {TARGET:.0%}")
    return link_rows(speed, times)


def chosen(times: Times) -> dict[str, dict[str, Any]]:
    """The sides of a round: all in the first, then of each kind of backprop the fastest alone."""
    everyone = sides()
    if not times:
        return everyone
    kept = {named_ours(encoding) for encoding in ENCODINGS}
    kept |= {fastest(times, name) for name in (EXACT, ROUNDED)}
    return {name: job for name, job in everyone.items() if name in kept}


def fastest(times: Times, kind: str) -> str:
    """The side of one kind of backprop that was the fastest in the first round."""
    return min((named_theirs(kind, count) for count in PIECES), key=lambda name: times[name][0])


def told_seconds(seconds: float) -> str:
    """`31.20 s`."""
    return "did not come" if seconds == inf else f"{number(seconds)} s"


def link_rows(speed: Speed, times: Times) -> list[Row]:
    """That the link is what it should be, and A against the best exact backprop over it."""
    exact = fastest(times, EXACT)
    target, rounded = f"seconds to {TARGET:.0%}", fastest(times, ROUNDED)
    rows = [
        near_row(
            "link: round trip, against twice the delay", "ms", speed.round_trip, 2 * DELAY, 1e3
        ),
        near_row("link: rate, against the one set", "Mbit/s", speed.up, RATE, 8e-6),
        near_row("link: rate the other way, against the one set", "Mbit/s", speed.down, RATE, 8e-6),
    ]
    rows += [
        less_row(f"link: {target}, {ours}, against {exact}", "s", times[ours], times[exact], FASTER)
        for ours in map(named_ours, ENCODINGS)
    ]
    rows.append(
        less_row(
            f"link: {target}, {named_ours('f16')}, against {rounded}",
            "s",
            times[named_ours("f16")],
            times[rounded],
        )
    )
    rows += [
        compare(
            f"link: {target}, {named_theirs(name, count)}",
            "s",
            times[named_theirs(name, count)][:1],
        )
        for name in (EXACT, ROUNDED)
        for count in PIECES
    ]
    return rows


def near_row(name: str, unit: str, measured: float, wanted: float, scale: float) -> Row:
    """That what was measured is what was wanted, neither more nor less."""
    ratio = min(measured / wanted, wanted / measured)
    return Row(name, measured * scale, unit, wanted * scale, ratio, NEAR)


# One run.


def time_to(
    host_a: Host, host_b: Host, folder: Path, settings: Mapping[str, Any], target: float = TARGET
) -> float:
    """Seconds of training until an evaluation first shows the target; infinity if none does.

    Raises:
        RoleError: the cluster failed, or ran for more than `LIMIT` seconds.
    """
    folder.mkdir()
    options = tuple(f"{key}={told(value)}" for key, value in settings.items())
    job = folder / "job.toml"
    job.write_text(to_toml(resolve(None, {}, options, {}).job))
    run, address = folder / "run", f"{host_a.address}:{PORT}"
    with ExitStack() as stack:
        controller = _start(
            stack, folder, host_a, "controller", job, "--bind", address, "--insecure", "--out", run
        )
        for rank, (host, role) in enumerate(
            (
                (host_a, "paramserver"),
                (host_a, "dataserver"),
                (host_a, "worker"),
                (host_b, "worker"),
            )
        ):
            joining = ["--controller", address, "--bind", f"{host.address}:0", "--insecure"]
            _start(stack, folder, host, role, *joining, "--rank", max(0, rank - 2))
        return _watched(controller, folder, run, target)


def _start(
    stack: ExitStack, folder: Path, host: Host, role: str, *arguments: object
) -> subprocess.Popen[str]:
    """Start a role on its host, ended with the stack; what it says goes to a file."""
    log = stack.enter_context((folder / f"{role}-{host.namespace[-1]}.log").open("w"))
    command = host.command(module_command("deploy", role, *arguments))
    return stack.enter_context(started(command, folder, output=log.fileno(), patience=0.0))


def _watched(controller: subprocess.Popen[str], folder: Path, run: Path, target: float) -> float:
    """Wait for the target, or for the end of the job."""
    deadline = monotonic() + LIMIT
    while True:
        ended = controller.poll()
        for row in read_rows(run):
            if row["kind"] == "evaluation" and row["accuracy"] >= target:
                return float(row["seconds"])
        if ended:
            said = (folder / "controller-a.log").read_text().strip().rpartition("\n")[2]
            words = said.removeprefix("dualshard: ") or "it wrote nothing"
            raise RoleError(f"the controller ended with status {ended}: {words}")
        if ended == 0:
            return inf
        if monotonic() > deadline:
            raise RoleError(f"a run over the link did not end within {LIMIT:g} s")
        sleep(LOOK)
