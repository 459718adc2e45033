"""What the user says about a Kubernetes cluster: the launcher's own options, checked. Pure.

Names follow RFC 1123, and Kubernetes' own limits where it derives longer names from them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...common.errors import UserError
from ...common.job import SETTINGS, Job
from ...common.suggest import nearest
from ...common.types import Role

Manifest = dict[str, Any]
"""One Kubernetes object, as it would stand in JSON."""

RUNS = "/runs"
"""Where run directories are in a pod."""
START_TIMEOUT = 600.0
"""Seconds that roles wait for each other where the job does not say: images are pulled first."""
RUN_SIZE = "10Gi"
"""Of the volume of run directories, where nothing else is said."""
LONGEST = 40
"""Characters of a job's name: that of a pod, and of its labels, has 63."""

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*"
_QUANTITY = r"[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?"


@dataclass(frozen=True)
class Option:
    """One `--option NAME=VALUE` of this launcher: what its text must look like."""

    pattern: str
    expected: str
    example: str


_NAME = "a name of RFC 1123: lower case letters, digits, hyphens and dots"
_SHARE = Option(rf"{_QUANTITY},{_QUANTITY}", "CPU,MEMORY of a pod", "4,8Gi")
OPTIONS = {
    "image": Option(
        r"[a-z0-9][\w.:/@-]*", "an image that the cluster can pull", "registry.example/dualshard:1"
    ),
    "name": Option(
        rf"(?=.{{1,{LONGEST}}}$)[a-z]([-a-z0-9]*[a-z0-9])?",
        f"at most {LONGEST} lower case letters, digits and hyphens, a letter first (RFC 1123)",
        "digits",
    ),
    "namespace": Option(
        rf"(?=.{{1,63}}$){_LABEL}", "at most 63 lower case letters, digits and hyphens", "training"
    ),
    "pull-secret": Option(_SUBDOMAIN, _NAME, "registry"),
    "run-size": Option(_QUANTITY, "a size; 0: none", "10Gi"),
    "run-claim": Option(_SUBDOMAIN, _NAME, "runs"),
    "storage-class": Option(_SUBDOMAIN, _NAME, "nfs"),
    "data-claim": Option(_SUBDOMAIN, _NAME, "images"),
    "gpus": Option(r"[0-9]{1,2}", "how many GPUs a worker gets", "1"),
    "detach": Option("yes|no", "yes or no", "yes"),
    "kubectl": Option(r".*\S.*", "a command", "kubectl --context NAME"),
    **{str(role): _SHARE for role in Role},
}
"""The options of this launcher."""


@dataclass(frozen=True)
class Share:
    """What one pod of a role may use: processors and memory, in Kubernetes' quantities."""

    cpu: str
    memory: str

    def limits(self) -> Manifest:
        """Requests equal limits: a pod that gets less than it counts on slows all others down."""
        return {"cpu": self.cpu, "memory": self.memory}


SHARES = {
    Role.CONTROLLER: Share("1", "1Gi"),
    Role.PARAMSERVER: Share("2", "4Gi"),
    Role.DATASERVER: Share("2", "4Gi"),
}
"""What a pod gets by itself; a worker a processor a thread and one more, and 4 GiB."""


@dataclass(frozen=True)
class Setup:
    """Where and how a job runs on Kubernetes.

    Attributes:
        out: the run directory, within the volume of run directories.
        port: where every role listens: each pod has an address of its own. Payloads that are
            sealed come in at the next one.
        restarts: how often a worker or data server is started again.
        run_size: of the volume that is made for run directories; "0": they end with their pod.
        run_claim: a PersistentVolumeClaim that is there already, instead.
        public_keys: names of the files with public keys; none: connections have no keys.
    """

    name: str
    image: str
    namespace: str = ""
    pull_secret: str = ""
    out: str = "run"
    port: int = 7077
    restarts: int = 3
    run_size: str = RUN_SIZE
    run_claim: str = ""
    storage_class: str = ""
    data_claim: str = ""
    gpus: int = 0
    shares: Mapping[Role, Share] = field(default_factory=dict)
    public_keys: tuple[str, ...] = ()

    def share(self, role: Role, job: Job) -> Share:
        """What a pod of this role gets."""
        worker = Share(str(job.worker.threads + 1), "4Gi")
        return self.shares.get(role) or SHARES.get(role, worker)

    def ports(self) -> dict[str, int]:
        """The ports of every pod by name."""
        return {"control": self.port, "lane": self.port + 1}

    def object_name(self, part: str) -> str:
        """`digits-controller`."""
        return f"{self.name}-{part}"

    def claim(self) -> str:
        """The claim of the run directories; empty where there is none."""
        return self.run_claim or ("" if self.run_size == "0" else self.object_name("run"))

    def selector(self, role: Role | None = None) -> dict[str, str]:
        """Labels that pods of this job, or of one role of it, alone have."""
        labels = {
            "app.kubernetes.io/name": "dualshard",
            "app.kubernetes.io/instance": self.name,
        }
        return labels if role is None else {**labels, "app.kubernetes.io/component": str(role)}

    def labels(self, role: Role | None = None) -> dict[str, str]:
        """What is written on every object."""
        return {**self.selector(role), "app.kubernetes.io/managed-by": "dualshard"}


def read_options(given: Mapping[str, str], job: Job) -> Setup:
    """The setup that `--option NAME=VALUE` says; the job's name is used where none is given.

    Raises:
        UserError: an option is unknown, or its value not of its form; there is no image.
    """
    for name, value in given.items():
        check_option(name, value)
    if "image" not in given:
        fix = "build one as in docs/deploy.md, and write --option image=NAME"
        raise UserError("--option image", "", OPTIONS["image"].expected, fix)
    named = job.job.name != SETTINGS["job.name"].default
    name = given.get("name") or (job.job.name if named else "dualshard")
    check_option("name", name)
    gpus = int(given.get("gpus", "0"))
    if gpus and job.worker.device == "cpu":
        raise UserError("worker.device", "cpu", "cuda:0 with gpus", "--set worker.device=cuda:0")
    return Setup(
        name=name,
        image=given["image"],
        namespace=given.get("namespace", ""),
        pull_secret=given.get("pull-secret", ""),
        run_size=given.get("run-size", RUN_SIZE),
        run_claim=given.get("run-claim", ""),
        storage_class=given.get("storage-class", ""),
        data_claim=given.get("data-claim", ""),
        gpus=gpus,
        shares={role: Share(*given[role].split(",")) for role in Role if role in given},
    )


def check_option(name: str, value: str) -> None:
    """Refuse an option that there is not, or a value that is not of its form."""
    option = OPTIONS.get(name)
    if option is None:
        close = nearest(name, OPTIONS)
        fix = f"did you mean {close}?" if close else f"there are {', '.join(OPTIONS)}"
        raise UserError("--option", f"{name}={value}", "an option of launcher kubernetes", fix)
    if not re.fullmatch(option.pattern, value, re.ASCII):
        fix = f"for example --option {name}={option.example}"
        raise UserError(f"--option {name}", value, option.expected, fix)


def patient(job: Job) -> Job:
    """The job with time enough to pull images, where it does not say how much it wants."""
    if job.job.start_timeout != SETTINGS["job.start_timeout"].default:
        return job
    return replace(job, job=replace(job.job, start_timeout=START_TIMEOUT))
