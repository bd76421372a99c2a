"""What a store holds, read with the database's own driver, and the pandas reference that it must equal."""

import hashlib
import io
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
from traffic import Message

MEAN_TOLERANCE = 1e-6


def url_in(folder: Path) -> str:
    """URL of the SQLite file of a configuration in `folder`."""
    return f"sqlite:///{folder / 'data' / 'sentiment.db'}"


def select(url: str, query: str) -> pd.DataFrame:
    """The rows of a query; dates as YYYY-MM-DD texts."""
    with closing(_connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        found = pd.DataFrame(cursor.fetchall(), columns=[column[0] for column in cursor.description])
    if "day" in found:
        found["day"] = found["day"].astype(str)
    return found


def count(url: str, query: str) -> int:
    """The one number that a query gives."""
    found: Any = select(url, query).iloc[0, 0]
    return int(found or 0)


def n_posts(url: str) -> int:
    """Rows of `posts`; 0 while there is no such table yet."""
    try:
        return count(url, "SELECT count(*) FROM posts")
    except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):
        return 0


def is_refreshed(url: str) -> bool:
    """Whether the daily rows hold every scored post."""
    return count(url, "SELECT sum(total) FROM daily_sentiment") == count(url, "SELECT count(pos_prob) FROM posts")


def posts(url: str) -> pd.DataFrame:
    """Every post; `row` is its row or offset, the last part of its position."""
    found = select(url, "SELECT brand, day, id, user_id, text, position, pos_prob, pred, label FROM posts")
    found["row"] = found["position"].str.rpartition(":")[2].astype(int)
    return found


def days_of(posts: pd.DataFrame) -> pd.DataFrame:
    """The reference: daily rows of posts (brand, day, pos_prob, pred) by brand and day, ma3 as the README has it."""
    by_day = posts.groupby(["brand", "day"])
    days = pd.DataFrame(
        {"total": by_day.size(), "positives": by_day["pred"].sum(), "mean_pos": by_day["pos_prob"].mean()}
    )
    days["ma3"] = days.groupby("brand")["mean_pos"].transform(lambda means: means.rolling(3, min_periods=1).mean())
    return days


def check_days(url: str, posts: pd.DataFrame) -> int:
    """`daily_sentiment` equals the reference made of `posts`; returns the number of rows compared."""
    found = select(url, "SELECT brand, day, total, positives, mean_pos, ma3 FROM daily_sentiment").set_index(
        ["brand", "day"]
    )
    expected = days_of(posts)
    assert set(found.index) == set(expected.index)
    found = found.loc[expected.index]
    for name in ("total", "positives"):
        assert (found[name].astype(int) == expected[name].astype(int)).all(), name
    for name in ("mean_pos", "ma3"):
        worst = (found[name] - expected[name]).abs().max()
        assert worst <= MEAN_TOLERANCE, f"{name} is off by {worst}"
    return len(found)


def check_file(url: str, content: bytes, zone: str = "UTC") -> int:
    """Rows and days in the store equal the input file, read by pandas; returns the number of daily rows compared.

    A post's `position` names its row in the file.
    """
    rows = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
    found = posts(url).set_index("row").sort_index()
    sha256 = hashlib.sha256(content).hexdigest()
    assert set(found["position"].str.partition(":")[0]) == {sha256[:12]}
    assert list(found.index) == list(range(len(rows)))
    assert list(found["text"]) == list(rows["text"])
    assert list(found["brand"]) == list(rows["brand"])
    expected = rows.assign(pos_prob=found["pos_prob"], pred=found["pred"])
    expected["day"] = (
        pd.to_datetime(rows["created_at"], utc=True, format="ISO8601").dt.tz_convert(ZoneInfo(zone)).dt.date.astype(str)
    )
    assert list(found["day"]) == list(expected["day"])
    return check_days(url, expected)


def check_totals(url: str) -> None:
    """`daily_totals` equals a recount of `posts` to the last digit."""
    rows = posts(url)
    rows["micro"] = (rows["pos_prob"] * 1_000_000).round().astype("int64")
    by_day = rows.groupby(["brand", "day"])
    recount = {
        key: (
            len(group),
            int(group["pred"].sum()),
            int(group["micro"].sum()),
            int((group["label"] == "negative").sum()),
        )
        for key, group in by_day
    }
    stored = select(
        url,
        "SELECT brand, day, sum(n) AS n, sum(positives) AS positives, sum(sum_micro) AS micro, "
        "sum(n_negative) AS negative FROM daily_totals GROUP BY brand, day",
    )
    columns = [stored[name].astype("int64") for name in ("n", "positives", "micro", "negative")]
    totals = dict(zip(zip(stored["brand"], stored["day"], strict=True), zip(*columns, strict=True), strict=True))
    assert totals == recount


def check_stream(url: str, sent: Iterable[tuple[Message, int]]) -> None:
    """Every good message is one post, every bad one one dead letter with its reason, and nothing else is there."""
    sent = list(sent)
    good = [message for message, _ in sent if message.reason is None]
    assert len({message.text for message in good}) == sum(not message.is_repeat for message in good), (
        "the feed repeats itself"
    )
    found = posts(url)
    counted = Counter(zip(found["text"], found["brand"], found["day"], strict=True))
    expected = {(message.text, message.brand, message.day) for message in good}
    assert set(counted) == expected, (
        f"{len(expected - set(counted))} posts lost, {len(set(counted) - expected)} not ours"
    )
    assert max(counted.values(), default=1) == 1, "posts counted twice"
    letters = select(url, "SELECT partition, position, reason FROM dead_letters")
    refused = Counter(letters.itertuples(index=False, name=None))
    assert refused == Counter(
        (message.partition, offset, message.reason) for message, offset in sent if message.reason is not None
    )


def _connect(url: str) -> Any:
    if url.startswith("sqlite:///"):
        return sqlite3.connect(
            f"{Path(url.removeprefix('sqlite:///')).absolute().as_uri()}?mode=ro", uri=True, timeout=10
        )
    return psycopg.connect(url, connect_timeout=5)
