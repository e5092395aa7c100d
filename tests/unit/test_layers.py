"""Imports point down and form no circle: between packages, between the folders of one, and between files.

``cli -> jobs -> udfs -> connectors -> models``, ``relay -> connectors -> models``, ``simulators -> connectors``.
Imports inside functions and for type checking count, and so do files that Python loads by name (``REGISTRIES``).
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "models": set(),
    "connectors": {"models"},
    "udfs": {"connectors", "models"},
    "simulators": {"connectors", "models"},
    "relay": {"connectors", "models"},
    "jobs": {"udfs", "connectors", "models"},
    "cli": {"jobs", "udfs", "connectors", "models", "relay", "simulators"},
}
#: Files that load others by name, and the folder whose files they load.
REGISTRIES = {
    "cli.main": "cli",
    "connectors.venues": "connectors.venues",
    "models.backends": "models.backends",
    "relay.push.channels": "relay.push.channels",
    "udfs.kernel.catalogue": "udfs.features",
}
#: Modules that load by a name which a user gives, never one of ours.
LOADERS_OF_USERS = {"connectors.ingest.sentiment"}
#: Folders of pure logic, and what they must not know: where messages come from and how a job is configured.
PURE = ("udfs.steps", "udfs.frames", "udfs.kernel", "udfs.features", "udfs.state")
OUTSIDE = ("connectors.kafka", "connectors.redis", "connectors.settings")
#: The home of pyflink besides the jobs.
FLINK_ROOM = ROOT / "udfs" / "operators"
FLINK_JOBS = {"jobs/signals.py", "jobs/bars.py", "jobs/outcomes.py"}


def name_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))}


def imported_names(path: Path) -> Iterator[str]:
    """Every dotted name that a file imports, inside functions and for type checking too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide where they lead"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> str:
    """The file of ours that a dotted name lies in, or empty."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name


def loaded_by_name(name: str) -> set[str]:
    """The files that a registry loads lazily."""
    folder = REGISTRIES.get(name)
    if folder is None:
        return set()
    depth = folder.count(".") + 1
    below = {module for module in FILES if module.startswith(folder + ".")}
    if folder == "connectors.venues":
        return {module for module in below if module.endswith(".venue")}
    return {m for m in below if m.count(".") == depth and not m.endswith((".base", ".main", ".__main__"))}


def graph() -> dict[str, set[str]]:
    """What each file imports or loads."""
    edges = {}
    for name, path in FILES.items():
        found = {module_of(other) for other in imported_names(path)} | loaded_by_name(name)
        edges[name] = found - {"", name}
    return edges


def circle(edges: dict[str, set[str]]) -> list[str]:
    """One circle, as the names along it; empty if there is none.

    >>> circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})
    ['b', 'c', 'b']
    """
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges.get(name, ())):
            if found := visit(other, [*trail, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := visit(name, []))), [])


def children_of(folder: str, edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Imports between the files and folders directly in a folder; ``__init__`` is a child of its own."""
    prefix = folder + "." if folder else ""

    def child(module: str) -> str | None:
        if module == folder:
            return "__init__"
        return module[len(prefix) :].partition(".")[0] if module.startswith(prefix) else None

    found: dict[str, set[str]] = {}
    for module, others in edges.items():
        if (own := child(module)) is not None:
            found.setdefault(own, set()).update(c for o in others if (c := child(o)) not in (None, own))
    return found


FOLDERS = sorted({"", *(name for name, path in FILES.items() if path.name == "__init__.py")})


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name: str) -> None:
    package = name.partition(".")[0]
    upward = {module for module in graph_of_all[name] if module.partition(".")[0] not in ALLOWED[package] | {package}}
    assert not upward, f"{name} must not import {sorted(upward)}"


@pytest.mark.parametrize("name", [name for name in FILES if f"{name}.".startswith(tuple(f"{room}." for room in PURE))])
def test_pure_logic_knows_neither_servers_nor_settings(name: str) -> None:
    found = {module for module in graph_of_all[name] if f"{module}.".startswith(tuple(f"{room}." for room in OUTSIDE))}
    assert not found, f"{name} must not import {sorted(found)}: take plain values"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder or "packages")
def test_no_circle_between_the_files_and_folders_of_a_folder(folder: str) -> None:
    found = circle(children_of(folder, graph_of_all))
    assert not found, f"{folder or 'packages'}: {' -> '.join(found)}"


def test_no_circle_between_files() -> None:
    found = circle(graph_of_all)
    assert not found, " -> ".join(found)


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"a"}}) == ["a", "b", "a"]
    assert children_of("p", {"p.x.one": {"p.y.two"}, "p.y.three": {"p.x.four"}}) == {"x": {"y"}, "y": {"x"}}


@pytest.mark.parametrize("name", FILES)
def test_what_loads_files_by_name_is_known(name: str) -> None:
    calls = [node for node in ast.walk(ast.parse(FILES[name].read_text())) if isinstance(node, ast.Call)]
    loads = any(isinstance(call.func, ast.Attribute) and call.func.attr == "import_module" for call in calls)
    assert loads == (name in REGISTRIES or name in LOADERS_OF_USERS), f"{name}: add it to REGISTRIES"


@pytest.mark.parametrize("name", FILES)
def test_pyflink_only_in_jobs_and_operators(name: str) -> None:
    if not any(found.partition(".")[0] == "pyflink" for found in imported_names(FILES[name])):
        return
    place = str(FILES[name].relative_to(ROOT))
    assert place in FLINK_JOBS or FILES[name].is_relative_to(FLINK_ROOM), f"{place} imports pyflink"


def test_every_folder_of_a_package_is_packaged() -> None:
    folders = {path.parent for path in FILES.values()}
    missing = [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]
    assert not missing, f"no __init__.py in {missing}: a wheel would leave them out"


graph_of_all = graph()
