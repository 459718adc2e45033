"""A sample has the same pixels in another process that reads it in another batch.

Started as a program, this file prints the digests of what it is asked for.
"""

import json
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

from dualshard.dataserver.augment import parse_augment
from dualshard.dataserver.pipeline import Pipeline, portions
from dualshard.dataserver.sources.samples import ArrayDataset

LISTS = [
    ["crop:2", "reflect", "cutout:4"],
    ["shift:2", "rotate:15", "scale:0.9:1.1", "shear:10", "elastic:34:4", "reflect:v"],
    ["resized_crop:9:0.3:1", "rotate:5"],
    ["brightness:0.4", "contrast:0.5", "saturation:0.8", "noise:0.1"],
]


def digests(entries, batches):
    """Of all 40 samples, in the order of their numbers."""
    images = np.random.default_rng(0).integers(0, 256, (40, 14, 12, 3)).astype(np.uint8)
    dataset = ArrayDataset((images, np.arange(40)))
    pipeline = Pipeline(dataset, parse_augment(entries), 7, portions(40, 4, 2, 1))
    found = {}
    for batch in batches:
        inputs = pipeline.samples(3, np.array(batch))[0]
        for index, one in zip(batch, inputs, strict=True):
            found[index] = sha256(one.tobytes()).hexdigest()
    return [found[index] for index in range(40)]


@pytest.mark.parametrize("entries", LISTS)
def test_pixels_are_the_same_in_a_second_process(entries):
    batches = np.random.default_rng(1).permutation(40).reshape(8, 5).tolist()
    command = [sys.executable, __file__, json.dumps([entries, batches])]
    other = subprocess.run(command, capture_output=True, text=True, check=True)
    mine = digests(entries, [list(range(40))])
    assert len(set(mine)) == 40
    assert json.loads(other.stdout) == mine


if __name__ == "__main__":
    sys.stdout.write(json.dumps(digests(*json.loads(sys.argv[1]))))
