"""A worker must not compile at each start: the second process finds the step on disk."""

import subprocess
import sys

PROGRAM = """
import numpy as np
from dualshard.worker.layout import Layout
from dualshard.worker.nn.native.interpreter import run
from dualshard.worker.zoo import mlp

net = mlp(4, (3,), 2)
layout = Layout(net.shapes())
parameters = layout.views(np.zeros(layout.size, np.float32))
batch = np.ones((2, 4), np.float32), np.array([0, 1])
net.gradients(parameters, parameters, batch, np.random.default_rng())
print(sum(run.stats.cache_hits.values()), sum(run.stats.cache_misses.values()))
"""


def hits_and_misses() -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=100
    )
    hits, misses = map(int, done.stdout.split())
    return hits, misses


def test_the_second_process_compiles_nothing():
    hits_and_misses()
    assert hits_and_misses() == (1, 0)
