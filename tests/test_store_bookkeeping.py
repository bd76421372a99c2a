"""Positions, files, dead letters, settings, daemons and models: what the store remembers besides posts."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from batches import NOW, STREAM, letter, post, rules, scored

from monitor.errors import ConfigError, PositionsMovedBack
from monitor.posts import MAX_RAW_BYTES, Place, Reason, StreamPartition
from monitor.store import deadletters, files, instances, models, positions, settings
from monitor.store.database import Database
from monitor.store.deadletters import Which
from monitor.store.files import FileCounts, TakenFile
from monitor.store.positions import Position, PositionRow
from monitor.store.saving import Saver

ONE, TWO = StreamPartition("topic@id", 0), StreamPartition("topic@id", 1)
SHA = "ab" * 32


def test_reset_moves_a_position_both_ways(database: Database) -> None:
    """`sources seek` may go back, unlike a save; other sources keep theirs."""
    positions.reset(database, "posts", ONE, 50)
    positions.reset(database, "other", ONE, 7)
    positions.reset(database, "posts", ONE, 10)
    assert positions.load(database, "posts") == {ONE: Position(10, None)}
    assert positions.listing(database) == [
        PositionRow("other", "topic@id", 0, 7, None),
        PositionRow("posts", "topic@id", 0, 10, None),
    ]


def test_a_leader_epoch_belongs_to_the_position_that_it_was_saved_with(database: Database) -> None:
    """It moves on with the position; whoever moves that in another way (a seek, an earlier program) leaves none."""
    saver = Saver(database, rules())
    first, second, late = scored([post(0), post(1)]), scored([post(2)]), scored([post(0)])
    for batch, epoch in ((first, 4), (second, 5), (late, 3)):
        batch.batch.epochs[StreamPartition(STREAM, 0)] = epoch
        saver.save(batch)
    at = StreamPartition(STREAM, 0)
    assert positions.load(database, "posts") == {at: Position(3, None, 5)}
    positions.reset(database, "posts", at, 2)
    positions.reset(database, "posts", at, 3)
    assert positions.load(database, "posts") == {at: Position(3, None)}
    positions.reset(database, "posts", at, 2)
    Saver(database, rules()).save(scored([post(2), post(3)]))
    assert positions.load(database, "posts") == {at: Position(4, None)}


def test_dead_letters_of_lost_records_make_room_for_those_of_new_ones(database: Database) -> None:
    """However often a log loses its end; those before the cut, of other partitions and of other sources stay."""
    at = StreamPartition(STREAM, 0)
    elsewhere = msgspec.structs.replace(letter(5), place=Place(STREAM, 1, 5))
    others = msgspec.structs.replace(letter(5), source="other")
    deadletters.save(database, [letter(4), letter(5), letter(6), elsewhere, others])
    for cut in (5, 5, 6):
        positions.go_back(database, "posts", at, cut, lost_from=cut)
        assert deadletters.save(database, [letter(5), letter(6)]) == (2 if cut == 5 else 1)
    positions.go_back(database, "posts", at, 0, lost_from=None)
    assert deadletters.save(database, [letter(4), letter(5), letter(6), elsewhere, others]) == 0
    places = sorted((row.stream, row.partition, row.position) for row in deadletters.listing(database, "posts"))
    lost = [(f"{STREAM} lost 1", 0, 5), (f"{STREAM} lost 1", 0, 6), (f"{STREAM} lost 2", 0, 5)]
    lost += [(f"{STREAM} lost 2", 0, 6), (f"{STREAM} lost 3", 0, 6)]
    assert places == [(STREAM, 0, 4), (STREAM, 0, 5), (STREAM, 0, 6), (STREAM, 1, 5), *lost]
    assert [row.stream for row in deadletters.listing(database, "other")] == [STREAM]
    assert positions.load(database, "posts")[at] == Position(0, None)


def test_lost_letters_that_were_purged_leave_no_name_that_is_taken(database: Database) -> None:
    """The next number is above every one that is there, wherever gaps are."""
    at = StreamPartition(STREAM, 0)
    for _ in range(2):
        deadletters.save(database, [letter(5)])
        positions.go_back(database, "posts", at, 5, lost_from=5)
    first = min(row.dead_letter_id for row in deadletters.listing(database))
    assert deadletters.purge(database, Which(ids=[first])) == 1
    deadletters.save(database, [letter(5)])
    positions.go_back(database, "posts", at, 5, lost_from=5)
    assert {row.stream for row in deadletters.listing(database)} == {f"{STREAM} lost 2", f"{STREAM} lost 3"}


def test_a_letter_of_other_bytes_at_the_same_offset_is_of_another_record(database: Database) -> None:
    """However a loss was missed: both stay. The same record stays as it was first refused; where bytes are not kept,
    and in files, a place has one record."""
    first, again = letter(5), msgspec.structs.replace(letter(5), reason=Reason.BAD_TEXT)
    other = msgspec.structs.replace(letter(5), raw=b"something else")
    assert deadletters.save(database, [first]) == 1
    assert deadletters.save(database, [again]) == 0
    assert deadletters.save(database, [letter(4), other]) == 2
    assert deadletters.save(database, [other]) == 0
    assert [(row.stream, row.raw) for row in deadletters.listing(database) if row.position == 5] == [
        (STREAM, b"something else"),
        (f"{STREAM} lost 1", first.raw),
    ]
    row = Place("ab" * 32, 0, 5)
    assert deadletters.save(database, [msgspec.structs.replace(first, place=row)], keep_raw=False) == 1
    assert deadletters.save(database, [msgspec.structs.replace(other, place=row)]) == 0


def test_begin_adds_positions_and_moves_none(database: Database) -> None:
    """What is there stays as it is, whoever was first; the rest is added."""
    positions.reset(database, "posts", ONE, 50)
    positions.begin(database, "posts", {ONE: 3, TWO: 8})
    positions.begin(database, "posts", {})
    assert positions.load(database, "posts") == {ONE: Position(50, None), TWO: Position(8, None)}


def test_pause_keeps_positions_and_adds_missing_ones(database: Database) -> None:
    """Every row of the source is paused, known partitions without a row get one; `resume` lets all read again."""
    positions.reset(database, "posts", ONE, 50)
    positions.pause(database, "posts", "too many refused", {ONE: 3, TWO: 8})
    assert positions.load(database, "posts") == {
        ONE: Position(50, "too many refused"),
        TWO: Position(8, "too many refused"),
    }
    assert positions.paused(database) == {"posts": "too many refused"}
    positions.reset(database, "posts", TWO, 9)
    assert positions.load(database, "posts")[TWO] == Position(9, "too many refused")
    assert positions.resume(database, "posts") == 2
    assert positions.resume(database, "posts") == 0
    assert positions.paused(database) == {}


def test_after_a_pause_the_source_is_judged_afresh(database: Database) -> None:
    """What led to the pause does not trip the source again at its first record after `resume`."""
    Saver(database, rules()).save(scored([letter(offset) for offset in range(99)]))
    positions.pause(database, "posts", "because", {})
    assert Saver(database, rules()).save(scored([letter(99)])).refused == {Reason.BAD_JSON: 1}


def test_taking_a_file_starts_its_content_again(database: Database) -> None:
    """The same content is read from row 0, under another name or under one whose file never moved (a crash)."""
    at = StreamPartition(SHA, 0)
    files.take(database, "inbox", "T1-a.csv", "a.csv", SHA, NOW - timedelta(seconds=1))
    files.finish(database, "inbox", "T1-a.csv", "failed", NOW)
    files.take(database, "inbox", "T1-a.csv", "a.csv", SHA, NOW)
    positions.reset(database, "inbox", at, 30)
    files.take(database, "inbox", "T2-b.csv", "b.csv", SHA, NOW + timedelta(seconds=1))
    assert positions.load(database, "inbox") == {at: Position(0, None)}
    assert files.unfinished(database, "inbox") == [
        TakenFile("T1-a.csv", "a.csv", SHA, NOW),
        TakenFile("T2-b.csv", "b.csv", SHA, NOW + timedelta(seconds=1)),
    ]
    assert files.shas_of(database, "a.csv") == files.shas_of(database, "T2-b.csv") == [("inbox", SHA)]
    assert files.shas_of(database, "c.csv") == []


def test_a_finished_file_stays_as_it_was_finished(database: Database) -> None:
    """A second `finish` does not turn done into failed; counters of an unknown file are zero."""
    files.take(database, "inbox", "T1-a.csv", "a.csv", SHA, NOW)
    files.finish(database, "inbox", "T1-a.csv", "done", NOW)
    files.finish(database, "inbox", "T1-a.csv", "failed", NOW)
    assert files.unfinished(database, "inbox") == []
    assert database.read(lambda c: c.exec_driver_sql("SELECT outcome FROM files").scalars().all()) == ["done"]
    assert files.counts(database, "inbox", "nowhere.csv") == FileCounts(0, 0, {})


def test_a_dead_file_is_one_dead_letter(database: Database) -> None:
    """`bad_file` stands at offset -1, once however often the same content is dropped."""
    dead = msgspec.structs.replace(letter(0, Reason.BAD_FILE, source="inbox"), place=Place(SHA, 0, -1), raw=b"\xff\xfe")
    for _ in range(2):
        files.save_dead_file(database, dead)
    [stored] = deadletters.listing(database)
    assert (stored.source, stored.stream, stored.position, stored.reason) == ("inbox", SHA, -1, "bad_file")
    assert stored.raw == b"\xff\xfe"


def test_dead_letters_are_listed_newest_first_and_chosen(database: Database) -> None:
    """By source and reason, at most `limit`; counts leave replayed ones out."""
    deadletters.save(database, [letter(n, Reason.BAD_ID if n % 2 else Reason.BAD_JSON) for n in range(6)])
    deadletters.save(database, [letter(0, source="other")])
    assert [stored.position for stored in deadletters.listing(database, source="posts", limit=3)] == [5, 4, 3]
    assert [stored.position for stored in deadletters.listing(database, reason=Reason.BAD_ID)] == [5, 3, 1]
    newest = deadletters.listing(database, limit=1)[0]
    assert deadletters.get(database, newest.dead_letter_id) == newest
    assert deadletters.get(database, 10**9) is None
    assert deadletters.mark_replayed(database, [newest.dead_letter_id], NOW) == 1
    assert deadletters.counts(database) == {"bad_json": 3, "bad_id": 3}
    assert deadletters.listing(database, limit=1)[0].replayed_at == NOW


def test_a_dead_letter_stays_as_it_was_first_refused(database: Database) -> None:
    """The same place again is no second letter and does not change the first."""
    assert deadletters.save(database, [letter(0)]) == 1
    assert deadletters.save(database, [letter(0, Reason.BAD_ID), letter(1)]) == 1
    assert [stored.reason for stored in deadletters.listing(database)] == ["bad_json", "bad_json"]


def test_a_dead_letter_keeps_at_most_64_kib(database: Database) -> None:
    """Longer bytes are cut and marked as cut; NUL in the sentence is replaced."""
    long = msgspec.structs.replace(letter(0), raw=b"x" * (MAX_RAW_BYTES + 1), detail="odd \0 sign")
    deadletters.save(database, [long, letter(1)])
    short_one, long_one = deadletters.listing(database)
    assert (len(long_one.raw or b""), long_one.raw_truncated) == (65_536, True)
    assert long_one.detail == "odd � sign"
    assert short_one.raw_truncated is False


def test_purge_deletes_what_fits_every_condition(database: Database) -> None:
    """ids, before, source and replayed narrow each other."""
    deadletters.save(database, [letter(n) for n in range(4)])
    deadletters.save(database, [letter(0, source="other")])
    replayed = [stored.dead_letter_id for stored in deadletters.listing(database, source="posts")][:2]
    deadletters.mark_replayed(database, replayed, NOW)
    assert deadletters.purge(database, Which(source="other", replayed=True)) == 0
    assert deadletters.purge(database, Which(before=NOW)) == 0
    first = Which(ids=replayed[:1], before=NOW + timedelta(seconds=1))
    assert (deadletters.count(database, first), deadletters.purge(database, first)) == (1, 1)
    assert deadletters.count(database, first) == 0
    assert deadletters.purge(database, Which(replayed=True)) == 1
    assert deadletters.purge(database, Which()) == 3


def test_purge_leaves_what_came_after_the_question_and_no_bytes_of_the_others(
    sqlite_url: str, open_database: Callable[[str], Database]
) -> None:
    """Another connection is open, as a daemon's is: the log is emptied all the same."""
    database = open_database(sqlite_url)
    deadletters.save(database, [msgspec.structs.replace(letter(n), raw=b"a mark of the refused") for n in range(20)])
    asked = deadletters.those_now(database, Which())
    deadletters.save(database, [msgspec.structs.replace(letter(30), raw=b"came later")])
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as daemon:
        daemon.execute("SELECT count(*) FROM dead_letters").fetchone()
        assert deadletters.purge(database, asked) == 20
        (left,) = deadletters.listing(database)
        assert left.raw == b"came later"
        files = Path(sqlite_url.removeprefix("sqlite:///")).parent.glob("*.db*")
        assert not [path.name for path in files if b"a mark of the refused" in path.read_bytes()]


