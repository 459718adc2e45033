"""`dualshard data`: getting data, and looking at it. Each command has a file of its own."""

import click

from .fetch import fetch


@click.group()
def data() -> None:
    """Get data sets, and look at them."""


data.add_command(fetch)
