"""What a control group leaves to this process, read from the kernel's files (cgroups(7)).

Both versions of control groups are read; the tightest of a group and those above it counts.
"""

import math
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def memory_limit(root: Path = ROOT, own: Path = OWN) -> float:
    """Bytes; infinity without a limit."""
    limits = [
        *(_number(group / "memory.max") for group in _groups(root, own, "")),
        *(_number(group / "memory.limit_in_bytes") for group in _groups(root, own, "memory")),
    ]
    # Version 1 writes the largest page-aligned number where there is no limit.
    return min((limit for limit in limits if limit < 1 << 60), default=math.inf)


def cores_limit(root: Path = ROOT, own: Path = OWN) -> float:
    """Cores' worth of time; infinity without a limit."""
    limits = []
    for group in _groups(root, own, ""):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            limits.append(int(quota) / int(period))
    for group in _groups(root, own, "cpu"):
        given, each = (_number(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if 0 < given < math.inf and 0 < each < math.inf:  # -1: no limit
            limits.append(given / each)
    return min(limits, default=math.inf)


def _groups(root: Path, own: Path, controller: str) -> list[Path]:
    """The folders of this process's group and of those above, of one controller of version 1, or
    of version 2 where none is named. A container may see its own group as the root alone."""
    top = root / controller if controller else root
    for line in _text(own).splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            group = top / path.lstrip("/")
            above = [group, *group.parents]
            return above[: above.index(top) + 1] if top in above else [top]
    return [top] if controller else []


def _number(file: Path) -> float:
    text = _text(file)
    return float(text) if text.lstrip("-").isdigit() else math.inf


def _text(file: Path) -> str:
    """The content of a file; empty if there is none."""
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""
