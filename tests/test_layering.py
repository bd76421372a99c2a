"""The house keeps its shape: imports point down, each outside library has its room, and --help loads nothing heavy."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: The rooms of monitor/ from the top floor down. A room imports what lies below it, and nothing on its own floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("commands",),  # one call each into what lies below
    ("demo",),
    ("daemon",),  # builds everything from the configuration
    ("once",),
    ("main_thread",),
    ("timetable",),
    ("jobs",),
    ("csv_scoring", "dashboard", "delivery", "labelling", "probe", "replay", "report"),
    ("bookkeeper", "brokers"),
    ("sources", "plot"),
    ("store", "slack"),
    ("cautions", "messages", "parsing", "pipeline", "http", "slack_answers"),
    ("lanes", "settings"),
    ("batching", "config_file", "config_problems", "episodes", "health", "scorer"),
    ("alerts", "corrections", "drivers", "identity", "protocols"),
    ("aggregates", "config", "errors", "posts", "quotes", "simulator"),  # nouns and pure rules
    # know nothing of posts
    (
        "allocator",
        "clocks",
        "config_values",
        "crashpoints",
        "device",
        "http_connections",
        "logs",
        "metrics",
        "moments",
        "signals",
        "systemd",
        "whole_file",
    ),
    ("printable",),
)

#: Outside libraries that only one room may know, wherever in a file they are imported.
OWNERS = {
    "torch": ("models",),
    "tokenizers": ("models",),
    "safetensors": ("models",),
    "sklearn": ("models",),
    "sqlalchemy": ("monitor.store",),
    "alembic": ("monitor.store",),
    "kafka": ("monitor.sources", "monitor.brokers"),
    "watchfiles": ("monitor.sources",),
    "slack_sdk": ("monitor.slack", "monitor.slack_answers"),
    "uvicorn": ("monitor.http", "monitor.http_connections"),
    "starlette": ("monitor.http",),
    "apscheduler": ("monitor.timetable",),
    "matplotlib": ("monitor.plot", "models"),
    "click": ("monitor.cli", "monitor.commands"),
}

#: What no command loads unless it works with it.
HEAVY = {
    "torch",
    "numpy",
    "pandas",
    "sqlalchemy",
    "kafka",
    "matplotlib",
    "uvicorn",
    "slack_sdk",
    "sklearn",
    "apscheduler",
}

#: What the daemon never reaches: training and its libraries.
TRAINING = {
    f"models.{name}"
    for name in (
        "train",
        "trainer",
        "training_loop",
        "task_train",
        "task_trainer",
        "task_plans",
        "task_recipe",
        "fitting",
        "neural_fit",
        "linear_fit",
        "linear_training",
        "word_vocabulary",
        "tasks",
        "hub",
        "divisions",
        "evaluate",
        "task_report",
        "calibrate",
        "corpora",
        "baselines",
    )
}


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of both packages by its dotted name."""
    paths = [path for package in ("monitor", "models") for path in (ROOT / package).rglob("*.py")]
    names = {path: path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def _imported(name: str) -> Iterator[str]:
    """What a module imports when it runs, inside functions too; our own packages down to the module."""
    for node in _walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            assert node.module is not None
            yield from (_module_of(node.module, alias.name) for alias in node.names)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: `if TYPE_CHECKING:` never does."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)


def _module_of(package: str, member: str) -> str:
    return f"{package}.{member}" if f"{package}.{member}" in modules() else package


@functools.cache
def imports(name: str) -> frozenset[str]:
    """`_imported`, once per module."""
    return frozenset(_imported(name))


def _ours(name: str) -> frozenset[str]:
    return frozenset(imported for imported in imports(name) if imported in modules()) - {"monitor", "models"}


def _room(name: str) -> str:
    return name.split(".")[1]


def _floor(name: str) -> int:
    """Counted from the ground up."""
    return next(number for number, rooms in enumerate(reversed(FLOORS)) if _room(name) in rooms)


def _in_monitor() -> list[str]:
    return [name for name in modules() if name.startswith("monitor.")]


def test_every_room_has_a_floor() -> None:
    """A new file or package of monitor/ is given its place, and no place is left for one that is gone."""
    placed = [room for rooms in FLOORS for room in rooms]
    assert sorted(placed) == sorted({_room(name) for name in _in_monitor()})


@pytest.mark.parametrize("name", _in_monitor())
def test_imports_point_down(name: str) -> None:
    """A module of monitor/ imports only its own room and rooms on lower floors."""
    up = [
        other
        for other in _ours(name)
        if other.startswith("monitor.") and _room(other) != _room(name) and _floor(other) >= _floor(name)
    ]
    assert up == []


def test_models_know_nothing_of_posts_and_brands() -> None:
    """No module of models/ imports monitor."""
    of_models = [name for name in modules() if name.startswith("models")]
    assert [name for name in of_models if any(imported.split(".")[0] == "monitor" for imported in imports(name))] == []


def test_no_cycles() -> None:
    """No two modules import each other, not even inside functions."""
    try:
        list(TopologicalSorter({name: _ours(name) for name in modules()}).static_order())
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("library", OWNERS)
def test_each_outside_library_has_its_room(library: str) -> None:
    """SQL is spoken in the store only, Kafka in sources only, and so on."""
    users = [name for name in modules() if any(imported.split(".")[0] == library for imported in imports(name))]
    assert users, f"nothing imports {library} any more: take it out of OWNERS"
    assert [name for name in users if not any(f"{name}.".startswith(f"{room}.") for room in OWNERS[library])] == []


def _reachable(start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _ours(name)
    return seen


def test_the_daemon_never_reaches_training_code() -> None:
    """Whatever the daemon imports, now or later, it is not what trains, evaluates or loads corpora."""
    assert set(modules()) >= TRAINING
    assert _reachable("monitor.daemon") & TRAINING == set()


def test_package_files_are_empty() -> None:
    """No __init__.py re-exports anything: every import names the file that a reader has to open."""
    files = [path for package in ("monitor", "models") for path in (ROOT / package).rglob("__init__.py")]
    assert files
    assert [path for path in files if path.stat().st_size] == []


def test_asking_for_help_loads_nothing_heavy() -> None:
    """`sentiment-monitor --help` answers without PyTorch, pandas, SQLAlchemy, Kafka, matplotlib or the web server."""
    command = [sys.executable, "-X", "importtime", "-m", "monitor", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=30)
    assert "Usage:" in done.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "click" in loaded
    assert loaded & HEAVY == set()
