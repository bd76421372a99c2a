"""The daily report: its CSV, its plot, its days under the threshold, and the files of the daily job."""

import csv
import io
import struct
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from batches import DAY, micro, post, rules, scored

from monitor import report
from monitor.config import AlertsSection, BrandRule, Config
from monitor.plot import draw
from monitor.store import daily
from monitor.store.daily import DailyRow
from monitor.store.database import Database
from monitor.store.saving import Saver

NOW = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
ALERTS = AlertsSection(threshold=0.45, brands={"globex": BrandRule(threshold=0.6)})


def row_of(brand: str, n_back: int, mean_pos: float, ma3: float | None = None) -> DailyRow:
    """A daily row of 40 posts, `n_back` days before DAY."""
    low, high = mean_pos - 0.05, mean_pos + 0.05
    average = mean_pos if ma3 is None else ma3
    day = DAY - timedelta(days=n_back)
    return DailyRow(brand, day, 40, 20, 10, 20, 10, mean_pos, low, high, average, 3, None, None, None, "m", NOW)


def test_csv_has_every_digit() -> None:
    """Means survive the way through the CSV exactly, brands with commas and quotes too."""
    rows = [row_of('Söhne, "Co"', 0, 0.1 + 0.2, 1 / 3)]
    out = io.StringIO()
    report.write_csv(rows, out)
    assert out.getvalue().splitlines()[0] == "brand,created_at,total,positives,mean_pos,ma3"
    (line,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert (line["brand"], line["created_at"]) == ('Söhne, "Co"', DAY.isoformat())
    assert (int(line["total"]), int(line["positives"])) == (40, 20)
    assert (float(line["mean_pos"]), float(line["ma3"])) == (0.1 + 0.2, 1 / 3)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_brand_cannot_steer_the_terminal_by_its_name() -> None:
    """On a terminal what would move its cursor is shown as a sign; in a file or a pipe the name is what is stored."""
    rows = [row_of("\x1b]0;mine\x07\u202e", 0, 0.5), row_of("=1+1", 0, 0.5)]
    terminal, file = Terminal(), io.StringIO()
    report.write_csv(rows, terminal)
    report.write_csv(rows, file)
    assert [line.split(",")[0] for line in terminal.getvalue().splitlines()[1:]] == [
        "\ufffd]0;mine\ufffd\ufffd",
        "=1+1",
    ]
    assert [line["brand"] for line in csv.DictReader(io.StringIO(file.getvalue()))] == [row.brand for row in rows]


def test_alert_days_use_each_brands_threshold() -> None:
    """A day is listed when ma3 lies under its brand's own threshold, not when it is equal."""
    rows = [row_of("acme", 1, 0.45), row_of("acme", 0, 0.449), row_of("globex", 1, 0.6), row_of("globex", 0, 0.59)]
    assert [(row.brand, row.day) for row in report.alert_days(rows, ALERTS)] == [("acme", DAY), ("globex", DAY)]


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG in pixels."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", head[16:24])
    return width, height


ODD = ["$x^2$ & <b>", "日本 \x1b[31m", "🙂" * 60, "\u202eleft"]


@pytest.mark.parametrize("brands", [[], ["acme"], ODD], ids=["none", "one", "odd names"])
def test_plot_draws_any_brands(tmp_path: Path, brands: list[str]) -> None:
    """No brands, one or several, and whatever their names hold: there is a picture, without a warning."""
    rows = [row_of(brand, n_back, 0.4 + 0.01 * n_back) for brand in brands for n_back in (9, 8, 3, 1, 0)]
    report.save_plot(rows, ALERTS, tmp_path / "plot.png")
    width, height = png_size(tmp_path / "plot.png")
    assert width >= 1200
    assert height >= 600


def test_corrected_means_are_drawn(tmp_path: Path) -> None:
    """Of the brands that have labels; the picture differs from the one without them."""
    rows = [row_of(brand, n_back, 0.4) for brand in ("acme", "globex") for n_back in (2, 1, 0)]
    report.save_plot(rows, ALERTS, tmp_path / "without.png")
    labelled = [
        replace(row, mean_pos_corrected=0.3, corrected_low=0.22, corrected_high=0.38) if row.brand == "globex" else row
        for row in rows
    ]
    report.save_plot(labelled, ALERTS, tmp_path / "with.png")
    assert png_size(tmp_path / "with.png") == png_size(tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_plot_grows_with_the_brands_up_to_a_limit(tmp_path: Path) -> None:
    """More brands make a taller picture, and those that do not fit are left out."""
    heights = {}
    for n_brands in (2, 3, 4):
        rows = [row_of(f"brand {n}", n_back, 0.5) for n in range(n_brands) for n_back in (1, 0)]
        draw(rows, {row.brand: 0.45 for row in rows}, tmp_path / "plot.png", max_panels=3)
        heights[n_brands] = png_size(tmp_path / "plot.png")[1]
    assert heights[2] < heights[3] == heights[4]


def test_a_plot_of_one_post(tmp_path: Path) -> None:
    """A single day of a single post, which has no interval, can be drawn."""
    day = date(2026, 11, 20)
    row = DailyRow("acme", day, 1, 1, 0, 0, 1, 1.0, None, None, 1.0, 1, None, None, None, "m", NOW)
    report.save_plot([row], ALERTS, tmp_path / "plot.png")
    assert png_size(tmp_path / "plot.png")[0] >= 1200


def test_write_daily(tmp_path: Path, database: Database) -> None:
    """The daily job writes CSV and plot of the closed days, named after the last of them in the configured zone."""
    days = [date(2026, 11, 22), date(2026, 11, 21), date(2026, 7, 1)]
    Saver(database, rules()).save(scored([post(n, day=day) for n, day in enumerate(days)], [micro(300_000)] * 3))
    daily.refresh(database, NOW)
    berlin = {"time_zone": "Europe/Berlin", "report": {"dir": "reports"}, "base_dir": tmp_path}
    written = report.write_daily(Config.model_validate(berlin), database, NOW)
    assert written == tmp_path / "reports" / "report-2026-11-22.csv"
    lines = written.read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == ["2026-11-21", "2026-11-22"]
    assert sorted(path.name for path in written.parent.iterdir()) == ["report-2026-11-22.csv", "report-2026-11-22.png"]
    written_in_utc = report.write_daily(Config.model_validate({**berlin, "time_zone": "UTC"}), database, NOW)
    assert written_in_utc is not None
    assert written_in_utc.name == "report-2026-11-21.csv"


def test_write_daily_is_off_by_default(tmp_path: Path, database: Database) -> None:
    """Without a folder nothing is written."""
    assert report.write_daily(Config(base_dir=tmp_path), database, NOW) is None
    assert [path for path in tmp_path.iterdir() if path.suffix in {".csv", ".png"}] == []
