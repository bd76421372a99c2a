"""What the commands share: the options that many have, and the way from a path to an open store."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitor.printable import printable

if TYPE_CHECKING:
    from monitor.config import Config
    from monitor.store.database import Database

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("config.yaml"),
    show_default=True,
    help="Configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def confirmed(question: str) -> bool:
    """Ask on standard error; no is an answer like yes, and says that nothing was done.

    Raises UsageError where nobody can answer, and Abort on Ctrl-C.
    """
    try:
        is_yes = click.confirm(question, err=True)
    except click.Abort as abort:
        if isinstance(abort.__context__, EOFError):
            raise click.UsageError("nobody answers here; with --yes it is done without asking") from None
        raise
    if not is_yes:
        click.echo("nothing was changed", err=True)
    return is_yes


class Day(click.ParamType[date]):
    """A calendar date such as 2026-11-21."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The date, or click's usage error."""
        try:
            return value if isinstance(value, date) else date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a day such as 2026-11-21", param, ctx)


class OneOf(click.ParamType[str]):
    """One of the values that `values` lists; only asked for where the option is given, for it may load much."""

    def __init__(self, name: str, values: Callable[[], Iterable[str]]) -> None:
        self.name = name
        self._values = values

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value, or click's usage error."""
        allowed = list(self._values())
        if value not in allowed:
            self.fail(f"there is no {self.name} {value!r}; there are {', '.join(allowed)}", param, ctx)
        return str(value)


def say_unknown_brand(db: "Database", brand: str | None) -> None:
    """Tell on standard error where no post of `brand` was ever stored: an empty answer may mean a misspelt name."""
    from monitor.store import brands

    known = brands.listing(db) if brand is not None else []
    if brand is not None and brand not in known:
        shown = ", ".join(map(printable, known[:20])) or "none"
        click.echo(f"there is no brand {printable(brand)}; stored so far: {shown}", err=True)


def example(*lines: str) -> str:
    """An epilog that shows how a command is used; click keeps its lines as they are."""
    return "\b\nExample:\n" + "\n".join(f"  sentiment-monitor {line}" for line in lines)


def load_config(path: Path) -> "Config":
    """The configuration that --config names; ConfigError as `settings.load` raises it."""
    from monitor import settings

    return settings.load(path)


def database_of(config: "Config") -> "Database":
    """The configured database, not yet opened."""
    from monitor.settings import Secrets
    from monitor.store.database import Database

    return Database(config.store_url(), Secrets().secret("DATABASE_PASSWORD"))


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No log lines meanwhile: what the command prints says it all, and client libraries repeat it many times."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def open_store(config: "Config") -> Iterator["Database"]:
    """The configured store, ready to use.

    Raises ConfigError when there is none yet or its schema is not this program's, StoreUnavailable when it is away.
    """
    from monitor.errors import ConfigError
    from monitor.store import migrate

    db = database_of(config)
    if db.path is not None and not db.path.exists():
        raise ConfigError(f"there is no database at {db.path} yet; `sentiment-monitor run` or `db upgrade` makes it")
    try:
        migrate.check(db)
        yield db
    finally:
        db.close()
