"""What a worker is told by its own command line wins over the job."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from dualshard.common.config import resolve
from dualshard.common.errors import UserError
from dualshard.deploy.commands import dualshard
from dualshard.worker.process import with_own


def test_a_device_and_threads_of_its_own():
    job = resolve(None, {}, ["worker.threads=3", "worker.device=auto"]).job
    assert with_own(job, "", 0) == job
    assert with_own(job, "cuda:1", 2).worker == replace(job.worker, device="cuda:1", threads=2)
    assert with_own(job, "", 2).worker == replace(job.worker, threads=2)


def test_what_a_cut_net_does_not_have_is_refused():
    cut = resolve(None, {}, ["train.mode=admm", "worker.count=2"]).job
    with pytest.raises(UserError, match=r"worker\.threads = 2"):
        with_own(cut, "", 2)


def test_a_device_that_there_is_not_is_refused_at_once():
    command = ["worker", "--controller", "127.0.0.1:1", "--device", "gpu"]
    ended = CliRunner().invoke(dualshard, command)
    assert ended.exit_code == 2
    assert ended.stderr.startswith("dualshard: --device = gpu: expected auto, cpu or cuda:N")
