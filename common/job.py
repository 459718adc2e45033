"""The job file's contract: every section and key, typed, with its words. Pure: nothing is read.

One frozen dataclass a section; `Job` holds them all. What a section is stands in `section`; those
of the data in `data_sections`, of the update rules in `rule_sections`, of a cut net in
`partition_sections`; all can be had from here. A section checks itself when it is made, so that a
`Job` that exists is a valid one, wherever it came from: file, wire, `replace`. Files, environment
and command line are read in `config.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from .data_sections import DataSection as DataSection
from .data_sections import DataserverSection as DataserverSection
from .errors import UserError
from .partition_sections import AdmmSection as AdmmSection
from .partition_sections import PartitionSection as PartitionSection
from .partition_sections import check_cut, check_replicas
from .rule_sections import OptimizerSection as OptimizerSection
from .rule_sections import OuterSection as OuterSection
from .rule_sections import RuleSection as RuleSection
from .section import Section
from .settings import Kind, Setting, setting, with_lists
from .suggest import nearest
from .toml import bare_key, shown


@dataclass(frozen=True)
class JobSection(Section):
    """The run as a whole."""

    name_in_file = "job"
    name: str = setting(Kind.TEXT, "run", "name of the run", empty=False)
    seed: int = setting(Kind.INTEGER, 0, "the seed of all randomness", minimum=0)
    epochs: int = setting(Kind.INTEGER, 30, "passes over the training data", minimum=1)
    epoch_quorum: float = setting(
        Kind.NUMBER,
        1.0,
        "fraction of workers that must be idle, with nothing left to hand out, to end an epoch",
        above=0,
        maximum=1,
    )
    warm_start: int = setting(Kind.INTEGER, 0, "steps that one worker runs alone first", minimum=0)
    start_timeout: float = setting(
        Kind.DURATION, "60s", "how long to wait until all roles have joined", above=0
    )
    lease: float = setting(
        Kind.DURATION, "5s", "how long a silent role is kept before it counts as dead", above=0
    )
    vacancy: float = setting(
        Kind.DURATION,
        "0s",
        "how long a job that has lost its last worker, or data server, waits for another; 0s: it "
        "ends at once",
        minimum=0,
    )
    evaluate_every: float = setting(
        Kind.NUMBER, 1.0, "epochs between two evaluations; fractions are fine", above=0
    )
    checkpoint_every: float = setting(
        Kind.NUMBER, 1.0, "epochs between two checkpoints; fractions are fine, 0: none", minimum=0
    )
    checkpoint_keep: int = setting(
        Kind.INTEGER, 3, "checkpoints that are kept, the newest ones", minimum=1
    )
    resume: str = setting(Kind.TEXT, "", "a checkpoint, or a run directory, to go on from")


@dataclass(frozen=True)
class ModelSection(Section):
    """The net."""

    name_in_file = "model"
    ref: str = setting(
        Kind.TEXT, "mlp", "name in the zoo, module:attribute or file.py:attribute", empty=False
    )
    args: Mapping[str, Any] = setting(Kind.TABLE, {}, "arguments that the model is built with")


@dataclass(frozen=True)
class TrainSection(Section):
    """How workers and parameter servers exchange."""

    name_in_file = "train"
    mode: str = setting(
        Kind.TEXT,
        "async",
        "async: nobody waits; ssp: nobody runs ahead too far; bsp: one step together; local: steps "
        "of the worker's own, then the servers average; easgd: elastic averaging; admm: workers "
        "hold parts of the net, see partition.coupling",
        choices=("async", "ssp", "bsp", "local", "easgd", "admm"),
        planned="lbfgs",
    )
    transport: str = setting(
        Kind.TEXT,
        "auto",
        "auto: memory shared with servers on the worker's host, tcp to others; shm: refuse to run "
        "without; ipc: sockets of the host; tcp: never share",
        choices=("auto", "shm", "ipc", "tcp"),
    )
    n_push: int = setting(
        Kind.INTEGER,
        0,
        "steps between two pushes; 0: as the mode likes it, 64 in local, 16 in easgd, else 1",
        minimum=0,
    )
    n_fetch: int = setting(
        Kind.INTEGER,
        0,
        "steps between two pulls of parameters, in async; 0: as n_push",
        minimum=0,
    )
    in_flight: int = setting(
        Kind.INTEGER,
        0,
        "minibatches of a thread that may be under way at once: 1 waits for each exchange, 2 "
        "computes the next gradient meanwhile; 0: 2 where 2 to 8 threads train in async, else 1",
        minimum=0,
    )
    staleness: int = setting(
        Kind.INTEGER, 4, "ssp: clocks that the fastest may be ahead of the slowest", minimum=0
    )
    quorum: float = setting(
        Kind.NUMBER,
        1.0,
        "bsp, local: the fraction of pushes that closes a step, later ones are dropped; 0, in "
        "local: nobody waits",
        minimum=0,
        maximum=1,
    )
    staleness_scaling: float = setting(
        Kind.NUMBER, 0.5, "κ: a push that is s updates late steps by (1 + s)^-κ; 0: off", minimum=0
    )
    compression: str = setting(
        Kind.TEXT,
        "none",
        "how gradients travel between hosts: as they are (dense layers as factors where that is "
        "less), in 16 bits, in 8, or the largest alone",
        choices=("none", "f16", "bf16", "int8", "topk"),
    )
    topk: float = setting(Kind.NUMBER, 0.01, "the fraction that topk sends", above=0, maximum=1)
    error_feedback: bool = setting(
        Kind.FLAG, True, "whether what compression leaves out is added to the next gradient"
    )
    factors: str = setting(
        Kind.TEXT,
        "auto",
        "dense layers as activations and errors where those are fewer bytes; auto: to other "
        "machines, always: also on this one, where the server's work costs more than the bytes",
        choices=("auto", "always", "off"),
    )
    pull_encoding: str = setting(
        Kind.TEXT,
        "f32",
        "how parameters travel between hosts",
        choices=("f32", "f16", "bf16"),
    )
    nonfinite: str = setting(
        Kind.TEXT,
        "skip",
        "what follows when nonfinite_limit pushes of a worker in a row hold NaN or infinity",
        choices=("skip", "drop-worker", "stop"),
    )
    nonfinite_limit: int = setting(
        Kind.INTEGER, 10, "pushes with NaN or infinity in a row before nonfinite acts", minimum=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "easgd" and self.compression == "topk":
            fix = "easgd pushes parameters, not gradients: write train.compression = int8"
            expected = "one that keeps every element in mode easgd"
            raise UserError("train.compression", self.compression, expected, fix)
        if not self.quorum and self.mode not in ("local", "easgd", "async", "ssp", "admm"):
            fix = "write train.quorum = 1.0 to wait for all"
            raise UserError("train.quorum", self.quorum, f"above 0 in mode {self.mode}", fix)


@dataclass(frozen=True)
class ParamserverSection(Section):
    """The parameter servers."""

    name_in_file = "paramserver"
    count: int = setting(Kind.INTEGER, 2, "parameter server processes", minimum=1)
    shard_bytes: int = setting(
        Kind.SIZE, "1MiB", "size of a shard of float32 parameters", minimum=4, multiple=4
    )
    buckets: int = setting(
        Kind.INTEGER, 1024, "buckets that shards hash to", minimum=1, maximum=65536
    )


@dataclass(frozen=True)
class WorkerSection(Section):
    """The workers."""

    name_in_file = "worker"
    count: int = setting(Kind.INTEGER, 2, "worker processes", minimum=1)
    at_least: int = setting(
        Kind.INTEGER,
        0,
        "workers that must be there before training begins, others may come later; 0: all",
        minimum=0,
    )
    threads: int = setting(Kind.INTEGER, 1, "lock-free compute threads in a worker", minimum=1)
    merge_every: int = setting(
        Kind.INTEGER,
        0,
        "steps of a thread on a copy of its own, in local and easgd, before it adds them to the "
        "worker's parameters; 1: no copies; 0: 1 for a lone thread, 16 for several",
        minimum=0,
    )
    device: str = setting(
        Kind.TEXT,
        "cpu",
        "where the worker computes; auto: on the first GPU if there is one, else on the CPU",
        choices=("auto", "cpu"),
        pattern="cuda:(0|[1-9][0-9]{0,2})",
        form="cuda:N",
        example="cuda:0",
    )

    def __post_init__(self) -> None:
        """Raises UserError where more workers are waited for than there are places."""
        super().__post_init__()
        if self.at_least > self.count:
            expected = f"at most worker.count, which is {self.count}"
            raise UserError("worker.at_least", self.at_least, expected, "raise worker.count")


@dataclass(frozen=True)
class SecuritySection(Section):
    """Who may connect."""

    name_in_file = "security"
    keys: str = setting(
        Kind.TEXT, "", "the folder of this host's keys, made by `dualshard keygen`; empty: none"
    )
    insecure: bool = setting(Kind.FLAG, False, "allow addresses other than loopback without keys")


@dataclass(frozen=True)
class Job:
    """A whole job. Equal jobs have equal values everywhere; safe to share between threads."""

    job: JobSection = field(default_factory=JobSection)
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    train: TrainSection = field(default_factory=TrainSection)
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    outer: OuterSection = field(default_factory=OuterSection)
    paramserver: ParamserverSection = field(default_factory=ParamserverSection)
    dataserver: DataserverSection = field(default_factory=DataserverSection)
    worker: WorkerSection = field(default_factory=WorkerSection)
    partition: PartitionSection = field(default_factory=PartitionSection)
    admm: AdmmSection = field(default_factory=AdmmSection)
    security: SecuritySection = field(default_factory=SecuritySection)

    def __post_init__(self) -> None:
        """Raises UserError where settings of two sections contradict each other."""
        mode, quorum = self.train.mode, self.train.quorum
        if self.dataserver.backup and mode in ("bsp", "local") and quorum == 1.0:
            expected = f"false in mode {mode} with train.quorum = 1"
            fix = "each worker has portions of its own there; lower train.quorum, or leave it out"
            raise UserError("dataserver.backup", "true", expected, fix)
        worker, parts = self.worker, self.partition.count
        hand_in_hand = {
            "worker.threads": (worker.threads, 1),
            "worker.device": (worker.device, "cpu"),
            "worker.at_least": (worker.at_least, worker.at_least // parts * parts),
            "job.epoch_quorum": (self.job.epoch_quorum, 1.0),
            "job.warm_start": (self.job.warm_start, 0),
            "dataserver.backup": (self.dataserver.backup, False),
        }
        check_cut(self.partition, mode, worker.count, hand_in_hand)
        if mode == "admm" and self.partition.coupling == "replicas":
            check_replicas(self.admm.schedule, worker.device, self.train.compression)

    @classmethod
    def from_dict(cls, tables: object) -> Self:
        """A job from nested tables: a parsed file, or what came over the wire.

        Missing sections and keys take their defaults. Raises `UserError` for anything else that
        is not as the contract says.
        """
        if not isinstance(tables, Mapping):
            raise UserError("job", shown(tables), "a table of sections", "send what to_dict gives")
        for name in tables:
            if name not in SECTIONS:
                raise unknown_section(str(name), tables[name])
        made: dict[str, Any] = {
            name: SECTIONS[name].from_dict(table, unknown_key) for name, table in tables.items()
        }
        return cls(**made)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain nested tables for msgpack and `from_dict`: seconds as float, bytes as int."""
        return {
            name: {key: with_lists(getattr(getattr(self, name), key)) for key in section.rules()}
            for name, section in SECTIONS.items()
        }

    def value(self, key: str) -> Any:
        """The value of a dotted key, `worker.count`, in its canonical form."""
        section, name = key.split(".")
        return getattr(getattr(self, section), name)


