"""Runs the bodies of GPU kernels on the host, through its C++ compiler: they are plain C."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

COMPILER = shutil.which("g++")
NVCC = shutil.which("nvcc")
C_TYPES = {"float32": "float", "float64": "double", "bool": "bool"}
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


def source(
    name: str, reads: str, writes: str, body: str, preamble: str, kind: str = "void"
) -> str:
    """The code around an ElementwiseKernel's body as C++: all that it names is an array."""
    parameters = [(part.split(), "const ") for part in reads.split(", ")]
    parameters += [(part.split(), "") for part in writes.split(", ")]
    arguments = [f"{const}{C_TYPES[dtype]} *{name}_" for (dtype, name), const in parameters]
    elements = [
        f"{const}{C_TYPES[dtype]} &{name} = {name}_[i];" for (dtype, name), const in parameters
    ]
    loop = ON_DEVICE if "__global__" in kind else ON_HOST
    return "#include <math.h>\n" + preamble + LOOP.format(
        kind=kind,
        name=name,
        arguments=", ".join(arguments),
        loop=loop,
        elements=" ".join(elements),
        body=body,
    )


def compiled(folder: Path, name: str, code: str) -> Callable[..., None]:
    """The function over float32, float64 and bool arrays of one length; scalars are filled up."""
    if COMPILER is None:
        pytest.skip("no g++ on this machine")
    (folder / f"{name}.cpp").write_text(code)
    line = [COMPILER, "-O1", "-ffp-contract=off", "-shared", "-fPIC", f"{name}.cpp", "-o"]
    subprocess.run([*line, f"{name}.so"], cwd=folder, check=True)
    function = getattr(ctypes.CDLL(str(folder / f"{name}.so")), name)

    def call(*arrays: Any) -> None:
        size = max(np.size(array) for array in arrays)
        assert all(array.flags.c_contiguous for array in arrays)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
        function(ctypes.c_long(size), *pointers)

    return call


def compile_for_a_gpu(folder: Path, codes: Sequence[str]) -> None:
    """Fails where NVIDIA's compiler does not take the code."""
    if NVCC is None:
        pytest.skip("no nvcc on this machine")
    (folder / "kernels.cu").write_text("\n".join(codes))
    line = [NVCC, "-ptx", "--fmad=false", "-Werror", "all-warnings", "kernels.cu"]
    subprocess.run(line, cwd=folder, check=True)


class FakeCupy:
    """The part of CuPy that makes kernels: its kernels run on the host."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.codes = folder, dict[str, str]()
        self.sqrt = np.sqrt
        self._compiled: dict[str, Callable[..., None]] = {}

    def ElementwiseKernel(
        self, reads: str, writes: str, body: str, name: str, preamble: str = "", **options: Any
    ) -> Callable[..., None]:
        assert options.get("no_return")
        code = source(name, reads, writes, body, preamble)
        self.codes[name] = source(name, reads, writes, body, preamble, "__global__ void")
        if code not in self._compiled:
            self._compiled[code] = compiled(self.folder, name, code)
        run = self._compiled[code]
        dtypes = [part.split()[0] for part in f"{reads}, {writes}".split(", ")]

        def call(*arguments: Any) -> None:
            size = np.size(arguments[-1])
            assert len(arguments) == len(dtypes)
            run(
                *(
                    argument
                    if np.ndim(argument) and np.size(argument) == size
                    else np.full(size, argument, dtype)
                    for argument, dtype in zip(arguments, dtypes, strict=True)
                )
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
