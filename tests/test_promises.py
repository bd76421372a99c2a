"""README's table of promises, and that of known troubles, name tests that there are."""

import ast
from pathlib import Path

import pytest
from readme_parts import README, names_in, table

TESTS = Path(__file__).parent
PAGES = [(README, "| promise | tests |"), (TESTS / "known-troubles.md", "| reported elsewhere | for example | tests |")]


@pytest.mark.parametrize(("page", "header"), PAGES, ids=lambda value: getattr(value, "stem", ""))
def test_every_promise_has_its_tests(page: Path, header: str) -> None:
    """Each row names at least one, and each name is that of a test function."""
    functions = {
        node.name
        for path in TESTS.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    promises = {row[0]: names_in(row[-1]) for row in table(header, page)}
    assert len(promises) >= 20
    for promise, names in promises.items():
        assert names, promise
        assert set(names) <= functions, promise
