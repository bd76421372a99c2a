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
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    as_json: bool = False,
    err: bool = False,
    empty: str = "",
) -> None:
    """Print `rows` (column -> value) under their headings, or with `as_json` one object a line and nothing else.

    `empty` goes to standard error when there is no row, so that scripts get nothing.
    """
    if as_json:
        for row in rows:
            print_object({name: row.get(name) for name in columns})
    elif rows:
        for line in _aligned(columns, rows):
            click.echo(line, err=err)
    elif empty:
        click.echo(empty, err=True)


def print_object(fields: Mapping[str, Any]) -> None:
    """Print one JSON object on one line; times as ISO 8601."""
    click.echo(json.dumps(fields, default=_jsonable))


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print one thing, a field a line, names aligned."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        click.echo(f"{name.ljust(width)}  {shown(value)}".rstrip())


def _aligned(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [list(columns), *([shown(row.get(name)) for name in columns] for row in rows)]
    is_number = [all(isinstance(row.get(name), int | float) for row in rows) for name in columns]
    widths = [max(_width(line[place]) for line in cells) for place in range(len(columns))]
    return ["  ".join(map(_padded, line, widths, is_number)).rstrip() for line in cells]


def _jsonable(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def _width(text: str) -> int:
    """Columns that `text` takes in a terminal."""
    return sum(
        (2 if unicodedata.east_asian_width(sign) in "WF" else 1) for sign in text if not unicodedata.combining(sign)
    )


def _padded(text: str, width: int, to_the_right: bool) -> str:  # noqa: FBT001 - mapped over columns
    fill = " " * (width - _width(text))
    return fill + text if to_the_right else text + fill
