"""How commands print: aligned tables, safe for a terminal, for people; JSON lines for scripts."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import click

from monitor.printable import printable


def shown(value: object) -> str:
    """A value as people read it: times to the second in UTC, floats with four digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.4f}"
    return printable(str(value))


def print_rows(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool = False, empty: str = "none"
) -> None:
    """Print `rows` (column -> value) under their headings, or with `as_json` one object a line and nothing else."""
    if as_json:
        for row in rows:
            click.echo(json.dumps({name: row.get(name) for name in columns}, default=_jsonable))
        return
    if not rows:
        click.echo(empty)
        return
    cells = [[shown(row.get(name)) for name in columns] for row in rows]
    right = [all(isinstance(row.get(name), int | float) for row in rows) for name in columns]
    widths = [max(_width(line[place]) for line in [list(columns), *cells]) for place in range(len(columns))]
    for line in [list(columns), *cells]:
        click.echo("  ".join(map(_padded, line, widths, right)).rstrip())


def _jsonable(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def _width(text: str) -> int:
    return sum(
        (2 if unicodedata.east_asian_width(sign) in "WF" else 1) for sign in text if not unicodedata.combining(sign)
    )


def _padded(text: str, width: int, right: bool) -> str:  # noqa: FBT001 - mapped over columns
    fill = " " * (width - _width(text))
    return fill + text if right else text + fill
