"""Workers that come, are asked to leave and are killed within one epoch: nothing is lost.

A worker counts what it trains on in the parameters, and stands still at a gate that the test opens:
what happens in which order does not depend on the speed of the machine.
"""

import json
import re
import signal

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file

pytestmark = pytest.mark.processes

SAMPLES, BATCH, PORTION = 1007, 4, 5
MODEL = """
import os
import time
from pathlib import Path

import cv2
import numpy as np

from dualshard.worker.model import Model


class Gated(Model):
    '''Counts how often each one-hot sample is trained on. It does FREE minibatches, and the others
    once there is a file named open.'''

    def __init__(self, inputs):
        self._inputs, self._done = inputs, 0

    def shapes(self):
        return {"count": (self._inputs,)}

    def start(self, parameters, rng):
        parameters["count"][:] = 0

    def gradients(self, parameters, gradients, batch, rng):
        if self._done == FREE:
            Path(f"at-the-gate-{os.getpid()}").touch()
        time.sleep(0.005)  # a step this long is computed beside the loop, so that heartbeats go on
        while self._done >= FREE and not Path("open").exists():
            time.sleep(0.005)
        self._done += 1
        np.negative(batch[0].sum(axis=0), out=gradients["count"])
        return {"loss": 1.0, "accuracy": 0.5}

    def evaluate(self, parameters, batch):
        return {"loss": 1.0, "accuracy": 0.5}
"""
SETTINGS = {
    "data.source": "npz:hot.npz",
    "data.batch_size": BATCH,
    "dataserver.portion": PORTION,
    "model.ref": "gated.py:Gated",
    "optimizer.rule": "sgd",
    "optimizer.lr": 1,
    "optimizer.schedule": "constant",
    "train.staleness_scaling": 0,
    "job.epochs": 1,
}


def options(**settings):
    """`--set` of all settings; those of `settings` are written `worker__count=3`."""
    own = {key.replace("__", "."): value for key, value in settings.items()}
    return [
        word for key, value in {**SETTINGS, **own}.items() for word in ("--set", f"{key}={value}")
    ]


@pytest.fixture
def gate(tmp_path):
    """Writes data and model; returns what makes the model stand still after so many minibatches."""
    inputs, labels = np.eye(SAMPLES, dtype=np.float32), np.zeros(SAMPLES, np.int64)
    archive = {"x_train": inputs, "y_train": labels, "x_test": inputs[:1], "y_test": labels[:1]}
    np.savez(tmp_path / "hot.npz", **archive)

    def after(free):
        (tmp_path / "gated.py").write_text(MODEL.replace("FREE", str(free)))

    return after


def counted(run):
    """How often each sample was trained on."""
    return load_file(run / "model.safetensors")["count"]


def check_end(run, counts, result):
    """Each sample counts, and those that came twice are among the ones that are named."""
    assert result["samples"] == SAMPLES
    assert counts.min() >= 1
    assert counts.sum() - SAMPLES <= result["samples_reissued"] + result["samples_repeated"]


def test_workers_come_leave_and_are_killed_within_an_epoch(commands, gate, tmp_path):
    gate(8)
    run = tmp_path / "run"
    controller = commands.start(
        "controller", "--bind", "127.0.0.1:0", "--out", run,
        *options(worker__count=4, worker__at_least=1, paramserver__count=1),
    )  # fmt: skip
    commands.until(lambda: "waiting at " in controller.err, 30)
    address = re.search(r"waiting at (\S+) for ", controller.err).group(1)

    def start(role):
        return commands.start(role, "--controller", address)

    def at_the_gate(worker):
        assert worker.popen.poll() is None, worker.err
        return (tmp_path / f"at-the-gate-{worker.popen.pid}").exists()

    roles = [start("paramserver"), start("dataserver")]
    stays = start("worker")
    commands.until(lambda: at_the_gate(stays), 30)  # it trains alone
    leaves, killed, late = (start("worker") for _ in range(3))
    commands.until(lambda: all(map(at_the_gate, (leaves, killed, late))), 60)

    killed.popen.kill()
    commands.until(lambda: "lost worker" in controller.err, 30)
    leaves.popen.terminate()
    commands.until(lambda: "hands back what is left" in leaves.err, 10)
    (tmp_path / "open").touch()
    assert leaves.wait(20) == 143
    assert leaves.err.splitlines()[-1] == (
        "dualshard: stopped by SIGTERM; it has handed back what it had not trained on"
    )
    assert killed.wait(5) == -signal.SIGKILL
    for role in (controller, stays, late, *roles):
        assert role.wait(30) == 0, role.err
    result = json.loads((run / "summary.json").read_text())
    check_end(run, counted(run), result)
    assert result["samples_reissued"] >= PORTION * BATCH, "the killed worker held nothing"
    assert controller.err.count(" joined from ") == 6


def test_a_job_killed_in_mid_epoch_goes_on_with_the_exact_next_sample(commands, gate, tmp_path):
    gate(140)
    run = tmp_path / "run"
    train = commands.start(
        "train", "--out", run, "--servers", 1, "--workers", 1, *options(job__checkpoint_every=0.25)
    )

    def saved():
        metrics = run / "metrics.jsonl"
        rows = metrics.read_text().splitlines() if metrics.exists() else []
        return [row for row in map(json.loads, rows) if row["kind"] == "checkpoint"]

    commands.until(lambda: len(saved()) == 2 and list(tmp_path.glob("at-the-gate-*")), 60)
    for process in (train.popen, *train.children()):
        process.send_signal(signal.SIGKILL) if process is train.popen else process.send(9)
    assert train.wait() == -signal.SIGKILL
    commands.until(lambda: not train.left(), 10)
    position = saved()[-1]["epochs"]
    assert 0.5 <= position < 140 * BATCH / SAMPLES, "nothing was lost that is to be done again"

    (tmp_path / "open").touch()
    train = commands.start("train", "--resume", run, "--workers", 2, "--json", tmp_path / "r.json")
    assert (train.wait(), train.err) == (0, "")
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["samples"] == SAMPLES
    assert (result["samples_repeated"], result["samples_reissued"]) == (0, 0)
    assert set(counted(run)) == {1}
    assert [round(row["epochs"], 2) for row in saved()] == [0.26, 0.52, 0.75, 1.0]


def test_a_damaged_image_is_left_out_counted_and_named(commands, tmp_path):
    for number in range(24):
        kind = "train" if number < 20 else "test"
        image = np.random.default_rng(number).integers(0, 256, (8, 8, 1)).astype(np.uint8)
        data = cv2.imencode(".png", image)[1].tobytes()
        place = tmp_path / "photos" / kind / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data[:-20] if number == 7 else data)
    train = commands.start(
        "train", "--out", tmp_path / "run", "--servers", 1, "--workers", 1,
        "--set", "data.source=images:photos", "--set", "data.corrupt=skip", "--set",
        "job.epochs=3", "--json", tmp_path / "r.json",
    )  # fmt: skip
    assert (train.wait(), train.err) == (0, "")
    result = json.loads((tmp_path / "r.json").read_text())
    assert (result["samples"], result["samples_skipped"]) == (3 * 19, 1)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    events = [row["text"] for row in map(json.loads, rows) if row["kind"] == "event"]
    (named,) = [text for text in events if "7.png" in text]
    assert named in train.out
