"""Checkpoints of a whole cluster, and jobs that go on from them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation import MODELS, Simulation, blobs, make_job, one_hot, write_npz

from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.rules import RULES
from dualshard.paramserver.checkpoint import all_checkpoints, open_checkpoint, read_vector

MLP = {
    "model__ref": "mlp",
    "model__args": {"hidden": [8]},
    "worker__count": 1,
    "job__epochs": 4,
    "optimizer__lr": 0.01,
    "optimizer__schedule": "linear",
    "train__staleness_scaling": 0.5,
    "paramserver__shard_bytes": 64,
}
TOTALS = ("samples", "epochs", "pushes", "bytes_pushed", "bytes_pulled", "portions_repeated")


def finished(job: Job, run: Path | None = None, **options: Any) -> Simulation:
    """The job run to its end."""
    sim = Simulation(job, run=run, **options)
    sim.run()
    sim.check()
    return sim


def killed(
    job: Job, run: Path, checkpoints: int, later: float = 0.033, **options: Any
) -> Simulation:
    """The job killed, whole, a moment after so many checkpoints are complete."""
    sim = Simulation(job, run=run, **options)
    sim.run_until(lambda: len(sim.checkpoints()) >= checkpoints)
    moment = sim.clock.now() + later
    sim.run_until(lambda: sim.clock.now() >= moment)
    assert sim.controller.cluster.phase == "training"
    return sim


def resumed(job: Job, before: Simulation, **settings: Any) -> Simulation:
    """The job that goes on from the latest checkpoint of a run, to its end."""
    assert before.folder is not None
    changed = {"job__resume": str(before.folder), **settings}
    return finished(with_settings(job, changed), before.folder, rows=before.rows)


def with_settings(job: Job, settings: dict[str, Any]) -> Job:
    for key, value in settings.items():
        section, name = key.split("__")
        job = replace(job, **{section: replace(getattr(job, section), **{name: value})})
    return job


def model_of(sim: Simulation) -> Any:
    assert sim.model is not None
    return sim.model


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_a_killed_job_goes_on_bit_for_bit(tmp_path: Path, rule: str, weight_decay: float) -> None:
    settings = {
        **MLP,
        "optimizer__rule": rule,
        "optimizer__weight_decay": weight_decay,
        "paramserver__count": 3,
    }
    job = make_job(blobs(tmp_path), **settings)
    expected = finished(job)
    before = killed(job, tmp_path / "run", 2)
    after = resumed(job, before)
    np.testing.assert_array_equal(model_of(after), model_of(expected))
    assert [row["epoch"] for row in after.epochs()] == [2, 3]
    total, whole = (sim.controller.board.summary(sim.clock.now()) for sim in (after, expected))
    assert {name: total[name] for name in TOTALS} == {name: whole[name] for name in TOTALS}
    assert after.evaluations()[-1]["loss"] == expected.evaluations()[-1]["loss"]
    assert total["wall_seconds"] == pytest.approx(whole["wall_seconds"], rel=0.1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("workers", [2, 3])
def test_synchronous_workers_go_on_bit_for_bit(tmp_path: Path, rule: str, workers: int) -> None:
    settings = {"train__mode": "bsp", "optimizer__rule": rule, "worker__count": workers}
    job = make_job(blobs(tmp_path), **{**MLP, **settings})
    expected = finished(job)
    before = killed(job, tmp_path / "run", 2)
    after = resumed(job, before, paramserver__count=3)
    np.testing.assert_array_equal(model_of(after), model_of(expected))
    assert all(row["repeated"] == 0 for row in after.epochs())


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("outer", ["sgd", "nesterov"])
def test_rounds_of_local_steps_go_on_bit_for_bit(tmp_path: Path, outer: str, workers: int) -> None:
    """Where the workers' own rule remembers nothing, for what it does is not saved."""
    settings = {
        "train__mode": "local",
        "train__n_push": 3,
        "train__quorum": 1.0,
        "outer__rule": outer,
        "optimizer__rule": "sgd",
        "worker__count": workers,
    }
    job = make_job(blobs(tmp_path, 400), **{**MLP, **settings})
    expected = finished(job)
    before = killed(job, tmp_path / "run", 2)
    after = resumed(job, before, paramserver__count=1)
    np.testing.assert_array_equal(model_of(after), model_of(expected))


