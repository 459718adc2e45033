"""A net that is cut between two workers: real processes, trained, killed, interrupted, refused."""

import json
import signal

import pytest

pytestmark = pytest.mark.processes

CUT = ("--set", "train.mode=admm")
SMALL = ("--set", "model.args.hidden=[32, 24]", "--servers", 1)
LIMIT = 10.0


def rows(run, kind):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [row for line in lines if (row := json.loads(line))["kind"] == kind]


def test_digits_are_learnt_across_the_cut(commands, tmp_path):
    run, result = tmp_path / "a folder with spaces" / "run", tmp_path / "the result.json"
    train = commands.start("train", *CUT, "--set", "job.epochs=6", "--out", run, "--json", result)
    assert (train.wait(), train.err) == (0, "")
    assert train.left() == []
    assert len(train.seen) == 6

    totals = json.loads(result.read_text())
    assert totals["test_accuracy"] > 0.9
    assert totals["samples"] == 6 * 1438
    assert totals["rounds"] == 6 * 5
    # One way: 256 outputs of the first layer, float32, for each sample.
    assert totals["bytes_up"] == totals["bytes_down"] == 6 * 1438 * 256 * 4
    assert totals["workers"] == 2
    for row in rows(run, "epoch"):
        assert (row["samples"], row["repeated"], row["lateness"]) == (1438, 0, 0)
        assert set(row["idle"]) == {"0", "1"}
    assert "across the cut 30 rounds" in train.out
    evaluate = commands.start("evaluate", run)
    assert (evaluate.wait(), evaluate.err) == (0, "")
    assert f"{100 * totals['test_accuracy']:.2f} %" in evaluate.out


def test_a_part_that_is_killed_is_started_again(commands, tmp_path):
    run = tmp_path / "run"
    more = ("--set", "job.epochs=60", "--set", "job.evaluate_every=60")
    train = commands.start("train", *CUT, *SMALL, *more, "--out", run)
    metrics = run / "metrics.jsonl"
    commands.until(lambda: metrics.exists() and '"kind": "epoch"' in metrics.read_text(), 60)
    victim = train.roles("worker")[1]
    victim.send(signal.SIGKILL)
    assert (train.wait(60), train.err) == (0, "")
    assert train.left() == []

    log = run / "logs" / "worker-1.log"
    again = f"worker-1 was ended by SIGKILL (log: {log}): started again, 1 of 3 times"
    assert again in train.out
    events = [row["text"] for row in rows(run, "event")]
    assert any(text.startswith("part 1 of replica 0 is missing; ") for text in events)
    assert "worker-1 holds part 1 of replica 0 again" in events
    assert {row["samples"] for row in rows(run, "epoch")} == {1438}
    assert len(rows(run, "epoch")) == 60
    assert rows(run, "evaluation")[-1]["accuracy"] > 0.9


def test_ctrl_c_ends_it(training, commands, tmp_path):
    train = training(*CUT, *SMALL)
    train.popen.send_signal(signal.SIGINT)
    assert train.wait(LIMIT) == 130
    assert train.left() == []
    assert train.err == f"dualshard: stopped by SIGINT; run directory: {tmp_path / 'run'}\n"


def test_a_cut_that_the_net_does_not_have_is_named(commands, tmp_path):
    run = tmp_path / "run"
    train = commands.start("train", *CUT, "--set", 'partition.cuts=["relu7"]', "--out", run)
    assert train.wait(30) == 2
    assert train.err == (
        "dualshard: partition.cuts = relu7: expected a place in mlp to cut behind: dense1, relu1, "
        "dense2, relu2; did you mean relu2?\n"
    )
    assert train.left() == []
    assert not run.exists()