def test_another_time_zone_is_refused(database: Database) -> None:
    """The first zone is remembered; another one names the remedy and exit code 78."""
    settings.claim_time_zone(database, "Europe/Berlin")
    settings.claim_time_zone(database, "Europe/Berlin")
    with pytest.raises(ConfigError, match=r"counts its days in Europe/Berlin.*db rebuild-days") as caught:
        settings.claim_time_zone(database, "UTC")
    assert caught.value.exit_code == 78


def test_the_hash_key_is_made_once(store_url: str, open_database: Callable[[str], Database]) -> None:
    """32 random bytes, the same for everybody who opens the store."""
    key = settings.hash_key(open_database(store_url))
    assert len(key) == 32
    assert settings.hash_key(open_database(store_url)) == key


def test_daemons_live_while_they_beat(database: Database) -> None:
    """A beat older than 15 s is dead; the latest state counts; a daemon that ends takes itself off."""
    instances.beat(database, "a:1", "all", NOW, NOW, {"lag": 5})
    instances.beat(database, "b:2", "ingest", NOW + timedelta(seconds=1), NOW + timedelta(seconds=8), {})
    instances.beat(database, "a:1", "all", NOW, NOW + timedelta(seconds=10), {"lag": 0, "at": NOW})
    [first, second] = instances.live(database, NOW + timedelta(seconds=20))
    assert (first.instance, first.state["lag"], first.beat_at) == ("a:1", 0, NOW + timedelta(seconds=10))
    assert (second.instance, second.role) == ("b:2", "ingest")
    assert [one.instance for one in instances.live(database, NOW + timedelta(seconds=24))] == ["a:1"]
    instances.remove(database, "a:1")
    assert instances.live(database, NOW + timedelta(seconds=11)) == [second]