@pytest.mark.parametrize("mode", ["async", "ssp", "easgd", "local"])
def test_every_mode_goes_on(tmp_path: Path, mode: str) -> None:
    """Three workers whose order depends on time: as good as before, and each sample once."""
    settings = {"train__mode": mode, "worker__count": 3, "train__n_push": 2, "job__epochs": 8}
    job = make_job(blobs(tmp_path), **{**MLP, **settings, "optimizer__lr": 0.1})
    expected = finished(job)
    before = killed(job, tmp_path / "run", 3)
    after = resumed(job, before, worker__count=2)
    assert [row["samples"] for row in after.epochs()] == [200] * len(after.epochs())
    assert after.evaluations()[-1]["accuracy"] >= expected.evaluations()[-1]["accuracy"] - 0.1


@pytest.mark.parametrize("servers", [1, 2, 5])
def test_three_servers_save_and_any_number_goes_on(tmp_path: Path, servers: int) -> None:
    job = make_job(
        blobs(tmp_path), **{**MLP, "optimizer__rule": "momentum", "paramserver__count": 3}
    )
    expected = finished(job)
    before = killed(job, tmp_path / "run", 2)
    after = resumed(job, before, paramserver__count=servers)
    np.testing.assert_array_equal(model_of(after), model_of(expected))
    assert len(after.servers()) == servers
    assert len(after.checkpoint().manifest.files) == servers


def test_more_servers_than_shards_save_and_go_on(tmp_path: Path) -> None:
    settings = {**MLP, "paramserver__count": 6, "paramserver__shard_bytes": 256}
    job = make_job(blobs(tmp_path), **settings)
    expected = finished(job)
    before = killed(job, tmp_path / "run", 1)
    assert before.shards() < 6
    after = resumed(job, before, paramserver__count=7)
    np.testing.assert_array_equal(model_of(after), model_of(expected))


def test_the_last_checkpoint_is_the_model(tmp_path: Path) -> None:
    job = make_job(blobs(tmp_path), **MLP, job__checkpoint_keep=2)
    sim = finished(job, tmp_path / "run")
    assert [row["epochs"] for row in sim.checkpoints()] == [1, 2, 3, 4]
    np.testing.assert_array_equal(read_vector(sim.checkpoint(), "RUN"), model_of(sim))
    names = [path.name for path in all_checkpoints(tmp_path / "run")]
    assert names == ["000003", "000004"]
    manifest = sim.checkpoint().manifest
    assert manifest.position.epoch == 4
    assert manifest.position.totals["samples"] == 800
    pushes = sum(entry.version for file in manifest.files for entry in file.shards)
    assert pushes == sim.pushes()


def test_without_checkpoints_nothing_is_written_and_nothing_differs(tmp_path: Path) -> None:
    job = make_job(blobs(tmp_path), **MLP, job__checkpoint_every=0)
    sim = finished(job, tmp_path / "run")
    assert all_checkpoints(tmp_path / "run") == []
    saving = finished(with_settings(job, {"job__checkpoint_every": 1.0}), tmp_path / "run")
    np.testing.assert_array_equal(model_of(saving), model_of(sim))


def test_training_goes_on_while_servers_write(tmp_path: Path) -> None:
    """A server takes a whole epoch to write; what it writes is the cut all the same."""
    settings = {**MLP, "job__epochs": 6, "job__checkpoint_keep": 9, "paramserver__count": 1}
    job = make_job(blobs(tmp_path), **settings)
    finished(job, tmp_path / "fast")
    slow = killed(job, tmp_path / "slow", 1, writing=0.02)
    at_once = open_checkpoint(tmp_path / "fast" / "checkpoints" / "000001", "RUN")
    saved = slow.checkpoint()
    assert saved.manifest.number == 1
    assert saved.manifest.files == at_once.manifest.files, "their checksums among it"
    assert len(slow.epochs()) >= 2
    assert slow.pushes() > 1.5 * sum(e.version for f in saved.manifest.files for e in f.shards)


def test_a_checkpoint_that_is_due_while_one_is_written_is_skipped(tmp_path: Path) -> None:
    job = make_job(blobs(tmp_path), **MLP)
    sim = finished(job, tmp_path / "run", writing=0.02)
    skipped = [event for event in sim.events() if event.startswith("skipped a checkpoint")]
    assert sim.controller.skipped_checkpoints >= len(skipped) > 0
    assert skipped[0] == "skipped a checkpoint: number 1 is still being written"
    # The last one waits for its turn, and the job for the last one.
    np.testing.assert_array_equal(read_vector(sim.checkpoint(), "RUN"), model_of(sim))


