"""Messages: what they say, and that nothing a user writes can ping, link, break the layout or steer a terminal."""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from example_messages import DAY, FALLING, POSTS, RULE, alert_of, examples, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from render_slack import page, words

from monitor.alerts import Kind
from monitor.messages import Words, as_text, escape, render, sparkline
from monitor.quotes import MAX_QUOTE_CHARS, Candidate, clean, pick

GOLDEN = Path(__file__).parent / "golden" / "slack_messages.txt"

hostile = st.text(
    alphabet=st.one_of(
        st.characters(codec=None),
        st.sampled_from(list("<>&*_~`|@#!:\x00\x1b\x9b\r\n\u202e\u2066\u200b\u200d\ufeff\u0301\u2028\ud800😡")),
    ),
    max_size=700,
)


def _leaves(block: Any) -> Iterator[tuple[str, str]]:
    """(type, text) of every text in a message."""
    if isinstance(block, dict):
        if isinstance(block.get("text"), str):
            yield block.get("type", "fallback"), block["text"]
        for value in block.values():
            yield from _leaves(value)
    elif isinstance(block, list):
        for value in block:
            yield from _leaves(value)


def _rendered(brand: str, texts: list[str]) -> dict[str, Any]:
    rows = rows_of(FALLING, brand)
    quotes = pick([Candidate(text, None) for text in texts])
    words = Words(texts[:5], DAY, DAY)  # worse than driver_words lets through
    return render(alert_of(Kind.DIP, rows, 2), RULE, rows, quotes, "https://monitor.example/", words)


def test_every_kind_reads_as_it_should() -> None:
    """The golden file shows each kind as a terminal prints it; judge changes of it by eye."""
    assert words(examples()) == GOLDEN.read_text(encoding="utf-8")


def test_the_same_blocks_can_be_drawn() -> None:
    """The page for judging by eye has every message, and user text is not markup there either."""
    drawn = page(examples())
    assert drawn.count("class=message") == len(examples())
    assert "&lt;!channel&gt;" in drawn


def test_a_message_survives_the_outbox() -> None:
    """as_text takes the JSON of alerts.message as well as the message."""
    for message in examples().values():
        assert as_text(json.dumps(message)) == as_text(message)


@settings(max_examples=150, deadline=None)
@given(hostile, st.lists(hostile, max_size=4))
def test_no_user_text_can_ping_link_or_break_the_layout(brand: str, texts: list[str]) -> None:
    """Whatever brand and posts hold: no bare < or >, nothing invisible, no user text in mrkdwn, all within limits."""
    message = _rendered(brand, texts)
    assert len(json.dumps(message, ensure_ascii=False)) < 8000
    for kind, text in _leaves(message):
        assert "<" not in text
        assert ">" not in text
        assert kind in {"plain_text", "text", "mrkdwn", "link", "fallback"}
        assert len(text) <= (150 if kind == "plain_text" and text == message["blocks"][0]["text"]["text"] else 3000)
        if kind != "mrkdwn":
            assert not {"Cc", "Cf", "Cs", "Zl", "Zp"} & {unicodedata.category(sign) for sign in text}
    assert [text for kind, text in _leaves(message) if kind == "mrkdwn"] == [
        text for kind, text in _leaves(_rendered("acme", [])) if kind == "mrkdwn"
    ]
    json.dumps(message).encode("utf-8")


@settings(max_examples=100, deadline=None)
@given(hostile, st.lists(hostile, max_size=4))
def test_no_user_text_can_steer_a_terminal(brand: str, texts: list[str]) -> None:
    """as_text prints only what shows, on lines that fit."""
    for line in as_text(_rendered(brand, texts)).split("\n"):
        assert line.isprintable() or not {"Cc", "Cf", "Cs", "Zl", "Zp"} & set(map(unicodedata.category, line))
        assert len(line) <= 100


@pytest.mark.parametrize(
    ("text", "max_chars", "escaped"),
    [
        ("a & b < c > d", 100, "a &amp; b &lt; c &gt; d"),
        ("&amp;", 100, "&amp;amp;"),
        ("&&&&", 11, "&amp;&amp;…"),
        ("&&", 3, "…"),
        ("&a", 5, "…"),
        ("plain", 5, "plain"),
    ],
)
def test_texts_are_cut_before_they_are_escaped(text: str, max_chars: int, escaped: str) -> None:
    """Escaped once, & first; an entity is never cut in half."""
    assert escape(text, max_chars) == escaped


def test_the_sparkline_has_a_sign_for_every_day() -> None:
    """Fourteen calendar days, a dot where there were no posts; a steady brand is drawn steady."""
    assert sparkline(rows_of(FALLING), DAY) == "██▇▇█·██▇▇▆▄▂▁"
    assert sparkline(rows_of((0.5, 0.51, 0.5)), DAY) == "···········▁▁▁"
    assert sparkline([], DAY) == "·" * 14


def test_cleaning_keeps_words_and_drops_what_steers() -> None:
    """Controls, bidi, zero width and addresses go; marks are thinned; long texts end with an ellipsis."""
    assert clean("a\x00b\x1b[31m\n\tc \u202eevil\u202c z\u200bz") == "a b [31m c evil zz"
    assert clean("see https://evil.example/x?y, www.evil.example or ftp://a.b") == "see [link] [link] or [link]"
    assert clean("z" + "\u0337" * 50 + "algo") == "z\u0337\u0337algo"
    assert clean("x" * 500) == "x" * (MAX_QUOTE_CHARS - 1) + "…"
    assert clean("Straße 東京 😡 naïve") == "Straße 東京 😡 naïve"


def test_quotes_are_of_different_authors_and_different_words() -> None:
    """One per author, no near-copies or reposts, nothing blank; posts without an author may all be quoted."""
    texts = [
        "The parcel never came",
        "RT @bob: the parcel never came https://t.example/1",
        "\u200b \n",
        "Rude support!",
    ]
    assert pick([Candidate(text, None) for text in texts]) == ["The parcel never came", "Rude support!"]
    assert pick([Candidate("one bad thing", "u"), Candidate("another sad story", "u")]) == ["one bad thing"]
    assert len(pick(POSTS)) == 3
    assert pick([Candidate("😡😡😡", None), Candidate("😡😡😡", None), Candidate("👎", None)]) == ["😡😡😡", "👎"]
