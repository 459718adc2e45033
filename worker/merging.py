"""Private copies of a shared vector: begun, merged and ended element by element, without locks.

Only compiled loops belong here, one pass over memory each and without the GIL; when they run is
decided in `local`. All arrays are contiguous float32 (n,) and overlap nothing. `private` and `base`
belong to the calling thread; `shared` is read and written by any number of threads at once. It is
read once an element, so that what a copy begins with and what it counts from are the same bits.

Additions are no atomic operations: where two threads add to the same elements within the few
nanoseconds between the read and the write, one of the sums is lost. A float32 is never torn.
"""

from ..common.compiled import compiled_exactly
from ..common.types import Float32


@compiled_exactly
def begin(shared: Float32, private: Float32, base: Float32) -> None:
    """private = base = shared."""
    for i in range(shared.size):
        now = shared[i]
        private[i] = now
        base[i] = now


@compiled_exactly
def merge(shared: Float32, private: Float32, base: Float32) -> None:
    """shared += private - base;  private = base = shared."""
    for i in range(shared.size):
        now = shared[i] + (private[i] - base[i])
        shared[i] = now
        private[i] = now
        base[i] = now


@compiled_exactly
def end(shared: Float32, private: Float32, base: Float32) -> None:
    """shared += private - base."""
    for i in range(shared.size):
        shared[i] += private[i] - base[i]
