"""The status page: one HTML document, rendered on the server, no script. Every text in it is escaped."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from monitor.alerts import rule_for
from monitor.config import Config
from monitor.health import Health
from monitor.store import alerts as alert_store
from monitor.store import daily
from monitor.store.alerts import AlertRow
from monitor.store.daily import DailyRow
from monitor.store.database import Database

N_DAYS = 14  #: days shown for each brand
N_TABLE_DAYS = 4  #: of them in figures
MAX_BRANDS = 50  #: brands shown, those with the lowest ma3 first: who looks at the page looks for trouble


def render(db: Database | None, config: Config, health: Health, state: Mapping[str, Any]) -> str:
    """The page as it is now; before the store is open only what is waited for."""
    now = datetime.now(UTC)
    template = Template((files("monitor.dashboard") / "page.html").read_text(encoding="utf-8"))
    brands = alerts = ""
    if db is not None and health.works("store"):
        today = now.astimezone(config.zone).date()
        rows = daily.daily_rows(db, since=today - timedelta(days=N_DAYS - 1))
        brands = _brands(rows, config) or _empty(f"No post was written in the last {N_DAYS} days.")
        alerts = _alerts(alert_store.listing(db, limit=10), config) or _empty("No alert yet.")
    unknown = _empty("Not known while the store is away.")
    return template.substitute(
        now=escape(now.astimezone(config.zone).strftime("%Y-%m-%d %H:%M:%S")),
        zone=escape(config.time_zone),
        parts=_parts(health),
        sources=_sources(state.get("sources", {})),
        brands=brands or unknown,
        alerts=alerts or unknown,
    )


def _empty(sentence: str) -> str:
    return f'<p class="empty">{escape(sentence)}</p>'


def _parts(health: Health) -> str:
    rows = [
        f'<li class="{"ok" if part.ok else "wait"}"><b>{escape(part.name)}</b> {escape(part.detail)}</li>'
        for part in health.parts()
    ]
    return f"<ul>{''.join(rows)}</ul>"


def _sources(sources: Mapping[str, Mapping[str, Any]]) -> str:
    head = ("source", "kind", "waiting", "counted", "seen before", "refused", "records/s")
    rows = [
        (name, one["kind"], one["lag"], one["inserted"], one["seen_before"], one["refused"], one["records_per_s"])
        for name, one in sources.items()
    ]
    return _table(head, rows)


def _brands(rows: Sequence[DailyRow], config: Config) -> str:
    by_brand: dict[str, list[DailyRow]] = {}
    for row in rows:
        by_brand.setdefault(row.brand, []).append(row)
    worst_first = sorted(by_brand.items(), key=lambda item: item[1][-1].ma3)[:MAX_BRANDS]
    return "".join(_brand(brand, days, rule_for(config.alerts, brand).threshold) for brand, days in worst_first)


def _brand(brand: str, days: Sequence[DailyRow], threshold: float) -> str:
    last = days[-1]
    state = "dip" if last.ma3 < threshold else "fine"
    shown = days[: -N_TABLE_DAYS - 1 : -1]
    has_labels = any(day.mean_pos_corrected is not None for day in shown)
    head = ("day", "posts", "mean", *(("corrected",) if has_labels else ()), "ma3", "neg", "neu", "pos")
    rows = [
        (
            f"{day.day:%d %b}",
            day.total,
            f"{day.mean_pos:.3f}",
            *((_corrected(day),) if has_labels else ()),
            f"{day.ma3:.3f}",
            day.n_negative,
            day.n_neutral,
            day.n_positive,
        )
        for day in shown
    ]
    chart = _chart(days, threshold)
    return (
        f'<section><h3><b>{escape(brand)}</b> <span class="{state}">ma3 {last.ma3:.3f}</span></h3>{chart}'
        f"{_table(head, rows)}</section>"
    )


def _corrected(day: DailyRow) -> str:
    """The mean corrected by the brand's own labels with its 95% interval; empty on a day that has none."""
    if day.mean_pos_corrected is None:
        return ""
    return f"{day.mean_pos_corrected:.3f} ({day.corrected_low:.3f} to {day.corrected_high:.3f})"


def _chart(days: Sequence[DailyRow], threshold: float) -> str:
    """mean_pos as dots, ma3 as a line, the threshold dashed; by calendar day, so that gaps show."""
    first, span = days[0].day, max(1, (days[-1].day - days[0].day).days)
    width, height = 420, 90

    def x(day: DailyRow) -> float:
        return 6 + (width - 12) * (day.day - first).days / span

    def y(value: float) -> float:
        return 6 + (height - 12) * (1 - value)

    line = " ".join(f"{x(day):.1f},{y(day.ma3):.1f}" for day in days)
    dots = "".join(f'<circle cx="{x(day):.1f}" cy="{y(day.mean_pos):.1f}" r="2.5"/>' for day in days)
    limit = f'<line x1="0" x2="{width}" y1="{y(threshold):.1f}" y2="{y(threshold):.1f}"/>'
    label = f"mean and 3-day average of {len(days)} days, threshold {threshold}"
    shapes = f'{limit}<polyline points="{line}"/>{dots}'
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{shapes}</svg>'


def _alerts(alerts: Sequence[AlertRow], config: Config) -> str:
    head = ("decided", "brand", "day", "kind", "rule_ma3", "state")
    rows = [
        (
            alert.created_at.astimezone(config.zone).strftime("%Y-%m-%d %H:%M"),
            alert.brand,
            alert.day,
            alert.kind,
            "" if alert.rule_ma3 is None else f"{alert.rule_ma3:.3f}",
            alert.state,
        )
        for alert in alerts
    ]
    return _table(head, rows) if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
