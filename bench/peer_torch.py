"""The PyTorch side of `bench train`: the same net, data and minibatch, eager, as one would write it.

`python -m dualshard.bench.peer_torch` trains once and prints its result as one line of JSON. The
data set lies in memory as float32 tensors; each epoch is a fresh permutation of it. Four times an
epoch the test set is evaluated; the clock runs on meanwhile, as it does for our cluster. It begins
when data, model and optimizer are there and a few steps have been made with another model.
"""

import argparse
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from ..dataserver.dataset import Dataset
from ..dataserver.source import open_source

BATCH = 32
WARM_UP = 50
"""Steps made before the clock begins."""
EVALUATIONS = 4
"""In an epoch."""
RECIPES: dict[str, Callable[[Any], Any]] = {
    "Adam 1e-3": lambda parameters: torch.optim.Adam(parameters, 1e-3),
    "RMSprop 1e-3": lambda parameters: torch.optim.RMSprop(parameters, 1e-3),
}
