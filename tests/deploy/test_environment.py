"""Variables of other systems that mean the same as options of ours, and what roles get of them."""

import pytest
from click.testing import CliRunner

from dualshard.deploy import roles
from dualshard.deploy.commands import dualshard
from dualshard.deploy.environment import controller_of, of_a_role

DMLC = {
    "DMLC_PS_ROOT_URI": "10.0.0.1",
    "DMLC_PS_ROOT_PORT": "9000",
    "DMLC_NODE_HOST": "10.0.0.7",
    "DMLC_INTERFACE": "eth1",
}


def test_the_root_is_the_controller():
    assert controller_of(DMLC) == "10.0.0.1:9000"
    for name in ("DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT"):
        assert controller_of({key: value for key, value in DMLC.items() if key != name}) is None
        assert controller_of({**DMLC, name: ""}) is None


def test_roles_that_are_launched_have_a_job_already():
    given = {**DMLC, "DUALSHARD_WORKER_COUNT": "3", "PATH": "/bin", "SLURM_JOB_ID": "1"}
    assert of_a_role(given) == {"PATH": "/bin", "SLURM_JOB_ID": "1"}


@pytest.fixture
def options(monkeypatch):
    """The `Options` of a role that is called with an environment; nothing is started."""

    class Process:
        def __init__(self, options, *rest):
            self.options = options

        def run(self):
            return self.options

    def call(*arguments, **environment):
        seen = []
        monkeypatch.setattr(roles, "_process", lambda role, *given: Process(*given))
        monkeypatch.setattr(roles, "live", lambda run: seen.append(run()))
        result = CliRunner().invoke(dualshard, arguments, env={**DMLC, **environment})
        assert seen, result.output
        return seen[0]

    return call


def test_dmlcs_variables_stand_for_options(options):
    found = options("worker")
    assert (found.controller, found.advertise, found.interface) == (
        "10.0.0.1:9000",
        "10.0.0.7",
        "eth1",
    )


def test_options_win_over_them(options):
    found = options(*("worker", "--controller", "h:1", "--advertise", "h:2", "--interface", "eth2"))
    assert (found.controller, found.advertise, found.interface) == ("h:1", "h:2", "eth2")


def test_without_either_the_controller_is_asked_for():
    result = CliRunner().invoke(dualshard, ["worker"], env=dict.fromkeys(DMLC))
    assert result.exit_code == 2
    assert "Missing option '--controller'" in result.stderr


def test_an_operator_looks_for_the_controller_there(monkeypatch):
    seen = []
    monkeypatch.setattr("dualshard.deploy.operator.Operator", lambda *given: seen.append(given))
    CliRunner().invoke(dualshard, ["stop"], env=DMLC)
    CliRunner().invoke(dualshard, ["stop"], env=dict.fromkeys(DMLC))
    assert [address for address, _ in seen] == ["tcp://10.0.0.1:9000", "tcp://127.0.0.1:7077"]
