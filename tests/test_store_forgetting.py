"""Forgetting and retention: words go, counts stay right, replays still count once."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from batches import DAY, NOW, everything, letter, micro, post, rows, rules, scored
from sqlalchemy import insert

from monitor.posts import Post, StreamPartition
from monitor.store import daily, deadletters, files, positions
from monitor.store.database import Database
from monitor.store.forgetting import Forgotten, Which, find, forget, holds_field
from monitor.store.retention import Retained, retain
from monitor.store.saving import Saver
from monitor.store.schema import alerts

KEY = b"k" * 32
SHA = "0123456789abcdef" * 4


def file_post(row: int, text: str = "words", sha: str = SHA, **options: Any) -> Post:
    """A row of a dropped file."""
    one = post(row, source="inbox", stream=sha, text=text, **options)
    return msgspec.structs.replace(one, label_of_place=f"{sha[:12]}:{row}")


def add_alert(db: Database, brand: str = "acme", day: Any = DAY, state: str = "sent") -> None:
    """An alert whose message quotes a post."""
    quote = {"type": "rich_text_quote", "elements": [{"type": "text", "text": "private words"}]}
    heading = {"type": "rich_text_section", "elements": [{"type": "text", "text": "Most negative posts"}]}
    header = {"type": "header", "text": {"type": "plain_text", "text": f"{brand} is down"}}
    message = {"text": "down", "blocks": [header, {"type": "rich_text", "elements": [heading, quote]}]}
    values = {"alert_key": f"{brand}/{day}/dip", "brand": brand, "day": day, "kind": "dip", "attempts": 0}
    values |= {"message": json.dumps(message), "state": state, "created_at": NOW}
    db.run(lambda connection: connection.execute(insert(alerts).values(values)))


def test_forgetting_a_user_is_as_if_the_user_had_never_posted(database: Database) -> None:
    """Totals and daily rows are those of the other posts; the brand's days follow at the next refresh."""
    saver = Saver(database, rules())
    records = [
        post(n, user_id="ann" if n % 3 else "bob", brand=f"brand {n % 2}", day=DAY - timedelta(days=n % 4))
        for n in range(60)
    ]
    scores = [micro(n * 10_000) for n in range(60)]
    of_bob = [(record, score) for record, score in zip(records, scores, strict=True) if record.user_id == "bob"]
    saver.save(scored([record for record, _ in of_bob], [score for _, score in of_bob]))
    daily.refresh(database, NOW)
    without_ann = everything(database)
    saver.save(scored(records, scores))
    daily.refresh(database, NOW)
    expected = find(database, Which(user="ann"), KEY)
    forgotten = forget(database, Which(user="ann"), KEY)
    assert forgotten == expected
    assert forgotten.n_posts == 40
    assert set(forgotten.days) == {(f"brand {n % 2}", DAY - timedelta(days=n % 4)) for n in range(60) if n % 3}
    daily.refresh(database, NOW)
    found = everything(database)
    for name in ("posts", "daily_totals", "daily_sentiment"):
        assert found[name] == without_ann[name]
    assert daily.recount(database) == []


def test_a_day_without_posts_loses_its_row(database: Database) -> None:
    """When the last post of a day is forgotten, its totals and its daily row go too, and ma3 closes up."""
    saver = Saver(database, rules())
    records = [post(n, day=DAY + timedelta(days=n), user_id="ann" if n == 1 else "bob") for n in range(4)]
    saver.save(scored(records, [micro(n * 100_000) for n in range(4)]))
    daily.refresh(database, NOW)
    forget(database, Which(user="ann"), KEY)
    daily.refresh(database, NOW)
    assert [(row.day - DAY).days for row in daily.daily_rows(database)] == [0, 2, 3]
    assert daily.daily_rows(database)[-1].ma3 == pytest.approx((0.0 + 0.2 + 0.3) / 3)
    assert rows(database, "SELECT count(*) FROM daily_totals") == [(3,)]


def test_hashed_users_are_found(database: Database) -> None:
    """With store.user_id hash, a user is forgotten by the plain name."""
    saver = Saver(database, rules(user_id="hash"))
    saver.save(scored([post(0, user_id="ann"), post(1, user_id="bob")]))
    assert forget(database, Which(user="ann"), rules().hash_key).n_posts == 1
    assert forget(database, Which(user="carol"), rules().hash_key) == Forgotten(0, ())