@pytest.mark.parametrize("name", ["paramserver-1", "controller-0"])
def test_a_full_disk_ends_nothing(tmp_path: Path, name: str) -> None:
    job = make_job(blobs(tmp_path), **{**MLP, "paramserver__count": 2})
    sim = Simulation(job, run=tmp_path / "run")
    sim.run_until(lambda: len(sim.checkpoints()) == 1)
    sim.full.add(name)
    sim.run_until(lambda: len(sim.epochs()) == 3)
    sim.full.clear()
    sim.run()
    sim.check()
    failed = [event for event in sim.events() if "was not written" in event]
    who = f"{name}: " if name != "controller-0" else ""
    assert failed[0] == f"checkpoint 2 was not written: {who}No space left on device"
    assert sim.checkpoint().manifest.number == len(failed) + len(sim.checkpoints())
    np.testing.assert_array_equal(read_vector(sim.checkpoint(), "RUN"), model_of(sim))


EXACT = {
    "async": {},
    "ssp": {"train__mode": "ssp"},
    "bsp": {"train__mode": "bsp", "optimizer__lr": 2.0},
    "local": {"train__mode": "local", "train__n_push": 3, "outer__lr": 2.0},
}
"""Settings under which `Tally` of two workers counts each sample once an epoch."""


@pytest.mark.parametrize("checkpoints", [1, 3, 5])
@pytest.mark.parametrize("mode", EXACT)
def test_in_mid_epoch_each_sample_counts_once(tmp_path: Path, checkpoints: int, mode: str) -> None:
    """It goes on with the exact next sample, whatever was under way when the job was killed."""
    job = make_job(
        one_hot(tmp_path, 310),
        job__epochs=3,
        job__checkpoint_every=0.3,
        worker__count=2,
        dataserver__count=2,
        **EXACT[mode],
    )
    before = killed(job, tmp_path / "run", checkpoints, later=0.003)
    position = before.checkpoint().manifest.position
    assert position.epochs == pytest.approx(0.3 * checkpoints, abs=0.25)
    assert (position.begin > 0) is (position.epochs % 1 > 0)
    after = resumed(job, before)
    np.testing.assert_array_equal(model_of(after), np.full(310, 3.0, np.float32))
    rows = after.epochs()
    assert [row["epoch"] for row in rows] == list(range(position.epoch, 3))
    assert [row["samples"] for row in rows] == [310] * len(rows)
    assert [row["repeated"] for row in rows] == [0] * len(rows)
    total = after.controller.board.summary(after.clock.now())
    assert (total["samples"], total["epochs"]) == (930, 3)


@pytest.mark.parametrize("mode", ["async", "bsp", "local"])
@pytest.mark.parametrize("transforms", [(), ("shift:1",)])
def test_in_mid_epoch_it_goes_on_bit_for_bit(
    tmp_path: Path, mode: str, transforms: tuple[str, ...]
) -> None:
    """As if it had never stopped, dropout and augmentation included."""
    workers = 1 if mode == "async" else 2
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (200, 5, 4), dtype=np.uint8)
    settings = {
        "train__mode": mode,
        "worker__count": workers,
        "job__checkpoint_every": 0.4,
        "data__augment": transforms,
        "model__ref": f"{MODELS}:forgetful",
        "model__args": {},
    }
    data = write_npz(tmp_path / "images.npz", images, np.arange(200) % 3)
    job = make_job(data, **{**MLP, **settings})
    expected = finished(job, tmp_path / "whole")
    before = killed(job, tmp_path / "run", 4, later=0.003)
    assert before.checkpoint().manifest.position.begin > 0
    after = resumed(job, before)
    np.testing.assert_array_equal(model_of(after), model_of(expected))


def test_another_cut_goes_on_with_the_next_sample(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 320), job__epochs=2, job__checkpoint_every=0.5)
    before = killed(job, tmp_path / "run", 1, later=0)
    position = before.checkpoint().manifest.position
    assert (position.epoch, position.begin) == (0, 192)
    after = resumed(job, before, data__batch_size=7, worker__count=3, dataserver__count=2)
    np.testing.assert_array_equal(model_of(after), np.full(320, 2.0, np.float32))
    assert [row["samples"] for row in after.epochs()] == [320, 320]


def test_another_seed_starts_the_epoch_over(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 320), job__epochs=2, job__checkpoint_every=0.5)
    before = killed(job, tmp_path / "run", 1, later=0)
    after = resumed(job, before, job__seed=8)
    assert "epoch 0 starts over: its order is another one now" in after.events()
    assert [row["samples"] for row in after.epochs()] == [320, 320]
    assert model_of(after).min() == 2
    assert model_of(after).sum() == 2 * 320 + 192


