"""`alerts`: what was sent, what would have been, and a test of the way to Slack."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from monitor.commands.options import (
    Day,
    OneOf,
    config_option,
    example,
    json_option,
    load_config,
    open_store,
    say_unknown_brand,
)
from monitor.commands.tables import print_rows
from monitor.printable import printable

_COLUMNS = ("alert_key", "state", "rule_ma3", "threshold", "total", "attempts", "sent_at", "last_error")
_SIMULATED = ("day", "brand", "kind", "rule_ma3", "threshold", "total", "words")


def _states() -> Iterable[str]:
    from monitor.store.alerts import STATES

    return STATES


@click.group(
    short_help="Alerts: what was sent, what would be, a test",
    epilog=example("alerts list", "alerts simulate --since 2026-10-01"),
)
def alerts() -> None:
    """Look at the alerts, try the rules on stored history, send a test message."""


@alerts.command(
    "list",
    short_help="List alerts, the latest first",
    epilog=example("alerts list", "alerts list --state pending --json"),
)
@config_option
@click.option("--state", type=OneOf("state", _states), help="Only those in this state, such as pending or sent.")
@click.option("--brand", help="Only those of this brand.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many, latest first."
)
@json_option
def list_(config_path: Path, state: str | None, brand: str | None, limit: int, *, as_json: bool) -> None:
    """List alerts, the latest first: what was sent, what waits and why."""
    from monitor.store import alerts as alert_store

    with open_store(load_config(config_path)) as db:
        say_unknown_brand(db, brand)
        rows = [_columns_of(alert) for alert in alert_store.listing(db, state=state, brand=brand, limit=limit)]
    print_rows(("brand", "day", "kind", *_COLUMNS) if as_json else _COLUMNS, rows, as_json=as_json, empty="no alerts")


@alerts.command(epilog=example("alerts show acme/2026-11-20/dip"))
@config_option
@click.argument("key")
def show(config_path: Path, key: str) -> None:
    """Print one alert as Slack shows it."""
    import json

    from monitor.messages import as_text
    from monitor.store import alerts as alert_store

    with open_store(load_config(config_path)) as db:
        alert = alert_store.get(db, key)
    if alert is None:
        raise click.UsageError(f"there is no alert {key}; `alerts list` shows the keys")
    error = f", {alert.last_error}" if alert.last_error else ""
    click.echo(printable(f"{alert.alert_key}: {alert.state}{error}"), err=True)
    click.echo(
        as_text(json.loads(alert.message))
        if alert.message
        else "no message is kept: recorded as past, or blanked by retention"
    )


@alerts.command(
    short_help="Say what would have been sent over stored history", epilog=example("alerts simulate --since 2026-10-01")
)
@config_option
@click.option("--since", type=Day(), required=True, help="First day.")
@click.option("--brand", help="One brand only.")
@json_option
def simulate(config_path: Path, since: date, brand: str | None, *, as_json: bool) -> None:
    """Say what the configured rules would have sent over stored history, each day decided at its end.

    Writes and sends nothing; edit the thresholds in the configuration and try again.
    """
    from dataclasses import asdict

    from monitor.store import evaluation

    config = load_config(config_path)
    with open_store(config) as db:
        say_unknown_brand(db, brand)
        planned = evaluation.simulate(db, config, since, datetime.now(UTC), brand)
    rows = [asdict(alert) for alert in sorted(planned, key=lambda alert: (alert.day, alert.brand))]
    print_rows(_SIMULATED, rows, as_json=as_json, empty="nothing would have been sent")


@alerts.command(short_help="Send a test message to Slack", epilog=example("alerts test"))
@config_option
def test(config_path: Path) -> None:
    """Send a test message to the configured channel; exit 69 when Slack does not take it."""
    from monitor.errors import Unavailable
    from monitor.messages import as_text, trial_message
    from monitor.settings import Secrets
    from monitor.slack import notifier_for

    config = load_config(config_path)
    channel = config.alerts.slack.channel
    notifier, dry_run = notifier_for(config, Secrets())
    message = trial_message(channel)
    if dry_run:
        click.echo(as_text(message))
        click.echo("not sent: neither SLACK_BOT_TOKEN nor SLACK_WEBHOOK_URL is set", err=True)
        return
    result = notifier.send(message, channel, f"test/{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}")
    if result.outcome != "sent":
        raise Unavailable(f"Slack did not take the test message: {result.error or result.outcome}")
    click.echo("sent to the webhook's channel" if result.channel is None else f"sent to {channel}", err=True)


@alerts.command(epilog=example("alerts drop acme/2026-11-20/dip"))
@config_option
@click.argument("key")
def drop(config_path: Path, key: str) -> None:
    """Give up one alert that waits for Slack."""
    from monitor.store import alerts as alert_store

    with open_store(load_config(config_path)) as db:
        if not alert_store.drop(db, key):
            raise click.UsageError(f"no alert {key} waits; `alerts list --state pending` shows those that do")
    click.echo(f"dropped {printable(key)}")


def _columns_of(alert: Any) -> dict[str, Any]:
    names: Sequence[str] = ("brand", "day", "kind", *_COLUMNS)
    return {name: getattr(alert, name, None) for name in names}
