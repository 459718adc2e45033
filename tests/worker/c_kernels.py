"""Runs the bodies of GPU kernels on the host, through its C++ compiler: they are plain C."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

COMPILER = shutil.which("g++")
NVCC = shutil.which("nvcc")
C_TYPES = {
    "T": "T",
    "float32": "float",
    "float64": "double",
    "bool": "bool",
    "int32": "int",
    "uint64": "unsigned long long",
}
LOOP = """
extern "C" {kind} {name}(long size, {arguments}) {{
  {loop} {{
    {elements}
    {body}
  }}
}}
"""
ON_HOST = "for (long i = 0; i < size; ++i)"
ON_DEVICE = "long i = (long)blockIdx.x * blockDim.x + threadIdx.x; if (i < size)"


def source(name: str, reads: str, writes: str, body: str, preamble: str, kind: str = "void") -> str:
    """The code around an ElementwiseKernel's body as C++: all that it names is an array."""
    arguments, elements = [], []
    for declared, const in ((reads, "const "), (writes, "")):
        for parameter in declared.split(", "):
            *raw, dtype, element = parameter.split()
            typed = f"{const}{C_TYPES[dtype]}"
            arguments.append(f"{typed} *{element}" if raw else f"{typed} *{element}_")
            elements += [] if raw else [f"{typed} &{element} = {element}_[i];"]
    return (
        "#include <math.h>\ntypedef float T;\n"
        + preamble
        + LOOP.format(
            kind=kind,
            name=name,
            arguments=", ".join(arguments),
            loop=ON_DEVICE if "__global__" in kind else ON_HOST,
            elements=" ".join(elements),
            body=body,
        )
    )


def compiled(folder: Path, file: str, code: str, name: str) -> Callable[..., None]:
    """The function `name` of some code: it takes a number of elements, and arrays."""
    if COMPILER is None:
        pytest.skip("no g++ on this machine")
    (folder / f"{file}.cpp").write_text(code)
    line = [COMPILER, "-O1", "-ffp-contract=off", "-shared", "-fPIC", f"{file}.cpp", "-o"]
    subprocess.run([*line, f"{file}.so"], cwd=folder, check=True)
    function = getattr(ctypes.CDLL(str(folder / f"{file}.so")), name)

    def call(size: int, *arrays: Any) -> None:
        assert all(array.flags.c_contiguous for array in arrays)
        function(ctypes.c_long(size), *(array.ctypes.data_as(ctypes.c_void_p) for array in arrays))

    return call


def compile_for_a_gpu(folder: Path, codes: Sequence[str]) -> None:
    """Fails where NVIDIA's compiler does not take the code."""
    if NVCC is None:
        pytest.skip("no nvcc on this machine")
    (folder / "kernels.cu").write_text("\n".join(codes))
    line = [NVCC, "-ptx", "--fmad=false", "-Werror", "all-warnings", "kernels.cu"]
    subprocess.run(line, cwd=folder, check=True)


class FakeCupy(ModuleType):
    """NumPy under the name of CuPy: its kernels run on the host."""

    def __init__(self, folder: Path) -> None:
        super().__init__("cupy")
        self.folder, self.codes = folder, dict[str, str]()
        self._compiled: dict[tuple[str, str], Callable[..., None]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def ElementwiseKernel(
        self, reads: str, writes: str, body: str, name: str, preamble: str = "", **options: Any
    ) -> Callable[..., None]:
        assert options.get("no_return")
        code = source(name, reads, writes, body, preamble)
        self.codes[name] = source(name, reads, writes, body, preamble, "__global__ void")
        declared = [parameter.split() for parameter in f"{reads}, {writes}".split(", ")]

        def call(*arguments: Any) -> None:
            assert len(arguments) == len(declared)
            shape, names = np.shape(arguments[-1]), zip(declared, arguments, strict=True)
            written = arguments[len(reads.split(", ")) :]
            assert all(array.shape == shape and array.flags.c_contiguous for array in written)
            dtypes = {
                str(array.dtype) for (*_, kind, _), array in names if kind == "T" and np.ndim(array)
            }
            assert len(dtypes) <= 1, "arrays of several dtypes"
            dtype = dtypes.pop() if dtypes else "float32"
            if (code, dtype) not in self._compiled:
                typed = code.replace("typedef float T", f"typedef {C_TYPES[dtype]} T")
                made = compiled(self.folder, f"{name}_{dtype}", typed, name)
                self._compiled[code, dtype] = made
            self._compiled[code, dtype](
                int(np.prod(shape)),
                *(
                    _argument(words, argument, shape, dtype)
                    for words, argument in zip(declared, arguments, strict=True)
                ),
            )

        return call

    def ReductionKernel(
        self, reads: str, writes: str, each: str, both: str, last: str, zero: str, name: str
    ) -> Callable[..., Any]:
        assert (both, last, zero) == ("a + b", "y = a", "0")
        kernel = self.ElementwiseKernel(reads, writes, f"y = {each};", name, no_return=True)

        def call(*arguments: Any) -> Any:
            values = np.empty(np.shape(arguments[0]), np.float64)
            kernel(*arguments, values)
            return values.sum()

        return call


def _argument(declared: list[str], argument: Any, shape: tuple[int, ...], typed: str) -> Any:
    """An array as the kernel takes it; what is only read is spread out to the shape of the rest."""
    *raw, dtype, _ = declared
    dtype = typed if dtype == "T" else dtype
    if np.shape(argument) == shape:
        assert argument.dtype == dtype
    if raw or (np.shape(argument) == shape and argument.flags.c_contiguous):
        return argument
    return np.ascontiguousarray(np.broadcast_to(np.asarray(argument, dtype), shape))
