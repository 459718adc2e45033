"""References to users' code: real files in a folder of their own, and every way to be wrong."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dualshard.common.errors import UserError
from dualshard.common.references import load


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The working directory is a fresh folder at the end of the path; imports are undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def message(reference: str, key: str = "model.ref") -> str:
    with pytest.raises(UserError) as caught:
        load(reference, key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_module_and_attribute() -> None:
    assert load("pathlib:Path") is Path
    assert load("pathlib:Path.home") == Path.home
    assert load("os.path:join") is __import__("os").path.join


def test_file_and_attribute() -> None:
    write("mine.py", "class Net:\n    width = 3\n")
    assert load("mine.py:Net.width") == 3
    assert load(f"{Path.cwd()}/mine.py:Net") is load("./mine.py:Net")
    assert "mine" not in sys.modules


def test_a_file_imports_its_neighbour() -> None:
    write("nets/blocks_xyz.py", "WIDTH = 5\n")
    write("nets/net.py", "from blocks_xyz import WIDTH\n")
    first = list(sys.path)
    assert load("nets/net.py:WIDTH") == 5
    assert sys.path == [*first, str(Path("nets").resolve())]
    load("nets/net.py:WIDTH")
    assert len(sys.path) == len(first) + 1


def test_a_file_hides_no_module_of_its_name() -> None:
    write("json.py", "mine = True\n")
    assert load("json.py:mine") is True
    assert load("json:dumps") is __import__("json").dumps


def test_two_files_of_one_name_are_two_modules() -> None:
    write("a/net.py", "name = 'a'\n")
    write("b/net.py", "name = 'b'\n")
    assert (load("a/net.py:name"), load("b/net.py:name")) == ("a", "b")


def test_dataclasses_work_inside_a_file() -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    write("net.py", text + "@dataclass\nclass Net:\n    width: int = 3\n")
    assert load("net.py:Net.width") == 3


@pytest.mark.parametrize("reference", ["mlp", "", ":build", "net.py:", "net.py:a b", "a:b:"])
def test_other_shapes_are_refused(reference: str) -> None:
    assert "expected module:attribute or file.py:attribute" in message(reference)


def test_sentence_of_a_missing_colon() -> None:
    assert message("net.py") == (
        "model.ref = net.py: expected module:attribute or file.py:attribute;"
        " name the attribute too, for example net.py:build"
    )


@pytest.mark.parametrize("reference", ["nets/net:build", ".net:build", "a..b:c", "net.txt/x:y"])
def test_sentence_of_neither_file_nor_module(reference: str) -> None:
    assert message(reference) == (
        f"model.ref = {reference}: expected module:attribute or file.py:attribute;"
        " a path ends in .py, a module is dotted names"
    )


def test_text_is_never_evaluated() -> None:
    assert "expected module:attribute" in message("os:system('touch x')")
    assert not Path("x").exists()


def test_sentence_of_a_missing_file() -> None:
    assert message("nowhere/net.py:build") == (
        "model.ref = nowhere/net.py:build: expected a Python file that is there; check the path"
    )
    write("network.py", "")
    assert message("netwrk.py:build", "data.source") == (
        "data.source = netwrk.py:build: expected a Python file that is there;"
        " did you mean network.py?"
    )


def test_sentence_of_a_missing_module() -> None:
    assert message("no_such_xyz:build") == (
        "model.ref = no_such_xyz:build: expected a module no_such_xyz that can be found;"
        " install it, or start in the folder that holds it"
    )
    assert "expected a module no_such_xyz that" in message("no_such_xyz.inner:build")
    assert "expected a module pathlib.inner that" in message("pathlib.inner:build")


def test_sentence_of_a_missing_attribute() -> None:
    write("net.py", "def build(): ...\n")
    assert message("net.py:biuld") == (
        "model.ref = net.py:biuld: expected an attribute biuld; did you mean build?"
    )
    assert message("net.py:xyz") == (
        "model.ref = net.py:xyz: expected an attribute xyz;"
        " define xyz there, or name another attribute"
    )
    assert message("net.py:build.xyz") == (
        "model.ref = net.py:build.xyz: expected an attribute xyz;"
        " define xyz there, or name another attribute"
    )


def test_sentence_of_an_exception_while_importing_a_file() -> None:
    write("net.py", "import json\n\njson.loads('{')\n")
    text = message("net.py:build")
    assert text == (
        "model.ref = net.py:build: expected code that imports without an error; correct net.py:3,"
        " which raised JSONDecodeError: Expecting property name enclosed in double quotes:"
        " line 1 column 2 (char 1)"
    )


def test_a_file_that_failed_can_be_corrected() -> None:
    write("net.py", "raise ValueError('first\\nsecond')\n")
    assert message("net.py:build") == (
        "model.ref = net.py:build: expected code that imports without an error; correct net.py:1,"
        " which raised ValueError: first second"
    )
    write("net.py", "build = 1\n")
    assert load("net.py:build") == 1


def test_sentence_of_an_exception_in_a_neighbour() -> None:
    write("blocks_xyz.py", "\n\n1 / 0\n")
    write("net.py", "import blocks_xyz\n")
    assert "correct blocks_xyz.py:3, which raised ZeroDivisionError: division by zero" in message(
        "net.py:build"
    )


def test_sentence_of_an_exception_while_importing_a_module() -> None:
    write("net_xyz.py", "import no_such_abc\n")
    assert message("net_xyz:build") == (
        "model.ref = net_xyz:build: expected code that imports without an error;"
        " correct net_xyz.py:1, which raised ModuleNotFoundError: No module named 'no_such_abc'"
    )


def test_sentence_of_a_syntax_error() -> None:
    write("net.py", "a = 1\nb = = 2\n")
    assert message("net.py:a") == (
        "model.ref = net.py:a: expected code that imports without an error; correct net.py:2,"
        " which raised SyntaxError: invalid syntax"
    )


def test_sentence_of_a_script_that_exits() -> None:
    write("net.py", "import sys\nsys.exit()\n")
    assert "correct net.py:2, which raised SystemExit" in message("net.py:a")


def test_an_interrupt_is_passed_on_and_leaves_nothing() -> None:
    write("net.py", "raise KeyboardInterrupt\n")
    before = set(sys.modules)
    with pytest.raises(KeyboardInterrupt):
        load("net.py:a")
    assert set(sys.modules) == before


def test_a_file_that_is_not_text() -> None:
    Path("net.py").write_bytes(b"a = 1\0")
    text = message("net.py:a")
    assert "expected code that imports without an error; correct net.py, which raised" in text
    assert "null bytes" in text
