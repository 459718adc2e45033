"""The Kubernetes objects of a job: valid one by one, and right with each other."""

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from dualshard.common.config import resolve
from dualshard.common.errors import UserError
from dualshard.common.job import Job
from dualshard.common.types import Role
from dualshard.deploy.launch.kubernetes import as_text
from dualshard.deploy.launch.kubernetes_options import LONGEST, Setup, Share, patient, read_options
from dualshard.deploy.launch.manifests import manifests
from dualshard.deploy.launch.pods import KEYS, arguments

IMAGE = "registry.example:5000/team/dualshard:1.0"
SECRETS = {str(role): f"secret of {role}".encode() for role in Role}
PUBLIC = {f"{name}.pub": "public = x\n" for name in (*Role, "operator", "worker-gpu1")}
SETUPS = {
    "as it comes": Setup("digits", IMAGE, public_keys=tuple(PUBLIC)),
    "no keys, no volume": Setup("digits", IMAGE, run_size="0"),
    "everything": Setup(
        "a" * LONGEST,
        IMAGE,
        namespace="training",
        pull_secret="registry",
        run_claim="runs.shared",
        storage_class="nfs",
        data_claim="images",
        gpus=2,
        restarts=0,
        port=9000,
        shares={Role.WORKER: Share("8", "64Gi"), Role.CONTROLLER: Share("500m", "512Mi")},
        public_keys=tuple(PUBLIC),
    ),
    "a volume of a class": Setup("d", IMAGE, storage_class="nfs", run_size="1Ti"),
}


def job(**settings: object) -> Job:
    given = tuple(f"{key.replace('__', '.')}={value}" for key, value in settings.items())
    return resolve(None, {}, given, {}).job


def made(setup: Setup, of: Job | None = None) -> list[dict[str, Any]]:
    """The objects as Kubernetes reads them: written as YAML, and read again."""
    keyed = bool(setup.public_keys)
    objects = manifests(setup, of or job(), SECRETS if keyed else {}, PUBLIC if keyed else {})
    return list(yaml.safe_load_all(as_text(objects)))


