"""README's table of promises names tests that there are."""

import ast
from pathlib import Path

from readme_parts import names_in, table

TESTS = Path(__file__).parent


def test_every_promise_has_its_tests() -> None:
    """Each row names at least one, and each name is that of a test function."""
    functions = {
        node.name
        for path in TESTS.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    promises = {promise: names_in(tests) for promise, tests in table("| promise | tests |")}
    assert len(promises) >= 5
    for promise, names in promises.items():
        assert names, promise
        assert set(names) <= functions, promise
