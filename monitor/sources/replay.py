"""Dead letters parsed again, as the configuration reads them now, under the identity that they would have had at first.

A Kafka letter's raw is the message. A CSV letter's raw is the header line and the record's own lines (file_rows.py), so
it parses as a small CSV of one row. What was cut at MAX_RAW_BYTES, blanked by retention, or is about a whole file
cannot be parsed again.

A CSV row without id has its occurrence among equal rows of its file in its key. Equal rows are refused for the same
reason, so the occurrence is counted among the letters of that file: all of them must be given, also where only some are
wanted (a letter that was purged is missed).
"""

import io
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime

import msgspec

from monitor.parsing import Arrival, Parser
from monitor.posts import Place, Reason, Record
from monitor.sources.csv_rows import Header, UnusableHeader, rows_of
from monitor.sources.file_rows import record_of
from monitor.sources.occurrences import Occurrences
from monitor.store.deadletters import LOST, StoredDeadLetter


def can_be_replayed(letter: StoredDeadLetter) -> bool:
    """True where the whole record is still there (a null value was refused for having none)."""
    whole_file = letter.reason == Reason.BAD_FILE
    return letter.raw is not None and not letter.raw_truncated and not whole_file


def records_of(
    letters: Iterable[StoredDeadLetter], parser: Parser, now: datetime
) -> Iterator[tuple[StoredDeadLetter, Record | None]]:
    """Each letter with its record, None where it cannot be replayed.

    `letters` are all letters of one stream, by partition and position.
    """
    with closing(Occurrences()) as count_equal:
        for letter in letters:
            yield letter, _record_of(letter, parser, now, count_equal) if can_be_replayed(letter) else None


def _record_of(letter: StoredDeadLetter, parser: Parser, now: datetime, count_equal: Occurrences) -> Record:
    raw = letter.raw or b""
    place = Place(letter.stream, letter.partition, letter.position)
    topic, is_message, _ = letter.stream.rpartition("@")
    if is_message:
        first = msgspec.structs.replace(place, stream=letter.stream.partition(LOST)[0])  # as it was read at first
        arrival = Arrival(first, f"{topic}:{place.partition}:{place.offset}", now, raw)
        record = parser.parse_json(None if letter.reason == Reason.NULL_VALUE else raw, arrival)
        return msgspec.structs.replace(record, place=place)
    arrival = Arrival(place, f"{letter.stream[:12]}:{place.offset}", now, raw)
    return _row_of(raw, parser, arrival, count_equal)


def _row_of(raw: bytes, parser: Parser, arrival: Arrival, count_equal: Occurrences) -> Record:
    rows = list(rows_of(io.BytesIO(raw)))
    if len(rows) < 2:
        return parser.dead_letter(arrival, Reason.BAD_ROW, "the letter does not hold a header and a row")
    try:
        header = Header(rows[0].cells, parser.theirs)
    except UnusableHeader as error:
        return parser.dead_letter(arrival, Reason.BAD_ROW, str(error))
    return record_of(rows[1], header, arrival, parser, count_equal)
