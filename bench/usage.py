"""What processes take of the machine, as the kernel counts it in /proc."""

import os
from collections.abc import Mapping
from pathlib import Path

FULL = 0.9
"""Of a core, or of the machine: what is used more counts as saturated."""
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has had, user and system, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def machine_seconds() -> float:
    """Processor time that the whole machine has spent on anything."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / _TICKS


def resident(pid: int) -> Mapping[str, float]:
    """MiB of a process in memory: `VmRSS`, of which `RssAnon` is its own, `RssFile` are mapped
    files (its programs and libraries), and `RssShmem` is shared memory, its own or another's."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("VmRSS", "RssAnon", "RssFile", "RssShmem"):
            found[name] = int(rest.split()[0]) / 1024
    return found


def saturated(cores: int, busy: Mapping[str, float], machine: float) -> str:
    """In a few words, what is at its limit: the machine, a kind of process, or nothing.

    Arguments:
        busy: by name, like `worker 0`, the cores that each process used; ours have one busy thread.
        machine: cores in use by anybody.
    """
    if machine >= FULL * cores:
        alone = sum(busy.values()) >= FULL * machine
        return "the machine is saturated" + ("" if alone else ", by other programs too")
    full = dict.fromkeys(name.partition(" ")[0] for name, used in busy.items() if used >= FULL)
    if full:
        return f"the {' and the '.join(full)} {'is' if len(full) == 1 else 'are'} saturated"
    return "nothing is saturated: they wait for each other"
