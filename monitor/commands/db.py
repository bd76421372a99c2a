"""`db`: schema versions and recounts."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitor.commands.options import config_option, confirmed, database_of, example, load_config, open_store, yes_option
from monitor.commands.tables import print_rows

if TYPE_CHECKING:
    from monitor.store.daily import Difference
    from monitor.store.totals import Totals


@click.group(short_help="Migrate the database, recount it", epilog=example("db upgrade", "db check"))
def db() -> None:
    """Bring the database's schema up to date, and compare its totals with its posts."""


@db.command(short_help="Bring the schema to this program's version", epilog=example("db upgrade"))
@config_option
def upgrade(config_path: Path) -> None:
    """Bring the schema to this program's version; makes the tables the first time."""
    from monitor.store import migrate

    store = database_of(load_config(config_path))
    try:
        changed = migrate.upgrade(store)
        click.echo(f"{store.describe()}: schema {migrate.current(store)}{'' if changed else ', nothing to do'}")
    finally:
        store.close()


@db.command(short_help="Say which schema there is and which is needed", epilog=example("db current"))
@config_option
def current(config_path: Path) -> None:
    """Say which schema version the database has and which one this program needs; exit 78 where they differ."""
    from monitor.store import migrate

    with open_store(load_config(config_path)) as store:
        click.echo(f"{migrate.current(store)} (this program: {migrate.head()})")


@db.command(short_help="Compare the totals with a recount of the posts", epilog=example("db check"))
@config_option
@click.pass_context
def check(ctx: click.Context, config_path: Path) -> None:
    """Recount every post and compare with the totals; prints the differences, exit 1 when there are any."""
    from monitor.store import daily

    with open_store(load_config(config_path)) as store:
        differences = daily.recount(store)
    if not differences:
        click.echo("totals and posts agree")
        return
    print_rows(("brand", "day", "source", "model", "what"), [_as_row(difference) for difference in differences])
    click.echo(f"{len(differences)} totals differ from their posts; `db rebuild-days` counts them again", err=True)
    ctx.exit(1)


def _as_row(difference: "Difference") -> dict[str, Any]:
    stored, counted = _figures(difference.stored), _figures(difference.counted)
    figures = [name for name in {**stored, **counted} if stored.get(name, 0) != counted.get(name, 0)]
    what = ", ".join(f"{name} {stored.get(name, 0)}, should be {counted.get(name, 0)}" for name in figures)
    place = ("brand", "day", "source", "model")
    return {**{name: getattr(difference, name) for name in place}, "what": what}


def _figures(totals: "Totals | None") -> dict[str, int]:
    return {} if totals is None else totals._asdict()


@db.command(
    "rebuild-days",
    short_help="Count every day again from the posts",
    epilog=example("db rebuild-days --yes"),
)
@config_option
@yes_option
def rebuild_days(config_path: Path, *, yes: bool) -> None:
    """Count every day again from the posts, in the time_zone of the configuration; stop the daemon first."""
    from monitor.store import daily, instances

    config = load_config(config_path)
    with open_store(config) as store:
        if instances.live(store, datetime.now(UTC)):
            raise click.UsageError("a daemon runs on this database; stop it first")
        if not yes and not confirmed(f"Count every day of {store.describe()} again in {config.time_zone}?"):
            return
        n_moved = daily.rebuild(store, config.time_zone)
    click.echo(f"days are counted in {config.time_zone}; {n_moved} posts moved to another day")
