"""The innermost product of convolutions, written in LLVM: a tile of the result kept in registers.

A convolution over images stored (height, width, channels) is a matrix product whose left matrix
never has to be built: row i of it, the patch under output pixel i, is `kernel height` runs of
`kernel width * channels` consecutive numbers. So a tile takes the place of each row's first number
and walks the runs itself. No packing, no columns in memory; a BLAS needs both.

A tile of 6 rows and 16 columns holds 12 vectors of 8 sums; each step of its loop loads 2 vectors of
the right matrix and multiplies them by 6 numbers of the left one. That keeps the multipliers of a
core with 16 vector registers of 256 bits busy (K. Goto and R. van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008, section 6; the implicit left matrix
as in S. Chetlur et al., "cuDNN", arXiv:1410.0759, section 3.1).
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from .vectors import FLAGS, LANES, VECTOR, splat

ROWS = 6
"""Rows of a full tile."""
COLUMNS = 2 * LANES
"""Columns of a full tile."""

_SIZE = ir.IntType(64)


def _tile(
    typing: Any,
    rows: Any,
    vectors: Any,
    a: Any,
    places: Any,
    first: Any,
    shift: Any,
    runs: Any,
    run_step: Any,
    length: Any,
    step: Any,
    b: Any,
    b_begin: Any,
    b_step: Any,
    c: Any,
    c_begin: Any,
    c_step: Any,
    add: Any,
) -> Any:
    size, flag = types.intp, types.boolean
    left = (a, places, size, size, size, size, size, size)
    return types.void(size, size, *left, b, size, size, c, size, size, flag), _generate


tile: Callable[..., None] = cast(Any, intrinsic(cast(Any, _tile)))
"""tile(rows, vectors, a, places, first, shift, runs, run_step, length, step, b, b_begin, b_step,
c, c_begin, c_step, add): C = A B, or C += A B where `add` is true.

C has 1 to `ROWS` rows and 1 or 2 vectors of columns. Call it from compiled code alone; all arrays
are flat. With t counting `runs` (1 or more) times `length` (1 or more) products, r = t // length
and k = t % length:

- A[i, t] = a[shift + places[first + i] + r * run_step + k * step]
- B[t, j] = b[b_begin + t * b_step + j]
- C[i, j] = c[c_begin + i * c_step + j]

`a`, `b`, `c` are float32, `places` int64. Nothing is checked: a place outside of an array is
foreign memory. Any thread may call.
"""


def _alone(typing: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


alone: Callable[[], None] = cast(Any, intrinsic(cast(Any, _alone)))
"""alone(): keep the compiled function that says so in one piece. Each copy of a tile that the
compiler makes where it is called costs seconds of compilation."""


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """A switch with a piece of code for each shape of a tile."""
    rows, vectors, *others = arguments
    shapes = [(i, j) for i in range(1, ROWS + 1) for j in (1, 2)]
    blocks = [builder.append_basic_block(f"tile_{i}_{j}") for i, j in shapes]
    end = builder.append_basic_block("end")
    choice = builder.switch(builder.add(builder.mul(rows, _number(2)), vectors), end)
    for (i, j), block in zip(shapes, blocks, strict=True):
        choice.add_case(_number(2 * i + j), block)
        builder.position_at_end(block)
        _Tile(context, builder, signature.args[2:], others, i, j).write()
        builder.branch(end)
    builder.position_at_end(end)
    return context.get_dummy_value()


class _Tile:
    """Writes the instructions of one tile: two loops, one inside the other, over its sums."""

    def __init__(
        self,
        context: Any,
        builder: Any,
        kinds: Any,
        arguments: Any,
        rows: int,
        vectors: int,
    ) -> None:
        self._builder, self._vectors = builder, vectors
        a, places, first, shift, self._runs, self._run_step, self._length, self._step = arguments[
            :8
        ]
        b, b_begin, self._b_step, c, c_begin, c_step, self._add = arguments[8:]

        def data(index: int, array: Any, offset: Any) -> Any:
            start = make_array(kinds[index])(context, builder, array).data  # type: ignore[no-untyped-call]
            return builder.gep(start, [offset])

        table, base = data(1, places, first), data(0, a, shift)
        self._lefts = [
            builder.gep(base, [builder.load(builder.gep(table, [_number(i)]))]) for i in range(rows)
        ]
        self._b, start = data(8, b, b_begin), data(11, c, c_begin)
        self._targets = [
            builder.gep(start, [builder.add(builder.mul(c_step, _number(i)), _number(j * LANES))])
            for i in range(rows)
            for j in range(vectors)
        ]

    def write(self) -> None:
        """The whole tile; the builder stands behind it afterwards."""
        make = self._builder
        entry = make.block
        old, run, product, latch, done = (make.append_basic_block() for _ in range(5))
        make.cbranch(self._add, old, run)

        make.position_at_end(old)
        loaded = [self._load(target) for target in self._targets]
        make.branch(run)

        make.position_at_end(run)
        zero = ir.Constant(VECTOR, [0.0] * LANES)
        number = self._phi(_SIZE, (_number(0), entry), (_number(0), old))
        offset = self._phi(_SIZE, (_number(0), entry), (_number(0), old))
        right = self._phi(self._b.type, (self._b, entry), (self._b, old))
        sums = [self._phi(VECTOR, (zero, entry), (value, old)) for value in loaded]
        make.branch(product)

        make.position_at_end(product)
        left = self._phi(_SIZE, (self._length, run))
        place = self._phi(_SIZE, (offset, run))
        column = self._phi(self._b.type, (right, run))
        running = [self._phi(VECTOR, (value, run)) for value in sums]
        added = self._multiply(place, column, running)
        remaining = make.sub(left, _number(1))
        below = make.gep(column, [self._b_step])
        for phi, value in zip(
            [left, place, column, *running],
            [remaining, make.add(place, self._step), below, *added],
            strict=True,
        ):
            phi.add_incoming(value, product)
        make.cbranch(make.icmp_signed(">", remaining, _number(0)), product, latch)

        make.position_at_end(latch)
        following = make.add(number, _number(1))
        for phi, value in zip(
            [number, offset, right, *sums],
            [following, make.add(offset, self._run_step), below, *added],
            strict=True,
        ):
            phi.add_incoming(value, latch)
        make.cbranch(make.icmp_signed("<", following, self._runs), run, done)

        make.position_at_end(done)
        for target, value in zip(self._targets, added, strict=True):
            make.store(value, make.bitcast(target, VECTOR.as_pointer()), align=4)

    def _multiply(self, place: Any, column: Any, sums: list[Any]) -> list[Any]:
        """`sums` plus one number of each row times the vectors at `column`."""
        make, added = self._builder, []
        vectors = [self._load(make.gep(column, [_number(j * LANES)])) for j in range(self._vectors)]
        for i, first in enumerate(self._lefts):
            value = make.load(make.gep(first, [place]), align=4)
            spread = splat(make, value)
            for j, vector in enumerate(vectors):
                product = make.fmul(spread, vector, flags=FLAGS)
                added.append(make.fadd(sums[i * self._vectors + j], product, flags=FLAGS))
        return added

    def _phi(self, kind: Any, *incoming: tuple[Any, Any]) -> Any:
        phi = self._builder.phi(kind)
        for value, block in incoming:
            phi.add_incoming(value, block)
        return phi

    def _load(self, pointer: Any) -> Any:
        return self._builder.load(self._builder.bitcast(pointer, VECTOR.as_pointer()), align=4)


def _number(value: int) -> Any:
    return ir.Constant(_SIZE, value)
