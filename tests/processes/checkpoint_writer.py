"""Forks writers of checkpoints and kills them, as its standard input orders.

One process answers many orders, and forks a writer for each: imports are slow. An order is how long
the writer lives, in times that a checkpoint takes here and now.
"""

import os
import signal
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "paramserver"))

from checkpoint_samples import write_checkpoint

from dualshard.common.cluster import Parameter

run, big = Path(sys.argv[1]), (Parameter("w", True, (300,)),)
began = time.monotonic()
for _ in range(3):
    write_checkpoint(run, servers=2, keep=2, layout=big)
takes = (time.monotonic() - began) / 3
for line in sys.stdin:
    if not (child := os.fork()):
        while True:
            write_checkpoint(run, servers=2, keep=2, layout=big)
    time.sleep(float(line) * takes)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("killed", flush=True)