SECTIONS: dict[str, type[Section]] = {
    section.name_in_file: section
    for section in (
        JobSection,
        ModelSection,
        DataSection,
        TrainSection,
        OptimizerSection,
        OuterSection,
        ParamserverSection,
        DataserverSection,
        WorkerSection,
        PartitionSection,
        AdmmSection,
        SecuritySection,
    )
}
"""The sections by name, in the order of the file."""

SETTINGS: dict[str, Setting] = {
    f"{name}.{key}": rule
    for name, section in SECTIONS.items()
    for key, rule in section.rules().items()
}
"""Every setting by its dotted key, `worker.count`; the documentation is written from this table."""


def to_toml(job: Job) -> str:
    """`job` as a job file with every key; read back, it gives an equal job."""
    return "\n".join(_section_lines(job))


def unknown_key(section: str, name: str, value: object) -> UserError:
    """The error for a key that its section does not have, with the nearest right one."""
    own, elsewhere = SECTIONS[section].rules(), _keys_called(name)
    if close := nearest(name, own):
        fix = f"did you mean {section}.{close}?"
    elif elsewhere:
        fix = f"did you mean {' or '.join(elsewhere)}?"
    else:
        fix = f"[{section}] has {', '.join(own)}"
    return UserError(f"{section}.{bare_key(name)}", shown(value), "a key of the job file", fix)


