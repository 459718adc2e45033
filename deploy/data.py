"""`dualshard data`: get public data sets, and look at what a source holds."""

import click


@click.group()
def data() -> None:
    """Download data sets, and look at what a net will see."""
