"""An alert as a Slack message (Block Kit), and a message as a person sees it. Pure: no clock, no SQL, no network.

User text (brands, posts) stands only where Slack reads no markup: in plain_text and in rich_text text elements, cleaned
first, shortened second, escaped last. Fields in mrkdwn hold figures of our own and nothing else.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import msgspec

from monitor.alerts import DayRow, Kind, Rule, Window
from monitor.episodes import PlannedAlert
from monitor.printable import printable
from monitor.quotes import MAX_QUOTE_CHARS, clean

N_SPARKLINE_DAYS = 14
NOT_STORED = "No posts are quoted: texts are not stored."
_BARS = "▁▂▃▄▅▆▇█"
_NO_POSTS = "·"
_MIN_SPARKLINE_RANGE = 0.1  #: so that noise of a steady brand does not look like a drama
_MAX_BRAND_CHARS = 100  #: after escaping; Slack takes headers of at most 150
_MAX_WORD_CHARS = 40
_WIDTH = 78  #: columns of a message on a terminal

#: the block_id by which the words are found again when what users wrote has to go
WORDS_BLOCK = "driver_words"

Block = dict[str, Any]


@dataclass(frozen=True)
class Words:
    """Words that users wrote more often than on the days from `first` to `last`."""

    words: Sequence[str]
    first: date
    last: date


def escape(text: str, max_chars: int) -> str:
    """`text` with &, < and > as Slack wants them; cut before escaping, so that the result has at most `max_chars`."""
    while len(escaped := text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")) > max_chars:
        words = text.rstrip("…")
        text = words[: max(0, len(words) - 1 - (len(escaped) - max_chars) // 5)] + "…"
        if text == "…":
            return text[:max_chars]
    return escaped


def sparkline(rows: Sequence[DayRow], day: date, n_days: int = N_SPARKLINE_DAYS) -> str:
    """One sign per calendar day up to `day`: a bar between the lowest and highest daily mean, a dot without posts."""
    means = {row.day: row.mean_pos for row in rows}
    shown = [means.get(day - timedelta(days=back)) for back in range(n_days - 1, -1, -1)]
    known = [mean for mean in shown if mean is not None]
    if not known:
        return _NO_POSTS * n_days
    low, span = min(known), max(max(known) - min(known), _MIN_SPARKLINE_RANGE)
    return "".join(_NO_POSTS if mean is None else _BARS[min(7, int((mean - low) / span * 8))] for mean in shown)


def render(
    alert: PlannedAlert,
    rule: Rule,
    rows: Sequence[DayRow],
    quotes: Sequence[str] | None,
    public_url: str = "",
    words: Words | None = None,
) -> dict[str, Any]:
    """The message of one alert: `text` for notifications and `blocks`.

    `rows` are the brand's daily rows (the last 14 days are drawn), `quotes` up to three cleaned texts, None where texts
    are not stored, `words` those that drove the dip.
    """
    brand = escape(clean(alert.brand, _MAX_BRAND_CHARS), _MAX_BRAND_CHARS)
    title = _title(alert, brand)
    blocks: list[Block] = [
        {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}},
        _rich_text(_section(_text(_when(alert)))),
        {"type": "section", "fields": [{"type": "mrkdwn", "text": field} for field in _fields(alert, rule, rows)]},
    ]
    if alert.kind in {Kind.DIP, Kind.STILL_DOWN}:
        blocks += [*_word_blocks(words), *_quote_blocks(alert.day, quotes)]
    if alert.window:
        blocks.append(_context(_rule_in_words(rule)))
    if public_url:
        blocks.append(_rich_text(_section({"type": "link", "url": public_url, "text": "Open the monitor"})))
    return {"text": f"{title}: {_in_short(alert, rule)}", "blocks": blocks}


def trial_message(channel: str) -> dict[str, Any]:
    """What `alerts test` sends: proof that token, channel and network are right."""
    words = "This is a test by sentiment-monitor. Alerts about dips in sentiment will arrive here."
    header = {"type": "header", "text": {"type": "plain_text", "text": "✅ Alerts reach this channel", "emoji": False}}
    return {
        "text": "Alerts reach this channel",
        "blocks": [header, _rich_text(_section(_text(words))), _context(escape(channel, 200))],
    }


def as_text(message: Mapping[str, Any] | str) -> str:
    """The message (or its JSON, as in alerts.message) as a person would see it in Slack; safe for a terminal."""
    message = msgspec.json.decode(message) if isinstance(message, str) else message
    lines: list[str] = []
    for block in message.get("blocks", []):
        lines += _lines(block)
    while lines and not lines[-1]:
        lines.pop()
    body = "\n".join(f"│ {line}".rstrip() for line in lines)
    return f"┌{'─' * (_WIDTH - 1)}\n{body}\n└{'─' * (_WIDTH - 1)}"


def _title(alert: PlannedAlert, brand: str) -> str:
    if alert.kind is Kind.DIP:
        return f"📉 {brand} is down" + (" so far today" if alert.is_running else "")
    if alert.kind is Kind.STILL_DOWN:
        n_days = (alert.day - (alert.began_on or alert.day)).days
        return f"📉 {brand} is still down, day {n_days}"
    if alert.kind is Kind.RECOVERED:
        return f"✅ {brand} has recovered"
    return f"🔇 No posts about {brand}"


def _when(alert: PlannedAlert) -> str:
    words = f"{alert.day:%A}, {_long(alert.day)}"
    if alert.began_on and alert.began_on != alert.day:
        words += (
            f" · since {_long(alert.began_on)}"
            if alert.kind is not Kind.RECOVERED
            else f" · was down since {_long(alert.began_on)}"
        )
    return words


def _fields(alert: PlannedAlert, rule: Rule, rows: Sequence[DayRow]) -> list[str]:
    known = [row.mean_pos for row in rows if alert.day - timedelta(days=N_SPARKLINE_DAYS) < row.day <= alert.day]
    ends = sorted({f"{mean:.2f}" for mean in (min(known), max(known))}) if known else []
    line = f"*Last {N_SPARKLINE_DAYS} days*\n`{sparkline(rows, alert.day)}`  {' to '.join(ends)}".rstrip()
    if alert.window is None:
        return [f"*Posts counted*\nnone on {rule.no_data_days} days to {_short(alert.day)}", line]
    window, today = alert.window, alert.window.days[-1]
    return [
        f"*Mean of {_counting_days(len(window.days))}*\n{window.rule_ma3:.3f}, threshold {_number(rule.threshold)}",
        f"*Change*\n{_change(window)}",
        f"*Posts counted*\n{today.total:,} on {_short(alert.day)}, their mean {today.mean_pos:.3f}",
        line,
    ]


def _change(window: Window) -> str:
    if window.change is None:
        return "no counting days before to compare with"
    before = window.rule_ma3 - window.change
    n_before = len(window.before)
    days = {1: "the counting day", 2: "the two counting days", 3: "the three counting days"}[n_before]
    sign = "\N{MINUS SIGN}" if window.change < 0 else "+"
    return f"{sign}{abs(window.change):.3f} against {days} before ({before:.3f})"


def _quote_blocks(day: date, quotes: Sequence[str] | None) -> list[Block]:
    if quotes is None:
        return [_context(NOT_STORED)]
    if not quotes:
        return []
    heading = _section({**_text(f"Most negative posts of {_short(day)}"), "style": {"bold": True}})
    bars = [
        {"type": "rich_text_quote", "elements": [_text(f"“{escape(quote, 2 * MAX_QUOTE_CHARS)}”")]} for quote in quotes
    ]
    return [_rich_text(heading, *bars)]


def _word_blocks(words: Words | None) -> list[Block]:
    if words is None or not words.words:
        return []
    first, last = _short(words.first), _short(words.last)
    heading = f"Said more often than on {first}" if first == last else f"Said more often than from {first} to {last}"
    said = ", ".join(escape(clean(word, _MAX_WORD_CHARS), 2 * _MAX_WORD_CHARS) for word in words.words)
    block = _rich_text(_section({**_text(heading), "style": {"bold": True}}), _section(_text(said)))
    return [block | {"block_id": WORDS_BLOCK}]


def _rule_in_words(rule: Rule) -> str:
    certainty = f" with {rule.certainty:.0%} certainty" if rule.z else ""
    recovered_from = _number(rule.threshold + rule.recover_margin)
    return (
        f"Rule: the mean of up to three days with {rule.min_posts:,} posts or more, within {rule.max_span_days} days, "
        f"is below {_number(rule.threshold)}{certainty}. Recovered from {recovered_from} on."
    )


def _in_short(alert: PlannedAlert, rule: Rule) -> str:
    if alert.window is None:
        return f"none on {rule.no_data_days} days to {_long(alert.day)}"
    return (
        f"{alert.window.rule_ma3:.3f} over {_counting_days(len(alert.window.days))} to {_long(alert.day)}, "
        f"threshold {_number(rule.threshold)}"
    )


def _lines(block: Mapping[str, Any]) -> list[str]:
    """One block as lines of text."""
    if block["type"] == "header":
        return [*_wrapped(block["text"]["text"]), ""]
    if block["type"] == "section":
        pairs = [re.sub("[*`]", "", field["text"]).split("\n", 1) for field in block["fields"]]
        width = max(len(label) for label, _ in pairs)
        return [f"{label:<{width}}  {value}" for label, value in pairs] + [""]
    if block["type"] == "context":
        return _wrapped(" ".join(element["text"] for element in block["elements"]))
    lines: list[str] = []
    for part in block["elements"]:
        words = "".join(
            f"{element['text']} <{element['url']}>" if element["type"] == "link" else element["text"]
            for element in part["elements"]
        )
        lines += _wrapped(words, "▌ " if part["type"] == "rich_text_quote" else "")
    return [*lines, ""]


def _wrapped(escaped: str, before: str = "") -> list[str]:
    plain = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return [before + line for line in textwrap.wrap(printable(plain), _WIDTH - 2 - len(before)) or [""]]


def _rich_text(*elements: Block) -> Block:
    return {"type": "rich_text", "elements": list(elements)}


def _section(*elements: Block) -> Block:
    return {"type": "rich_text_section", "elements": list(elements)}


def _text(words: str) -> Block:
    return {"type": "text", "text": words}


def _context(words: str) -> Block:
    return {"type": "context", "elements": [{"type": "plain_text", "text": words, "emoji": False}]}


def _counting_days(n_days: int) -> str:
    return "one counting day" if n_days == 1 else f"{n_days} counting days"


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").ljust(4, "0")


def _long(day: date) -> str:
    return f"{day.day} {day:%B} {day.year}"


def _short(day: date) -> str:
    return f"{day.day} {day:%b}"
