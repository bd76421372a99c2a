"""The daily report: a CSV, a plot, and the days whose ma3 lies under the threshold."""

import csv
import io
import logging
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from monitor.alerts import rule_for
from monitor.config import AlertsSection, Config
from monitor.printable import printable
from monitor.whole_file import replacing

if TYPE_CHECKING:
    from monitor.store.daily import DailyRow
    from monitor.store.database import Database

log = logging.getLogger(__name__)

COLUMNS = ("brand", "created_at", "total", "positives", "mean_pos", "ma3")


def read(
    db: "Database", brand: str | None = None, since: date | None = None, until: date | None = None
) -> "Sequence[DailyRow]":
    """Daily rows by brand and day, days inclusive. Raises StoreUnavailable."""
    from monitor.store import daily

    return daily.daily_rows(db, brand, since, until)


def alert_days(rows: "Sequence[DailyRow]", alerts: AlertsSection) -> "list[DailyRow]":
    """The rows with ma3 under their brand's threshold: the plain rule, without the certainty that alerts ask for."""
    return [row for row in rows if row.ma3 < rule_for(alerts, row.brand).threshold]


def write_csv(rows: "Sequence[DailyRow]", out: TextIO) -> None:
    """Write `rows` under COLUMNS; created_at is the day, means have all their digits.

    Brands are as they are stored, but for a terminal, which would obey what some names may hold.
    """
    name_of = printable if out.isatty() else str
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        means = repr(row.mean_pos), repr(row.ma3)
        writer.writerow((name_of(row.brand), row.day.isoformat(), row.total, row.positives, *means))


def save_csv(rows: "Sequence[DailyRow]", path: Path) -> None:
    """`write_csv` into a file that is there whole or not at all. Raises OSError."""
    text = io.StringIO(newline="")
    write_csv(rows, text)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def save_plot(rows: "Sequence[DailyRow]", alerts: AlertsSection, path: Path) -> None:
    """Draw `rows` as a PNG, one panel a brand. Raises OSError, and ImportError where matplotlib is missing."""
    from monitor.plot import draw

    thresholds = {row.brand: rule_for(alerts, row.brand).threshold for row in rows}
    with replacing(path) as temporary:
        draw(rows, thresholds, temporary)


def write_daily(config: Config, db: "Database", now: datetime) -> Path | None:
    """Write report-DAY.csv and report-DAY.png into report.dir; returns the CSV's path, None when dir is not set.

    They cover the 90 days before today in the configured zone, since today is still running; DAY is the last of them.
    Where matplotlib is missing there is no PNG. Raises StoreUnavailable and OSError.
    """
    if config.report.dir is None:
        return None
    today = now.astimezone(config.zone).date()
    last = date.fromordinal(today.toordinal() - 1)
    rows = read(db, since=date.fromordinal(today.toordinal() - 90), until=last)
    folder = config.path(config.report.dir)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"report-{last.isoformat()}.csv"
    save_csv(rows, target)
    try:
        save_plot(rows, config.alerts, target.with_suffix(".png"))
    except ImportError:
        log.warning("the report has no plot: matplotlib is not installed")
    return target
