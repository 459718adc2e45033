"""`--launcher kubernetes`: the manifests of a job, handed to kubectl, and the job followed there.

kubectl is told everything by argument lists and its standard input; which cluster it speaks to, and
as whom, is its own business.
"""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import yaml

from ...common.clock import sleep
from ...common.errors import RoleError, UserError
from ...common.job import Job, SecuritySection
from ...common.keys import own_file, public_files, read_pair, read_public
from ...common.types import Role
from ..signals import Interrupted, interruptible, signal_name
from .kubernetes_options import RUNS, Manifest, Setup, patient, read_options
from .manifests import manifests
from .plan import Plan

KINDS = "job,statefulset,service,configmap,secret,networkpolicy"
"""What goes when a job is over; its volume stays."""
POLL = 2.0
"""Seconds between two looks at a job whose log has ended."""
LOST = 30
"""Looks in a row that may fail before the cluster counts as lost."""
LAST_LINES = 20


def launch(plan: Plan) -> int:
    """Run the job on the cluster to its end; the exit status.

    Raises:
        UserError: the plan cannot be carried out.
        RoleError: the job did not complete.
    """
    if plan.hosts:
        fix = "leave it out: Kubernetes says where pods run"
        raise UserError("--hostfile", plan.hostfile, "none with --launcher kubernetes", fix)
    if not (plan.keys or plan.insecure):
        fix = "make keys with `dualshard keygen DIR`, or, on a network that you trust, --insecure"
        raise UserError("--keys", "", "a folder of keys", fix)
    setup, job = _setup(plan)
    if plan.dry_run:
        click.echo(as_text(_manifests(plan, setup, job, shown=True)), nl=False)
        return 0
    kubectl = Kubectl(plan.options.get("kubectl", "kubectl"), setup)
    kubectl.make(_manifests(plan, setup, job, shown=False))
    if plan.options.get("detach") == "yes":
        click.echo(f"the job runs; its end: {kubectl.line('wait', *kubectl.END)}")
        click.echo(f"then remove it: {kubectl.line(*kubectl.REMOVE)}")
        return 0
    return _watch(kubectl, setup)


def _setup(plan: Plan) -> tuple[Setup, Job]:
    setup, job = read_options(plan.options, plan.job), patient(plan.job)
    setup = replace(
        setup,
        port=plan.port,
        restarts=plan.max_restarts,
        out=_out(plan, setup.name),
        public_keys=tuple(path.name for path in public_files(Path(plan.keys))) if plan.keys else (),
    )
    if not setup.claim():
        words = "without a volume the model is lost with its pod, and there are no checkpoints"
        click.echo(f"dualshard: {words}", err=True)
        job = replace(job, job=replace(job.job, checkpoint_every=0.0))
    # Pods are told of keys by options of their own: the folder of here is none of theirs.
    return setup, replace(job, security=SecuritySection())


def _out(plan: Plan, name: str) -> str:
    """The run directory within the volume of runs."""
    out = plan.out or Path(name)
    if out.is_absolute() or ".." in out.parts:
        fix = f"run directories are in the volume at {RUNS}"
        raise UserError("--out", str(out), "a name without / at its head", fix)
    return str(out)


def _manifests(plan: Plan, setup: Setup, job: Job, *, shown: bool) -> list[Manifest]:
    """The job's objects; those that are `shown` to people have no secrets in them."""
    if not plan.keys:
        return manifests(setup, job, {}, {})
    folder = Path(plan.keys)
    files = {str(role): own_file(folder, role) for role in Role}
    for path in files.values():
        read_pair(path)  # what is malformed, or others may read, is refused here
    secrets = {role: b"" if shown else path.read_bytes() for role, path in files.items()}
    public = {path.name: f"public = {read_public(path)}\n" for path in public_files(folder)}
    return manifests(setup, job, secrets, public)


def as_text(made: Sequence[Manifest]) -> str:
    """Objects as a YAML stream."""
    return yaml.dump_all(made, Dumper=_Dumper, sort_keys=False, explicit_start=True, width=100)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such, and lists further in than what they belong to."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> Any:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]


