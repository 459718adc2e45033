"""The augmentations that a job file can name, and how they are read from its text.

An entry is `NAME`, or `NAME:AMOUNT:...` with amounts in a fixed order; the last ones may be
optional. A new augmentation is a class in a file of its own and one row of the table here.

Changes that follow one another are joined where that is better than one after the other: affine
ones are multiplied into one map per image, so that a long list blurs no more than a short one, and
those of colours into another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...common.errors import UserError
from ...common.suggest import nearest
from ..attached import AttachedTransform, is_reference
from ..dataset import Transform
from .affine import Affine, Warp, rotate, scale, shear, shift
from .amounts import Amount, Channels, Choice, Number
from .colours import brightness, contrast, saturation
from .elastic import Elastic
from .mixup import Mixup
from .noise import Noise
from .normalise import Normalise
from .pixels import crop, cutout, reflect


@dataclass(frozen=True, slots=True)
class Named:
    """An augmentation's name in a job file: what builds it from its amounts, and an example.

    `build` takes the amounts in order, without the optional ones that are left out; it raises
    `ValueError`, saying what it expects, where amounts do not go together.
    """

    build: Callable[..., Transform]
    amounts: tuple[Amount, ...]
    example: str


def _warp(build: Callable[..., Affine]) -> Callable[..., Transform]:
    return lambda *amounts: Warp([build(*amounts)])


def _resized_crop(*amounts: float) -> Transform:
    # OpenCV is slow to import, and a role that only reads the settings has no use for it.
    from .resized import ResizedCrop

    return ResizedCrop(int(amounts[0]), *amounts[1:])


NAMES = {
    "shift": Named(_warp(shift), (Number("PIXELS", 0, 4096),), "shift:2"),
    "rotate": Named(_warp(rotate), (Number("DEGREES", 0, 180),), "rotate:15"),
    "scale": Named(
        _warp(scale), (Number("LOW", 0.01, 100), Number("HIGH", 0.01, 100)), "scale:0.9:1.1"
    ),
    "shear": Named(_warp(shear), (Number("DEGREES", 0, 80),), "shear:10"),
    "reflect": Named(
        reflect, (Choice("AXES", {"h": 1, "v": 2, "hv": 3}, optional=True),), "reflect"
    ),
    "elastic": Named(
        Elastic, (Number("ALPHA", 0, 4096), Number("SIGMA", 0.5, 1024)), "elastic:34:4"
    ),
    "crop": Named(crop, (Number("PIXELS", 1, 4096, whole=True),), "crop:4"),
    "resized_crop": Named(
        _resized_crop,
        (
            Number("SIDE", 1, 4096, whole=True),
            Number("LOW", 0.001, 1, optional=True),
            Number("HIGH", 0.001, 1, optional=True),
        ),
        "resized_crop:224:0.08:1",
    ),
    "cutout": Named(cutout, (Number("SIDE", 1, 4096, whole=True),), "cutout:8"),
    "brightness": Named(brightness, (Number("AMOUNT", 0, 1),), "brightness:0.2"),
    "contrast": Named(contrast, (Number("AMOUNT", 0, 1),), "contrast:0.2"),
    "saturation": Named(saturation, (Number("AMOUNT", 0, 1),), "saturation:0.2"),
    "noise": Named(Noise, (Number("STDDEV", 0, 1),), "noise:0.05"),
    "mixup": Named(Mixup, (Number("ALPHA", 0.01, 100),), "mixup:0.2"),
    "normalise": Named(
        Normalise,
        (Channels("MEAN", -1000, 1000), Channels("STD", 1e-6, 1000)),
        "normalise:0.1307:0.3081",
    ),
}


def parse_augment(texts: Sequence[str]) -> list[Transform]:
    """The transforms of `data.augment`, such as `["shift:2", "rotate:15", "noise.py:add"]`.

    Raises:
        UserError: an unknown name, an amount that is missing, no number, or out of range, or a
            user's transform that cannot be loaded.
    """
    transforms: list[Transform] = []
    for change in map(_parse, texts):
        joined = _joined(transforms[-1], change) if transforms else None
        if joined is None:
            transforms.append(change)
        else:
            transforms[-1] = joined
    return transforms


def _joined(first: Transform, second: Transform) -> Transform | None:
    """One transform that does what both do, if the first can be `joined` with the second."""
    join: Callable[[Transform], Transform | None] | None = getattr(first, "joined", None)
    # A user's transform may have a method of that name, and knows nothing of ours.
    if join is None or isinstance(first, AttachedTransform):
        return None
    if isinstance(first, Warp) and isinstance(second, Elastic):
        return Elastic(second.alpha, second.sigma, first.parts, second.after)
    return join(second)


def _parse(text: str) -> Transform:
    """One entry of `data.augment`: `NAME`, `NAME:AMOUNT:...`, or a reference."""
    name, colon, rest = text.partition(":")
    if name not in NAMES:
        if is_reference(text, NAMES):
            return AttachedTransform.load(text)
        raise _unknown(text, name, rest)
    named = NAMES[name]
    amounts = _amounts(named.amounts, rest.split(":") if colon else [])
    if amounts is None:
        raise _refused(text, name, "")
    try:
        return named.build(*amounts)
    except ValueError as error:
        raise _refused(text, name, str(error)) from None


def _amounts(amounts: Sequence[Amount], texts: Sequence[str]) -> list[object] | None:
    """The values of all `texts`, or None where there are too many, too few, or wrong ones."""
    needed = sum(not amount.optional for amount in amounts)
    if not needed <= len(texts) <= len(amounts):
        return None
    values = [amount.read(text) for amount, text in zip(amounts, texts, strict=False)]
    return None if any(value is None for value in values) else values


def form(name: str) -> str:
    """`crop:PIXELS`, or `reflect[:AXES]` with what is optional in brackets."""
    amounts = NAMES[name].amounts
    parts = [f"[:{one.name}]" if one.optional else f":{one.name}" for one in amounts]
    return name + "".join(parts)


def _unknown(text: str, name: str, rest: str) -> UserError:
    forms = ", ".join(map(form, NAMES))
    near = nearest(name, NAMES)
    if near is None:
        fix = "write one of these"
    else:
        fix = f"did you mean {near}:{rest}?" if rest else f"did you mean {form(near)}?"
    expected = f"{forms}, module:attribute or file.py:attribute"
    return UserError("data.augment", text, expected, fix)


def _refused(text: str, name: str, rule: str) -> UserError:
    """The error of a known name with wrong amounts; `rule` is what holds between them."""
    described = [amount.described() for amount in NAMES[name].amounts]
    expected = ", ".join([form(name), *described, *([rule] if rule else [])])
    return UserError("data.augment", text, expected, f"write for example {NAMES[name].example}")
