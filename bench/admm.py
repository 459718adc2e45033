"""`bench admm`: what docs/admm.md promises of mode admm, on real processes: the table of parts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from .admm_accuracy import bench_sixty, bench_small
from .admm_link import bench_link
from .admm_runs import Ground
from .admm_slow import bench_replicas, bench_slow
from .report import Row
from .runs import find_mnist

PARTS: Mapping[str, Callable[[Ground], list[Row]]] = {
    "small": bench_small,
    "sixty": bench_sixty,
    "slow": bench_slow,
    "replicas": bench_replicas,
    "link": bench_link,
}


def bench_admm(
    parts: Sequence[str],
    data: Path | None,
    seeds: int,
    say: Callable[[str], None],
    *,
    validation: bool = False,
) -> list[Row]:
    """The rows of these parts.

    Arguments:
        data: the folder with MNIST; None: where it lies beside the project.
        seeds: runs of each side, with seeds 0, 1, ..., interleaved.
        validation: test on the last 10,000 training images, for choices; nothing is promised then.
    Raises:
        UserError: there is no MNIST. RoleError: a run failed.
    """
    mnist = find_mnist(data)
    with TemporaryDirectory(prefix="dualshard-bench-") as folder:
        ground = Ground(mnist, Path(folder), seeds, validation, say)
        rows = [row for part in parts for row in PARTS[part](ground)]
    if not validation:
        return rows
    return [replace(row, name=f"validation: {row.name}", goal=None) for row in rows]