class Kubectl:
    """kubectl for one job.

    Raises:
        UserError: it is not installed.
    """

    def __init__(self, command: str, setup: Setup) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError:  # a quotation without its end
            self._command = []
        if not self._command or shutil.which(self._command[0]) is None:
            fix = "install it, or take the manifests of --dry-run to where it is"
            raise UserError("--option kubectl", command, "a command that is installed", fix)
        if setup.namespace:
            self._command += ["--namespace", setup.namespace]
        self._setup = setup
        controller = f"job/{setup.object_name(Role.CONTROLLER)}"
        labels = ",".join(f"{name}={value}" for name, value in setup.selector().items())
        self.END = ("--for=condition=complete", "--timeout=-1s", controller)
        self.REMOVE = ("delete", KINDS, f"--selector={labels}", "--ignore-not-found")
        self._controller, self._labels = controller, labels

    def line(self, *arguments: str) -> str:
        """What one types into a shell."""
        return shlex.join([*self._command, *arguments])

    def make(self, objects: Sequence[Manifest]) -> None:
        """Make all objects of the job, or none.

        Raises:
            UserError: there is such a job already, or the cluster refuses one.
        """
        if found := self._ask("get", self._controller, "--ignore-not-found", "--output=name"):
            fix = f"choose another, or remove it: {self.line(*self.REMOVE)}"
            raise UserError("--option name", self._setup.name, f"no {found} in the cluster", fix)
        apply = ("apply", "--server-side", "--field-manager=dualshard", "--filename=-")
        try:
            click.echo(self._ask(*apply, text=as_text(objects)))
        except UserError:
            self.remove()
            raise

    def follow(self, *, again: bool) -> None:
        """Pass the controller's log on, from its pod's start to its end."""
        since = ["--since=5s"] if again else []
        self._run("logs", "--follow", "--pod-running-timeout=10m", *since, self._controller)

    def ended(self) -> bool | None:
        """Whether the job has succeeded, or failed; None while it runs.

        Raises:
            UserError: the cluster does not answer.
        """
        path = "--output=jsonpath={.status.succeeded}/{.status.failed}"
        succeeded, _, failed = self._ask("get", self._controller, path).partition("/")
        return True if succeeded == "1" else False if failed else None

    def show_last_lines(self) -> None:
        """The end of each pod's log, before it is gone."""
        tail = f"--tail={LAST_LINES}"
        self._run("logs", f"--selector={self._labels}", "--prefix", tail, "--max-log-requests=100")

    def remove(self) -> None:
        """Remove what the job has in the cluster, but for its volume."""
        self._run(*self.REMOVE, "--wait=false")

    def _run(self, *arguments: str) -> None:
        command = [*self._command, *arguments]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=False)  # noqa: S603 (no shell)

    def _ask(self, *arguments: str, text: str = "") -> str:
        ran = subprocess.run(  # noqa: S603 (no shell)
            [*self._command, *arguments], input=text, capture_output=True, text=True, check=False
        )
        if ran.returncode:
            words = " ".join(ran.stderr.split()) or f"status {ran.returncode}"
            raise UserError("kubectl", arguments[0], "a cluster that takes it", words)
        return ran.stdout.strip()


def _watch(kubectl: Kubectl, setup: Setup) -> int:
    """Follow the job, and remove it when it is over."""
    succeeded = False
    try:
        with interruptible():
            succeeded = _end(kubectl)
            if not succeeded:
                kubectl.show_last_lines()
    except Interrupted as asked:
        click.echo(f"{signal_name(asked.number)}: removing the job", err=True)
        kubectl.remove()
        return 128 + asked.number
    kubectl.remove()
    if not succeeded:
        raise RoleError(f"job {setup.name} failed on the cluster: its last lines stand above")
    if setup.claim():
        click.echo(f"run directory: {setup.out} in the volume {setup.claim()}")
    return 0


def _end(kubectl: Kubectl) -> bool:
    """Wait for the job's end: whether it has succeeded.

    Raises:
        RoleError: the cluster is lost; the job may go on there.
    """
    silent, again = 0, False
    while True:
        kubectl.follow(again=again)
        again = True
        try:
            if (ended := kubectl.ended()) is not None:
                return ended
            silent = 0
        except UserError as lost:
            silent += 1
            if silent == LOST:
                raise RoleError(f"the job may go on, but {lost}") from None
        sleep(POLL)
