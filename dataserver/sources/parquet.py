"""Parquet files as a source: a column of encoded images and one of labels (`data.columns`).

An image is bytes, or as Hugging Face's datasets store it, a struct with its bytes in a field
`bytes`. A place is a file, a pattern of files or a folder, with the convention of webdataset.py
for its test part. The labels are read when it is opened; images by row group, of which the last
few are kept.
"""

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.data_sections import DataSection
from ...common.errors import UserError
from .damage import BadImage
from .encoded import EncodedSamples, open_encoded
from .places import Place
from .samples import Origin, Part
from .webdataset import find_shards, of_part

KEPT_GROUPS = 8
"""Row groups of encoded images in memory."""


class ParquetFiles:
    """Images in the rows of parquet files, one row after the other."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._begins = [0]
        self._groups: list[tuple[Place, int, int]] = []
        self._read = lru_cache(KEPT_GROUPS)(self._read_group)

    def add(self, file: Place, group: int, first: int, rows: int) -> None:
        """The next row group: of which file, which of it, its first row there, how many rows."""
        self._groups.append((file, group, first))
        self._begins.append(self._begins[-1] + rows)

    def fetch(self, row: int) -> bytes:
        """As `Files.fetch`. A row that is null is an image of no bytes.

        Raises:
            BadImage: the row group that holds it cannot be read.
        """
        import pyarrow

        group, inner = self._find(row)
        try:
            cell = self._read(group)[inner].as_py()
        except (OSError, pyarrow.ArrowException) as error:
            _, number, _ = self._groups[group]
            raise BadImage(f"row group {number} cannot be read ({_words(error)})") from None
        return (cell.get("bytes") if isinstance(cell, dict) else cell) or b""

    def name(self, row: int) -> str:
        """As `Files.name`."""
        group, inner = self._find(row)
        file, _, first = self._groups[group]
        return f"row {first + inner} of {file.name}"

    def _find(self, row: int) -> tuple[int, int]:
        group = int(np.searchsorted(self._begins, row, side="right")) - 1
        return group, row - self._begins[group]

    def _read_group(self, group: int) -> Any:
        place, number, _ = self._groups[group]
        with _open(place) as file:
            return file.read_row_group(number, columns=[self._column]).column(0)


def read_parquet(
    origin: Origin, place: str, part: Part, data: DataSection
) -> EncodedSamples | None:
    """A part of a set of parquet files; None if there is no test part.

    Raises:
        UserError: pyarrow is not installed, no such files, one that is damaged, a column that is
            missing or of another type, a damaged image among those that are looked at.
    """
    try:
        import pyarrow
    except ImportError as missing:
        fix = "pip install 'dualshard[parquet]'"
        raise origin.error("pyarrow, which reads parquet, it is not installed", fix) from missing
    if len(data.columns) != 2:
        raise UserError(
            "data.columns",
            list(data.columns),
            "two columns, of images and labels",
            "write for example image,label",
        )
    shards = of_part(find_shards(origin, place, (".parquet",)), part)
    image, label = data.columns
    files, labels = ParquetFiles(image), list[NDArray[np.int64]]()
    for shard in shards:
        try:
            labels.append(_index(origin, files, shard, image, label))
        except (OSError, pyarrow.ArrowException) as error:
            expected = f"a whole parquet file {shard.name}, reading it failed ({_words(error)})"
            raise origin.error(expected, "write or download that file again") from error
    if not shards:
        return None
    classes = np.concatenate(labels).tolist()
    if not classes:
        raise origin.error(f"rows in {place}, there are none", "name files that have rows")
    return open_encoded(files, classes, (place, label), data, origin)


def _words(error: Exception) -> str:
    """The beginning of what pyarrow says, in one line."""
    return " ".join(str(error).split())[:100]


def _open(place: Place) -> Any:
    """The file: one of this machine where it lies, any other read whole."""
    from pyarrow.parquet import ParquetFile

    return ParquetFile(place.path if place.is_local else BytesIO(place.read()))


def _index(
    origin: Origin, files: ParquetFiles, shard: Place, image: str, label: str
) -> NDArray[np.int64]:
    """Add a file's row groups; its labels."""
    import pyarrow

    name = shard.name
    shard.size()  # says what is wrong with a place that is none
    with _open(shard) as file:
        schema = file.schema_arrow
        for column in (image, label):
            if column not in schema.names:
                raise origin.error(
                    f"a column {column} in {name}, it has {', '.join(schema.names)}",
                    "name the columns of images and labels in data.columns",
                )
        kinds = {column: schema.field(column).type for column in (image, label)}
        _check_kinds(origin, name, image, label, kinds)
        column = file.read(columns=[label]).column(0)
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            expected = f"a label in every row, row {row} of {name} has none"
            raise origin.error(expected, "remove or repair that row")
        numbers: NDArray[np.int64] = column.cast(pyarrow.int64()).to_numpy()
        if len(numbers) and numbers.min() < 0:
            row = int(np.argmin(numbers))
            expected = f"labels from 0, row {row} of {name} has {numbers[row]}"
            raise origin.error(expected, "number the classes 0, 1, 2, ...")
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            files.add(shard, group, first, rows)
            first += rows
    return numbers


def _check_kinds(origin: Origin, name: str, image: str, label: str, kinds: dict[str, Any]) -> None:
    """That the columns can be images and labels."""
    from pyarrow import types

    kind = kinds[image]
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (types.is_binary(kind) or types.is_large_binary(kind)):
        raise origin.error(
            f"encoded images (binary, or a struct with bytes) in the column {image} of {name}, it "
            f"holds {kinds[image]}",
            "name another column in data.columns",
        )
    if not types.is_integer(kinds[label]):
        raise origin.error(
            f"integers in the column {label} of {name}, it holds {kinds[label]}",
            "name another column in data.columns",
        )
