"""`compiled`: the options that every kernel relies on, with and without a place for the cache."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core import caching

from dualshard.common import rule_kernels
from dualshard.common.compiled import CacheFile, compiled, compiled_exactly


def _reciprocal(x):
    return 1.0 / x, x != x


def test_division_by_zero_is_infinity_and_nan_is_still_noticed():
    kernel = compiled(_reciprocal)
    assert kernel(0.0) == (math.inf, False)
    assert kernel(-0.0)[0] == -math.inf
    assert kernel(math.nan)[1]


def test_kernels_release_the_gil():
    assert compiled(_reciprocal).targetoptions["nogil"]


def test_the_result_is_kept_on_disk(monkeypatch, tmp_path):
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    compiled(_reciprocal)(2.0)
    again = compiled(_reciprocal)
    assert again(4.0) == (0.25, False)
    assert sum(again.stats.cache_hits.values()) == 1
    assert not again.stats.cache_misses


def test_without_a_writable_place_it_compiles_in_memory(monkeypatch):
    monkeypatch.setattr(caching.CodeLibraryCacheImpl, "_locator_classes", [])
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    kernel = compiled(_reciprocal)
    assert kernel(2.0) == (0.5, False)
    assert kernel.stats.cache_path is None


def test_other_errors_of_the_compiler_are_not_swallowed(monkeypatch):
    def refuse(*_args, **_options):
        raise RuntimeError("broken")

    monkeypatch.setattr("dualshard.common.compiled.njit", refuse)
    with pytest.raises(RuntimeError, match=r"^broken$"):
        compiled(_reciprocal)


def _multiply_and_add(out, a, b, c):
    for i in range(out.size):
        out[i] = a[i] * b[i] + c[i]


def test_exact_arithmetic_is_that_of_numpy_bit_by_bit_and_in_every_position():
    a, b, c = np.random.default_rng(0).standard_normal((3, 1003)).astype(np.float32)
    kernel, out = compiled_exactly(_multiply_and_add), np.zeros(1003, np.float32)
    kernel(out, a, b, c)
    assert out.tobytes() == (a * b + c).tobytes()
    for begin, end in ((0, 1), (1, 18), (18, 1003)):
        kernel(out[begin:end], a[begin:end], b[begin:end], c[begin:end])
    assert out.tobytes() == (a * b + c).tobytes()
    assert kernel.targetoptions["nogil"]


def test_two_processes_that_save_at_once_keep_their_variants_apart(tmp_path: Path) -> None:
    """Both have read the index before either has written it."""
    files = [CacheFile(str(tmp_path), "kernel", ("stamp", 1)) for _ in range(2)]
    seen: list[dict[str, str]] = [{}, {}]
    for file, index in zip(files, seen, strict=True):
        file._load_index = lambda index=index: dict(index)
    files[0].save("one", "code of one")
    files[1].save("two", "code of two")
    reader = CacheFile(str(tmp_path), "kernel", ("stamp", 1))
    assert reader.load("one") in (None, "code of one")
    assert reader.load("two") in (None, "code of two")
    files[0].save("one", "code of one")
    assert reader.load("one") == "code of one"
    assert reader.load("two") in (None, "code of two")


def test_no_file_is_named_before_it_is_there(tmp_path: Path) -> None:
    """An index that was begun anew must not point at what an older source has left."""
    old, new = (CacheFile(str(tmp_path), "kernel", ("stamp", n)) for n in (1, 2))
    old.save("one", "old code")

    def fails(name: str, data: object) -> None:
        raise OSError("the disk is full")

    new._save_data = fails
    with pytest.raises(OSError, match="the disk is full"):
        new.save("one", "new code")
    assert CacheFile(str(tmp_path), "kernel", ("stamp", 2)).load("one") is None


INNER = (
    "from dualshard.common.compiled import compiled\n\n@compiled\ndef inner(x):\n    return {}\n"
)
OUTER = (
    "from inner import inner\nfrom dualshard.common.compiled import compiled\n\n"
    "@compiled\ndef outer(x):\n    return inner(x)\n"
)


def test_a_kernel_is_compiled_again_when_one_that_it_calls_has_changed(tmp_path: Path) -> None:
    """In a process each, as a module is read once."""
    (tmp_path / "outer.py").write_text(OUTER)
    call = [sys.executable, "-c", "from outer import outer; print(outer(1.0))"]
    for step in (1.0, 2.0):
        (tmp_path / "inner.py").write_text(INNER.format(f"x + {step}"))
        made = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert float(made.stdout) == 1 + step


def test_kernels_have_the_safe_cache() -> None:
    assert isinstance(rule_kernels.sgd._cache._cache_file, CacheFile)
