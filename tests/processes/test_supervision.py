"""A launch watched from the first to the last, with scripts of this machine in ssh's place, and a
controller that says what the test wants."""

import pytest

from dualshard.common.config import resolve
from dualshard.common.errors import RoleError, UserError
from dualshard.common.session import TURNED_AWAY
from dualshard.deploy.launch import remote, supervise
from dualshard.deploy.launch.commands import commands
from dualshard.deploy.launch.hostfile import read_hosts
from dualshard.deploy.launch.plan import Plan
from dualshard.deploy.launch.supervise import RemoteCluster
from dualshard.deploy.local import Interrupted
from dualshard.deploy.roles import LISTENS
from dualshard.deploy.signals import Signals

pytestmark = pytest.mark.processes

RUNS = "echo 'dualshard tether: 1 on host'"
STAYS = f"{RUNS}; cat > beats-$$"
WAITS = "while [ ! -e stop ]; do sleep 0.02; done; exit $(cat stop)"
CONTROLS = f"{RUNS}; echo '{LISTENS}10.0.0.1:7077'; {WAITS}"
HOSTS = "a address=10.0.0.1 roles=controller,paramserver,dataserver\nb roles=worker\n"


class Controller:
    """Answers as the operator's line to one would."""

    def __init__(self, folder):
        self.folder, self.phase, self.answers, self.heard = folder, "training", True, []
        self.asked = 0
        self.over_after = 10**9

    def __call__(self, address, keys):
        return self

    def status(self, patience):
        self.asked += 1
        if self.asked >= self.over_after:
            (self.folder / "stop").write_text("0")
        report = {"phase": self.phase, "roles": [], "events": [], "missing": [], "last_epoch": {}}
        return report if self.answers else None

    def stop(self, status, reason, patience):
        self.heard.append(f"stop {status}: {reason}")
        (self.folder / "stop").write_text(str(status))
        return True

    def report_death(self, host, pid, status):
        self.heard.append(f"dead {host} {pid} {status}")

    def close(self):
        pass


@pytest.fixture
def controller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").mkdir()
    made = Controller(tmp_path)
    monkeypatch.setattr(supervise, "Operator", made)
    monkeypatch.setattr(remote, "AFTER_END", 0.3)
    for name in ("POLL", "AGAIN_AFTER", "SILENCE", "GOODBYE"):
        monkeypatch.setattr(supervise, name, 0.05)
    return made


@pytest.fixture
def cluster(controller, tmp_path):
    """Makes a cluster with a script for each role; one server, data server and worker."""

    def make(signals=None, max_restarts=2, **scripts):
        settings = ["worker.count=1", "paramserver.count=1", "job.lease=0.1s"]
        plan = Plan(
            job=resolve(None, {}, settings).job,
            hosts=read_hosts(HOSTS, "hosts.txt"),
            hostfile="hosts.txt",
            max_restarts=max_restarts,
        )
        lines = {"controller": CONTROLS, "paramserver": STAYS, "dataserver": STAYS, "worker": STAYS}
        lines |= scripts
        return RemoteCluster(
            plan,
            commands(plan, "out"),
            lambda command: ["sh", "-c", lines[command.arguments[0]]],
            tmp_path,
            signals or Signals(),
        )

    return make


def test_a_worker_that_fails_too_often_ends_the_job(cluster, controller, capfd):
    with pytest.raises(RoleError) as ended:
        cluster(worker=f"{RUNS}; echo 'a last line'; echo 'dualshard: boom'; exit 1").run()
    assert str(ended.value).startswith("worker-0@b ended with status 1: boom (logs: ")
    out, err = capfd.readouterr()
    assert "started again, 1 of 2 times" in out
    assert "started again, 2 of 2 times" in out
    assert "worker-0@b failed first, " in err
    assert "[worker-0@b] a last line\n" in err
    assert "then worker-0@b, " in err
    assert controller.heard[0] == "dead host 1 1"
    assert controller.heard[-1] == "stop 1: worker-0@b ended with status 1: boom"


def test_a_server_that_fails_ends_the_job_at_once(cluster, controller):
    with pytest.raises(RoleError, match="paramserver-0@a ended with status 3: it wrote nothing"):
        cluster(paramserver=f"{RUNS}; exit 3").run()
    assert controller.heard == [
        "dead host 1 3",
        "stop 1: paramserver-0@a ended with status 3: it wrote nothing",
    ]


def test_a_host_that_is_lost_is_tried_until_it_is_back(cluster, controller, capfd, tmp_path):
    # Lives of the worker: lost while it runs, twice unreachable, then well.
    script = (
        "echo >> lives; case $(wc -l < lives) in "
        f"1) {RUNS}; exit 255;; 2|3) exit 255;; *) {STAYS};; esac"
    )
    watched = cluster(worker=script)
    controller.over_after = 40
    watched.run()
    out, err = capfd.readouterr()
    assert (tmp_path / "lives").read_text().count("\n") == 4
    assert err == "dualshard: host b is lost, and worker-0 with it\n"
    assert "host b is back, with worker-0: started again, 1 of 2 times" in out
    assert controller.heard == []


def test_a_worker_whose_place_is_taken_is_no_failure(cluster, controller):
    watched = cluster(worker=f"{RUNS}; echo 'dualshard: {TURNED_AWAY}: worker-0 is taken'; exit 2")
    controller.over_after = 10
    watched.run()
    assert watched.failed == []


def test_the_controllers_host_is_lost(cluster):
    with pytest.raises(RoleError, match="host a, where the controller ran, is lost"):
        cluster(controller=f"{RUNS}; echo '{LISTENS}10.0.0.1:7077'; sleep 0.3; exit 255").run()


def test_a_controller_that_nobody_hears_ends_the_job(cluster, controller):
    controller.answers = False
    with pytest.raises(RoleError, match="the controller has not answered for 0 s: it must be"):
        cluster().run()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (
            "echo 'ssh: no such name.'; exit 255",
            "hosts.txt line 2 = b: expected a host that ssh reaches; no such name: make `ssh b "
            "true` work without a password",
        ),
        (
            "echo 'dualshard: not found'; exit 127",
            "hosts.txt line 2 = b: expected a host where dualshard starts; not found: install "
            "dualshard there, or give its python=, command= or directory=",
        ),
        (f"{RUNS}; echo 'dualshard: bad = x'; exit 2", "bad = x (on b)"),
    ],
)
def test_a_role_that_cannot_start_is_told_in_one_line(script, error, cluster, controller):
    controller.phase = "joining"
    with pytest.raises(UserError) as refused:
        cluster(worker=script).run()
    assert str(refused.value) == error


def test_a_controller_that_cannot_listen_is_alone(cluster, tmp_path):
    busy = f"{RUNS}; echo 'dualshard: --bind = 10.0.0.1:7077: expected a free one'; exit 2"
    watched = cluster(controller=busy, worker="echo > worker")
    with pytest.raises(UserError, match=r"expected a free one \(on a\)"):
        watched.run()
    assert not watched.stands
    assert not (tmp_path / "worker").exists()


def test_a_signal_stops_the_job_through_its_controller(cluster, controller):
    signals = Signals()
    signals.seen.append(2)
    with pytest.raises(Interrupted, match="stopped by SIGINT before the cluster stood"):
        cluster(signals).run()
    watched = cluster(signals, controller=CONTROLS)
    watched._address = "there"
    with pytest.raises(Interrupted) as stopped:
        watched.run()
    assert stopped.value.exit_status == 130
    assert controller.heard == ["stop 130: stopped by SIGINT"]
