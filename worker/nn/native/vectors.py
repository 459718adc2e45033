"""Eight float32 numbers as one value in compiled code, for passes over short rows of channels.

The compiler makes vectors of long loops by itself; before each short one it would first test
whether any of the arrays overlap, which takes longer than the loop. Here nothing is left to it:
`load` and `store` say what is read and written, and the arrays of a kernel must not overlap.

`+`, `-` and `*` work on vectors; the rest are functions. On a processor without vectors of this
size the code is the same, only slower.

A row of channels that is no multiple of 8 has a last, shorter part: `load` and `store` take the
count. A kernel keeps its work on one vector in a function of its own, and calls that with `LANES`,
which costs nothing, for all parts but the last. Nothing checks that the numbers are there.
"""

import operator
from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, register_model
from numba.np.arrayobj import make_array

from ....common.types import Float32

LANES = 8
"""Numbers of a vector."""
VECTOR = ir.VectorType(ir.FloatType(), LANES)
"""The LLVM type of a vector."""
FLAGS = ("contract", "reassoc", "nsz")
"""What the compiler may do with the arithmetic: fuse, reorder; NaN and infinity stay."""

_UNKNOWN = ir.Constant(VECTOR, ir.Undefined)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_FIRST = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)


class _Vector(types.Type):
    """The type of a vector in compiled code."""

    def __init__(self) -> None:
        super().__init__(name="Float32x8")


vector = _Vector()
Vector = Any
"""A vector in compiled code; it never leaves it."""


@register_model(_Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)  # type: ignore[no-untyped-call]


def _operator(symbol: Callable[..., Any], instruction: str) -> None:
    """Give `symbol` a meaning for two vectors."""

    class Template(ConcreteTemplate):
        cases = [signature(vector, vector, vector)]  # type: ignore[no-untyped-call]  # noqa: RUF012

    def lower(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=FLAGS)

    infer_global(symbol)(Template)  # type: ignore[no-untyped-call]
    lower_builtin(symbol, vector, vector)(lower)  # type: ignore[no-untyped-call]


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")


def at(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """The LLVM pointer to 8 numbers of a flat array."""
    start = make_array(kind)(context, builder, array).data  # type: ignore[no-untyped-call]
    return builder.bitcast(builder.gep(start, [index]), VECTOR.as_pointer())


def splat(builder: Any, number: Any) -> Any:
    """The LLVM vector of one number."""
    single = builder.insert_element(_UNKNOWN, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, _UNKNOWN, _FIRST)


def _load(typing: Any, array: Any, index: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        array, index, count = arguments
        place = at(context, builder, kinds.args[0], array, index)
        result = cgutils.alloca_once(builder, VECTOR)  # type: ignore[no-untyped-call]
        with builder.if_else(_is_full(builder, count)) as (whole, part):
            with whole:
                builder.store(builder.load(place, align=4), result)
            with part:
                kind = ir.FunctionType(VECTOR, [place.type, ir.IntType(32), _MASK, VECTOR])
                name = f"llvm.masked.load.v{LANES}f32.p0"
                masked = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
                zero = ir.Constant(VECTOR, [0.0] * LANES)
                values = [place, ir.Constant(ir.IntType(32), 4), _mask(builder, count), zero]
                builder.store(builder.call(masked, values), result)
        return builder.load(result)

    return vector(array, types.intp, types.intp), generate


def _store(typing: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        array, index, value, count = arguments
        place = at(context, builder, kinds.args[0], array, index)
        with builder.if_else(_is_full(builder, count)) as (whole, part):
            with whole:
                builder.store(value, place, align=4)
            with part:
                kind = ir.FunctionType(ir.VoidType(), [VECTOR, place.type, ir.IntType(32), _MASK])
                name = f"llvm.masked.store.v{LANES}f32.p0"
                masked = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
                mask = _mask(builder, count)
                builder.call(masked, [value, place, ir.Constant(ir.IntType(32), 4), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), generate


def _is_full(builder: Any, count: Any) -> Any:
    return builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))


def _mask(builder: Any, count: Any) -> Any:
    """Which of the lanes are below `count`."""
    lanes = ir.VectorType(ir.IntType(32), LANES)
    number = builder.trunc(count, ir.IntType(32))
    single = builder.insert_element(
        ir.Constant(lanes, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
    )
    counts = builder.shuffle_vector(single, ir.Constant(lanes, ir.Undefined), _FIRST)
    return builder.icmp_signed("<", ir.Constant(lanes, list(range(LANES))), counts)


def _spread(typing: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        return splat(builder, arguments[0])

    return vector(types.float32), generate


def _where_greater(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        left, right, chosen, other = arguments
        greater = builder.fcmp_ordered(">", left, right)
        unknown = builder.fcmp_unordered("uno", left, left)
        return builder.select(builder.or_(greater, unknown), chosen, other)

    return vector(vector, vector, vector, vector), generate


def _where_equal(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    def generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        left, right, chosen, other = arguments
        return builder.select(builder.fcmp_ordered("==", left, right), chosen, other)

    return vector(vector, vector, vector, vector), generate


load: Callable[[Float32, int, int], Vector] = cast(Any, intrinsic(cast(Any, _load)))
"""load(array, i, n): array[i : i + n], filled up with zeros where n is below 8."""
store: Callable[[Float32, int, Vector, int], None] = cast(Any, intrinsic(cast(Any, _store)))
"""store(array, i, v, n): array[i : i + n] = v[:n]; n is 8 at most."""
spread: Callable[[Any], Vector] = cast(Any, intrinsic(cast(Any, _spread)))
"""spread(x): 8 times the float32 x."""
where_greater: Callable[..., Vector] = cast(Any, intrinsic(cast(Any, _where_greater)))
"""where_greater(a, b, yes, no): `yes` where a > b or a is NaN, else `no`."""
where_equal: Callable[..., Vector] = cast(Any, intrinsic(cast(Any, _where_equal)))
"""where_equal(a, b, yes, no): `yes` where a == b, else `no`."""
