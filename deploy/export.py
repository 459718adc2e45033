"""`dualshard export`: a run's parameters as one file, for other programs."""

import os
from pathlib import Path
from typing import Any

import click

from ..common.errors import UserError

FORMATS = ("safetensors", "pt")


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="safetensors, or pt: a PyTorch state_dict.",
)
@click.option(
    "--out", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The new file."
)
def export(run: Path, form: str, out: Path) -> None:
    """Write the parameters of RUN, or of one of its checkpoints, to a file.

    They come from the latest checkpoint, or else from the final model.
    """
    from safetensors.numpy import save

    from .parameters import read_parameters

    torch = _torch() if form == "pt" else None
    found = read_parameters(run)
    fresh = out.with_name(f".new-{out.name}")
    try:
        if torch is None:
            fresh.write_bytes(save(found.named))
        else:
            torch.save({name: torch.from_numpy(v) for name, v in found.named.items()}, fresh)
        os.replace(fresh, out)
    except (OSError, RuntimeError) as refused:
        fresh.unlink(missing_ok=True)
        words = " ".join(str(getattr(refused, "strerror", None) or refused).split())
        fix = f"{words}: choose another"
        raise UserError("--out", str(out), "a file that can be written", fix) from None
    click.echo(f"{len(found.named)} parameters of {found.source} written to {out}")


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        fix = "install it with: pip install 'dualshard[torch]'"
        raise UserError("--format", "pt", "PyTorch, which writes it", fix) from None
    return torch
