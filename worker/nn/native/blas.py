"""Matrix products inside compiled code, by SciPy's BLAS. No NumPy arithmetic, no layers.

The routine is found by a name, not by its address: an address differs in each process and would
keep numba from caching on disk any code that calls it. BLAS runs with as many threads as the
process has allowed it (threadpoolctl); lock-free workers allow one.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import get_cython_function_address, intrinsic
from numba.np.arrayobj import make_array

from ....common.types import Float32

_SYMBOL = "dualshard_sgemm"
binding.add_symbol(_SYMBOL, get_cython_function_address("scipy.linalg.cython_blas", "sgemm"))


def _product(
    typing: Any,
    rows: Any,
    columns: Any,
    inner: Any,
    a: Any,
    a_transposed: Any,
    b: Any,
    b_transposed: Any,
    c: Any,
) -> Any:
    size, flag = types.intp, types.boolean

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sizes, factors, c = arguments[:3], arguments[3:-1], arguments[-1]
        real = ir.FloatType()
        whole = (*sizes, real(1.0), *factors, real(0.0), c)
        return _generate(context, builder, (a, b, c_kind), whole)

    c_kind = c
    return types.void(size, size, size, a, flag, b, flag, c), generate


def _blend(
    typing: Any,
    rows: Any,
    columns: Any,
    inner: Any,
    alpha: Any,
    a: Any,
    a_transposed: Any,
    b: Any,
    b_transposed: Any,
    beta: Any,
    c: Any,
) -> Any:
    size, flag, real = types.intp, types.boolean, types.float32

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _generate(context, builder, (a, b, c), arguments)

    return types.void(size, size, size, real, a, flag, b, flag, real, c), generate


product: Callable[[int, int, int, Float32, bool, Float32, bool, Float32], None]
product = cast(Any, intrinsic(_product))
"""product(rows, columns, inner, a, a_transposed, b, b_transposed, c): C = op(A) op(B).

Call it from compiled code alone. The row-major matrices begin at the first element of the flat
float32 arrays a, b and c. op(A) is (rows, inner), op(B) (inner, columns), C (rows, columns); if
`a_transposed`, A is stored as (inner, rows), and B likewise. What C held is overwritten, NaN
included. Nothing is checked: an array that is too short means foreign memory. Any thread may call.
"""

_Real = np.float32
blend: Callable[[int, int, int, _Real, Float32, bool, Float32, bool, _Real, Float32], None]
blend = cast(Any, intrinsic(_blend))
"""blend(rows, columns, inner, alpha, a, a_transposed, b, b_transposed, beta, c):
C = alpha op(A) op(B) + beta C, as in `product` otherwise; alpha and beta are float32."""


def _generate(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
    """Write the call in LLVM, with the arguments of `blend`; `kinds` are the types of a, b and c.

    Fortran passes everything by address and is column-major. The row-major product op(A) op(B) is
    the column-major op(B)' op(A)' on the same memory.
    """
    rows, columns, inner, alpha, a, a_transposed, b, b_transposed, beta, c = arguments
    a_kind, b_kind, c_kind = kinds

    def address(value: Any) -> Any:
        return cgutils.alloca_once_value(builder, value)  # type: ignore[no-untyped-call]

    def either(transposed: Any, yes: Any, no: Any) -> Any:
        return builder.select(cgutils.is_true(builder, transposed), yes, no)  # type: ignore[no-untyped-call]

    def letter(transposed: Any) -> Any:
        char = ir.IntType(8)
        return address(either(transposed, char(ord("T")), char(ord("N"))))

    def integer(value: Any) -> Any:
        return address(builder.trunc(value, ir.IntType(32)))

    def matrix(kind: Any, array: Any) -> Any:
        return make_array(kind)(context, builder, array).data  # type: ignore[no-untyped-call]

    call = [
        *(letter(b_transposed), letter(a_transposed)),
        *(integer(columns), integer(rows), integer(inner), address(alpha)),
        *(matrix(b_kind, b), integer(either(b_transposed, inner, columns))),
        *(matrix(a_kind, a), integer(either(a_transposed, rows, inner)), address(beta)),
        *(matrix(c_kind, c), integer(columns)),
    ]
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in call])
    routine = cgutils.get_or_insert_function(builder.module, kind, _SYMBOL)  # type: ignore[no-untyped-call]
    builder.call(routine, call)
    return context.get_dummy_value()
