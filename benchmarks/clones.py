"""Released code, imported from the file of a clone that the user names.

None of it is part of this project. What a file imports but does not need for its score (data
loaders, model zoos) is replaced for the time of the import.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

# name on the command line -> repository, and the file that holds its scores
CLONES = {
    "logme": ("thuml/LogME", "LogME.py"),
    "sfda": ("TencentARC/SFDA", "metrics.py"),
    "ncti": ("BUserName/NCTI", "metrics.py"),
    "jaxte": ("jaxte, another commit", "jaxte/__init__.py"),
    "tllib": ("thuml/Transfer-Learning-Library", "tllib/ranking/logme.py"),
    "etran": ("mgholamikn/ETran", "metrics.py"),
    "emms": ("OpenGVLab/Multitask-Model-Selector", "metrics.py"),
    "parc": ("dbolya/parc", "methods.py"),
    "tmi": ("snudatalab/TMI", "src/trf_measurement.py"),
}
# what a file imports for other things than its scores, and what it uses but forgot to import
_UNUSED = {"parc": ("constants", "datasets", "pandas")}
_FORGOTTEN = {"emms": ("scipy", "time")}


class MissingError(Exception):
    """A rival that cannot be run here; the message says what is missing and how to get it."""


def parse(arguments: list[str]) -> dict[str, str]:
    """Turn NAME=PATH arguments into a mapping whose paths hold the file that is needed.

    Raises:
        MissingError: for an unknown name, a malformed argument or a clone without the file.
    """
    paths = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if name not in CLONES or not equals or not path:
            known = ", ".join(f"{key} ({value[0]})" for key, value in CLONES.items())
            raise MissingError(f"--clone {argument!r} is not NAME=PATH with a NAME among {known}")
        repository, file = CLONES[name]
        if not (Path(path) / file).is_file():
            raise MissingError(
                f"--clone {name}: {path} has no {file}; it must be a clone of {repository}"
            )
        paths[name] = str(Path(path).resolve())
    return paths


def commit(path: str) -> str | None:
    """The commit that a clone stands at."""
    from benchmarks.machine import git

    return git(Path(path), "rev-parse", "HEAD")


def load(name: str, clones: Mapping[str, str], file: str = "") -> ModuleType:
    """The released module behind a name, or another file of its clone.

    Raises:
        MissingError: if no clone was named, or what it imports is not installed.
    """
    repository, main = CLONES[name]
    file = file or main
    if name not in clones:
        raise MissingError(f"no clone of {repository} was named: --clone {name}=PATH")
    root = Path(clones[name])
    shims = {other: _module(other) for other in _UNUSED.get(name, ())}
    if name in ("sfda", "ncti", "etran"):
        shims["utils"] = _module("utils", iterative_A=_power_steps(root / "utils.py", repository))
    if name in ("sfda", "ncti", "emms") and importlib.util.find_spec("torch") is None:
        shims["torch"] = _module("torch")  # imported there, used by other scores only
    spec = importlib.util.spec_from_file_location(f"released_{name}", root / file)
    if spec is None or spec.loader is None:
        raise MissingError(f"{root / file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    with _instead(shims):
        try:
            spec.loader.exec_module(module)
        except ImportError as error:
            missing = error.name or error
            raise MissingError(f"{repository} imports {missing}, which is not installed") from None
    for missing in _FORGOTTEN.get(name, ()):
        setattr(module, missing, importlib.import_module(missing))
    return module


def _power_steps(file: Path, repository: str) -> Any:
    """The clone's own ``iterative_A``, without the imports of the file around it."""
    import numpy as np

    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except OSError:
        raise MissingError(f"the clone of {repository} has no {file.name} beside it") from None
    body = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "iterative_A"
    ]
    if not body:
        raise MissingError(f"{file.name} of {repository} defines no iterative_A")
    names: dict[str, Any] = {"np": np}
    exec(compile(ast.Module(body=list(body), type_ignores=[]), str(file), "exec"), names)
    return names["iterative_A"]


def _module(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


@contextmanager
def _instead(shims: Mapping[str, ModuleType]) -> Iterator[None]:
    """Put modules in the place of others while a file is imported."""
    before = {name: sys.modules.get(name) for name in shims}
    sys.modules.update(shims)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
