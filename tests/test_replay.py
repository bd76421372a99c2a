"""`deadletters replay`: refused records count once they can be read, and never twice."""

from datetime import timedelta

import msgspec
from batches import NOW, STREAM, post, rows, rules, scored
from doubles import HashScorer

from monitor.config import Config
from monitor.posts import DeadLetter, Place, Reason, StreamPartition
from monitor.replay import Replayed, Wanted, replay
from monitor.store import daily, deadletters, positions
from monitor.store.database import Database
from monitor.store.saving import Saver

SHA = "ab" * 32
HEADER = b"created_at,text,user_id\r\n"
POSTS = {"name": "posts", "kind": "kafka", "bootstrap_servers": ["b:1"], "topics": ["posts"]}
INBOX = {"name": "inbox", "kind": "drop_folder", "path": "inbox"}


def config(**scoring: object) -> Config:
    """Both kinds of source, with these scoring settings."""
    return Config.model_validate({"sources": [POSTS, INBOX], "scoring": scoring})


def message(offset: int, value: bytes, reason: Reason = Reason.BAD_CREATED_AT) -> DeadLetter:
    """A refused Kafka message."""
    return DeadLetter("posts", Place(STREAM, 0, offset), NOW, reason, "Refused.", value)


def row(offset: int, cells: bytes, reason: Reason = Reason.TEXT_TOO_LONG) -> DeadLetter:
    """A refused row of a CSV, with its header as the drop folder keeps it."""
    return DeadLetter("inbox", Place(SHA, 0, offset), NOW, reason, "Refused.", HEADER + cells, line=offset + 2)


def refuse(db: Database, *letters: DeadLetter) -> None:
    """Store letters as the daemon did."""
    deadletters.save(db, letters)


def run(db: Database, wanted: Wanted | None = None, settings: Config | None = None) -> Replayed:
    """Replay with the scorer that needs no bundle."""
    return replay(settings or config(), db, HashScorer(), wanted or Wanted(), NOW)


def test_what_can_be_read_now_counts_once(database: Database) -> None:
    """After the mapping was corrected, a refused message counts, its day with it; a second replay changes nothing."""
    refuse(
        database, message(7, b'{"when": "2026-11-20", "text": "fine"}'), message(8, b'{"when": "never", "text": "x"}')
    )
    section = {**POSTS, "columns": {"created_at": "when"}}
    corrected = Config.model_validate({"sources": [section]})
    assert run(database) == Replayed(n_refused=2)
    assert run(database, settings=corrected) == Replayed(n_inserted=1, n_refused=1)
    assert rows(database, "SELECT source, position, text FROM posts") == [("posts", "posts:0:7", "fine")]
    assert [row.total for row in daily.daily_rows(database)] == [1]
    assert run(database, settings=corrected) == Replayed(n_refused=1)
    assert [letter.replayed_at for letter in deadletters.listing(database)] == [None, NOW]


def test_a_replayed_record_has_its_original_identity(database: Database) -> None:
    """A record that counted meanwhile, from the same place, is seen before and not counted again."""
    refuse(database, message(7, b'{"created_at": "2026-11-20", "text": "fine"}'))
    assert run(database).n_inserted == 1
    (letter,) = deadletters.listing(database)
    assert run(database, Wanted(ids=[letter.dead_letter_id])) == Replayed(n_seen_before=1)
    assert rows(database, "SELECT count(*) FROM posts") == [(1,)]


def test_a_record_that_kafka_has_lost_since_keeps_its_identity(database: Database) -> None:
    """It counted before its letter was set aside: it is seen before, and stays one post."""
    refuse(database, message(7, b'{"created_at": "2026-11-20", "text": "fine"}'))
    assert run(database).n_inserted == 1
    positions.go_back(database, "posts", StreamPartition(STREAM, 0), 5, lost_from=5)
    (letter,) = deadletters.listing(database)
    assert letter.stream == f"{STREAM} lost 1"
    assert run(database, Wanted(ids=[letter.dead_letter_id])) == Replayed(n_seen_before=1)
    assert rows(database, "SELECT count(*) FROM posts") == [(1,)]


def test_equal_rows_of_a_file_all_count(database: Database) -> None:
    """Rows without id that are equal keep their number among the equal rows, also when replayed one at a time."""
    cells = b"2026-11-20,a long text,ann\r\n"
    refuse(database, row(3, cells), row(5, cells), row(6, b"2026-11-20,another,bob\r\n"))
    newest, second, first = deadletters.listing(database)
    assert run(database, Wanted(ids=[second.dead_letter_id])).n_inserted == 1
    assert run(database, Wanted(ids=[first.dead_letter_id, newest.dead_letter_id])).n_inserted == 2
    assert rows(database, "SELECT count(*) FROM posts") == [(3,)]


def test_only_the_wanted_are_replayed(database: Database) -> None:
    """Source and reason choose; whole files, cut and blanked letters are told as not replayable."""
    good = b'{"created_at": "2026-11-20", "text": "t"}'
    refuse(
        database,
        message(1, good),
        message(2, good, Reason.EMPTY_TEXT),
        row(3, b"2026-11-20,t,u\r\n"),
        msgspec.structs.replace(message(4, good), raw_truncated=True),
        msgspec.structs.replace(row(-1, b"", Reason.BAD_FILE)),
    )
    assert run(database, Wanted(source="posts", reason="empty_text")) == Replayed(n_inserted=1)
    assert run(database, Wanted(source="posts")) == Replayed(n_inserted=1, n_skipped=1)
    assert run(database) == Replayed(n_inserted=1, n_skipped=2)


def test_letters_are_read_a_page_at_a_time(database: Database) -> None:
    """However many there are, few are in memory: more than a page of equal rows count, each once."""
    refuse(database, *(row(number, b"2026-11-20,same,ann\r\n") for number in range(300)))
    refuse(database, *(message(number, b'{"created_at": "2026-11-20", "text": "t"}') for number in range(5)))
    (stream,) = deadletters.streams_of(database, "inbox")
    pages = deadletters.in_order(database, "inbox", stream, 7)
    assert [letter.position for letter in pages] == list(range(300))
    assert run(database) == Replayed(n_inserted=305)
    assert deadletters.streams_of(database, "inbox") == []
    assert rows(database, "SELECT count(*) FROM posts") == [(305,)]


def test_a_replay_moves_no_position_and_pauses_nothing(database: Database) -> None:
    """Two hundred records that are refused again leave the source where it is, reading."""
    Saver(database, rules()).save(scored([post(500)]))
    refuse(database, *(message(offset, b"{") for offset in range(200)))
    assert run(database) == Replayed(n_refused=200)
    assert positions.load(database, "posts")[StreamPartition(STREAM, 0)].next_offset == 501
    assert positions.paused(database) == {}


def test_conflicts_found_while_saving_stay_letters(database: Database) -> None:
    """Of a chunk with an id conflict, the others count and are marked; the conflict waits on."""
    original = post(1, id="x", brand="default", day=NOW.date() - timedelta(days=1))
    Saver(database, rules()).save(scored([original]))
    lines = [
        b'{"created_at": "2026-11-20", "text": "%d", "id": "%s"}' % (n, name)
        for n, name in enumerate([b"x", b"y", b"z"])
    ]
    refuse(database, *(message(10 + n, line, Reason.ID_CONFLICT) for n, line in enumerate(lines)))
    assert run(database) == Replayed(n_inserted=2, n_refused=1)
    waiting = [letter.position for letter in deadletters.listing(database) if letter.replayed_at is None]
    assert waiting == [10]
    assert run(database) == Replayed(n_refused=1)
