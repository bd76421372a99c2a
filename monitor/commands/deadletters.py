"""`deadletters`: look at refused records, put them through again, throw them away."""

import sys
from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monitor.commands.options import (
    Day,
    OneOf,
    config_option,
    confirmed,
    example,
    json_option,
    load_config,
    open_store,
    yes_option,
)
from monitor.commands.tables import print_fields, print_object, print_rows
from monitor.printable import printable

if TYPE_CHECKING:
    from monitor.config import Config
    from monitor.store.database import Database

_COLUMNS = ("dead_letter_id", "source", "partition", "position", "received_at", "reason", "detail", "replayed_at")
_ALL_COLUMNS = (*_COLUMNS, "stream", "raw_truncated")


def _reasons() -> Iterable[str]:
    from monitor.posts import Reason

    return [reason.value for reason in Reason]


def _check_known(config: "Config", db: "Database", source: str | None, ids: Collection[int] = ()) -> None:
    """Raise click's usage error for a source that is neither configured nor has letters, and for unknown numbers."""
    from monitor.store import deadletters as letters

    configured = [section.name for section in config.sources]
    if source is not None and source not in configured and source not in letters.sources(db):
        raise click.UsageError(f"there is no source {source}; configured are {', '.join(configured)}")
    for number in letters.missing(db, ids) if ids else ():
        raise click.UsageError(f"there is no dead letter {number}; `deadletters list` shows the numbers")


@click.group(
    short_help="Refused records: look, put through again, delete",
    epilog=example("deadletters list --reason bad_created_at", "deadletters replay --source inbox"),
)
def deadletters() -> None:
    """Look at the records that were refused, and put them through again under their original identity."""


@deadletters.command("list", epilog=example("deadletters list --reason bad_json", "deadletters list --json"))
@config_option
@click.option("--source", help="Only those of this source.")
@click.option("--reason", type=OneOf("reason", _reasons), help="Only those with this reason, such as bad_json.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many, latest first."
)
@json_option
def list_(config_path: Path, source: str | None, reason: str | None, limit: int, *, as_json: bool) -> None:
    """List refused records, the latest first."""
    from dataclasses import asdict

    from monitor.store import deadletters as letters

    config = load_config(config_path)
    with open_store(config) as db:
        _check_known(config, db, source)
        rows = [asdict(letter) for letter in letters.listing(db, source=source, reason=reason, limit=limit)]
        n_waiting = sum(letters.counts(db).values())
    print_rows(_ALL_COLUMNS if as_json else _COLUMNS, rows, as_json=as_json, empty="no dead letters")
    if not as_json and rows:
        click.echo(f"{len(rows)} shown; {n_waiting} in all were not replayed yet", err=True)


@deadletters.command(
    short_help="Print one refused record",
    epilog=example("deadletters show 17", "deadletters show 17 --raw > record.json"),
)
@config_option
@click.argument("dead_letter_id", metavar="ID", type=int)
@click.option("--raw", is_flag=True, help="Write the record's bytes as they came, and nothing else.")
@json_option
def show(config_path: Path, dead_letter_id: int, *, raw: bool, as_json: bool) -> None:
    """Print one refused record: where it lay, why it was refused, and its content."""
    from dataclasses import asdict

    from monitor.store import deadletters as letters

    with open_store(load_config(config_path)) as db:
        letter = letters.get(db, dead_letter_id)
    if letter is None:
        raise click.UsageError(f"there is no dead letter {dead_letter_id}; `deadletters list` shows the numbers")
    if raw:
        sys.stdout.buffer.write(letter.raw or b"")
        return
    content = None if letter.raw is None else letter.raw.decode("utf-8", "replace")
    fields = {**asdict(letter), "raw": content}
    if as_json:
        print_object(fields)
        return
    del fields["raw"]
    print_fields(fields)
    click.echo(
        "\n(its content was not kept)" if content is None else "\n" + "\n".join(map(printable, content.splitlines()))
    )


@deadletters.command(
    short_help="Put refused records through again",
    epilog=example("deadletters replay", "deadletters replay --source inbox --reason bad_created_at"),
)
@config_option
@click.option("--source", help="Only those of this source.")
@click.option("--reason", type=OneOf("reason", _reasons), help="Only those with this reason, such as bad_json.")
@click.option("--id", "ids", type=int, multiple=True, help="Only this one; may be given several times.")
def replay(config_path: Path, source: str | None, reason: str | None, ids: tuple[int, ...]) -> None:
    """Put refused records through again, as the configuration reads them now.

    They keep their original identity: what was counted meanwhile is not counted twice. Letters cut at 64 KiB, whole
    files and those whose content retention has blanked stay as they are.
    """
    from monitor.replay import Wanted
    from monitor.replay import replay as replay_letters
    from monitor.scorer import BundleScorer

    config = load_config(config_path)
    scoring = config.scoring
    skip = scoring.other_languages == "skip"
    with open_store(config) as db:
        _check_known(config, db, source, ids)
        scorer = BundleScorer.load(scoring.bundle, scoring.device, config.base_dir, skip_other_languages=skip)
        outcome = replay_letters(config, db, scorer, Wanted(source, reason, ids or None), datetime.now(UTC))
    counts = f"{outcome.n_inserted} counted, {outcome.n_seen_before} seen before, {outcome.n_refused} refused again"
    click.echo(f"{counts}, {outcome.n_skipped} cannot be replayed")


@deadletters.command(
    short_help="Delete refused records for good",
    epilog=example("deadletters purge --replayed", "deadletters purge --before 2026-10-01 --yes"),
)
@config_option
@click.option("--before", type=Day(), help="Those received before this day (UTC).")
@click.option("--source", help="Those of this source.")
@click.option("--replayed", is_flag=True, help="Those that were replayed.")
@click.option("--id", "ids", type=int, multiple=True, help="This one; may be given several times.")
@click.option("--all", "all_", is_flag=True, help="All of them.")
@yes_option
def purge(
    config_path: Path,
    before: date | None,
    source: str | None,
    ids: tuple[int, ...],
    *,
    replayed: bool,
    all_: bool,
    yes: bool,
) -> None:
    """Delete refused records for good; several conditions must all hold."""
    if not (before or source or ids or replayed or all_):
        raise click.UsageError("say which: --before, --source, --replayed, --id or --all")
    from monitor.store import deadletters as letters

    since = datetime.combine(before, time(), UTC) if before else None
    config = load_config(config_path)
    with open_store(config) as db:
        _check_known(config, db, source, ids)
        which = letters.those_now(db, letters.Which(ids or None, since, source, replayed))
        if not yes and not confirmed(f"Delete {letters.count(db, which)} dead letters for good?"):
            return
        n = letters.purge(db, which)
    click.echo(f"{n} dead letters deleted")
