"""How this project compiles a plain Python function to machine code (numba). Nothing else.

Every kernel (a net's step, update rules, image warps) goes through `compiled`, so that the
compiler's options and the place of its cache are decided once, here.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core import caching

_NumbasFile: Any = caching.IndexDataCacheFile  # without types of its own

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
        kernel = _compile(function, floats, cache=True)
        _share_cache(kernel)
        return kernel
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return _compile(function, floats, cache=False)


def _compile(function: _Function, floats: set[str], cache: bool) -> _Function:
    decorate = njit(nogil=True, fastmath=floats, error_model="numpy", cache=cache)
    return cast(_Function, decorate(function))


class CacheFile(_NumbasFile):  # type: ignore[misc]
    """Numba's cache of one function, made safe for roles that start at the same time.

    Numba numbers the files of a function's variants by what its index holds. Two processes that
    save two variants at once both take the next number; the index keeps one of them, the file the
    code of the other, and whoever loads it runs the wrong code from then on. Here a file is named
    after the variant in it, and is there before the index tells of it. Of an index that two write
    at once an entry may be lost, which is compiled again.
    """

    def save(self, key: Any, data: Any) -> None:
        """Keep the machine code of a variant."""
        name = self._data_name(int(hashlib.sha256(repr(key).encode()).hexdigest()[:12], 16))
        self._save_data(name, data)
        overloads = self._load_index()
        overloads[key] = name
        self._save_index(overloads)


def _share_cache(kernel: Any) -> None:
    """Give a kernel the safe cache, which forgets its code when a kernel beside it has changed.

    Numba asks whether the kernel's own file has changed, though the code of those that it calls
    is in its own.
    """
    cache = kernel._cache
    own = cache._impl.locator.get_source_stamp()
    stamp = (own, _kernels_of(Path(kernel.py_func.__code__.co_filename).parent))
    cache._cache_file = CacheFile(cache.cache_path, cache._impl.filename_base, stamp)


@lru_cache(maxsize=32)
def _kernels_of(folder: Path) -> str:
    """A digest of the files of `folder` that compile something: kernels call none of others."""
    texts = [path.read_bytes() for path in sorted(folder.glob("*.py"))]
    return hashlib.sha256(b"".join(text for text in texts if b"compiled" in text)).hexdigest()
