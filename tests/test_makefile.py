"""The Makefile and constraints.txt: what a fresh clone installs, and when it installs nothing."""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import time
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from services import require

ROOT = Path(__file__).parent.parent


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what the Makefile reads, and no .venv."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """make without what an outer make hands down."""
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "ARGS", "LONG"}
    }
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def program(path: Path, script: str) -> None:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def fake_venv(folder: Path) -> Path:
    """A .venv whose Python only writes down how it was called; returns that list."""
    calls = folder / "calls"
    program(folder / ".venv/bin/python", f'echo "$@" >> {calls}')
    return calls


def test_help_is_the_default_and_names_every_target(clone: Path) -> None:
    """`make` alone lists the targets that people use, one line each."""
    shown = make(clone).stdout
    for target in ("help", "setup", "run", "test", "audit", "lint", "bench", "soak", "clean"):
        assert re.search(rf"(?m)^make {target} ", shown)


def test_the_first_run_installs_and_the_second_does_not(clone: Path) -> None:
    """PyTorch comes first, by its exact version; a second `make run` calls no pip and starts the demo at once."""
    calls = fake_venv(clone)
    assert make(clone, "run").returncode == 0
    installs = [line for line in calls.read_text(encoding="utf-8").splitlines() if " install " in line]
    assert len(installs) == 2
    assert re.search(r" install --no-compile torch==\d+\.\d+\.\d+$", installs[0])
    assert installs[1].endswith("install --no-compile --constraint constraints.txt --editable .")
    assert sum("-m compileall" in line for line in calls.read_text(encoding="utf-8").splitlines()) == 2
    calls.unlink()
    assert make(clone, "run").returncode == 0
    assert calls.read_text(encoding="utf-8").splitlines() == ["-m monitor demo"]


def test_arguments_reach_the_program(clone: Path) -> None:
    """`make run ARGS=...` runs one's own command instead of the demo."""
    calls = fake_venv(clone)
    make(clone, "run", "ARGS=run --config my.yaml")
    assert calls.read_text(encoding="utf-8").splitlines()[-1] == "-m monitor run --config my.yaml"


def test_the_long_tests_are_asked_for(clone: Path) -> None:
    """`make test` leaves them out; with LONG=yes they run among the others, with what they compare with."""
    calls = fake_venv(clone)
    make(clone, "test")
    assert calls.read_text(encoding="utf-8").splitlines()[-1].endswith("-m not long")
    calls.unlink()
    make(clone, "test", "LONG=yes")
    *installing, tested = calls.read_text(encoding="utf-8").splitlines()
    assert any(line.endswith("--editable .[test,oracles]") for line in installing)
    assert "-m pytest -n 4" in tested
    assert "long" not in tested


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed(clone: Path, changed: str) -> None:
    """After a pull that changes what is needed, the next `make run` installs it."""
    calls = fake_venv(clone)
    make(clone, "run")
    calls.unlink()
    later = time.time() + 60
    os.utime(clone / changed, (later, later))
    make(clone, "run")
    assert "--constraint constraints.txt" in calls.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("exit 1", "needs Python 3.11 or newer"),
        ('case "$2" in *ensurepip*) exit 1 ;; esac', "install its venv package"),
    ],
    ids=["too old", "without venv"],
)
def test_a_python_that_will_not_do_is_named(clone: Path, python: str, said: str) -> None:
    """An old Python, or one without venv, gets one sentence with the remedy; nothing is left behind."""
    program(clone / "python", python)
    done = make(clone, "setup", f"PYTHON={clone}/python")
    assert done.returncode != 0
    assert said in done.stderr
    assert not (clone / ".venv").exists()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins() -> dict[str, str]:
    """constraints.txt as name to version."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def required(lines: Iterable[str], extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """The requirements among `lines` that count on this machine with these extras."""
    for requirement in map(Requirement, lines):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def everything_under(lines: Iterable[str]) -> dict[str, Requirement]:
    """What `lines` require, and what that requires in turn; `sentiment-monitor[...]` stands for its own extras."""
    found: dict[str, Requirement] = {}
    waiting = list(required(lines))
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name == "sentiment-monitor":
            waiting += required(
                line for extra in requirement.extras for line in PROJECT["optional-dependencies"][extra]
            )
        elif name not in found:
            found[name] = requirement
            waiting += required(metadata.requires(name) or [], requirement.extras)
    return found


@pytest.mark.parametrize("extra", ["test", pytest.param("oracles", marks=pytest.mark.long)])
def test_everything_installed_is_pinned_to_what_these_tests_run_with(extra: str) -> None:
    """Whatever program and tests need, at any depth, is in constraints.txt with the version installed here."""
    require(extra == "test" or importlib.util.find_spec("quapy") is not None, "the extra oracles")
    needed = everything_under(PROJECT["dependencies"] + PROJECT["optional-dependencies"][extra])
    assert {"test": {"torch", "psycopg-binary", "pytest", "scikit-learn"}, "oracles": {"numba"}}[extra] <= set(needed)
    installed = {name: metadata.version(name).split("+")[0] for name in needed}
    assert installed == {name: pins().get(name) for name in needed}


def test_every_requirement_allows_its_pin() -> None:
    """No range in pyproject.toml excludes the version in constraints.txt, the checkers' included."""
    extras = PROJECT["optional-dependencies"]
    for requirement in required(PROJECT["dependencies"] + extras["test"] + extras["oracles"] + extras["lint"]):
        if requirement.name != "sentiment-monitor":
            assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)]), requirement
