"""The example queries of README.md, asked of SQLite and PostgreSQL as they stand there."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from batches import NOW, letter, micro, post, rows, rules, scored
from readme_parts import blocks
from sqlalchemy import insert

from monitor.posts import Reason, Record
from monitor.store import daily, deadletters
from monitor.store.database import Database
from monitor.store.saving import Saver
from monitor.store.schema import alerts

GOOD, BAD, PLAIN = 800_000, 100_000, 600_000  #: scores in millionths
LAST = date(2026, 6, 3)
QUERIES = {block.name: block.body for block in blocks("sql")}

#: what each query answers over `filled`
ANSWERS: dict[str, list[tuple[object, ...]]] = {
    "worst-brands": [("Northwind", 40, 0.45), ("Fabrikam", 45, 0.6)],
    "ma3-series": [("2026-06-02", 20, 0.8, 0.8, 0.8, 0.8), ("2026-06-03", 20, 0.1, 0.1, 0.1, 0.45)],
    "negative-share": [
        ("2026-05-20", 1, 0),
        *((f"2026-05-{day}", 0, 0) for day in range(28, 32)),
        ("2026-06-01", 0, 0),
        ("2026-06-02", 0, 1),
        ("2026-06-03", 25 / 65, 0),
    ],
    "alert-history": [("2026-06-03", "dip", 0.4, 0.45, 20, "sent", "2026-11-21")],
    "most-negative": [("2026-06-03", "ann", 0.1, f"Cold coffee {n}") for n in range(20)],
    "dead-letters-by-reason": [("posts", "bad_json", 2, "2026-11-21"), ("posts", "empty_text", 1, "2026-11-21")],
    "model-seam": [("Northwind", "2026-06-03", 2, "first@00000001", "second@00000002")],
    "posts-to-label": [
        ("Northwind", day, f"{words} coffee {n}", "")
        for day, words in (("2026-06-02", "Great"), ("2026-06-03", "Cold"))
        for n in range(20)
    ],
}


class Filler:
    """Saves posts one place after the other."""

    def __init__(self, db: Database) -> None:
        self._saver = Saver(db, rules())
        self._offset = 0

    def posts(self, brand: str, day: date, score: int, texts: Sequence[str], model: str = "first@00000001") -> "Filler":
        """One post for each text, all with one score."""
        records: list[Record] = []
        for words in texts:
            records.append(post(self._offset, brand=brand, day=day, text=words))
            self._offset += 1
        self._saver.save(scored(records, [micro(score)] * len(records), model=model))
        return self

    def letters(self, *reasons: Reason) -> "Filler":
        """One refused record for each reason."""
        records = [letter(self._offset + n, reason) for n, reason in enumerate(reasons)]
        self._offset += len(records)
        self._saver.save(scored(records))
        return self


@pytest.fixture
def filled(database: Database) -> Database:
    """Three brands over two weeks, two bundles on one day, an alert sent and one past, four dead letters."""
    cold = [f"Cold coffee {n}" for n in range(20)]
    filler = Filler(database)
    filler.posts("Northwind", LAST - timedelta(days=1), GOOD, [f"Great coffee {n}" for n in range(20)])
    filler.posts("Northwind", LAST, BAD, cold[:10]).posts("Northwind", LAST, BAD, cold[10:], "second@00000002")
    filler.posts("Fabrikam", LAST, PLAIN, [f"A shop {n}" for n in range(40)])
    filler.posts("Contoso", LAST, 0, ["Few"] * 5)
    filler.posts("Fabrikam", date(2026, 5, 20), 0, ["Long ago"])
    for back in range(2, 7):
        filler.posts("Fabrikam", LAST - timedelta(days=back), PLAIN, ["A shop"])
    filler.letters(Reason.BAD_JSON, Reason.BAD_JSON, Reason.EMPTY_TEXT, Reason.BAD_TEXT)
    deadletters.mark_replayed(database, [deadletters.listing(database)[0].dead_letter_id], NOW)
    daily.refresh(database, NOW)
    told = {"brand": "Northwind", "rule_ma3": 0.4, "threshold": 0.45, "total": 20, "attempts": 1, "created_at": NOW}
    sent = {**told, "alert_key": "a", "day": LAST, "kind": "dip", "state": "sent", "sent_at": NOW}
    past = {**told, "alert_key": "b", "day": LAST, "kind": "still_down", "state": "past", "sent_at": None}
    database.run(lambda connection: connection.execute(insert(alerts), [sent, past]))
    return database


def test_every_query_is_asked() -> None:
    """No query of the page goes without an answer here."""
    assert list(QUERIES) == list(ANSWERS)


def test_queries_answer(filled: Database) -> None:
    """Each query runs on both databases and answers with the figures worked out by hand."""
    answers = {name: [tuple(map(_plain, row)) for row in rows(filled, query)] for name, query in QUERIES.items()}
    answers["most-negative"].sort(key=lambda row: int(str(row[-1]).split()[-1]))  # all with one score: in any order
    answers["posts-to-label"].sort(key=lambda row: (row[1], int(str(row[2]).split()[-1])))  # at random
    assert answers == {name: [_approximately(row) for row in expected] for name, expected in ANSWERS.items()}


def _plain(value: object) -> object:
    """Numbers as float, times as their day: SQLite has texts for them."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | datetime) or (isinstance(value, str) and value.startswith("2026-")):
        return str(value)[:10]
    return value


def _approximately(row: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(pytest.approx(cell) if isinstance(cell, float | int) else cell for cell in row)
