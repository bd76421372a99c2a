"""The save: what one transaction stores, and that nothing is ever counted twice."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import msgspec
import pandas as pd
import pytest
from batches import DAY, MODEL, NOW, STREAM, everything, letter, micro, mixed_batch, post, rows, rules, scored
from sqlalchemy import Engine, event, select, text

from monitor.errors import TooManyRefused
from monitor.posts import Batch, Place, Reason, Record, ScoredBatch, StreamPartition
from monitor.store import brands, daily, deadletters, files, positions
from monitor.store.database import Database
from monitor.store.saving import Saver
from monitor.store.schema import posts


def test_a_post_is_stored_with_every_column(database: Database) -> None:
    """Each column of `posts` holds what the record and its score said."""
    one = post(7, brand="acme", user_id="ann", lang="de", text="Ganz gut")
    saved = Saver(database, rules()).save(scored([one], [micro(712_345)]))
    assert (saved.n_inserted, saved.n_seen_before, saved.refused) == (1, 0, {})
    stored = database.read(lambda connection: connection.execute(select(posts)).one())._asdict()
    assert stored == {
        "post_key": one.post_key, "source": "posts", "position": f"{STREAM}:0:7", "brand": "acme", "id": "id-7",
        "created_at": one.created_at, "day": DAY, "user_id": "ann", "lang": "de", "text": "Ganz gut",
        "pos_prob": 0.712345, "pred": 1, "label": "positive",
        "p_negative": pytest.approx(0.287655), "p_neutral": 0.0, "p_positive": 0.712345,
        "model": MODEL, "scored_at": NOW, "content_hash": one.content_hash,
    }  # fmt: skip


def test_times_have_the_documented_form_on_sqlite(open_database: Callable[[str], Database], sqlite_url: str) -> None:
    """SQLite stores `YYYY-MM-DD HH:MM:SS.ffffff` in UTC, so that people can compare and sort the text."""
    db = open_database(sqlite_url)
    Saver(db, rules()).save(scored([post(0)]))
    assert rows(db, "SELECT created_at, scored_at, day FROM posts") == [
        ("2026-11-20 09:00:00.000000", "2026-11-21 10:15:00.000000", "2026-11-20")
    ]


def test_saving_a_batch_again_changes_nothing(database: Database) -> None:
    """A redelivered batch is counted as seen before and leaves every table as it was."""
    saver = Saver(database, rules())
    batch = mixed_batch(0, 300)
    first = saver.save(batch)
    before = everything(database)
    again = Saver(database, rules()).save(batch)
    assert everything(database) == before
    assert again.n_inserted == 0
    assert again.n_seen_before == first.n_inserted + first.n_seen_before
    assert again.refused == first.refused


def test_totals_equal_a_recount_by_pandas(database: Database) -> None:
    """n, positives, labels and sums per brand, day and source are those of the stored rows."""
    saver = Saver(database, rules())
    for start in (0, 200, 100, 400):  # 100..199 and 200..299 come twice
        saver.save(mixed_batch(start, 200))
    stored = pd.DataFrame([row._asdict() for row in database.read(lambda c: c.execute(select(posts)).all())])
    counted = stored.dropna(subset=["pos_prob"]).assign(micro=lambda f: (f.pos_prob * 1e6).round().astype(int))
    expected = counted.groupby(["brand", "day", "source", "model"]).agg(
        n=("micro", "size"), positives=("pred", "sum"), sum_micro=("micro", "sum")
    )
    found = pd.DataFrame(rows(database, "SELECT brand, day, source, model, n, positives, sum_micro FROM daily_totals"))
    found[1] = pd.to_datetime(found[1]).dt.date
    assert sorted(found.itertuples(index=False, name=None)) == sorted(
        expected.astype(int).reset_index().itertuples(index=False, name=None)
    )
    assert daily.recount(database) == []


def test_equal_keys_inside_a_batch_count_once(database: Database) -> None:
    """The first of two equal records is stored; the second was seen before."""
    saved = Saver(database, rules()).save(scored([post(0, id="a"), post(3600, id="a"), post(7200, id="a")]))
    assert (saved.n_inserted, saved.n_seen_before, saved.refused) == (1, 2, {})
    assert rows(database, "SELECT position FROM posts") == [(f"{STREAM}:0:0",)]


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_the_same_id_with_other_content_is_a_dead_letter(database: Database, in_one_batch: bool) -> None:
    """A known id with another text is refused at its own place, with its bytes; the first text stays."""
    first, second = post(0, id="a", text="as it was"), post(1, id="a", text="as it is now")
    saver = Saver(database, rules())
    if in_one_batch:
        saved = saver.save(scored([first, second]))
    else:
        saver.save(scored([first]))
        saved = saver.save(scored([second]))
    assert saved.refused == {Reason.ID_CONFLICT: 1}
    assert [conflict.place.offset for conflict in saved.conflicts] == [1]
    [stored] = deadletters.listing(database)
    assert (stored.reason, stored.position, stored.raw) == ("id_conflict", 1, b"as it is now")
    assert rows(database, "SELECT text FROM posts") == [("as it was",)]
    assert rows(database, "SELECT sum(n) FROM daily_totals") == [(1,)]


def test_a_conflict_found_again_is_one_dead_letter(database: Database) -> None:
    """Replaying a batch with a conflict inside leaves one dead letter."""
    batch = scored([post(0, id="a", text="x"), post(1, id="a", text="y")])
    for _ in range(3):
        assert Saver(database, rules()).save(batch).refused == {Reason.ID_CONFLICT: 1}
    assert len(deadletters.listing(database)) == 1


def test_equal_ids_of_two_brands_are_two_posts(database: Database) -> None:
    """Identity is (id_space, brand, id)."""
    saved = Saver(database, rules()).save(
        scored([post(0, id="a", brand="acme"), post(1, id="a", brand="globex", text="other")])
    )
    assert saved.n_inserted == 2


def test_brands_beyond_the_limit_are_refused(database: Database) -> None:
    """New brands are admitted in the order of appearance until max_brands; posts of known brands go on counting."""
    saver = Saver(database, rules(max_brands=2, max_invalid_share=1.0))
    saved = saver.save(scored([post(0, brand="b"), post(1, brand="a"), post(2, brand="c"), post(3, brand="b")]))
    assert saved.n_inserted == 3
    assert saved.refused == {Reason.TOO_MANY_BRANDS: 1}
    assert brands.listing(database) == ["a", "b"]
    assert Saver(database, rules(max_brands=2)).save(scored([post(4, brand="a")])).n_inserted == 1
    assert [stored.position for stored in deadletters.listing(database)] == [2]


def test_brands_of_a_batch_that_was_not_stored_are_not_taken_for_known(database: Database) -> None:
    """A brand that came with a refused batch takes no place and is admitted when it comes again."""
    saver = Saver(database, rules(max_brands=1))
    with pytest.raises(TooManyRefused):
        saver.save(scored([post(0, brand="early"), *(letter(offset) for offset in range(1, 120))]))
    assert brands.listing(database) == []
    assert saver.save(scored([post(0, brand="late")])).n_inserted == 1


def test_unscored_posts_are_stored_and_not_counted(database: Database) -> None:
    """A post whose language is skipped has a row without score, and no part in totals or daily rows."""
    saved = Saver(database, rules()).save(scored([post(0), post(1)], [None, micro(500_000)]))
    assert saved.n_inserted == 2
    assert rows(database, "SELECT n, sum_micro FROM daily_totals") == [(1, 500_000)]
    assert rows(database, "SELECT count(*) FROM posts WHERE pos_prob IS NULL AND pred IS NULL AND label IS NULL") == [
        (1,)
    ]


def test_what_sql_refuses_is_replaced(database: Database) -> None:
    """NUL and lone surrogates become U+FFFD in every text column; other control characters stay."""
    odd = "a\0b\ud800c\u202e\x07"
    one = post(0, id=odd, brand=odd, user_id=odd, lang=odd, text=odd)
    saver = Saver(database, rules())
    saver.save(scored([one]))
    clean = "a�b�c\u202e\x07"
    assert rows(database, "SELECT id, brand, user_id, lang, text FROM posts") == [(clean,) * 5]
    assert saver.save(scored([one])).n_seen_before == 1


@pytest.mark.parametrize(("choice", "stored"), [("keep", "ann"), ("drop", None)])
def test_users_are_kept_or_dropped_as_configured(database: Database, choice: str, stored: str | None) -> None:
    """store.user_id keep stores the author, drop none."""
    Saver(database, rules(user_id=choice)).save(scored([post(0, user_id="ann")]))
    assert rows(database, "SELECT user_id FROM posts") == [(stored,)]


def test_hashed_users_can_be_told_apart_and_not_read(database: Database) -> None:
    """store.user_id hash: equal authors have equal hashes, which depend on the store's key."""
    Saver(database, rules(user_id="hash")).save(
        scored([post(0, user_id="ann"), post(1, user_id="ann"), post(2, user_id="bob")])
    )
    other = replace(rules(user_id="hash"), hash_key=b"o" * 32)
    Saver(database, other).save(scored([post(3, user_id="ann")]))
    by_offset = [str(user) for (user,) in rows(database, "SELECT user_id FROM posts ORDER BY id")]
    assert by_offset[0] == by_offset[1]
    assert len(set(by_offset)) == 3
    assert not any("ann" in user or "bob" in user for user in by_offset)


