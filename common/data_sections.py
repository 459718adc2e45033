"""The sections of the job file that say what is learned from and how it is served: `[data]`,
`[dataserver]`. Pure.
"""

from dataclasses import dataclass

from .section import Section
from .settings import Kind, setting


@dataclass(frozen=True)
class DataSection(Section):
    """What is learned from. Relative paths are relative to the working directory."""

    name_in_file = "data"
    source: str = setting(Kind.TEXT, "digits", "the training data", empty=False)
    test: str = setting(
        Kind.TEXT, "", "a source of its own for testing; empty: the test part of data.source"
    )
    batch_size: int = setting(Kind.INTEGER, 32, "samples in a thread's minibatch", minimum=1)
    augment: tuple[str, ...] = setting(
        Kind.TEXTS, [], "transforms in order, like shift:2, rotate:10 or module:attribute"
    )
    resize: str = setting(
        Kind.TEXT,
        "",
        "the size that images are brought to when they are read: scaled by the shorter side, and "
        "the rest cut off evenly; empty: as they are",
        pattern=r"[1-9][0-9]{0,4}(x[1-9][0-9]{0,4})?",
        form="HEIGHTxWIDTH or SIDE",
        example="224",
    )
    columns: tuple[str, ...] = setting(
        Kind.TEXTS, ["image", "label"], "parquet: the columns of the images and of the labels"
    )
    corrupt: str = setting(
        Kind.TEXT,
        "raise",
        "what an image that cannot be decoded does: end the job, or be left out and counted",
        choices=("raise", "skip"),
    )
    sampling: str = setting(
        Kind.TEXT,
        "once",
        "what an epoch visits: each sample once, or as many, drawn so that classes are equally "
        "frequent, or as data.weights says",
        choices=("once", "balanced", "weighted"),
    )
    weights: tuple[str, ...] = setting(
        Kind.TEXTS, [], "weighted: how often a class is drawn, as CLASS:WEIGHT; 1 for the others"
    )
    cache: int = setting(Kind.SIZE, "1GiB", "memory of a data server for decoded images", minimum=0)
    disk_cache: int = setting(
        Kind.SIZE, "0B", "disk of a data server for decoded images beyond that", minimum=0
    )
    cache_dir: str = setting(
        Kind.TEXT, "", "the folder of that; empty: the system's for temporary files"
    )
    held_out: float = setting(
        Kind.NUMBER,
        0.2,
        "fraction held out for testing where the source has no test part of its own",
        above=0,
        below=1,
    )


@dataclass(frozen=True)
class DataserverSection(Section):
    """The data servers."""

    name_in_file = "dataserver"
    count: int = setting(Kind.INTEGER, 1, "data server processes", minimum=1)
    portion: int = setting(Kind.INTEGER, 16, "minibatches handed out at once", minimum=1)
    threads: int = setting(
        Kind.INTEGER, 1, "threads in a data server that read and augment", minimum=1
    )
    backup: bool = setting(
        Kind.FLAG,
        False,
        "second copies of the last portions for workers that are idle; the first that is done wins",
    )
