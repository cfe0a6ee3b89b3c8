"""Rooms of the package import only what lies below them, and nothing private of each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import jaxte

PACKAGE = Path(jaxte.__file__).parent
# Lowest first; a room that is not listed fails. The package's __init__ stands above all of them.
LAYERS = (
    *("errors", "_optional", "_progress", "intake", "runtime", "statistics", "metrics", "perturb"),
    *(
        "baselines",
        "report",
        "evaluate",
        "store",
        "ranking",
        "ensemble",
        "zoo",
        "data",
        "extraction",
        "race",
        "cli",
    ),
)
ALIASES = {"moments": "statistics"}  # what a room shows at the top level
# "importing module -> imported module": why it is not mended yet.
ALLOWED: dict[str, str] = {}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name: str) -> str:
    """The part after `jaxte`; "" where the package itself is meant."""
    home = jaxte._HOMES.get(name.removeprefix("jaxte."), name)
    room = [*home.split("."), ""][1]
    return ALIASES.get(room, room)


def imports(node: ast.AST) -> Iterator[str]:
    """All that is imported from jaxte, also inside functions, but not for type checkers alone."""
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from (f"{node.module}.{name.name}" for name in node.names)
    elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
        yield from (ast.literal_eval(a) for a in node.args if isinstance(a, ast.Constant))
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for other in node.orelse:
            yield from imports(other)
        return
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def edges() -> Iterator[tuple[str, str]]:
    """(module, module or name of the package) for every import within the package."""
    files = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    for module, path in files.items():
        for name in imports(ast.parse(path.read_text("utf-8"))):
            parent = name.rpartition(".")[0]
            if name.split(".")[0] == "jaxte" and room_of(module) not in ("", "__main__"):
                yield module, name if name in files or parent == "jaxte" else parent


def upward(module: str, name: str) -> bool:
    """Whether the name lies in a higher room than the module; all of jaxte is as high as cli."""
    if name == "jaxte.__version__":
        return False
    return LAYERS.index(room_of(name) or "cli") > LAYERS.index(room_of(module))


def private(module: str, name: str) -> bool:
    """Whether an underscored module of another room is imported."""
    inside = name.split(".")[2:]
    return room_of(module) != room_of(name) and any(part.startswith("_") for part in inside)


def test_rooms_import_only_what_is_below_and_public() -> None:
    wrong = {f"{a} -> {b}" for a, b in edges() if upward(a, b) or private(a, b)}
    assert sorted(wrong - ALLOWED.keys()) == []
    assert sorted(ALLOWED.keys() - wrong) == [], "mended: take it out of the list"