def test_without_keep_text_no_words_are_stored(database: Database) -> None:
    """keep_text false stores no text, author, language or bytes of dead letters; replays still count once."""
    saver = Saver(database, rules(keep_text=False))
    batch = scored([post(0), letter(1), post(2, id="id-0", text="other")])
    saver.save(batch)
    assert rows(database, "SELECT text, user_id, lang FROM posts") == [(None, None, None)]
    assert [stored.raw for stored in deadletters.listing(database)] == [None, None]
    assert saver.save(batch).n_inserted == 0


def test_positions_never_go_back(database: Database) -> None:
    """A late writer cannot move a position back; a pause reason stays through saves."""
    saver = Saver(database, rules())
    at = StreamPartition(STREAM, 0)
    saver.save(scored([post(9)]))
    positions.pause(database, "posts", "because", {})
    saver.save(scored([post(3)]))
    assert positions.load(database, "posts") == {at: positions.Position(10, "because")}


def test_positions_move_without_records(database: Database) -> None:
    """Where a log holds what is never delivered, a batch is a position alone: it moves, and nothing else changes."""
    saver = Saver(database, rules())
    saver.save(mixed_batch(0, 30))
    before = everything(database)
    at = StreamPartition(STREAM, 0)
    saved = saver.save(ScoredBatch(Batch("posts", [], {at: 630}), [], MODEL, NOW))
    assert (saved.n_inserted, saved.n_seen_before, saved.refused) == (0, 0, {})
    assert positions.load(database, "posts")[at].next_offset == 630
    after = everything(database)
    assert {table for table in after if after[table] != before[table]} == {"positions"}


