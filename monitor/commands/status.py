"""`status`: what the running daemons are doing."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monitor.commands.options import config_option, example, json_option, load_config, open_store
from monitor.commands.tables import print_object, print_rows
from monitor.printable import printable

if TYPE_CHECKING:
    from monitor.store.database import Database

_SOURCES = ("source", "kind", "lag", "records", "per_s", "counted", "seen_before", "refused", "paused")


@click.command(short_help="What the running daemon is doing", epilog=example("status", "status --json"))
@config_option
@json_option
def status(config_path: Path, *, as_json: bool) -> None:
    """Show every running daemon: parts, sources with lag and rates, last job runs; alerts that wait, paused sources.

    Exit code 69 when no daemon runs.
    """
    from monitor.errors import Unavailable
    from monitor.store import instances

    with open_store(load_config(config_path)) as db:
        live = instances.live(db, datetime.now(UTC))
        store = _store_state(db)
    if as_json:
        print_object({"daemons": [_as_fields(one) for one in live], **store})
    else:
        for one in live:
            _show_daemon(_as_fields(one))
        _show_store(store)
    if not live:
        raise Unavailable("no daemon runs on this database (its last sign of life would be less than 15 s old)")


def _store_state(db: "Database") -> dict[str, Any]:
    from monitor.store import alerts as alert_store
    from monitor.store import deadletters, positions

    n_failing, last_error = alert_store.failing(db)
    return {
        "alerts": alert_store.counts(db),
        "alerts_waiting": alert_store.n_waiting(db),
        "alerts_failing": n_failing,
        "last_alert_error": last_error,
        "paused": positions.paused(db),
        "dead_letters": deadletters.counts(db),
    }


def _as_fields(one: Any) -> dict[str, Any]:
    names = ("instance", "role", "started_at", "beat_at")
    return {**{name: getattr(one, name) for name in names}, **one.state}


def _show_daemon(daemon: Mapping[str, Any]) -> None:
    running = _in_words(datetime.now(UTC) - daemon["started_at"])
    click.echo(f"daemon {daemon['instance']}, role {daemon['role']}, up {running}")
    parts = [f"{part['name']}: {'ok' if part['ok'] else part['detail']}" for part in daemon.get("parts", [])]
    click.echo(f"  parts    {'; '.join(parts) or 'none yet'}")
    jobs = [f"{name} {run['outcome']} {_ago(run['at'])}" for name, run in sorted(daemon.get("jobs", {}).items())]
    click.echo(f"  jobs     {'; '.join(jobs) or 'none has run yet'}")
    click.echo()
    print_rows(_SOURCES, _source_rows(daemon.get("sources", {})))
    click.echo()


def _source_rows(sources: Mapping[str, Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return [
        {"source": name, **state, "per_s": f"{state['records_per_s']:.1f}", "counted": state["inserted"]}
        for name, state in sources.items()
    ]


def _show_store(store: Mapping[str, Any]) -> None:
    click.echo(f"alerts        {_counted(store['alerts'])}; {store['alerts_waiting']} waiting")
    if store["alerts_failing"]:
        error = printable(str(store["last_alert_error"]))
        click.echo(f"              {store['alerts_failing']} were not taken by Slack: {error}")
    click.echo(f"dead letters  {_counted(store['dead_letters'])}")
    for source, reason in store["paused"].items():
        click.echo(f"paused        {source}: {printable(reason)}; `sources resume {source}` lets it read again")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _ago(at: str) -> str:
    return f"{_in_words(datetime.now(UTC) - datetime.fromisoformat(at))} ago"


def _in_words(span: Any) -> str:
    seconds = max(0, int(span.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h {seconds % 3600 // 60} min"
