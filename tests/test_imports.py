"""What every product file may name, read from its syntax tree.

import-linter (pyproject.toml) holds which of our modules may import which; here stands what it
cannot say: what "Pure" in a docstring means, who may touch the environment, and what is never done.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "common", "dataserver", "deploy", "paramserver", "worker")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

PURE_NAMES = {
    *("manifest", "position", "resuming", "saving", "snapshots"),
    *(
        "batches",
        "clipping",
        "cluster",
        "codecs",
        "consensus",
        "consistency",
        "delivery",
        "envelope",
    ),
    *("epochs", "evaluation", "exchange", "exchanging", "factors", "membership", "modes", "node"),
    *("pacing", "parcels", "pushes", "randomness", "rates", "routing", "rules", "schedules"),
    *("session", "sharding", "state", "store", "updates", "wire"),
}
"""Files of these names hold rules: events in, actions out."""

WORLD = {
    *("asyncio", "concurrent", "ctypes", "datetime", "logging", "mmap", "multiprocessing", "os"),
    *("queue", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl"),
    *("subprocess", "tempfile", "threading", "time", "tomllib", "zmq"),
}
"""Modules through which a program meets the machine: sockets, threads, clocks, the environment."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def module_of(path: Path) -> str:
    """`dualshard.common.wire` of common/wire.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["dualshard", *(part for part in parts if part != "__init__")])


MODULES = {module_of(path): path for path in FILES}


@cache
def imports(path: Path) -> frozenset[str]:
    """Absolute dotted names of all that a file imports, also inside functions."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*above, node.module or ""]).rstrip(".") if node.level else node.module
            assert base is not None
            submodules = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
            found.update(submodules or {base})
    return frozenset(found)


def routes_to_the_world(path: Path) -> Iterator[str]:
    """`a -> b -> socket` for every module of WORLD that a file reaches through ours."""
    start = module_of(path)
    seen, waiting = {start}, [(start,)]
    while waiting:
        route = waiting.pop()
        for name in sorted(imports(MODULES[route[-1]])):
            if name.partition(".")[0] in WORLD:
                yield " -> ".join([*route, name])
            elif name in MODULES and name not in seen:
                seen.add(name)
                waiting.append((*route, name))


def says_pure(path: Path) -> bool:
    return (
        "Pure" in (ast.get_docstring(tree(path)) or "").replace(".", " ").replace(":", " ").split()
    )


PURE = [path for path in FILES if path.stem in PURE_NAMES or says_pure(path)]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_room_is_looked_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(FOLDERS)
    assert {path.stem for path in PURE} >= PURE_NAMES


def test_imports_are_resolved() -> None:
    layer = imports(ROOT / "worker" / "nn" / "layer.py")
    assert {"numpy", "dualshard.common.types", "dualshard.worker.model"} <= layer
    loop = ROOT / "common" / "loop.py"
    assert "threading" in imports(loop)
    assert "dualshard.common.loop -> dualshard.common.clock -> time" in routes_to_the_world(loop)


@pytest.mark.parametrize("path", PURE, ids=named)
def test_pure_files_reach_no_socket_thread_clock_or_environment(path: Path) -> None:
    assert list(routes_to_the_world(path)) == []


@pytest.mark.parametrize("path", FILES, ids=named)
def test_our_own_modules_are_imported_relatively(path: Path) -> None:
    for node in ast.walk(tree(path)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        tops = {name.partition(".")[0] for name in names}
        assert not tops & {"dualshard", *FOLDERS}, ast.unparse(node)


def test_the_environment_is_touched_by_the_launchers_alone() -> None:
    touching = {
        path.relative_to(ROOT).parts[0]
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "environb", "getenv", "putenv", "unsetenv")
    }
    assert "deploy" in touching, "the command line hands os.environ to the configuration"
    assert touching <= {"deploy", "bench"}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    pickling = {"cloudpickle", "copyreg", "dill", "joblib", "marshal", "pickle", "shelve"}
    assert not {name.partition(".")[0] for name in imports(path)} & pickling
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__"), ast.unparse(node)
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "object_hook", "shell"):
            assert isinstance(node.value, ast.Constant)
            assert not node.value.value, f"{node.arg}, line {node.value.lineno}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_file_opens_with_what_may_live_in_it(path: Path) -> None:
    assert ast.get_docstring(tree(path)), "the file has no docstring"
