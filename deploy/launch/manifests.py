"""The Kubernetes objects of one job, as plain dictionaries. Pure.

The controller is a Job, because its end is the job's end: it succeeds when training does, and is
never started again by itself. Workers and data servers are Indexed Jobs: one that fails is started
again a few times under its own rank, one that is done stays done. Parameter servers are a
StatefulSet: the shards live in their memory, so two of one rank must never run at once. It would
start them again after the job's end; whoever launches removes what is left then (`kubernetes`).
"""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from ...common.job import Job, to_toml
from ...common.types import Role
from .kubernetes_options import Manifest, Setup
from .pods import pod


def manifests(
    setup: Setup, job: Job, secrets: Mapping[str, bytes], public: Mapping[str, str]
) -> list[Manifest]:
    """All objects of a job, in the order in which they are to be made.

    Arguments:
        secrets: by role, what is in `ROLE.key`; empty without keys.
        public: by the name of the file, what is in `public/`.
    """
    made = [_job_file(setup, job)]
    if public:
        made.append(_object(setup, "v1", "ConfigMap", "public-keys", {"data": dict(public)}))
    made += [_secret(setup, role, content) for role, content in secrets.items()]
    if not setup.run_claim and setup.claim():
        made.append(_volume(setup))
    made += [
        _network_policy(setup, job),
        _service(setup, Role.CONTROLLER),
        _service(setup, Role.PARAMSERVER),
        _controller(setup, job),
        _servers(setup, job),
        _indexed(setup, job, Role.DATASERVER, job.dataserver.count),
        _indexed(setup, job, Role.WORKER, job.worker.count),
    ]
    return made


def _object(setup: Setup, version: str, kind: str, part: str, body: Mapping[str, Any]) -> Manifest:
    metadata = {"name": setup.object_name(part), "labels": setup.labels()}
    if setup.namespace:
        metadata["namespace"] = setup.namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **body}


def _job_file(setup: Setup, job: Job) -> Manifest:
    return _object(setup, "v1", "ConfigMap", "job", {"data": {"job.toml": to_toml(job)}})


def _secret(setup: Setup, role: str, content: bytes) -> Manifest:
    """One role's secret key; no pod has another's."""
    data = {f"{role}.key": b64encode(content).decode()}
    return _object(setup, "v1", "Secret", f"key-{role}", {"type": "Opaque", "data": data})


def _volume(setup: Setup) -> Manifest:
    """The run directory. Each parameter server writes its own part of a checkpoint, from whatever
    machine it is on."""
    spec: Manifest = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": setup.run_size}},
    }
    if setup.storage_class:
        spec["storageClassName"] = setup.storage_class
    return _object(setup, "v1", "PersistentVolumeClaim", "run", {"spec": spec})


def _service(setup: Setup, role: Role) -> Manifest:
    """The controller's name; and the one that a StatefulSet must have, which nobody looks up:
    roles tell each other the addresses of their pods. Both lead to pods that are not ready, too:
    a role that is not there yet is waited for anyway."""
    spec: Manifest = {
        "selector": setup.selector(role),
        "publishNotReadyAddresses": True,
        "ports": [
            {"name": name, "port": port, "targetPort": name} for name, port in setup.ports().items()
        ],
    }
    if role is Role.PARAMSERVER:
        spec = {"clusterIP": "None", **spec}
    return _object(setup, "v1", "Service", str(role), {"spec": spec})


def _controller(setup: Setup, job: Job) -> Manifest:
    spec = {"backoffLimit": 0, "template": pod(setup, job, Role.CONTROLLER, "Never")}
    return _object(setup, "batch/v1", "Job", str(Role.CONTROLLER), {"spec": spec})


def _servers(setup: Setup, job: Job) -> Manifest:
    role = Role.PARAMSERVER
    spec = {
        "replicas": job.paramserver.count,
        "serviceName": setup.object_name(role),
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": setup.selector(role)},
        "template": pod(setup, job, role, "Always"),
    }
    return _object(setup, "apps/v1", "StatefulSet", str(role), {"spec": spec})


def _indexed(setup: Setup, job: Job, role: Role, count: int) -> Manifest:
    """Pods numbered from 0; one that fails for good does not end the others."""
    spec = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimitPerIndex": setup.restarts,
        "template": pod(setup, job, role, "Never"),
    }
    return _object(setup, "batch/v1", "Job", str(role), {"spec": spec})


def _network_policy(setup: Setup, job: Job) -> Manifest:
    """Pods of this job reach each other at the roles' ports, and names; whoever reads data from
    elsewhere reaches the web, too. The kubelet's probes and `kubectl port-forward` come from the
    machine itself, which no policy keeps out."""
    ports = [{"protocol": "TCP", "port": port} for port in setup.ports().values()]
    peers = [{"podSelector": {"matchLabels": setup.selector()}}]
    names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    leaving: list[Manifest] = [{"to": peers, "ports": ports}, {"ports": names}]
    if any("://" in place for place in (job.data.source, job.data.test)):
        leaving.append({"ports": [{"protocol": "TCP", "port": port} for port in (80, 443)]})
    spec = {
        "podSelector": {"matchLabels": setup.selector()},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers, "ports": ports}],
        "egress": leaving,
    }
    return _object(setup, "networking.k8s.io/v1", "NetworkPolicy", "pods", {"spec": spec})