@dataclass(frozen=True)
class _Bundle:
    name: str = "social-gru"
    sha256: str = "0123abcd" * 8
    classes: tuple[str, ...] = ("negative", "neutral", "positive")
    languages: tuple[str, ...] = ("en",)
    pred_threshold: float = 0.5
    metrics: dict[str, float] = field(default_factory=lambda: {"macro_recall": 0.61})


def test_models_are_noted_when_first_loaded(database: Database) -> None:
    """The first load stays; classes, languages and metrics come back as they were."""
    models.register(database, "social-gru@0123abcd", _Bundle(), NOW)
    models.register(database, "social-gru@0123abcd", _Bundle(), NOW + timedelta(days=1))
    [stored] = models.listing(database)
    assert (stored.loaded_at, stored.classes, stored.languages) == (NOW, ("negative", "neutral", "positive"), ("en",))
    assert stored.metrics == {"macro_recall": 0.61}


def test_a_saver_that_saved_nothing_yet_knows_where_reading_began(database: Database) -> None:
    """A daemon that went on from a stored position and finds an older one at its first save reads again, too."""
    Saver(database, rules()).save(scored([post(offset) for offset in range(5)]))
    late = scored([post(7)])
    [at] = late.batch.positions
    late.batch.starts[at] = 5
    fresh = Saver(database, rules())
    positions.reset(database, "posts", at, 3)
    with pytest.raises(PositionsMovedBack):
        fresh.save(late)
    assert positions.load(database, "posts") == {at: Position(3, None)}
    positions.reset(database, "posts", at, 5)
    assert fresh.save(late).n_inserted == 1
    assert positions.load(database, "posts") == {at: Position(8, None)}


def test_a_seek_back_reads_again_and_counts_once(database: Database) -> None:
    """After a reset the same records are seen before, and the position moves on from there.

    A saver that had come further says so first, so that a running daemon reads again from the stored position.
    """
    saver = Saver(database, rules())
    batch = scored([post(offset) for offset in range(5)])
    [at] = batch.batch.positions
    saver.save(batch)
    positions.reset(database, "posts", at, 0)
    with pytest.raises(PositionsMovedBack):
        saver.save(scored([post(5)]))
    assert positions.load(database, "posts") == {at: Position(0, None)}
    assert saver.save(batch).n_seen_before == 5
    assert positions.load(database, "posts") == {at: Position(5, None)}
