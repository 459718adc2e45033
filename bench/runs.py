"""One training run of either side of `bench train`, `width` and `accuracy`, in its own processes.

Ours is the command `dualshard train`, the whole local cluster; its times come from its run
directory and begin when training does: processes are up and kernels are compiled by then.
"""

import json
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from ..common.errors import UserError
from .processes import clean_environment, finish, module_command, started
from .recipes import Recipe

NET = '{hidden=[256,128], activation="relu"}'
BATCH = 32
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
"""Where MNIST lies when nobody says where: beside the project."""
ROLE_LIMIT = 600.0
"""Seconds after which a run of the cluster counts as hung."""
PEER_LIMIT = 60.0
"""Seconds of training after which a peer stops."""
PEER_START = 120.0
"""Seconds that a peer may take beside its training."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Beside = Callable[[subprocess.Popen[str], Path], AbstractContextManager[object]]


def _nothing(process: subprocess.Popen[str], run: Path) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True)
class Run:
    """What one run came to: samples/s of training, (seconds, test accuracy) on the way, and of our
    cluster the bytes of all gradients that travelled."""

    samples_per_second: float
    evaluations: tuple[tuple[float, float], ...]
    bytes_pushed: float = 0.0

    def seconds_to(self, accuracy: float) -> float:
        """Seconds of training until an evaluation first showed this accuracy; infinity if none."""
        return next((seconds for seconds, reached in self.evaluations if reached >= accuracy), inf)

    @property
    def accuracy(self) -> float:
        """The last test accuracy, a fraction."""
        return self.evaluations[-1][1]


def find_mnist(given: Path | None) -> Path:
    """The folder of MNIST's IDX files, absolute.

    Raises:
        UserError: it is not there.
    """
    folder = (given or SHARED_DATA).expanduser().resolve()
    if not list(folder.glob("train-images*")):
        raise UserError(
            "--data",
            str(given or ""),
            "a folder with MNIST's four IDX files, raw or .gz",
            "give the one that you have: --data DIR",
        )
    return folder


def train_cluster(source: str, folder: Path, settings: Mapping[str, object]) -> Run:
    """Run `dualshard train` on `source` in a new `folder`; `settings` are keys of the job file.

    Raises:
        RoleError: it failed, or ran for more than `ROLE_LIMIT` seconds.
    """
    net = {} if "model.ref" in settings else {"model.args": NET}
    wanted = {"data.source": source, "data.batch_size": BATCH, **net, **settings}
    return read_run(*run_job(folder, wanted))


def run_job(
    folder: Path, settings: Mapping[str, object], beside: Beside = _nothing
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run `dualshard train` in a new `folder`: summary.json, and the lines of metrics.jsonl.

    Arguments:
        settings: keys of the job file; the rest are defaults.
        beside: what goes on while it runs, given its process and its run directory.
    Raises:
        RoleError: it failed, or ran for more than `ROLE_LIMIT` seconds.
    """
    folder.mkdir()
    options = [
        part for key, value in settings.items() for part in ("--set", f"{key}={told(value)}")
    ]
    command = module_command("deploy", "train", "--out", folder / "run", *options)
    with (
        started(command, folder, output=subprocess.PIPE) as process,
        beside(process, folder / "run"),
    ):
        finish(process, "dualshard train", ROLE_LIMIT)
    return json.loads((folder / "run" / "summary.json").read_text()), read_rows(folder / "run")


def read_rows(run: Path) -> list[dict[str, Any]]:
    """The complete lines of a run's metrics.jsonl; none before it is there."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def told(value: object) -> str:
    """A value as the command line takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_run(summary: Mapping[str, Any], rows: list[dict[str, Any]]) -> Run:
    """A run from its summary.json and the lines of its metrics.jsonl."""
    evaluations = [row for row in rows if row["kind"] == "evaluation"]
    return Run(
        summary["samples_per_second"],
        tuple((row["seconds"], row["accuracy"]) for row in evaluations),
        summary["bytes_pushed"],
    )


def train_torch(
    folder: Path,
    data: Path,
    recipe: Recipe,
    seed: int,
    *,
    processes: int = 1,
    limit: float = PEER_LIMIT,
) -> Run:
    """Train with PyTorch in a process of two threads, or with DDP in several of one thread each.

    Arguments:
        limit: seconds of training after which it stops.
    Raises:
        RoleError: it failed, or did not end in time.
    """
    folder.mkdir()
    arguments = ["--data", data, "--recipe", json.dumps(asdict(recipe)), "--seed", seed]
    arguments += ["--limit", limit]
    threads = 2 if processes == 1 else 1
    arguments += ["--threads", threads, "--world", processes, "--meet", folder / "meet"]
    environment = {**clean_environment(*THREAD_VARIABLES), "GLOO_SOCKET_IFNAME": "lo"}
    with ExitStack() as stack:
        first, *_ = [
            stack.enter_context(
                started(
                    module_command("bench.peer_torch", *arguments, "--rank", rank),
                    folder,
                    environment,
                    output=subprocess.DEVNULL if rank else subprocess.PIPE,
                )
            )
            for rank in range(processes)
        ]
        text = finish(first, f"PyTorch with {recipe.optimizer}", limit + PEER_START)
    result = json.loads(text.splitlines()[-1])
    return Run(result["samples"] / result["seconds"], tuple(map(tuple, result["evaluations"])))
