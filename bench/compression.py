"""`bench compression`: how gradients travel, the bytes that this takes, and what it costs.

MNIST, the net of `bench train`, over tcp, 2 workers, default settings otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .report import Row, compare
from .runs import Run, find_mnist, train_cluster

EPOCHS = 3
NONE = "none"
CODES: Mapping[str, Mapping[str, Any]] = {
    NONE: {},
    "f16": {"train.compression": "f16"},
    "bf16": {"train.compression": "bf16"},
    "int8": {"train.compression": "int8"},
    "topk 0.01": {"train.compression": "topk"},
    "topk 0.01 without error feedback": {
        "train.compression": "topk",
        "train.error_feedback": False,
    },
    "factors": {"train.factors": "always"},
}

Found = Mapping[str, Sequence[Run]]


def bench_compression(
    data: Path | None, seeds: int, say: Callable[[str], None], codes: Sequence[str] = tuple(CODES)
) -> list[Row]:
    """Rows of test accuracy, bytes pushed and samples/s of each way, against none of it.

    Arguments:
        data: the folder with MNIST; None: where it lies beside the project.
        seeds: runs of each, with seeds 0, 1, ..., interleaved.
    Raises:
        UserError: there is no MNIST. RoleError: a run failed.
    """
    source = f"idx:{find_mnist(data)}"
    found: dict[str, list[Run]] = {code: [] for code in codes}
    with TemporaryDirectory(prefix="dualshard-bench-") as folder:
        for seed in range(seeds):
            for index, code in enumerate(codes):
                settings = {
                    "job.epochs": EPOCHS,
                    "job.seed": seed,
                    "worker.count": 2,
                    "train.transport": "tcp",
                    "train.factors": "off",
                    "train.topk": 0.01,
                    **CODES[code],
                }
                run = train_cluster(source, Path(folder) / f"{seed}-{index}", settings)
                found[code].append(run)
                pushed = f"{run.bytes_pushed / 1e6:,.0f} MB pushed"
                say(f"seed {seed}, {code}: {100 * run.accuracy:.2f} %, {pushed}")
    return make_rows(found)


def make_rows(found: Found) -> list[Row]:
    """Three rows of each way. Fewer bytes and more accuracy are better."""
    rows = []
    plain = found[NONE]
    for code, runs in found.items():
        against = [] if code == NONE else plain
        behind = "" if code == NONE else f", against {NONE}"
        quantities: tuple[tuple[str, str, Callable[[Run], float], bool], ...] = (
            (f"test accuracy after {EPOCHS} epochs", "%", lambda run: 100 * run.accuracy, False),
            ("pushed", "MB", lambda run: run.bytes_pushed / 1e6, True),
            ("speed of training", "samples/s", lambda run: run.samples_per_second, False),
        )
        for name, unit, of, less in quantities:
            ours, theirs = ([of(run) for run in side] for side in (runs, against))
            row = compare(f"{code}: {name}{behind}", unit, ours, theirs, less_is_better=less)
            rows.append(row)
    return rows