def test_a_forgotten_id_may_count_again(database: Database) -> None:
    """Its key is free: the same id with corrected content is a new post, not a conflict."""
    saver = Saver(database, rules())
    saver.save(scored([post(0, id="a", text="wrong"), post(1, id="b")]))
    assert forget(database, Which(id="a"), KEY) == Forgotten(1, (("acme", DAY),))
    assert saver.save(scored([post(2, id="a", text="right")])).n_inserted == 1
    assert rows(database, "SELECT id, text FROM posts ORDER BY id") == [("a", "right"), ("b", "A plain text")]


def test_forgetting_a_file_takes_out_its_rows_only(database: Database) -> None:
    """Posts that came in by that content go, its dead letters lose their bytes, and it can be dropped again."""
    other = "f" * 64
    files.take(database, "inbox", "T1-a.csv", "a.csv", SHA, NOW)
    files.take(database, "inbox", "T2-b.csv", "b.csv", other, NOW)
    saver = Saver(database, rules())
    batch = scored([file_post(0), file_post(1), letter(2, source="inbox", stream=SHA)], source="inbox", file="T1-a.csv")
    saver.save(batch)
    saver.save(scored([file_post(0, sha=other, id="x"), letter(1, source="inbox", stream=other)], source="inbox"))
    assert find(database, Which(file="a.csv"), KEY) == Forgotten(2, (("acme", DAY),), 1)
    assert forget(database, Which(file="a.csv"), KEY) == Forgotten(2, (("acme", DAY),), 1)
    assert rows(database, "SELECT id FROM posts") == [("x",)]
    assert [stored.raw for stored in deadletters.listing(database)] == [b"{", None]
    assert positions.load(database, "inbox")[StreamPartition(SHA, 0)].next_offset == 0
    assert saver.save(batch).n_inserted == 2
    assert forget(database, Which(file="unknown.csv"), KEY) == Forgotten(0, ())


def test_words_of_a_forgotten_user_leave_dead_letters_and_alerts(database: Database) -> None:
    """Bytes that hold the user as a field go, alerts of the days concerned lose their quotes and can still be sent."""
    Saver(database, rules()).save(scored([post(0, user_id="ann"), post(1, user_id="bob", brand="globex")]))
    raws = [
        b'{"user_id": "ann", "text": 5}',
        b'{"user_id": "joanna"}',
        b'{"user": "ann", "te',
        b"2026-01-01,hi,ann,more",
    ]
    letters = [msgspec.structs.replace(letter(10 + n), raw=raw) for n, raw in enumerate(raws)]
    deadletters.save(database, letters)
    add_alert(database, state="pending")
    add_alert(database, brand="globex")
    assert find(database, Which(user="ann"), KEY).n_dead_letters == 3
    assert forget(database, Which(user="ann"), KEY).n_dead_letters == 3
    assert find(database, Which(user="ann"), KEY) == Forgotten(0, ())
    assert [stored.raw for stored in deadletters.listing(database)] == [None, None, b'{"user_id": "joanna"}', None]
    messages = {str(brand): message for brand, message in rows(database, "SELECT brand, message FROM alerts")}
    assert "private words" not in str(messages["acme"])
    assert json.loads(str(messages["acme"]))["blocks"][0]["text"]["text"] == "acme is down"
    assert "private words" in str(messages["globex"])


@pytest.mark.parametrize(
    ("raw", "value", "held"),
    [
        (b'{"id": 17, "text": ""}', "17", True),
        (b'{"id": 170, "text": "17 times"}', "17", False),
        (b'"2026-01-01",hi,"ann"\r\n', "ann", True),
        (b"2026-01-01,hi ann,bob", "ann", False),
        (b'2026-01-01,"hi ann', "ann", True),
        (b'{"user_id": "an', "ann", False),
        (b"\xff\xfeann", "ann", False),
        (b'["ann"', "ann", True),
        (b"17", "17", True),
        (b'[{"user_id": "ann"}]', "ann", True),
        (b'{"user": {"id": "ann", "age": 5}}', "ann", True),
        (b'{"user": {"name": "joanna"}, "text": "hi ann"}', "ann", False),
        (b'{"user_id": "ann", "user_id": "bob"}', "ann", True),
        (b'{"user_id": "M\\u00fcller", "text": "cut he', "M\u00fcller", True),
        (b'{"user_id": "a\\/b", "text": "cut he', "a/b", True),
        (b'{"user_id": "\\ud83d\\ude00", "text": "cut he', "\U0001f600", True),
        (b"[" * 100_000, "ann", False),
        (b"time;text;user\n2026-06-01;hi;ann\n", "ann", True),
        (b"time\ttext\tuser\n2026-06-01\thi ann\tbob\n", "ann", False),
        (gzip.compress(b"time,text,user\n2026-06-01,hi,ann\n", mtime=0)[:-6], "ann", True),
        (gzip.compress(b"time,text,user\n2026-06-01,hi,bob\n", mtime=0)[:-6], "ann", False),
        (b"\x1f\x8b no gzip", "ann", True),
        (b"", "ann", False),
        ("text,user_id\nhi,ann\n".encode("utf-16"), "ann", True),
    ],
)
def test_which_bytes_hold_a_field(raw: bytes, value: str, held: bool) -> None:
    """Whole fields of JSON and CSV are compared; in broken records the value counts as a word anywhere."""
    assert holds_field(raw, value) is held