def test_too_many_refused_stores_nothing(database: Database) -> None:
    """The batch that trips the window raises, and neither posts nor positions nor the window change."""
    saver = Saver(database, rules())
    saver.save(scored([post(offset) for offset in range(60)]))
    before = everything(database)
    with pytest.raises(TooManyRefused) as caught:
        saver.save(scored([*(letter(offset) for offset in range(60, 140)), post(140)]))
    assert (caught.value.n_refused, caught.value.n_judged) == (61, 121)
    assert everything(database) == before


def test_a_refusal_tells_reasons_and_places(database: Database) -> None:
    """Nothing of the batch is stored, so the refusal counts its reasons and says where the first of each lies."""
    Saver(database, rules()).save(scored([post(0, id="same", text="first")]))
    messages = [msgspec.structs.replace(letter(offset), line=None) for offset in range(2, 102)]
    records: list[Record] = [post(1, id="same", text="other"), *messages, letter(102, Reason.EMPTY_TEXT)]
    with pytest.raises(TooManyRefused) as caught:
        Saver(database, rules()).save(scored(records))
    assert caught.value.sentence == (
        "99 of the last 100 records were refused; in the batch that was not stored: "
        "bad_json 100 (first at posts:0:2), id_conflict 1 (first at posts:0:1), empty_text 1 (first on line 104)"
    )


