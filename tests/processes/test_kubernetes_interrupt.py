"""Ctrl-C at a launcher that follows a job on Kubernetes: the job is removed there."""

import signal

import pytest

pytestmark = pytest.mark.processes

STAND_IN = """#!/bin/sh
echo "$@" >>"$0.calls"
[ "$1" != logs ] || exec sleep 60
"""


def test_an_interrupted_launcher_removes_the_job(commands, tmp_path):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(STAND_IN)
    kubectl.chmod(0o755)
    calls = tmp_path / "kubectl.calls"
    options = [f"kubectl={kubectl}", "image=dualshard", "name=digits"]
    given = [word for option in options for word in ("--option", option)]
    launcher = commands.start("launch", "--launcher", "kubernetes", "--insecure", *given)
    commands.until(lambda: calls.exists() and "logs" in calls.read_text(), 30)
    (child,) = launcher.children()
    launcher.popen.send_signal(signal.SIGINT)
    assert launcher.wait(10) == 128 + signal.SIGINT
    assert not child.alive
    verbs = [line.split()[0] for line in calls.read_text().splitlines()]
    assert verbs == ["get", "apply", "logs", "delete"]
    assert launcher.err == "SIGINT: removing the job\n"