def unknown_setting(dotted: str, value: object) -> UserError:
    """The error for a dotted key, as one types it, that no setting has."""
    section, _, name = dotted.partition(".")
    if section in SECTIONS and name:
        return unknown_key(section, name, value)
    close = nearest(dotted, SETTINGS)
    likely = _keys_called(dotted) or ([close] if close else [])
    fix = f"did you mean {' or '.join(likely)}?" if likely else f"sections are {_all_sections()}"
    return UserError(shown(dotted), shown(value), "section.key of the job file", fix)


def unknown_section(name: str, value: object) -> UserError:
    """The error for a section that there is not; a key outside any section is told where to go."""
    if not isinstance(value, Mapping) and (keys := _keys_called(name)):
        sections = [f"[{key.partition('.')[0]}]" for key in keys]
        fix = f"move it under {' or '.join(sections)}"
    elif close := nearest(name, SECTIONS):
        fix = f"did you mean [{close}]?"
    else:
        fix = f"sections are {_all_sections()}"
    return UserError(bare_key(name), shown(value), "a section of the job file", fix)


def _keys_called(name: str) -> list[str]:
    """The dotted keys whose last part is `name`, in any section."""
    return [key for key in SETTINGS if key.partition(".")[2] == name]


def _all_sections() -> str:
    return ", ".join(SECTIONS)


def _section_lines(job: Job) -> Iterator[str]:
    for name, section in SECTIONS.items():
        yield f"[{name}]"
        for key, rule in section.rules().items():
            yield f"{key} = {rule.write(job.value(f'{name}.{key}'))}"
        yield ""