def test_the_window_is_kept_across_restarts(database: Database) -> None:
    """Refused records of earlier batches count, whoever saved them."""
    Saver(database, rules()).save(scored([letter(offset) for offset in range(50)]))
    Saver(database, rules()).save(scored([post(offset) for offset in range(50, 100)]))
    with pytest.raises(TooManyRefused):
        Saver(database, rules()).save(scored([letter(100)]))
    positions.reset_outcomes(database, "posts")
    assert Saver(database, rules()).save(scored([letter(100)])).refused == {Reason.BAD_JSON: 1}


def test_conflicts_and_brands_too_many_count_as_refused(database: Database) -> None:
    """What is refused while saving is judged like what was refused while parsing."""
    saver = Saver(database, rules(max_brands=1))
    saver.save(scored([post(offset, id="same", text="first") for offset in range(1)]))
    conflicts = [post(offset, id="same", text=f"text {offset}") for offset in range(1, 60)]
    with pytest.raises(TooManyRefused):
        saver.save(scored([*conflicts, *(post(offset, brand=f"brand {offset}") for offset in range(60, 120))]))


def test_records_before_the_stored_position_are_not_judged_again(database: Database) -> None:
    """The same refused batch, delivered often, is judged once: a doubtful commit must not trip a healthy source."""
    saver = Saver(database, rules())
    saver.save(scored([post(offset) for offset in range(90)]))
    batch = scored([letter(offset) for offset in range(90, 130)])
    for _ in range(5):
        saver.save(batch)
    [(outcomes,)] = rows(database, "SELECT outcomes FROM recent_outcomes")
    assert outcomes == "." * 90 + "x" * 40


def test_a_file_counts_its_rows_once(database: Database) -> None:
    """Counted, seen before and refused rows with the first line of each reason add up per file, replays left out."""
    files.take(database, "inbox", "T-a.csv", "a.csv", "f" * 64, NOW)
    saver = Saver(database, rules())
    row = partial(post, source="inbox", stream="f" * 64)
    bad_row = partial(letter, reason=Reason.BAD_ROW, source="inbox", stream="f" * 64)
    known = row(0)
    again = msgspec.structs.replace(known, place=Place("f" * 64, 0, 3))
    first: list[Record] = [known, bad_row(1), row(2, id="id-0", text="other")]
    second: list[Record] = [again, bad_row(4), row(5)]
    for records in (first, second, second, first):
        saver.save(scored(records, source="inbox", file="T-a.csv"))
    found = files.counts(database, "inbox", "T-a.csv")
    assert found == files.FileCounts(2, 1, {"bad_row": (2, 3), "id_conflict": (1, None)})


def test_statements_per_batch_do_not_grow(database: Database) -> None:
    """A batch of 2,400 records takes as many statements as one of 600, and one of 40 takes no more."""
    saver = Saver(database, rules())
    saver.save(scored([post(0)]))
    n_statements = []
    for n in (40, 600, 2400):
        records: list[Record] = [letter(1000 * n), *[post(1000 * n + k) for k in range(1, n)]]
        n_statements.append(n_statements_of(partial(saver.save, scored(records))))
    assert n_statements[0] <= n_statements[1] == n_statements[2] <= 13


def n_statements_of(action: Callable[[], object]) -> int:
    """How many statements the action sends."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        statements.append(sql)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        action()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return len(statements)


def test_a_brand_whose_row_is_gone_gets_one_again(database: Database) -> None:
    """A daemon that runs while its database is restored from an older dump goes on refreshing brands that it knew."""
    saver = Saver(database, rules())
    saver.save(scored([post(0)]))
    database.run(lambda connection: connection.execute(text("DELETE FROM brands")))
    saver.save(scored([post(1)]))
    assert daily.refresh(database, NOW) == ["acme"]
    assert [row.total for row in daily.daily_rows(database)] == [2]
