"""What one role's pod is on Kubernetes: container, probes, volumes, and what it may not do. Pure.

Which objects make pods, how many, and who may reach whom stands in `manifests`.
"""

from collections.abc import Sequence

from ...common.job import Job
from ...common.permissions import OPERATOR
from ...common.types import Role
from ...common.units import format_duration
from .kubernetes_options import RUNS, Manifest, Setup

USER = 10001
"""The user and group that the image runs as (docker/Dockerfile)."""
KEYS, JOB, DATA = "/keys", "/job", "/data"
"""Where the keys, the job file and the data are mounted; run directories are in `RUNS`."""
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
ORDINAL = "metadata.labels['apps.kubernetes.io/pod-index']"
GPU = "nvidia.com/gpu"


def pod(setup: Setup, job: Job, role: Role, restart: str) -> Manifest:
    """The pod template of a role; `restart` as Kubernetes' restartPolicy."""
    mounts = [("tmp", "/tmp", False), ("cache", "/cache", False)]  # noqa: S108 (a mount)
    volumes: list[Manifest] = [{"name": name, "emptyDir": {}} for name, _, _ in mounts]
    if role is Role.CONTROLLER:
        mounts.append(("job", JOB, True))
        volumes.append({"name": "job", "configMap": {"name": setup.object_name("job")}})
    if role in (Role.CONTROLLER, Role.PARAMSERVER):
        mounts.append(("runs", RUNS, False))
        volumes.append({"name": "runs", **_runs(setup)})
    if role is not Role.PARAMSERVER and setup.data_claim:
        mounts.append(("data", DATA, True))
        claim = {"claimName": setup.data_claim, "readOnly": True}
        volumes.append({"name": "data", "persistentVolumeClaim": claim})
    if setup.public_keys:
        mounts.append(("keys", KEYS, True))
        volumes.append({"name": "keys", "projected": _keys(setup, role)})
    spec: Manifest = {
        "restartPolicy": restart,
        # Kubernetes would put DUALSHARD_... variables of its own beside ours.
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [_spread(setup, role)],
        "containers": [_container(setup, job, role, mounts)],
        "volumes": volumes,
    }
    if setup.pull_secret:
        spec["imagePullSecrets"] = [{"name": setup.pull_secret}]
    return {"metadata": {"labels": setup.labels(role)}, "spec": spec}


def _container(
    setup: Setup, job: Job, role: Role, mounts: Sequence[tuple[str, str, bool]]
) -> Manifest:
    """The one container; `mounts` as (volume, path, read-only)."""
    limits = setup.share(role, job).limits()
    if role is Role.WORKER and setup.gpus:
        limits[GPU] = str(setup.gpus)
    variables = {}
    if role is not Role.CONTROLLER:
        rank = ORDINAL if role is Role.PARAMSERVER else INDEX
        variables = {"POD_IP": "status.podIP", "RANK": rank}
    return {
        "name": str(role),
        "image": setup.image,
        "args": arguments(setup, job, role),
        "env": [
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in variables.items()
        ],
        "ports": [{"name": name, "containerPort": port} for name, port in setup.ports().items()],
        "resources": {"requests": limits, "limits": dict(limits)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": name, "mountPath": path, **({"readOnly": True} if fixed else {})}
            for name, path, fixed in mounts
        ],
        **_probes(role),
    }


def arguments(setup: Setup, job: Job, role: Role) -> list[str]:
    """What follows `dualshard` in a role's container. The kubelet fills in `$(NAME)`.

    Roles tell each other the addresses of their pods: only the controller is looked up by name.
    """
    controller = f"{setup.object_name(Role.CONTROLLER)}:{setup.port}"
    listen = ["--bind", f"0.0.0.0:{setup.port}"]
    trust = ["--keys", KEYS] if setup.public_keys else ["--insecure"]
    if role is Role.CONTROLLER:
        out = [] if job.job.resume else ["--out", f"{RUNS}/{setup.out}"]
        return [str(role), f"{JOB}/job.toml", *listen, "--advertise", controller, *trust, *out]
    timeout = ["--start-timeout", format_duration(job.job.start_timeout)]
    place = ["--advertise", "$(POD_IP)", "--rank", "$(RANK)"]
    return [str(role), "--controller", controller, *listen, *place, *trust, *timeout]


def _probes(role: Role) -> Manifest:
    """Whether a role listens yet.

    A connection that says nothing costs a role next to nothing, with keys as without (the
    cryptography begins with the peer's first message), while `dualshard status` would start an
    interpreter each time and need the operator's key in the pod. Whether a role still works is
    the matter of its lease: whoever is silent is put out by the controller, and ends. So there is
    no liveness probe, and of a worker, whom nobody looks up, no probe at all.
    """
    if role is Role.WORKER:
        return {}
    asked = {"tcpSocket": {"port": "control"}}
    return {
        "startupProbe": {**asked, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**asked, "periodSeconds": 30},
    }


def _runs(setup: Setup) -> Manifest:
    claim = setup.claim()
    return {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}}


def _keys(setup: Setup, role: Role) -> Manifest:
    """The role's own secret key and everyone's public ones, as `dualshard keygen` lays them out.
    Group readable, because the files are root's and the group is the pod's (fsGroup)."""
    secret = {
        "name": setup.object_name(f"key-{role}"),
        "items": [{"key": f"{role}.key", "path": f"{role}.key", "mode": 0o440}],
    }
    # Names that are not there yet: of a role whose key is changed, `keygen` keeps the old one.
    names = {*setup.public_keys, *(f"{holder}-old-1.pub" for holder in (*Role, OPERATOR))}
    public = {
        "name": setup.object_name("public-keys"),
        "optional": True,
        "items": [{"key": name, "path": f"public/{name}"} for name in sorted(names)],
    }
    return {
        "defaultMode": 0o444,
        "sources": [{"secret": secret}, {"configMap": public}],
    }


def _spread(setup: Setup, role: Role) -> Manifest:
    """Equal roles on different machines where there are enough of them."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": setup.selector(role)},
    }
