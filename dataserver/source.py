"""The sources that a job file can name: `SCHEME`, `SCHEME:PLACE`, or users' code by reference."""

from collections.abc import Callable
from pathlib import Path

from ..common.data_sections import DataSection
from ..common.suggest import nearest
from .attached import is_reference
from .sources.attached import read_attached
from .sources.cifar import read_cifar
from .sources.digits import read_digits
from .sources.idx import read_idx
from .sources.images import read_images
from .sources.npz import read_npz
from .sources.parquet import read_parquet
from .sources.samples import Found, Origin, Part
from .sources.webdataset import read_webdataset
from .split import Split, make_split

_FORMS = {
    "digits": "digits",
    "idx": "idx:DIR",
    "cifar": "cifar:DIR",
    "npz": "npz:FILE",
    "images": "images:DIR",
    "webdataset": "webdataset:TARS",
    "parquet": "parquet:FILES",
}

_LAZY = {"images": read_images, "webdataset": read_webdataset, "parquet": read_parquet}


def open_source(
    data: DataSection, seed: int, say: Callable[[str], None] = lambda text: None
) -> Split:
    """Open `data.source`, and what it is tested on; `say` is told of what takes long.

    Without `data.test` that is the source's own test part, or where it has none, the fraction
    `data.held_out` of its samples, the same ones for the same seed. Else it is the test part of
    the source that `data.test` names, or where that has none, all of it.

    Raises:
        UserError: naming `data.source`, `data.test` or `data.held_out`, and what is wrong.
    """
    origin = Origin("data.source", data.source)
    train, own_test = _read(origin, "train", data, say), _read(origin, "test", data, say)
    assert train is not None, "a reader raises when there is no training part"
    if not data.test:
        return make_split(train, own_test, seed, data.held_out)
    other = Origin("data.test", data.test)
    part = _read(other, "test", data, say)
    if part is None:
        part = _read(other, "train", data, say)
    return make_split(train, part, seed, data.held_out)


def _read(
    origin: Origin, part: Part, data: DataSection, say: Callable[[str], None]
) -> Found | None:
    """One part of a source; None if it has no test part."""
    scheme, colon, place = origin.text.partition(":")
    if scheme == "digits" and not colon:
        return read_digits(origin, part)
    if scheme == "idx" and place:
        return read_idx(origin, place, part)
    if scheme == "cifar" and place:
        return read_cifar(origin, place, part)
    if scheme == "npz" and place:
        return read_npz(origin, place, part)
    if scheme in _LAZY and place:
        return _LAZY[scheme](origin, place, part, data)
    if scheme not in _FORMS and is_reference(origin.text, _FORMS):
        return read_attached(origin, part, data, say)
    forms = ", ".join([*_FORMS.values(), "module:attribute"])
    raise origin.error(f"{forms} or file.py:attribute", _advice(origin.text, scheme, place))


def _advice(text: str, scheme: str, place: str) -> str:
    """What to write instead of a text that is no source."""
    if text and Path(text).is_dir():
        return f"did you mean idx:{text}?"
    if text.endswith(".npz") and ":" not in text:
        return f"did you mean npz:{text}?"
    near = nearest(scheme, _FORMS)
    if near is None:
        return "write one of these"
    form, _, hole = _FORMS[near].partition(":")
    return f"did you mean {form}:{place or hole}?" if hole else f"did you mean {form}?"
