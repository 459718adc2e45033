"""A role that is started again when something kills it, by whoever stays with it on its node."""

import select
import subprocess
import sys
from collections.abc import Mapping, Sequence

import click

from ..signals import signal_name


def keep(
    command: Sequence[str], environment: Mapping[str, str], pause: float, restarts: int
) -> int:
    """Run a role, and again up to `restarts` times as long as signals end it.

    A role that ends by itself has its reasons, which would be the same again. The pause, in
    seconds, is what it takes until its place in the job is free: its lease.

    Returns:
        its exit status, 128 + N if signal N has ended it.
    """
    for count in range(1, restarts + 2):
        # Its input is a pipe that only this process holds: it ends when this process does.
        role = subprocess.Popen(  # noqa: S603 (our own command, no shell)
            [*command, "--end-with-stdin"], stdin=subprocess.PIPE, env=dict(environment)
        )
        status = role.wait()
        assert role.stdin is not None
        role.stdin.close()
        if status >= 0:
            return status
        ended = f"dualshard: ended by {signal_name(-status)}"
        if count > restarts:
            click.echo(f"{ended}: not started again", err=True)
            break
        click.echo(f"{ended}: starts again in {pause:g} s, {count} of {restarts} times", err=True)
        sys.stderr.flush()
        select.select([], [], [], pause)
    return 128 - status
