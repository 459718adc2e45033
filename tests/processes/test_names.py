"""Names that do not resolve: yet, as where containers start in any order, or ever."""

import re

import pytest

pytestmark = pytest.mark.processes

NAME = "controller.dualshard.invalid"


def test_a_name_that_never_resolves_is_said_in_the_line_that_ends_the_role(commands):
    worker = commands.start("worker", "--controller", f"{NAME}:7077", "--start-timeout", "1s")
    assert worker.wait(30) == 1
    assert re.fullmatch(
        f"dualshard: the controller did not answer: tried {NAME}:7077 for 1 s "
        rf"\(\d+ tries\); the name {NAME} does not resolve \(.+\): give the controller's address "
        "with --controller HOST:PORT",
        worker.err.splitlines()[-1],
    ), worker.err


def test_a_name_that_resolves_later_is_found(commands, tmp_path, own_mounts):
    """The worker sees a host file of its own, in which the name is written once it has tried."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    sizes = ["--workers", "1", "--servers", "1", "--set", "job.epochs=1"]
    controller = commands.start("controller", "--bind", "127.0.0.1:0", *sizes)
    commands.until(lambda: "waiting at " in controller.err, 30)
    address = re.search(r"waiting at (127\.0\.0\.1:(\d+)) ", controller.err)
    assert address
    others = [
        commands.start(role, "--controller", address[1]) for role in ("paramserver", "dataserver")
    ]
    mounted = 'mount --bind "$0" /etc/hosts && exec "$@"'
    worker = commands.start(
        *("worker", "--controller", f"{NAME}:{address[2]}"),
        inside=[*own_mounts, "sh", "-c", mounted, str(hosts)],
    )
    commands.until(lambda: "joining the controller" in worker.err, 30)
    commands.until(lambda: "dataserver-0 joined" in controller.err, 30)
    assert "worker-0 joined" not in controller.err
    with hosts.open("a") as file:  # in place: the mount is on this very file
        file.write(f"127.0.0.1 {NAME}\n")
    assert [role.wait(60) for role in (controller, worker, *others)] == [0, 0, 0, 0], worker.err
    assert "worker-0 joined" in controller.err
