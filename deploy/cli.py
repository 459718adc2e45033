"""The first moment of the `dualshard` command: signals, environment, then the commands.

Only what the interpreter has already loaded is imported here, so that Ctrl-C during the imports of
the rest ends the command without a traceback.
"""

import os
import sys

from .signals import end_at_once


def main() -> None:
    """The `dualshard` command."""
    end_at_once()
    # One BLAS thread a lane: set before NumPy is loaded, for this process and its children.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if sys.argv[1:2] == ["tether"]:  # of a launcher's, and quick to start: it imports no NumPy
        from .launch.tether import tether

        tether(sys.argv[2:])
    from .commands import dualshard

    dualshard()
