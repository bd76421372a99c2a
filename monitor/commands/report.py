"""`report`: daily rows as CSV and plot, and the days under the threshold."""

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monitor.commands.options import Day, config_option, example, load_config, open_store, say_unknown_brand
from monitor.commands.tables import print_rows

if TYPE_CHECKING:
    from monitor.config import AlertsSection
    from monitor.store.daily import DailyRow
    from monitor.store.database import Database

_OUT = click.Path(dir_okay=False, allow_dash=True, path_type=Path)


@click.command(
    short_help="Daily rows as CSV and plot; days under the threshold",
    epilog=example("report > report.csv", "report --brand acme --since 2026-11-01 -o acme.csv --plot acme.png"),
)
@config_option
@click.option("--brand", help="One brand only.")
@click.option("--since", type=Day(), help="First day.")
@click.option("--until", type=Day(), help="Last day.")
@click.option("-o", "--output", type=_OUT, default=Path("-"), help="Where the CSV goes.  [default: standard output]")
@click.option("--plot", "plot_path", type=click.Path(dir_okay=False, path_type=Path), help="Also draw a PNG.")
def report(
    config_path: Path, brand: str | None, since: date | None, until: date | None, output: Path, plot_path: Path | None
) -> None:
    """Print brand, created_at (the day), total, positives, mean_pos and ma3 as CSV, one row per brand and day.

    Days with ma3 under the threshold are listed on standard error.
    """
    from monitor import report as daily_report

    if since and until and since > until:
        raise click.UsageError(f"--since {since} lies after --until {until}")
    config = load_config(config_path)
    with open_store(config) as db:
        rows = daily_report.read(db, brand, since, until)
        say_unknown_brand(db, brand)
        _say_waiting(db)
    if str(output) == "-":
        daily_report.write_csv(rows, sys.stdout)
    else:
        daily_report.save_csv(rows, output)
    _list_alert_days(daily_report.alert_days(rows, config.alerts), config.alerts)
    if plot_path is not None:
        _save_plot(rows, config.alerts, plot_path)


def _say_waiting(db: "Database") -> None:
    """A daemon that was killed leaves days to its next start, one that runs refreshes them in seconds."""
    from monitor.store import brands

    if n_brands := brands.n_waiting(db):
        click.echo(f"days of {n_brands} brands do not have all of their posts yet: a daemon refreshes them", err=True)


def _save_plot(rows: "Sequence[DailyRow]", alerts: "AlertsSection", path: Path) -> None:
    from monitor import report as daily_report

    try:
        daily_report.save_plot(rows, alerts, path)
    except ImportError:
        raise click.ClickException("--plot needs matplotlib, which is missing: pip install matplotlib") from None


def _list_alert_days(rows: "Sequence[DailyRow]", alerts: "AlertsSection") -> None:
    from monitor.alerts import rule_for

    columns = ("brand", "created_at", "total", "mean_pos", "ma3", "threshold")
    listed = [
        dict(
            zip(
                columns,
                (row.brand, row.day, row.total, row.mean_pos, row.ma3, rule_for(alerts, row.brand).threshold),
                strict=True,
            )
        )
        for row in rows
    ]
    click.echo("ALERT DAYS:" if listed else "ALERT DAYS: none", err=True)
    if listed:
        print_rows(columns, listed, err=True)
