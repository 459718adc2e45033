"""The sources that a job file can name: `SCHEME`, `SCHEME:PLACE`, or users' code by reference."""

from pathlib import Path

from ..common.data_sections import DataSection
from ..common.suggest import nearest
from .attached import is_reference, read_attached
from .sources.cifar import read_cifar
from .sources.digits import read_digits
from .sources.idx import read_idx
from .sources.npz import read_npz
from .sources.samples import Origin, Part, Samples
from .split import Split, make_split

_FORMS = {"digits": "digits", "idx": "idx:DIR", "cifar": "cifar:DIR", "npz": "npz:FILE"}


def open_source(data: DataSection, seed: int) -> Split:
    """Open `data.source`, and what it is tested on.

    Without `data.test` that is the source's own test part, or where it has none, the fraction
    `data.held_out` of its samples, the same ones for the same seed. Else it is the test part of
    the source that `data.test` names, or where that has none, all of it.

    Raises:
        UserError: naming `data.source`, `data.test` or `data.held_out`, and what is wrong.
    """
    origin = Origin("data.source", data.source)
    train, own_test = _read(origin, "train"), _read(origin, "test")
    assert train is not None, "a reader raises when there is no training part"
    if not data.test:
        return make_split(train, own_test, seed, data.held_out)
    other = Origin("data.test", data.test)
    part = _read(other, "test")
    return make_split(train, _read(other, "train") if part is None else part, seed, data.held_out)


def _read(origin: Origin, part: Part) -> Samples | None:
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
    if scheme not in _FORMS and is_reference(origin.text, _FORMS):
        return read_attached(origin, part)
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