def test_retention_blanks_words_and_keeps_counts(database: Database) -> None:
    """Old posts lose text, author and language, old letters their bytes, old alerts their message; newer ones stay."""
    saver = Saver(database, rules())
    old = DAY - timedelta(days=40)
    batch = scored([post(0, day=old), post(1, day=DAY), post(2, day=old, id=None)])
    saver.save(batch)
    daily.refresh(database, NOW)
    days = daily.daily_rows(database)
    received = datetime(old.year, old.month, old.day, tzinfo=UTC)
    deadletters.save(database, [msgspec.structs.replace(letter(3), received_at=received), letter(4)])
    add_alert(database, day=old)
    add_alert(database, day=DAY)
    assert retain(database, NOW, 30, keep_text=True) == Retained(2, 1, 1)
    assert rows(database, "SELECT text, user_id, lang FROM posts WHERE day < '2026-11-01'") == [(None, None, None)] * 2
    assert rows(database, "SELECT text, user_id, lang FROM posts WHERE day > '2026-11-01'") == [
        ("A plain text", "ann", "en")
    ]
    assert [stored.raw for stored in deadletters.listing(database)] == [b"{", None]
    assert [message is None for (message,) in rows(database, "SELECT message FROM alerts ORDER BY day")] == [
        True,
        False,
    ]
    assert retain(database, NOW, 30, keep_text=True) == Retained(0, 0, 0)
    assert saver.save(batch).n_seen_before == 3
    daily.refresh(database, NOW)
    assert daily.daily_rows(database) == days
    assert daily.recount(database) == []


def test_the_day_at_the_limit_is_kept(database: Database) -> None:
    """Exactly retention_days old is not too old."""
    Saver(database, rules()).save(scored([post(0, day=NOW.date() - timedelta(days=30))]))
    assert retain(database, NOW, 30, keep_text=True).n_posts == 0
    assert retain(database, NOW + timedelta(days=1), 30, keep_text=True).n_posts == 1


def test_turning_keep_text_off_blanks_what_is_there(database: Database) -> None:
    """All posts and letters are blanked; alerts can still be read and sent, without their quotes."""
    Saver(database, rules()).save(scored([post(0), letter(1)]))
    add_alert(database, state="pending")
    assert retain(database, NOW, 365, keep_text=False) == Retained(1, 1, 1)
    assert rows(database, "SELECT text, user_id, lang FROM posts") == [(None, None, None)]
    assert deadletters.listing(database)[0].raw is None
    [(message,)] = rows(database, "SELECT message FROM alerts")
    assert "down" in str(message)
    assert "private words" not in str(message)


def test_an_old_alert_that_waits_keeps_its_message_without_quotes(database: Database) -> None:
    """A pending alert is not blanked into something that can never be sent."""
    old = DAY - timedelta(days=400)
    add_alert(database, day=old, state="pending")
    assert retain(database, NOW, 365, keep_text=True).n_messages == 1
    [(message,)] = rows(database, "SELECT message FROM alerts")
    assert "is down" in str(message)
    assert "private words" not in str(message)


def test_many_posts_of_a_day_are_blanked_in_parts(database: Database) -> None:
    """A day with more posts than one transaction takes is blanked whole."""
    Saver(database, rules()).save(scored([post(n, day=DAY - timedelta(days=99)) for n in range(5500)]))
    assert retain(database, NOW, 30, keep_text=True).n_posts == 5500