@pytest.fixture(params=list(SETUPS.values()), ids=list(SETUPS))
def setup(request: pytest.FixtureRequest) -> Setup:
    found: Setup = request.param
    return found


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] in kinds]


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod templates by their role."""
    found = of_kind(objects, "Job", "StatefulSet")
    templates = [one["spec"]["template"] for one in found]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in templates}


def container(objects: list[dict[str, Any]], role: str) -> dict[str, Any]:
    (only,) = pods(objects)[role]["spec"]["containers"]
    return dict(only)


def test_every_object_is_valid_to_the_letter(setup: Setup) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    objects = made(setup)
    for one in objects:
        for version in ("1.29", "1.35"):
            validator.validate(one, version, strict=True)
    with pytest.raises(validator.ValidationError):
        validator.validate({**objects[-1], "specs": {}}, "1.35", strict=True)


def test_one_object_a_kind_and_role(setup: Setup) -> None:
    objects = made(setup)
    kinds = {
        (one["kind"], one["metadata"]["name"].removeprefix(f"{setup.name}-")) for one in objects
    }
    assert len(kinds) == len(objects)
    assert {
        ("Job", "controller"),
        ("Job", "dataserver"),
        ("Job", "worker"),
        ("StatefulSet", "paramserver"),
        ("Service", "controller"),
        ("Service", "paramserver"),
        ("ConfigMap", "job"),
        ("NetworkPolicy", "pods"),
    } <= kinds
    assert (("PersistentVolumeClaim", "run") in kinds) == (
        not setup.run_claim and setup.run_size != "0"
    )
    assert set(pods(objects)) == set(Role)
    for one in objects:
        assert one["metadata"].get("namespace", "") == setup.namespace


def test_names_fit_into_what_kubernetes_makes_of_them(setup: Setup) -> None:
    objects = made(setup, job(paramserver__count=100, worker__count=100))
    for one in objects:
        name = one["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        # A pod's name and a StatefulSet's label have a number or a hash of ten letters behind.
        longer = len("-0123456789") if one["kind"] in ("Job", "StatefulSet") else 0
        assert len(name) + longer <= 63
        for label in one["metadata"]["labels"].values():
            assert len(label) <= 63


def test_counts_are_those_of_the_job() -> None:
    objects = made(SETUPS["as it comes"], job(worker__count=5, paramserver__count=3))
    count = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Job", "StatefulSet")}
    assert count["digits-worker"]["completions"] == count["digits-worker"]["parallelism"] == 5
    assert count["digits-worker"]["backoffLimitPerIndex"] == 3
    assert count["digits-paramserver"]["replicas"] == 3
    assert count["digits-dataserver"]["completions"] == 1
    assert count["digits-controller"]["backoffLimit"] == 0


def test_the_job_file_is_the_job() -> None:
    wanted = job(worker__count=5, model__ref="lenet", job__name='it\'s "quoted"')
    config, _ = of_kind(made(SETUPS["as it comes"], wanted), "ConfigMap")
    assert Job.from_dict(tomllib.loads(config["data"]["job.toml"])) == wanted


def test_selectors_find_the_pods_that_they_mean(setup: Setup) -> None:
    objects = made(setup)
    labels = {role: pod["metadata"]["labels"] for role, pod in pods(objects).items()}

    def chosen(selector: dict[str, str]) -> set[str]:
        return {role for role, own in labels.items() if selector.items() <= own.items()}

    for service in of_kind(objects, "Service"):
        role = service["metadata"]["name"].rpartition("-")[2]
        assert chosen(service["spec"]["selector"]) == {role}
    (servers,) = of_kind(objects, "StatefulSet")
    assert chosen(servers["spec"]["selector"]["matchLabels"]) == {"paramserver"}
    names = {one["metadata"]["name"]: one for one in of_kind(objects, "Service")}
    assert names[servers["spec"]["serviceName"]]["spec"]["clusterIP"] == "None"
    (policy,) = of_kind(objects, "NetworkPolicy")
    (entry,) = policy["spec"]["ingress"]
    (peer,) = entry["from"]
    for selector in (policy["spec"]["podSelector"], peer["podSelector"]):
        assert chosen(selector["matchLabels"]) == set(Role)
        assert selector["matchLabels"]["app.kubernetes.io/instance"] == setup.name
    for role, pod in pods(objects).items():
        (spread,) = pod["spec"]["topologySpreadConstraints"]
        assert chosen(spread["labelSelector"]["matchLabels"]) == {role}


def test_ports_are_the_same_everywhere(setup: Setup) -> None:
    objects = made(setup)
    wanted = {"control": setup.port, "lane": setup.port + 1}
    for role in Role:
        only = container(objects, role)
        assert {one["name"]: one["containerPort"] for one in only["ports"]} == wanted
        assert only["args"][only["args"].index("--bind") + 1] == f"0.0.0.0:{setup.port}"
        for probe in ("startupProbe", "readinessProbe"):
            if probe in only:
                assert only[probe]["tcpSocket"]["port"] in wanted
    for service in of_kind(objects, "Service"):
        ports = {one["targetPort"]: one["port"] for one in service["spec"]["ports"]}
        assert ports == wanted
    (policy,) = of_kind(objects, "NetworkPolicy")
    (entry,) = policy["spec"]["ingress"]
    assert {one["port"] for one in entry["ports"]} == set(wanted.values())
    address = f"{setup.name}-controller:{setup.port}"
    for role in set(Role) - {Role.CONTROLLER}:
        given = container(objects, role)["args"]
        assert given[given.index("--controller") + 1] == address


def referenced(pod: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What a pod's volumes need: (kind, name, key), the key empty where all are taken."""
    for volume in pod["spec"]["volumes"]:
        for source in volume.get("projected", {}).get("sources", [volume]):
            for kind, field in (("Secret", "secret"), ("ConfigMap", "configMap")):
                if field in source:
                    for item in source[field].get("items", [{"key": ""}]):
                        yield kind, source[field]["name"], item["key"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"], ""


def test_what_a_pod_needs_is_made_or_was_named_by_the_user(setup: Setup) -> None:
    objects = made(setup)
    there = {(one["kind"], one["metadata"]["name"]): one.get("data", {}) for one in objects}
    theirs = {("PersistentVolumeClaim", name) for name in (setup.run_claim, setup.data_claim)}
    needed = set()
    for role, pod in pods(objects).items():
        mounted = {one["name"] for one in container(objects, role)["volumeMounts"]}
        assert mounted == {one["name"] for one in pod["spec"]["volumes"]}
        for kind, name, key in referenced(pod):
            needed.add((kind, name))
            assert (kind, name) in there or (kind, name) in theirs
            if key and not key.endswith("-old-1.pub"):
                assert key in there[kind, name]
    ours = {place for place in there if place[0] in ("Secret", "ConfigMap")}
    assert ours <= needed, "something is made that no pod uses"


def test_a_pod_has_its_own_secret_key_alone_and_the_operators_stays_at_home() -> None:
    objects = made(SETUPS["as it comes"])
    for role, pod in pods(objects).items():
        secrets = [(name, key) for kind, name, key in referenced(pod) if kind == "Secret"]
        assert secrets == [(f"digits-key-{role}", f"{role}.key")]
        (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "keys"]
        secret, public = volume["projected"]["sources"]
        assert secret["secret"]["items"][0]["mode"] == 0o440
        # Also those that a change of keys leaves behind, which may be missing.
        old = {f"public/{name}-old-1.pub" for name in (*Role, "operator")}
        assert public["configMap"]["optional"] is True
        assert {one["path"] for one in public["configMap"]["items"]} == {
            *(f"public/{name}" for name in PUBLIC),
            *old,
        }
    assert not [one for one in of_kind(objects, "Secret") if "operator" in str(one["data"])]
    assert "key-operator" not in as_text(objects)


def test_without_keys_there_are_none_and_roles_are_told_so() -> None:
    objects = made(SETUPS["no keys, no volume"])
    assert not of_kind(objects, "Secret")
    for role in Role:
        given = container(objects, role)["args"]
        assert "--insecure" in given
        assert "--keys" not in given


def test_pods_may_do_nothing_that_they_need_not(setup: Setup) -> None:
    for role, pod in pods(made(setup)).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        sources = {kind for one in spec["volumes"] for kind in one} - {"name"}
        assert sources <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected"}
        (only,) = spec["containers"]
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert only["resources"]["requests"] == only["resources"]["limits"]
        writable = {one["mountPath"] for one in only["volumeMounts"] if not one.get("readOnly")}
        runs = {"/runs"} if role in ("controller", "paramserver") else set()
        assert writable == {"/tmp", "/cache"} | runs


def test_workers_alone_get_gpus() -> None:
    objects = made(SETUPS["everything"])
    got = {role: container(objects, role)["resources"]["limits"] for role in Role}
    assert got[Role.WORKER] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert got[Role.CONTROLLER] == {"cpu": "500m", "memory": "512Mi"}
    assert "nvidia.com/gpu" not in got[Role.PARAMSERVER]
    threads = made(SETUPS["as it comes"], job(worker__threads=7))
    assert container(threads, "worker")["resources"]["limits"]["cpu"] == "8"


def test_only_data_from_elsewhere_opens_the_web() -> None:
    def leaving(source: str) -> set[int]:
        objects = made(SETUPS["as it comes"], job(data__source=source))
        (policy,) = of_kind(objects, "NetworkPolicy")
        rules = [rule for rule in policy["spec"]["egress"] if "to" not in rule]
        return {port["port"] for rule in rules for port in rule["ports"]}

    assert leaving("digits") == {53}
    assert leaving("idx:s3://bucket/mnist") == {53, 80, 443}


def filled_in(only: dict[str, Any]) -> list[str]:
    """The arguments as the kubelet gives them; each variable is one that the container has."""
    values = {one["name"]: str(number) for number, one in enumerate(only["env"], 1)}
    found = [re.sub(r"\$\((\w+)\)", lambda name: values[name[1]], word) for word in only["args"]]
    assert not [word for word in found if "$" in word]
    return found


@pytest.mark.parametrize("role", list(Role))
def test_our_own_command_line_takes_what_the_container_is_given(
    role: Role, setup: Setup, parsed: Callable[[list[str]], dict[str, Any]]
) -> None:
    words = filled_in(container(made(setup), role))
    assert words[0] == role
    options = parsed(words)
    assert options["keys"] is None or str(options["keys"]) == KEYS
    assert options["insecure"] is not bool(setup.public_keys)


def test_a_job_that_goes_on_is_given_no_new_folder() -> None:
    setup = SETUPS["as it comes"]
    assert "--out" in arguments(setup, job(), Role.CONTROLLER)
    assert "--out" not in arguments(setup, job(job__resume="/runs/a"), Role.CONTROLLER)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("name", "Digits", "--option name = Digits: expected at most 40 lower case letters"),
        ("name", "7up", "a letter first"),
        ("name", "a" * 41, "at most 40"),
        ("name", "a-", "RFC 1123"),
        ("image", "my image", "an image that the cluster can pull"),
        ("image", "--privileged", "an image that the cluster can pull"),
        ("namespace", "a_b", "lower case letters, digits and hyphens"),
        ("run-size", "ten", "a size"),
        ("run-claim", "a..b", "RFC 1123"),
        ("worker", "4", "CPU,MEMORY of a pod; for example --option worker=4,8Gi"),
        ("gpus", "-1", "how many GPUs"),
        ("kubectl", " ", "a command"),
        ("imige", "x", "an option of launcher kubernetes; did you mean image?"),
    ],
)
def test_bad_options_are_one_line_with_an_example(option: str, value: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        read_options({"image": IMAGE, **{option: value}}, job())
    assert said in str(refused.value)


def test_options_become_the_setup() -> None:
    assert read_options({"image": IMAGE}, job()) == Setup("dualshard", IMAGE)
    assert read_options({"image": IMAGE}, job(job__name="digits")).name == "digits"
    given = {"image": IMAGE, "name": "n", "gpus": "1", "worker": "2,3Gi", "run-claim": "c"}
    on_gpus = job(worker__device="cuda:0", job__name="Not A Label")
    assert read_options(given, on_gpus) == Setup(
        "n", IMAGE, gpus=1, shares={Role.WORKER: Share("2", "3Gi")}, run_claim="c"
    )
    with pytest.raises(UserError, match="--option image = '': expected an image"):
        read_options({}, job())
    with pytest.raises(UserError, match="--option name = Not A Label"):
        read_options({"image": IMAGE}, on_gpus)
    with pytest.raises(UserError, match=r"worker\.device = cpu: expected cuda:0 with gpus"):
        read_options({"image": IMAGE, "gpus": "1"}, job())


def test_roles_wait_for_images_unless_the_job_says_how_long() -> None:
    assert patient(job()).job.start_timeout == 600
    assert patient(job(job__start_timeout="90s")).job.start_timeout == 90
    later = replace(SETUPS["as it comes"], name="x")
    assert "90s" in arguments(later, job(job__start_timeout="90s"), Role.WORKER)
