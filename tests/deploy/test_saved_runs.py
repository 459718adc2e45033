"""Commands over what a run has saved, without any process: ls, verify, export, evaluate, resume."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from dualshard.common.cluster import DataShape, parse_layout
from dualshard.common.job import Job, to_toml
from dualshard.common.locks import Lock
from dualshard.common.types import Array
from dualshard.dataserver.events import Prepare
from dualshard.dataserver.process import Store
from dualshard.deploy.commands import dualshard
from dualshard.deploy.outfolder import OutFolder
from dualshard.paramserver.checkpoint import ServerFile, directory_of, next_number, seal
from dualshard.paramserver.manifest import FileEntry, Manifest, Position, ShardEntry
from dualshard.paramserver.snapshots import ShardCopy
from dualshard.worker.step import Stepper

JOB = Job.from_dict(
    {
        "job": {"epochs": 8},
        "model": {"args": {"hidden": [16]}},
        "optimizer": {"rule": "momentum"},
        "paramserver": {"shard_bytes": 1024},
    }
)


@pytest.fixture(scope="module")
def stepper() -> Stepper:
    return Stepper(JOB, DataShape.of(Store(JOB).facts))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory with a job and nothing else, in the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run"
    (path / "checkpoints").mkdir(parents=True)
    (path / "logs").mkdir()
    (path / "job.toml").write_text(to_toml(JOB))
    return path


def save(run: Path, stepper: Stepper, epoch: int = 5) -> tuple[Path, Array]:
    """A checkpoint of random parameters on two servers."""
    number = next_number(run)
    layout = parse_layout(stepper.layout_rows())
    vector = np.random.default_rng(number).normal(0, 0.1, stepper.layout.size).astype(np.float32)
    cut = [vector[begin : begin + 256] for begin in range(0, vector.size, 256)]
    files = []
    for rank in range(2):
        held = list(enumerate(cut))[rank::2]
        plan = [(shard, len(values)) for shard, values in held]
        file = ServerFile(directory_of(run, number), rank, plan, ("velocity",))
        for shard, values in held:
            file.add(ShardCopy(shard, values, {"velocity": np.zeros_like(values)}, 1, 1, 1))
        shards = tuple(ShardEntry(shard, 1, 1, 1) for shard, _ in held)
        size, checksum = file.close()
        files.append(FileEntry(file.name, size, checksum, shards))
    place = Position(epoch, cut={"samples": 40})
    index = Manifest(number, 0, layout, 1024, 1024, "momentum", ("velocity",), place, tuple(files))
    seal(directory_of(run, number), index, 3)
    return directory_of(run, number), vector


def call(*arguments: object) -> Result:
    return CliRunner().invoke(dualshard, list(map(str, arguments)))


def refusal(result: Result) -> str:
    """The one line of a command that was refused."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def flip(path: Path) -> str:
    """Damage a file; its checksum now."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_ls_shows_each_checkpoint_and_the_latest(run: Path, stepper: Stepper) -> None:
    save(run, stepper, 3)
    save(run, stepper, 4)
    (run / "checkpoints" / "000003").mkdir()
    result = call("checkpoint", "ls", run)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1:] == [
        ["000001", "3.00", "2", "0.0", "MiB"],
        ["000002", "4.00", "2", "0.0", "MiB", "latest"],
        ["000003", "incomplete"],
    ]


def test_ls_names_a_damaged_index_and_goes_on(run: Path, stepper: Stepper) -> None:
    first, _ = save(run, stepper)
    save(run, stepper)
    flip(first / "index.json")
    result = call("checkpoint", "ls", run)
    assert result.exit_code == 0
    assert "expected index.json with SHA-256" in result.stdout.splitlines()[1]


def test_verify_prints_a_line_a_file(run: Path, stepper: Stepper) -> None:
    path, _ = save(run, stepper)
    size = (path / "server-1.safetensors").stat().st_size
    for what in (run, path):
        result = call("checkpoint", "verify", what)
        assert (result.exit_code, result.stderr) == (0, "")
        lines = result.stdout.splitlines()
        assert lines[0] == "000001/index.json  ok"
        assert lines[2] == f"000001/server-1.safetensors  {size:,} bytes  ok"
        assert len(lines) == 3


@pytest.mark.parametrize("name", ["server-0.safetensors", "server-1.safetensors"])
def test_verify_names_a_damaged_file_and_both_checksums(
    run: Path, stepper: Stepper, name: str
) -> None:
    path, _ = save(run, stepper)
    before = hashlib.sha256((path / name).read_bytes()).hexdigest()
    after = flip(path / name)
    result = call("checkpoint", "verify", run)
    assert result.exit_code == 2
    assert f"expected {name} with SHA-256 {before}, it has {after}; " in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_export_writes_each_parameter_by_name(run: Path, stepper: Stepper) -> None:
    _, vector = save(run, stepper)
    result = call("export", run, "--out", "model.st")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "4 parameters of checkpoint 000001 written to model.st\n"
    tensors = load_file("model.st")
    for name, (begin, end) in stepper.layout.spans().items():
        shape = stepper.layout.shapes[name]
        np.testing.assert_array_equal(tensors[name], vector[begin:end].reshape(shape))


def test_an_exported_state_dict_loads_safely_in_pytorch(run: Path, stepper: Stepper) -> None:
    torch = pytest.importorskip("torch")
    path, vector = save(run, stepper)
    assert call("export", path, "--format", "pt", "--out", "model.pt").exit_code == 0
    state = torch.load("model.pt", weights_only=True)
    assert list(state) == list(stepper.layout.shapes)
    flat = np.concatenate([tensor.numpy().reshape(-1) for tensor in state.values()])
    np.testing.assert_array_equal(flat, vector)
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


def test_without_pytorch_a_state_dict_is_refused(
    run: Path, stepper: Stepper, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, stepper)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refusal(call("export", run, "--format", "pt", "--out", "model.pt")) == (
        "dualshard: --format = pt: expected PyTorch, which writes it; "
        "install it with: pip install 'dualshard[torch]'"
    )


def test_a_place_that_cannot_be_written_is_refused(run: Path, stepper: Stepper) -> None:
    save(run, stepper)
    assert refusal(call("export", run, "--out", "nowhere/model.st")) == (
        "dualshard: --out = nowhere/model.st: expected a file that can be written; "
        "No such file or directory: choose another"
    )


def test_evaluate_measures_as_a_worker_does(run: Path, stepper: Stepper) -> None:
    """Oracle: the worker's own evaluation of the same vector on the data server's portions."""
    _, vector = save(run, stepper)
    prepared = Store(JOB).prepare(Prepare(True, 0, 0))
    assert prepared.last
    samples, expected = stepper.evaluate(vector, [prepared.arrays])
    result = call("evaluate", run, "--json", "result.json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(Path("result.json").read_text())
    assert found == {
        "test_accuracy": expected["accuracy"],
        "test_loss": expected["loss"],
        "samples": samples,
        "source": "checkpoint 000001",
    }
    assert f"on {samples} samples, checkpoint 000001" in result.stdout


def test_the_final_model_serves_where_there_is_no_checkpoint(run: Path, stepper: Stepper) -> None:
    views = stepper.layout.views(np.ones(stepper.layout.size, np.float32))
    save_file(dict(views), run / "model.safetensors")
    result = call("evaluate", run)
    assert result.exit_code == 0
    assert result.stdout.endswith("samples, model.safetensors\n")
    assert call("export", run, "--out", "copy.st").exit_code == 0


def test_what_cannot_be_read_is_one_line(run: Path, stepper: Stepper) -> None:
    line = refusal(call("evaluate", run))
    assert line.endswith(
        "expected a run with a checkpoint or a model.safetensors; its job was not complete; "
        "train with job.checkpoint_every above 0"
    )
    (run / "model.safetensors").write_bytes(b"no")
    assert "expected a readable model.safetensors; " in refusal(call("export", run, "--out", "x"))
    path, _ = save(run, stepper)
    flip(path / "server-0.safetensors")
    assert "expected server-0.safetensors with SHA-256 " in refusal(call("evaluate", run))
    assert "there is no such folder" in refusal(call("evaluate", "nowhere"))


def test_another_model_is_named_by_its_first_difference(run: Path, stepper: Stepper) -> None:
    save(run, stepper)
    text = (run / "job.toml").read_text()
    (run / "job.toml").write_text(text.replace("hidden = [16]", "hidden = [17]"))
    assert refusal(call("evaluate", run)) == (
        "dualshard: model.ref = mlp: expected the model of checkpoint 000001, where dense1.weight "
        "is (64, 16); job.toml builds one where it is (64, 17)"
    )


# Going on: what is refused before anything is started.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "job.epochs = 5: expected more than the 5 that are done; the job is complete"),
        (
            ("--set", "paramserver.shard_bytes=2KiB"),
            "paramserver.shard_bytes = 2KiB: expected 1KiB, as in the checkpoint",
        ),
        (
            ("--set", "optimizer.rule=sgd"),
            "optimizer.rule = sgd: expected momentum, as in the checkpoint",
        ),
        (("--out", "elsewhere"), "--out = elsewhere: expected "),
    ],
)
def test_a_job_that_does_not_fit_is_refused(
    run: Path, stepper: Stepper, arguments: tuple[str, ...], words: str
) -> None:
    save(run, stepper, 5)
    before = sorted(path.name for path in run.rglob("*"))
    epochs = ("--set", "job.epochs=5") if not arguments else ()
    line = refusal(call("train", "--resume", run, *arguments, *epochs))
    assert line.startswith(f"dualshard: {words}")
    assert sorted(path.name for path in run.rglob("*")) == before


def test_nothing_to_go_on_from_is_refused(run: Path) -> None:
    line = refusal(call("train", "--resume", run))
    assert "expected a run with a complete checkpoint in checkpoints; " in line
    assert "there is no such folder" in refusal(call("train", "--resume", "nowhere"))
    assert "there is no job.toml in it" in refusal(call("train", "--resume", run / "logs"))


@pytest.mark.parametrize("name", ["launcher.lock", "controller.lock"])
def test_a_run_that_still_runs_is_refused(run: Path, stepper: Stepper, name: str) -> None:
    save(run, stepper)
    lock = Lock.take(run / "logs" / name)
    assert lock is not None
    line = refusal(call("train", "--resume", run))
    assert "a run that has ended, this one still runs; wait until it ends" in line
    lock.release()


def test_the_runs_own_job_is_shown_with_what_is_set_on_top(run: Path, stepper: Stepper) -> None:
    save(run, stepper)
    result = call("train", "--resume", "run", "--servers", 4, "--show-config")
    assert result.exit_code == 0
    shown = {line.split(" = ")[0]: line for line in result.stdout.splitlines()}
    for key, value, origin in [
        ("job.epochs", "8", "file run/job.toml"),
        ("paramserver.count", "4", "--servers"),
        ("job.resume", '"run"', "--resume"),
    ]:
        before, after = shown[key].split("# ")
        assert (before.split(" = ")[1].strip(), after) == (value, origin)


def test_of_a_run_that_goes_on_nothing_is_removed(run: Path, stepper: Stepper) -> None:
    save(run, stepper)
    job = replace(JOB, job=replace(JOB.job, resume=str(run)))
    folder = OutFolder.of(job, None)
    assert folder.path == run
    lock = folder.lock()
    (run / "curves.png").write_text("another controller's")
    folder.discard()
    assert (run / "curves.png").exists()
    lock.release()
