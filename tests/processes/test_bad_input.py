"""Bad input that only a role finds: one line, exit 2, and nothing half-written.

What the command line itself refuses is tested without processes in tests/deploy.
"""

import json
import struct

import cv2
import numpy as np
import pytest

from dualshard.worker.device import find

pytestmark = pytest.mark.processes


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def write_images(folder, images, labels):
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(images)
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)


def write_photos(folder):
    """JPEGs of two classes, one of them damaged in its middle, where OpenCV alone only warns."""
    for number in range(12):
        image = np.random.default_rng(number).integers(0, 256, (24, 32, 3)).astype(np.uint8)
        data = cv2.imencode(".jpg", image)[1].tobytes()
        if number == 7:
            data = data[: len(data) // 2] + bytes(100) + data[len(data) // 2 + 100 :]
        place = folder / "ab"[number % 2] / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


@pytest.fixture
def bad(tmp_path):
    """A folder of bad inputs."""
    images, labels = np.zeros((40, 4, 4), np.uint8), np.zeros(40, np.uint8)
    write_images(tmp_path / "truncated", idx(images)[:-7], idx(labels))
    write_images(tmp_path / "magic", b"GIF8" + idx(images)[4:], idx(labels))
    write_images(tmp_path / "empty", idx(images[:0]), idx(labels[:0]))
    np.savez(tmp_path / "range.npz", x_train=images, y_train=np.full(40, -3))
    write_photos(tmp_path / "photos")
    (tmp_path / "raises.py").write_text("def build():\n    raise RuntimeError('no luck today')\n")
    (tmp_path / "lazy.py").write_text(LAZY)
    (tmp_path / "narrow.py").write_text("from torch import nn\n\nnet = nn.Linear(8, 4)\n")
    return tmp_path


LAZY = """
from dualshard.worker.zoo import mlp


def build(inputs, classes):
    model = mlp(inputs, (8,), classes)
    model.gradients = lambda *given: {"loss": 1.0}
    return model
"""

CASES = {
    "truncated": ("data.source=idx:truncated", "to hold 640 bytes after its header"),
    "magic": ("data.source=idx:magic", "it begins with 47 49 46 38"),
    "empty": ("data.source=idx:empty", "sample"),
    "label": ("data.source=npz:range.npz", "-3"),
    "jpeg": ("data.source=images:photos", "b/7.jpg is damaged: the JPEG is damaged inside ("),
    "model": ("model.ref=nowhere.py:build", "a Python file that is there"),
    "raises": ("model.ref=raises.py:build", "RuntimeError: no luck today"),
    "lazy": (
        "model.ref=lazy.py:build",
        "512 of the 512 elements of gradients['dense1.weight'] were",
    ),
    "torch": ("model.ref=narrow.py:net", "(32, 10), a number for each class; forward() returned "),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(case, bad, commands):
    if case == "torch":
        pytest.importorskip("torch")
    setting, words = CASES[case]
    small = ("--workers", 1, "--servers", 1)
    train = commands.start("train", *small, "--out", bad / "new" / "run", "--set", setting)
    assert train.wait(30) == 2
    (line,) = train.err.splitlines()
    key, value = setting.split("=", 1)
    assert line.startswith(f"dualshard: {key} = {value}: expected ")
    assert words in line
    assert not (bad / "new").exists()
    assert train.left() == []


def test_bad_input_leaves_a_users_folder_as_it_was(bad, commands):
    out = bad / "mine"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    small = ("--workers", 1, "--servers", 1, "--out", out)
    train = commands.start("train", *small, "--model", "raises.py:build")
    assert train.wait(30) == 2
    assert [path.name for path in out.iterdir()] == ["notes.txt"]
    again = commands.start("train", *small, "--set", "job.epochs=1")
    assert again.wait(30) == 0, again.err
    assert json.loads((out / "summary.json").read_text())["epochs"] == 1


def test_a_model_that_raises_in_mid_training_keeps_what_there_is(commands, tmp_path):
    (tmp_path / "late.py").write_text(
        "from dualshard.worker.zoo import mlp\n"
        "\n"
        "\n"
        "def build(inputs, classes):\n"
        "    model = mlp(inputs, (8,), classes)\n"
        "    whole, steps = model.gradients, []\n"
        "\n"
        "    def gradients(*given):\n"
        "        steps.append(1)\n"
        "        if len(steps) > 100:\n"
        "            raise ArithmeticError('step 100')\n"
        "        return whole(*given)\n"
        "\n"
        "    model.gradients = gradients\n"
        "    return model\n"
    )
    small = ("--workers", 1, "--servers", 1, "--out", tmp_path / "run")
    train = commands.start("train", *small, "--model", "late.py:build")
    assert train.wait(30) == 2
    (line,) = train.err.splitlines()
    assert "it raised ArithmeticError: step 100 at " in line
    assert '"kind": "epoch"' in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_a_controller_started_by_hand_leaves_nothing_after_bad_data(bad, commands):
    announce = bad / "address"
    controller = commands.start(
        "controller", "--bind", "127.0.0.1:0", "--announce", announce, "--set",
        "data.source=idx:magic",
    )  # fmt: skip
    commands.until(announce.exists, 30)
    data = commands.start("dataserver", "--controller", announce.read_text().strip())
    assert (controller.wait(30), data.wait(30)) == (2, 2)
    assert controller.err.splitlines()[-1].startswith("dualshard: data.source = idx:magic: ")
    assert not (bad / "runs").exists()


@pytest.mark.skipif(find("auto").device is not None, reason="a CUDA device is there")
def test_a_gpu_that_is_asked_for_and_not_there_ends_the_job_in_one_line(commands, tmp_path):
    small = ("--workers", 1, "--servers", 1, "--out", tmp_path / "run")
    train = commands.start("train", *small, "--set", "worker.device=cuda:0")
    assert train.wait(30) == 2
    (line,) = train.err.splitlines()
    assert line.startswith(
        "dualshard: worker.device = cuda:0: expected a CUDA device of this number"
    )
    assert line.endswith(", or set worker.device=cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(find("auto").device is not None, reason="a CUDA device is there")
def test_without_a_gpu_auto_says_so_in_one_line_and_trains_on_the_cpu(commands, tmp_path):
    small = ("--workers", 1, "--servers", 1, "--out", tmp_path / "run")
    settings = ("--set", "worker.device=auto", "--set", "job.epochs=1")
    train = commands.start("train", *small, *settings)
    assert train.wait(60) == 0, train.err
    said = [line for line in train.out.splitlines() if "device auto" in line]
    assert len(said) == 1
    assert "worker-0: device auto: no CUDA device (" in said[0]
    assert said[0].endswith("): computing on the CPU")
