"""Rules for the unit tests themselves: each stands where what it tests stands, none waits, none draws at random."""

import ast
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parent
ROOT = UNIT.parents[1]
#: Tests of more than one file, and of things that are no Python file; each with its reason.
ELSEWHERE = {
    "test_layers.py": "the imports of all packages",
    "test_types.py": "exemptions from strict types in all packages",
    "test_unit_tests.py": "the unit tests",
    "test_event_contract.py": "all producers and readers of status events",
    "cli/test_commands.py": "every command of the room",
    "connectors/venues/test_clocks.py": "staleness, backoff and sequences of all venues",
    "connectors/venues/test_fuzz.py": "the parsers of all venues",
    "connectors/venues/test_new_venue.py": "a venue added to the folder, from its socket to the messages",
    "docker/test_deploy.py": "compose, manifests and Dockerfiles",
    "docker/test_observability.py": "alerts, dashboards and scrape settings",
    "docs/test_runbook_logs.py": "two pages against the operators",
    "scripts/test_supply.py": "locks, licences and the bill of materials, of several scripts",
    "udfs/features/test_talib.py": "every family against TA-Lib",
    "udfs/features/test_versions.py": "the version of every family",
    "udfs/kernel/test_new_family.py": "a family added to the catalogue, up to the bundle that is loaded",
}
TESTS = {str(path.relative_to(UNIT)): path for path in sorted(UNIT.rglob("test_*.py"))}
#: What makes a verdict depend on the machine's speed, or a test wait.
CLOCKS = {"time.sleep", "time.monotonic", "time.perf_counter", "time.time_ns", "asyncio.sleep"}
#: Without an argument these are seeded by the operating system.
SEEDABLE = {"random.Random", "np.random.default_rng", "numpy.random.default_rng"}


def product_of(name: str) -> bool:
    """Whether ``path/test_x.py`` or ``path/test_x_aspect.py`` has a product file or folder ``path/x``.

    ``room/test_room.py`` tests the whole room.
    """
    folder, words = (ROOT / name).parent, Path(name).stem.removeprefix("test_").split("_")
    named = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
    if folder.is_dir() and Path(name).stem == f"test_{folder.name}":
        return True
    return any((folder / f"{part}.py").is_file() or (folder / part).is_dir() for part in named)


@pytest.mark.parametrize("name", TESTS)
def test_a_unit_test_stands_where_what_it_tests_stands(name: str) -> None:
    assert product_of(name) or name in ELSEWHERE, (
        f"tests/unit/{name}: there is no such file or folder in {Path(name).parent}: move or rename the test"
    )


def test_every_exception_is_needed() -> None:
    assert [name for name in ELSEWHERE if name not in TESTS or product_of(name)] == []


@pytest.mark.parametrize("name", TESTS)
def test_no_unit_test_waits_measures_time_or_draws_without_a_seed(name: str) -> None:
    found = []
    for node in ast.walk(ast.parse(TESTS[name].read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        zero = called == "asyncio.sleep" and ast.unparse(node.args[0]) == "0"  # gives way to other tasks, no wait
        if (called in CLOCKS and not zero) or called == "random.SystemRandom" or (called in SEEDABLE and not node.args):
            found.append(f"{name}:{node.lineno}: {called}")
    assert not found, found
