"""`bench compute`: its rows and checks, nets in PyTorch against the zoo, and a moment of it all."""

import pytest

from dualshard.bench import compute
from dualshard.bench.compute import KEPT, OURS, THEIRS, Case, bench_compute, make_rows
from dualshard.bench.nets import NETS
from dualshard.bench.peer_lane import LaneSteps
from dualshard.common.errors import RoleError, UserError
from dualshard.worker.zoo import ZOO

CASE = Case("lenet", 32, "cpu")


def test_the_goal_is_for_pytorch_as_it_comes():
    rows = make_rows(CASE, {OURS: [30.0, 90.0, 31.0], THEIRS: [20.0, 10.0, 21.0], KEPT: [40.0]})
    assert [row.name for row in rows] == [
        "lenet, minibatches of 32, cpu, against PyTorch",
        "lenet, minibatches of 32, cpu, against PyTorch that keeps freed memory",
    ]
    assert [(row.value, row.unit, row.against) for row in rows] == [
        (31.0, "samples/s", 20.0),
        (31.0, "samples/s", 40.0),
    ]
    assert [(row.ratio, row.goal, row.holds) for row in rows] == [
        (1.55, 1.5, True),
        (0.775, None, None),
    ]
    (alone,) = make_rows(CASE, {OURS: [30.0]})
    assert (alone.name, alone.against, alone.goal) == (str(CASE), None, None)


def test_goals_are_those_of_the_device():
    assert {Case(net, 32, "cuda:0").goal for net in ("mlp", "ciresan")} == {1.0}
    assert {Case(net, 7, "cuda:1").goal for net in ("lenet", "cifar", "resnet20")} == {0.8}
    assert [Case("mlp", batch, "cpu").goal for batch in (8, 16, 32, 128)] == [2.5, None, 2.3, 1.6]
    assert NETS.keys() == ZOO.keys() - {"logistic"}


def test_without_pytorch_only_our_side_is_reported(monkeypatch):
    monkeypatch.setattr(compute, "installed", lambda package: False)
    monkeypatch.setattr(compute, "measure", lambda *_: {OURS: [5.0]})
    said = []
    rows = bench_compute(["mlp", "lenet"], [], "cpu", 1, 0.1, said.append)
    assert [row.name for row in rows] == [
        *(f"mlp, minibatches of {batch}, cpu" for batch in (8, 32, 128)),
        *(f"lenet, minibatches of {batch}, cpu" for batch in (32, 128)),
    ]
    told = "PyTorch is not installed: nothing to compare with (pip install torch)"
    assert said == [told, *(row.name for row in rows)]


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("gpu", "--device = gpu: expected cpu or cuda:N; for example --device cuda:0"),
        ("cuda:x", "--device = cuda:x: expected cpu or cuda:N; for example --device cuda:0"),
        ("cuda:900", "--device = cuda:900: expected a CUDA device of this number on the "),
    ],
)
def test_a_device_that_is_not_there_is_one_line(device, words):
    with pytest.raises(UserError) as absent:
        bench_compute(["mlp"], [8], device, 1, 0.1, print)
    assert str(absent.value).startswith(words)
    assert "worker.device" not in str(absent.value)


@pytest.fixture(scope="module", params=NETS)
def net(request):
    """The name of a net, and what our first step on minibatches of 3 came to."""
    return request.param, LaneSteps(request.param, 3, "cpu").first_step()


@pytest.mark.parametrize("layout", ["NCHW", "channels last"])
def test_pytorch_makes_the_same_step(net, layout):
    pytest.importorskip("torch")
    from dualshard.bench.peer_torch_steps import TorchSteps

    name, step = net
    side = TorchSteps(name, "cpu", layout, "foreach", step)
    side.check(step)
    assert side.measure(0.0) > 0
    side.check(step)  # a measurement leaves nothing behind

    with pytest.raises(SystemExit, match=r"^its loss is .*, and ours is "):
        side.check({**step, "loss": step["loss"] * 1.001})
    last = next(key for key in reversed(step) if key.endswith("weight")).partition(".")[2]
    before, after = step[f"before.{last}"], step[f"after.{last}"]
    with pytest.raises(SystemExit, match=rf"^its step of {last} ends .* from ours, which is "):
        side.check({**step, f"after.{last}": after + 0.2 * (after - before)})


@pytest.mark.processes
def test_the_whole_benchmark_runs():
    pytest.importorskip("torch")
    said = []
    (row, _) = bench_compute(["mlp"], [3], "cpu", 1, 0.01, said.append)
    assert row.value
    assert row.against
    assert said[:2] == [
        "mlp, minibatches of 3, cpu",
        "  dualshard: a lane that steps by itself",
    ]
    assert said[2].startswith("  PyTorch: NCHW, ")


@pytest.mark.processes
def test_a_side_that_cannot_start_is_told(tmp_path):
    with pytest.raises(RoleError, match=r"^dualshard failed; the last that it wrote: KeyError"):
        compute.measure(Case("nothing", 3, "cpu"), 1, 0.01, print, tmp_path)
