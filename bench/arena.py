"""Real parameter servers, each in a process of its own, and this process's ends of their wire."""

import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..common.errors import RoleError
from ..common.job import Job
from ..common.keys import KeyRing
from ..common.sharding import SHARD_ELEMENTS, Shards
from ..common.types import Float32
from .apply import plain
from .processes import module_command, pause, running, started
from .stand_in import StandIn
from .worker_end import RATE, Model, WorkerEnd

IN_FLIGHT = (8, 16, 32)
"""Shards under way at once, that are tried."""
LAST = 0.2
"""Seconds of the exchange before a check."""
SAMPLE = 61
"""Of the elements of a shard every so manieth is compared where NumPy repeats all updates."""
LOOKED_AT = 4
"""Shards that are compared so."""


def make_job(rule: str, shard_elements: int = SHARD_ELEMENTS) -> Job:
    """A job whose servers apply each push at once, at a constant rate."""
    return Job.from_dict(
        {
            "optimizer": {"rule": rule, "lr": RATE, "schedule": "constant"},
            "train": {"staleness_scaling": 0.0},
            "paramserver": {"shard_bytes": 4 * shard_elements},
        }
    )


@dataclass
class Arena:
    """Servers that hold one model, and one end for each way to push to them.

    `ends` are by (way, encoding); they share the model, so only one may be at work.
    """

    rule: str
    model: Model
    ends: Mapping[tuple[str, str], WorkerEnd]
    servers: Sequence["subprocess.Popen[str]"]

    @property
    def awake(self) -> list[Callable[[], AbstractContextManager[None]]]:
        """Contexts in which the servers run; outside of them they stand still."""
        return [partial(running, server) for server in self.servers]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let all servers run while the context lasts."""
        with ExitStack() as stack:
            for context in self.awake:
                stack.enter_context(context())
            yield

    def check(self) -> None:
        """Compare the servers' shards with NumPy's, and ours, as the last exchange left them, with
        the servers': equal, or to the 8 bits of a value that bf16 keeps.

        Raises:
            RoleError: a shard is not what its pushes make of it.
        """
        end = next(iter(self.ends.values()))
        with self.running():
            for shard, count in enumerate(self.model.pushes):
                held = end.pull(shard)
                expected = self._expected(shard, count)
                ours = self.model.parameters_of(shard)
                if self.model.encodings[shard] == "f32":
                    good = np.array_equal(ours, held.values)
                else:
                    good = np.allclose(ours, held.values, rtol=2**-8)
                good &= held.version == count
                if expected is not None:
                    sample, values = expected
                    good &= np.allclose(held.values[sample], values, rtol=1e-3, atol=1e-5)
                if not good or (self.rule == "sgd" and not self._exact(shard, held.values)):
                    raise RoleError(f"shard {shard} is not what {count} pushes make of it")

    def check_each(self) -> None:
        """As `check`, each time after a last exchange by one of the ways."""
        for end in self.ends.values():
            with self.running():
                end.measure(IN_FLIGHT[0], LAST)
            self.check()

    def _exact(self, shard: int, values: Float32) -> bool:
        steps = np.float32(-RATE * self.model.pushes[shard])
        return np.array_equal(values, self.model.gradient_of(shard) * steps)

    def _expected(self, shard: int, count: int) -> tuple[slice, Float32] | None:
        """Some elements of a shard after `count` updates in plain NumPy; None for most shards."""
        if shard >= LOOKED_AT:
            return None
        sample = slice(None, None, SAMPLE)
        g = self.model.gradient_of(shard)[sample].astype(float)
        values = np.zeros(g.size)
        slots = {name: np.zeros(g.size) for name in ("mean", "squares", "velocity")}
        for step in range(1, count + 1):
            values -= RATE * plain(self.rule, g, slots, step)
        return sample, values.astype(np.float32)


@contextmanager
def arena(
    rule: str,
    elements: int,
    ways: Sequence[tuple[str, str]],
    folder: Path,
    servers: int = 1,
    keys: Path | None = None,
) -> Iterator[Arena]:
    """Servers that have come to stand and stand still, with this process's ends.

    Arguments:
        ways: (way, encoding) of each end, see `WorkerEnd`; the first gives the first values.
        keys: the folder with everyone's keys; None: connections have none.
    Raises:
        RoleError: a server did not start.
    """
    shards = Shards(elements)
    incarnations = [secrets.randbits(62) for _ in ways]
    rings = {role: KeyRing(keys, role) if keys else None for role in ("controller", "worker")}
    with ExitStack() as stack:
        stand_in = stack.enter_context(
            StandIn(make_job(rule), elements, servers, incarnations, rings["controller"])
        )
        owners = [stand_in.table.owners[shards.bucket(shard)] for shard in range(shards.count)]
        model = stack.enter_context(Model(elements, owners))
        processes = start_servers(stack, stand_in, folder, servers, keys)
        alive = partial(all_alive, processes)
        addresses = stand_in.gather(alive)
        ends = {
            way: stack.enter_context(
                WorkerEnd(model, addresses, incarnation, *way, rings["worker"])
            )
            for way, incarnation in zip(ways, incarnations, strict=True)
        }
        for end in ends.values():
            end.connect()
        ends[ways[0]].start()
        stand_in.wait_until_ready(alive)
        for process in processes:
            pause(process)
        yield Arena(rule, model, ends, processes)


def start_servers(
    stack: ExitStack, stand_in: StandIn, folder: Path, servers: int, keys: Path | None = None
) -> list["subprocess.Popen[str]"]:
    """Start the command `dualshard paramserver` so many times."""
    command = module_command("deploy", "paramserver", "--controller", stand_in.address)
    command.append("--end-with-stdin")
    if keys is not None:
        command += ["--keys", str(keys)]
    return [stack.enter_context(started(command, folder, patience=0)) for _ in range(servers)]


def all_alive(processes: Sequence["subprocess.Popen[str]"]) -> bool:
    """Whether none has ended."""
    return all(process.poll() is None for process in processes)
