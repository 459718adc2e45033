"""The data sets that `dualshard data fetch` knows: their files, and who has them. Pure.

Sizes and checksums are those of the files as their authors published them; a mirror that has
others has something else.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class File:
    """A file as it was published."""

    name: str
    size: int
    """Bytes."""
    sha256: str
    """In hexadecimal."""

    def __str__(self) -> str:
        return f"{self.name} ({self.size:,} bytes)"


@dataclass(frozen=True, slots=True)
class DataSet:
    """Files that belong together."""

    scheme: str
    """What reads them: `SCHEME:FOLDER` is their `data.source`."""
    mirrors: tuple[str, ...]
    """URLs that end with `/`, http or https, the first to be asked first."""
    files: tuple[File, ...]


def _idx(*contents: tuple[int, str]) -> tuple[File, ...]:
    """The four files of MNIST and of what took its names over."""
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        File(f"{name}-ubyte.gz", size, sha256)
        for name, (size, sha256) in zip(names, contents, strict=True)
    )


_TORONTO = ("https://www.cs.toronto.edu/~kriz/",)

DATA_SETS = {
    "mnist": DataSet(
        "idx",
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        _idx(
            (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "fashion-mnist": DataSet(
        "idx",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        _idx(
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
    "cifar10": DataSet(
        "cifar",
        _TORONTO,
        (
            File(
                "cifar-10-binary.tar.gz",
                170052171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
    ),
    "cifar100": DataSet(
        "cifar",
        _TORONTO,
        (
            File(
                "cifar-100-binary.tar.gz",
                168513733,
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            ),
        ),
    ),
}