def test_where_stragglers_may_be_left_behind_nobody_waits_in_mid_epoch(tmp_path: Path) -> None:
    """Then portions that are done count, and those under way are done again."""
    job = make_job(
        one_hot(tmp_path, 320),
        job__epochs=2,
        job__checkpoint_every=0.5,
        job__epoch_quorum=0.75,
        worker__count=2,
    )
    before = killed(job, tmp_path / "run", 1, later=0)
    position = before.checkpoint().manifest.position
    assert (position.epoch, position.begin) == (0, 0)
    assert position.done
    after = resumed(job, before)
    assert model_of(after).min() >= 1
    assert after.epochs()[0]["samples"] == 320
    # Cut otherwise, none of these portions can be told from the others.
    again = killed(job, tmp_path / "again", 1, later=0)
    other = resumed(job, again, data__batch_size=8)
    assert any(event.endswith("they are cut otherwise now") for event in other.events())
    assert model_of(other).min() >= 1


def test_a_leg_that_ends_while_a_checkpoint_is_written_waits_for_no_disk(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 320), job__epochs=2, job__checkpoint_every=0.05)
    sim = finished(job, tmp_path / "run", writing=0.02)
    assert sim.controller.skipped_checkpoints > 0
    np.testing.assert_array_equal(model_of(sim), np.full(320, 2.0, np.float32))


def test_more_workers_and_data_servers_may_go_on(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 300), job__epochs=4)
    before = killed(job, tmp_path / "run", 2)
    after = resumed(job, before, worker__count=3, dataserver__count=2)
    np.testing.assert_array_equal(model_of(after), np.full(300, 4.0, np.float32))
    assert "goes on from checkpoint 2, after 2 epochs" in after.events()


def test_a_complete_job_may_be_made_longer(tmp_path: Path) -> None:
    job = make_job(one_hot(tmp_path, 100), job__epochs=2)
    first = finished(job, tmp_path / "run")
    with pytest.raises(UserError) as refused:
        resumed(job, first)
    assert str(refused.value) == (
        "job.epochs = 2: expected more than the 2 that are done; the job is complete; to go on, "
        "raise it with --set job.epochs=N"
    )
    after = resumed(job, first, job__epochs=5)
    np.testing.assert_array_equal(model_of(after), np.full(100, 5.0, np.float32))
    assert after.checkpoint().manifest.number == 5


def test_a_run_that_was_resumed_may_be_resumed(tmp_path: Path) -> None:
    job = make_job(blobs(tmp_path), **{**MLP, "optimizer__rule": "adagrad"})
    expected = finished(job)
    first = killed(job, tmp_path / "run", 1)
    again = with_settings(job, {"job__resume": str(tmp_path / "run")})
    second = killed(again, tmp_path / "run", 2, rows=first.rows)
    second.rows = first.rows + second.rows
    after = resumed(job, second)
    np.testing.assert_array_equal(model_of(after), model_of(expected))
    total = after.controller.board.summary(after.clock.now())
    assert total["samples"] == 4 * 200


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"paramserver__shard_bytes": 128},
            "paramserver.shard_bytes = 128B: expected 64B, as in the checkpoint; "
            "leave it as it was",
        ),
        (
            {"optimizer__rule": "sgd"},
            "optimizer.rule = sgd: expected momentum, as in the checkpoint; leave it as it was",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    job = make_job(blobs(tmp_path), **{**MLP, "optimizer__rule": "momentum"})
    before = killed(job, tmp_path / "run", 1)
    with pytest.raises(UserError) as refused:
        resumed(job, before, **settings)
    assert str(refused.value) == message


def test_another_model_is_refused_by_its_first_difference(tmp_path: Path) -> None:
    job = make_job(blobs(tmp_path), **MLP)
    killed(job, tmp_path / "run", 1)
    changed = {"job__resume": str(tmp_path / "run"), "model__args": {"hidden": [9]}}
    sim = Simulation(with_settings(job, changed), run=tmp_path / "run")
    sim.run()
    assert sim.actors["controller-0"].ended.status == 2
    assert sim.actors["controller-0"].ended.reason == (
        "the checkpoint holds another model: its parameter dense1.weight [12, 8] is "
        "dense1.weight [12, 9] here; leave model.ref and model.args as they were"
    )


def test_a_damaged_file_ends_the_job_by_name(tmp_path: Path) -> None:
    job = make_job(blobs(tmp_path), **{**MLP, "paramserver__count": 2})
    before = killed(job, tmp_path / "run", 1)
    path = before.checkpoint().path / "server-1.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    again = with_settings(job, {"job__resume": str(tmp_path / "run"), "paramserver__count": 1})
    sim = Simulation(again, run=tmp_path / "run")
    sim.run()
    ended = sim.actors["controller-0"].ended
    assert ended.status == 2
    assert "expected server-1.safetensors with SHA-256 " in ended.reason
    assert "the file is damaged: go on from an older checkpoint" in ended.reason
