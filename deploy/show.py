"""`dualshard data show`: a contact sheet of samples, as the net will see them."""

import os
from pathlib import Path

import click

from ..common.config import resolve
from ..common.errors import UserError
from .jsonfile import cannot_write, check_can_write
from .options import set_option


@click.command()
@click.argument("source", required=False, metavar="[SOURCE]")
@click.option(
    "--augment", multiple=True, metavar="ENTRIES", help="data.augment, such as rotate:15."
)
@click.option("--job", "job_file", type=click.Path(path_type=Path), help="Take the rest from FILE.")
@set_option
@click.option("--seed", type=int, help="job.seed")
@click.option(
    "--epoch", type=click.IntRange(0), default=0, show_default=True, help="The first to show."
)
@click.option(
    "--count", type=click.IntRange(1, 40), default=8, show_default=True, help="Samples to show."
)
@click.option(
    "--versions",
    type=click.IntRange(1, 12),
    default=6,
    show_default=True,
    help="Augmented versions of each: so many epochs.",
)
@click.option("--test", is_flag=True, help="Show test samples, as they are tested on.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("samples.png"),
    show_default=True,
    help="The picture.",
)
def show(
    source: str | None,
    augment: tuple[str, ...],
    job_file: Path | None,
    settings: tuple[str, ...],
    seed: int | None,
    epoch: int,
    count: int,
    versions: int,
    test: bool,
    out: Path,
) -> None:
    """Draw samples of SOURCE, and what augmentation makes of them.

    A row holds a sample as it is, and to its right what the net sees of it in one epoch after
    the other. normalise, which is done by the workers, is left out.
    """
    from ..dataserver.preview import preview, preview_test
    from .gallery import gallery
    from .sheet import draw_sheet

    entries = None if not augment else [one for one in ",".join(augment).split(",") if one]
    flags = {"data.source": source, "data.augment": entries, "job.seed": seed}
    job = resolve(job_file, os.environ, settings, flags).job
    _check_out(out)
    seen = preview_test(job, count) if test else preview(job, epoch, count, versions)
    try:
        draw_sheet(out, *gallery(seen, job.job.seed))
    except OSError as refused:
        raise cannot_write(out, refused.strerror or str(refused), "--out") from None
    click.echo(f"{len(seen.indices)} of {seen.total:,} samples are drawn in {out}")


def _check_out(out: Path) -> None:
    if out.suffix.lower() != ".png":
        fix = f"write for example {out.with_suffix('.png')}" if out.name else "name a file"
        raise UserError("--out", str(out), "a file name that ends in .png", fix)
    check_can_write(out, "--out")
