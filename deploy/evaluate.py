"""`dualshard evaluate`: measures what a run has learned, in this process alone."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..common.cluster import DataShape
from ..common.errors import UserError
from ..common.types import Arrays
from .jsonfile import check_can_write, json_option, write_json

if TYPE_CHECKING:
    from ..dataserver.process import Store
    from .parameters import Parameters


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@json_option
def evaluate(run: Path, json_file: Path | None) -> None:
    """Measure RUN, or one of its checkpoints, on its held-out samples.

    Model and data are built again from the run's job.toml.
    """
    from .parameters import read_parameters

    check_can_write(json_file)
    found = read_parameters(run)
    samples, metrics = measure(found)
    if "accuracy" in metrics:
        click.echo(f"test accuracy {100 * metrics['accuracy']:.2f} %")
    click.echo(f"test loss {metrics['loss']:.6g} on {samples:,} samples, {found.source}")
    own = {name: value for name, value in metrics.items() if name not in ("accuracy", "loss")}
    results: dict[str, Any] = {
        **own,
        "test_accuracy": metrics.get("accuracy"),
        "test_loss": metrics["loss"],
        "samples": samples,
        "source": found.source,
    }
    write_json(json_file, results)


def measure(found: "Parameters") -> tuple[int, dict[str, float]]:
    """The number of test samples and the means over them, as a worker of the run measures them.

    Raises:
        UserError: the data cannot be read, or the model is not the one that was trained.
    """
    from ..dataserver.process import Store
    from ..worker.step import Stepper

    one_lane = replace(found.job.train, in_flight=1)
    job = replace(found.job, train=one_lane, worker=replace(found.job.worker, threads=1))
    store = Store(job)
    stepper = Stepper(job, DataShape.of(store.facts))
    _check_model(found, stepper.layout.shapes)
    for name, view in stepper.layout.views(stepper.vector).items():
        view[...] = found.named[name]
    return stepper.evaluate(stepper.vector, _test_portions(store))


def _check_model(found: "Parameters", shapes: dict[str, tuple[int, ...]]) -> None:
    saved = {name: values.shape for name, values in found.named.items()}
    if shapes == saved:
        return
    names = [name for name in (*shapes, *saved) if shapes.get(name) != saved.get(name)]
    built, kept = (str(table.get(names[0], "not there")) for table in (shapes, saved))
    expected = f"the model of {found.source}, where {names[0]} is {kept}"
    raise UserError(
        "model.ref", found.job.model.ref, expected, f"job.toml builds one where it is {built}"
    )


def _test_portions(store: "Store") -> list[Arrays]:
    from ..dataserver.events import Prepare

    portions: list[Arrays] = []
    last = False
    while not last:
        prepared = store.prepare(Prepare(True, 0, len(portions)))
        portions.append(prepared.arrays)
        last = prepared.last
    return portions
