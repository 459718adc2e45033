"""`launch --launcher kubernetes` against a stand-in for kubectl: what it is told, what follows."""

import base64
import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from dualshard.deploy.commands import dualshard
from dualshard.deploy.launch import kubernetes

IMAGE = ["--option", "image=registry.example/dualshard:1", "--option", "name=digits"]
STAND_IN = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
with (here / "calls").open("a") as file:
    json.dump([words, "" if sys.stdin.isatty() else sys.stdin.read()], file)
    file.write("\\n")
answers = json.loads((here / "answers").read_text())
for begin, said, status in answers:
    if " ".join(words).startswith(begin):
        answers.remove([begin, said, status])
        (here / "answers").write_text(json.dumps(answers))
        print(said, file=sys.stderr if status else sys.stdout)
        sys.exit(status)
"""
"""Notes what it is told. Each answer is (the call's beginning, what to say, the status), once."""


class Cluster:
    """A kubectl that answers as it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.command = folder, folder / "kubectl"
        self.command.write_text(STAND_IN)
        self.command.chmod(self.command.stat().st_mode | stat.S_IXUSR)
        self.answer()

    def answer(self, *answers: tuple[str, str, int]) -> None:
        (self.folder / "answers").write_text(json.dumps(answers))

    def calls(self) -> list[tuple[list[str], str]]:
        file = self.folder / "calls"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()]

    def verbs(self) -> list[str]:
        return [words[0] for words, _ in self.calls()]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(kubernetes, "POLL", 0.0)
    return Cluster(folder)


def launch(*arguments: object) -> Result:
    words = ["launch", "--launcher", "kubernetes", *IMAGE, *map(str, arguments)]
    return CliRunner().invoke(dualshard, words)


def on(cluster: Cluster, *arguments: object) -> Result:
    return launch("--insecure", "--option", f"kubectl={cluster.command}", *arguments)


def said(done: Result, status: int = 2) -> str:
    """The one line with which it ended."""
    assert done.exit_code == status
    last = done.stderr.splitlines()[-1]
    assert last.startswith("dualshard: ")
    return last.removeprefix("dualshard: ")


ENDED = ("get job/digits-controller --output=jsonpath", "1/", 0)
RUNS_STILL = ("get job/digits-controller --output=jsonpath", "/", 0)
FAILED = ("get job/digits-controller --output=jsonpath", "/1", 0)
IS_THERE = ("get job/digits-controller --ignore-not-found", "job.batch/digits-controller", 0)


def test_a_job_is_made_followed_and_removed(cluster: Cluster) -> None:
    cluster.answer(RUNS_STILL, ENDED)
    done = on(cluster, "--workers", 3)
    assert (done.exit_code, done.exception) == (0, None)
    assert cluster.verbs() == ["get", "apply", "logs", "get", "logs", "get", "delete"]
    words, text = cluster.calls()[1]
    assert words == ["apply", "--server-side", "--field-manager=dualshard", "--filename=-"]
    objects = {f"{one['kind']} {one['metadata']['name']}": one for one in yaml.safe_load_all(text)}
    assert objects["Job digits-worker"]["spec"]["completions"] == 3
    removed, _ = cluster.calls()[-1]
    assert removed[1] == kubernetes.KINDS
    assert "persistentvolumeclaim" not in removed[1]
    selector = "app.kubernetes.io/name=dualshard,app.kubernetes.io/instance=digits"
    assert removed[2] == f"--selector={selector}"
    assert done.stdout.splitlines()[-1] == "run directory: digits in the volume digits-run"


def test_a_namespace_and_options_of_kubectls_own_are_passed_on(cluster: Cluster) -> None:
    cluster.answer(("--context prod --namespace training get job/digits-controller --out", "1/", 0))
    prod = f"kubectl={cluster.command} --context prod"
    assert on(cluster, "--option", prod, "--option", "namespace=training").exit_code == 0
    for words, _ in cluster.calls():
        assert words[:4] == ["--context", "prod", "--namespace", "training"]


def test_a_failed_job_ends_with_the_last_lines_of_all_pods_and_status_1(cluster: Cluster) -> None:
    cluster.answer(FAILED)
    done = on(cluster)
    assert "job digits failed on the cluster" in said(done, 1)
    assert cluster.verbs() == ["get", "apply", "logs", "get", "logs", "delete"]
    assert "--prefix" in cluster.calls()[4][0]


def test_a_job_of_that_name_is_left_alone(cluster: Cluster) -> None:
    cluster.answer(IS_THERE)
    done = on(cluster)
    assert "--option name = digits: expected no job.batch/digits-controller" in said(done)
    assert cluster.verbs() == ["get"]


def test_what_a_cluster_refuses_is_one_line_and_leaves_nothing(cluster: Cluster) -> None:
    cluster.answer(("apply", "error: You must be\nlogged in", 1))
    done = on(cluster)
    assert said(done).endswith("error: You must be logged in")
    assert cluster.verbs() == ["get", "apply", "delete"]


def test_a_cluster_that_is_lost_is_said_and_nothing_removed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "LOST", 2)
    look = ("get job/digits-controller --output=jsonpath", "connection refused", 1)
    cluster.answer(look, look)
    done = on(cluster)
    assert "the job may go on" in said(done, 1)
    assert cluster.verbs()[-1] == "get"


def test_a_detached_job_is_left_running_with_the_commands_that_end_it(cluster: Cluster) -> None:
    done = on(cluster, "--option", "detach=yes")
    assert done.exit_code == 0
    assert cluster.verbs() == ["get", "apply"]
    wait, remove = done.stdout.splitlines()[-2:]
    assert wait.endswith("wait --for=condition=complete --timeout=-1s job/digits-controller")
    assert f"delete {kubernetes.KINDS} --selector=" in remove


def test_without_kubectl_it_is_one_line() -> None:
    done = launch("--insecure", "--option", "kubectl=no-such-kubectl")
    assert said(done) == (
        "--option kubectl = no-such-kubectl: expected a command that is installed; install it, or "
        "take the manifests of --dry-run to where it is"
    )


def test_a_quotation_without_its_end_is_one_line() -> None:
    done = launch("--insecure", "--option", "kubectl=kubectl --context 'prod")
    assert "expected a command that is installed" in said(done)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    CliRunner().invoke(dualshard, ["keygen", str(folder)], catch_exceptions=False)
    return folder


def test_a_dry_run_prints_all_but_secrets(keys: Path) -> None:
    done = launch("--keys", keys, "--dry-run")
    assert done.exit_code == 0
    objects: list[dict[str, Any]] = list(yaml.safe_load_all(done.stdout))
    secrets = [one for one in objects if one["kind"] == "Secret"]
    assert [one["data"] for one in secrets] == [
        {f"{role}.key": ""} for role in ("controller", "paramserver", "dataserver", "worker")
    ]
    for file in keys.glob("*.key"):
        secret = file.read_text().split("secret = ")[1].strip()
        assert secret not in done.output
    (public,) = [one for one in objects if one["metadata"]["name"] == "digits-public-keys"]
    assert public["data"]["operator.pub"] == (keys / "public" / "operator.pub").read_text()


def test_keys_that_are_none_are_refused_before_anything_is_made(
    cluster: Cluster, keys: Path
) -> None:
    command = ("--option", f"kubectl={cluster.command}")
    (keys / "worker.key").chmod(0o644)
    assert "not mode 644" in said(launch("--keys", keys, *command))
    (keys / "worker.key").write_text("what?")
    (keys / "worker.key").chmod(0o600)
    assert "worker.key" in said(launch("--keys", keys, *command))
    assert not (cluster.folder / "calls").exists()


def test_secrets_go_to_kubectl_on_its_standard_input_alone(cluster: Cluster, keys: Path) -> None:
    cluster.answer(ENDED)
    command = ("--option", f"kubectl={cluster.command}")
    assert launch("--keys", keys, *command).exit_code == 0
    objects = yaml.safe_load_all(cluster.calls()[1][1])
    (secret,) = [one for one in objects if one["metadata"]["name"] == "digits-key-worker"]
    assert base64.b64decode(secret["data"]["worker.key"]) == (keys / "worker.key").read_bytes()
    for words, _ in cluster.calls():
        assert "secret =" not in " ".join(words)


def test_without_keys_somebody_must_say_that_the_network_is_trusted() -> None:
    done = launch("--dry-run")
    assert said(done).startswith("--keys = '': expected a folder of keys")


def test_a_trial_without_a_volume_is_warned_of_and_makes_no_checkpoints() -> None:
    done = launch("--insecure", "--dry-run", "--option", "run-size=0")
    assert "without a volume the model is lost with its pod" in done.stderr
    (config, *_) = yaml.safe_load_all(done.stdout)
    assert "checkpoint_every = 0.0" in config["data"]["job.toml"]


def test_a_run_directory_is_a_name_in_the_volume() -> None:
    done = launch("--insecure", "--dry-run", "--out", "second/try")
    assert "/runs/second/try" in done.stdout
    refused = launch("--insecure", "--dry-run", "--out", "/tmp/run")
    assert said(refused).startswith("--out = /tmp/run: expected a name without / at its head")


def test_hosts_are_not_for_kubernetes(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("a\nb\n")
    done = launch("--insecure", "--dry-run", "--hostfile", hosts)
    assert "expected none with --launcher kubernetes" in said(done)
