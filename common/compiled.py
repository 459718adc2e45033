"""How this project compiles a plain Python function to machine code (numba). Nothing else.

Every kernel (a net's step, update rules, image warps) goes through `compiled`, so that the
compiler's options and the place of its cache are decided once, here.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])

# All of LLVM's fast-math freedoms but `nnan` and `ninf`: a NaN or infinity in the data must reach
# the loss and the gradients, where it is refused, and not be optimised away as impossible.
_FLOATS = {"reassoc", "contract", "arcp", "nsz", "afn"}


def compiled(function: _Function) -> _Function:
    """Compile `function` on its first call, release the GIL inside, keep the result on disk.

    The machine code goes beside the source, else to the user's cache directory, else (where nothing
    can be written) it stays in memory; `NUMBA_CACHE_DIR` moves it. Each combination of argument
    dtypes, dimensions, memory order and writability is compiled by itself: a caller keeps to one.
    Division by zero gives infinity or NaN as in NumPy. Any thread may call the result.
    """
    return _cached(function, _FLOATS)


def compiled_exactly(function: _Function) -> _Function:
    """As `compiled`, but the arithmetic is IEEE 754 as written, so that an element has the same
    bits in whichever loop the compiler puts it: wide, the scalar rest, or that of another variant.
    """
    return _cached(function, set())


def _cached(function: _Function, floats: set[str]) -> _Function:
    try:
        return _compile(function, floats, cache=True)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return _compile(function, floats, cache=False)


def _compile(function: _Function, floats: set[str], cache: bool) -> _Function:
    decorate = njit(nogil=True, fastmath=floats, error_model="numpy", cache=cache)
    return cast(_Function, decorate(function))
