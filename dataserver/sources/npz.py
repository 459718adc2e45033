"""NumPy archives as a source: x_train, y_train, x_test, y_test, or x, y. Only reading lives here.

Archives are data, never code: arrays of Python objects (pickles) are refused.
"""

import io
import zipfile
import zlib

import numpy as np

from ...common.types import Array
from .places import Place
from .samples import Origin, Part, Samples, checked

_SAVE = "write it with numpy.savez(file, x_train=..., y_train=..., x_test=..., y_test=...)"

# All that NumPy, zipfile and zlib raise on damaged archives (found by flipping bytes).
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    MemoryError,
    zlib.error,
    zipfile.BadZipFile,
)


def read_npz(origin: Origin, file: str, part: Part) -> Samples | None:
    """A part of an archive; None if there is no test part.

    Floats become float32, uint8 stays, labels become int64.

    Raises:
        UserError: a file that is missing, damaged, or lacks an array; an array of a dtype or shape
            that cannot be samples.
    """
    arrays = _load(origin, Place.of(origin, file), (f"x_{part}", f"y_{part}", "x", "y"))
    if f"x_{part}" in arrays or f"y_{part}" in arrays:
        return _samples(origin, arrays, f"x_{part}", f"y_{part}")
    if part == "test":
        return None
    return _samples(origin, arrays, "x", "y")


def _load(origin: Origin, place: Place, names: tuple[str, ...]) -> dict[str, Array]:
    """Those of the named arrays that the archive has."""
    data, name = place.read(), ""
    if data[:2] != b"PK" and data[:6] != b"\x93NUMPY":
        found = f"it begins with {data[:4].hex(' ')}" if data else "it is empty"
        raise origin.error(f"{place.name} to be an .npz archive, a zip file, {found}", _SAVE)
    try:
        archive = np.load(io.BytesIO(data), allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise origin.error("an .npz archive, the file holds one array", _SAVE)
        found_arrays: dict[str, Array] = {}
        for name in names:
            if name in archive:
                found_arrays[name] = archive[name]
        return found_arrays
    except _DAMAGED as error:
        if "Object arrays" in str(error):
            what = name or "the array"
            expected = f"arrays of numbers, {what} holds Python objects, which are never loaded"
            raise origin.error(expected, f"save {what} with a numeric dtype") from error
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise origin.error(f"a whole .npz archive, reading it failed ({reason})", _SAVE) from error


def _samples(origin: Origin, arrays: dict[str, Array], x: str, y: str) -> Samples:
    """The samples of the arrays named x and y."""
    for name in (x, y):
        if name not in arrays:
            held = f"only {', '.join(arrays)}" if arrays else "neither x nor x_train"
            raise origin.error(f"an array {name}, the file has {held}", _SAVE)
    _check_shapes(origin, arrays, x, y)
    inputs = arrays[x]
    if inputs.dtype != np.uint8:
        # What overflows float32 becomes infinite, and `checked` refuses it by its number.
        with np.errstate(over="ignore"):
            inputs = inputs.astype(np.float32)
    return checked(Samples(inputs, arrays[y], x, y, origin))


def _check_shapes(origin: Origin, arrays: dict[str, Array], x: str, y: str) -> None:
    """That x holds numbers per sample, and y one integer per sample."""
    inputs, labels = arrays[x], arrays[y]
    if inputs.dtype != np.uint8 and inputs.dtype.kind != "f":
        expected = f"{x} of uint8 or a float dtype, it is {inputs.dtype}"
        raise origin.error(expected, f"save {x}.astype('float32')")
    if inputs.ndim < 2:
        expected = f"{x} of shape (samples, ...), it has {inputs.shape}"
        raise origin.error(expected, f"save {x}.reshape(samples, -1)")
    if labels.dtype.kind not in "iu":
        expected = f"{y} of an integer dtype, it is {labels.dtype}"
        raise origin.error(expected, f"save {y}.astype('int64')")
    if labels.ndim != 1:
        expected = f"{y} of shape (samples,), it has {labels.shape}"
        fix = f"save {y}.ravel(), or {y}.argmax(1) where rows are one-hot"
        raise origin.error(expected, fix)
