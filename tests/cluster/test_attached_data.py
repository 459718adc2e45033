"""A user's own data set through a whole cluster: read as it is needed, and what it does wrong ends
the job in one line."""

from pathlib import Path
from typing import Any

import pytest
from simulation import Simulation, make_job

from dualshard.common.references import load

DATA = """
import numpy as np

class Units:
    classes, spoilt = 1, False

    def __init__(self):
        self.most, self.count = 0, 0

    def __len__(self):
        return 120

    def read(self, indices):
        self.most, self.count = max(self.most, len(indices)), self.count + len(indices)
        if self.spoilt and 77 in indices:
            return self.spoil(indices)
        return np.eye(120, dtype=np.float32)[indices], np.zeros(len(indices), np.int64)

    def spoil(self, indices):
        if self.spoilt == "raises":
            raise OSError("page 77 is torn")
        return np.ones((len(indices), 119), np.float32), np.zeros(len(indices), np.int64)

units = Units()
"""


def start(folder: Path, **settings: Any) -> tuple[Simulation, Any]:
    """The cluster, and the object that its data server reads from."""
    (folder / "own.py").write_text(DATA)
    reference = f"{folder / 'own.py'}:units"
    values = {"data__source": reference, "data__held_out": 0.25, **settings}
    user = load(reference)
    return Simulation(make_job(folder / "none", **values)), user


def test_each_sample_is_read_when_it_is_needed_and_once(tmp_path: Path) -> None:
    sim, user = start(tmp_path)
    sim.run_until(lambda: sim.pushes() > 0)
    assert user.count < 120, "the rest is read later"
    sim.run()
    sim.check()
    assert sim.model is not None
    assert sorted(sim.model.tolist()) == [0.0] * 30 + [2.0] * 90
    assert user.most <= 32
    # 90 and the 30 held out, and a few to learn their shape: the second epoch is in the cache.
    assert 120 <= user.count <= 126


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raises", "expected samples from read, for sample 77 it raised OSError: page 77 is torn"),
        ("narrow", "expected inputs like those of sample 0, float32 of shape (120,), for sample "),
    ],
)
def test_what_goes_wrong_while_training_ends_the_job_in_one_line(
    tmp_path: Path, how: str, words: str
) -> None:
    sim, user = start(tmp_path, data__cache="0B", job__epochs=3)
    sim.run_until(lambda: len(sim.epochs()) == 1)
    user.spoilt = how
    sim.run()
    ended = sim.actors["dataserver-0"].ended
    assert ended.status == 2
    assert ended.reason.startswith("data.source = ")
    assert words in ended.reason
    assert "\n" not in ended.reason
    for name in ("controller-0", "worker-0", "paramserver-0"):
        assert sim.actors[name].ended.status != 0
        assert words in sim.actors[name].ended.reason
