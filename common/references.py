"""`module:attribute` and `file.py:attribute`: how users' own code is attached, by name.

Names are looked up and modules imported; text is never evaluated. What a reference names is not
judged here. The command line puts the working directory on `sys.path` before anything is loaded.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType

from .errors import UserError
from .suggest import did_you_mean
from .toml import shown

_EXPECTED = "module:attribute or file.py:attribute"


def load(reference: str, key: str = "model.ref") -> object:
    """The object that `reference` names; `key` is the setting that holds it, for errors.

    A path is relative to the working directory. Its file is imported once a process under a name
    of its own, so that it hides no module, and its folder goes to the end of `sys.path`, so that
    it can import its neighbours. The attribute may be dotted. Call it from one thread.

    Raises:
        UserError: for a reference of another shape, a file, module or attribute that is not
            there, and for any exception (SystemExit too) while the user's code is imported.
    """
    target, colon, attribute = reference.rpartition(":")
    if not colon or not target or not _is_dotted(attribute):
        fix = f"name the attribute too, for example {_example(reference)}"
        raise UserError(key, shown(reference), _EXPECTED, shown(fix))
    if target.endswith(".py"):
        module = _file(Path(target), reference, key)
    elif _is_dotted(target):
        module = _module(target, reference, key)
    else:
        fix = "a path ends in .py, a module is dotted names"
        raise UserError(key, shown(reference), _EXPECTED, fix)
    return _attribute(module, attribute, reference, key)


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _example(reference: str) -> str:
    """`reference` with a name for its attribute, where there is anything before the colon."""
    target = reference.partition(":")[0]
    return f"{target}:build" if target else "mymodel.py:build"


def _module(name: str, reference: str, key: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise _failed(error, reference, key, name) from error
        fix = "install it, or start in the folder that holds it"
        raise UserError(key, reference, f"a module {missing} that can be found", fix) from None
    except (Exception, SystemExit) as error:
        raise _failed(error, reference, key, name) from error


def _file(path: Path, reference: str, key: str) -> ModuleType:
    if not path.is_file():
        fix = did_you_mean(path.name, _python_files(path.parent), "check the path")
        expected = "a Python file that is there"
        raise UserError(key, shown(reference), expected, shown(fix))
    place = path.resolve()
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:12]
    name = f"dualshard_user_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(place.parent) not in sys.path:
        sys.path.append(str(place.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception | SystemExit):
            raise _failed(error, reference, key, str(path)) from error
        raise
    return module


def _python_files(folder: Path) -> list[str]:
    try:
        return [item.name for item in folder.iterdir() if item.suffix == ".py"]
    except OSError:
        return []


def _attribute(module: ModuleType, dotted: str, reference: str, key: str) -> object:
    found: object = module
    for name in dotted.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            names = [right for right in dir(found) if not right.startswith("_")]
            fix = did_you_mean(name, names, f"define {name} there, or name another attribute")
            raise UserError(key, shown(reference), f"an attribute {name}", shown(fix)) from None
    return found


def _failed(error: BaseException, reference: str, key: str, target: str) -> UserError:
    """What the user's code raised while it was imported, and where, on one line."""
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    said = f"{type(error).__name__}: {' '.join(words.split())}".rstrip(": ")
    fix = f"correct {_place(error) or target}, which raised {said}"
    return UserError(key, shown(reference), "code that imports without an error", shown(fix))


def _place(error: BaseException) -> str:
    """`file:line` of the innermost line of the user's own code, or nothing where none ran."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_users(frame.filename)]
    return f"{_relative(own[-1].filename)}:{own[-1].lineno}" if own else ""


def _is_users(filename: str) -> bool:
    """Whether a file is neither the interpreter's, nor installed, nor this one."""
    if filename.startswith("<") or filename == __file__:
        return False
    paths = sysconfig.get_paths()
    return not any(filename.startswith(paths[name]) for name in ("stdlib", "purelib", "platlib"))


def _relative(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
