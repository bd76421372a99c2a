"""Forgetting: posts go out, with what they counted, their keys, and their words in dead letters and alerts."""

import csv
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from sqlalchemy import ColumnElement, Connection, and_, false, func, or_, select

from monitor.posts import StreamPartition
from monitor.store import files
from monitor.store.blanking import (
    blank_dead_letters_in,
    count_dead_letters_in,
    delete_posts_in,
    of_brand_days,
    of_later_days,
    take_quotes_out_in,
)
from monitor.store.brands import earliest_days, mark_dirty_in
from monitor.store.database import Database, lift_time_limit, stop_writers
from monitor.store.positions import reset_in
from monitor.store.schema import dead_letters, posts
from monitor.store.texts import hashed_user, storable
from monitor.store.totals import by_key, counted_from_posts, subtract_in

LETTERS_AT_ONCE = 200  #: dead letters read at a time while looking for a user: at most 64 KiB each
MAX_UNPACKED_BYTES = 16 << 20  #: of a dead letter's gzip, which has at most 64 KiB
_GZIP = b"\x1f\x8b"
_ESCAPES = re.compile(r'(?:\\u[0-9a-fA-F]{4}|\\["\\/bfnrt])+')
_SHA_DIGITS = 12  #: of a file's SHA-256, with which the `position` of its posts begins


@dataclass(frozen=True)
class Which:
    """What is meant: a file (as dropped, or its name in done/), an id, or a user; exactly one."""

    file: str | None = None
    id: str | None = None
    user: str | None = None

    @property
    def value(self) -> str | None:
        """The id or the user."""
        return self.id if self.id is not None else self.user


@dataclass(frozen=True)
class Forgotten:
    """What went: posts, the (brand, day) pairs whose totals changed, and dead letters whose bytes were blanked."""

    n_posts: int
    days: tuple[tuple[str, date], ...]
    n_dead_letters: int = 0


def find(db: Database, which: Which, hash_key: bytes) -> Forgotten:
    """What `forget` would take out now. Changes nothing."""
    shas = files.shas_of(db, which.file) if which.file is not None else []
    these = _condition(which, shas, hash_key)

    def look(connection: Connection) -> Forgotten:
        lift_time_limit(connection)
        n_posts = connection.execute(select(func.count()).select_from(posts).where(these)).scalar_one()
        pairs = sorted({(key.brand, key.day) for key in by_key(connection.execute(counted_from_posts().where(these)))})
        letters = _letters_of_files(shas) if which.value is None else _letters_with_in(connection, which.value)
        return Forgotten(n_posts, tuple(pairs), sum(count_dead_letters_in(connection, some) for some in letters))

    return db.read(look)


def forget(db: Database, which: Which, hash_key: bytes) -> Forgotten:
    """Delete the posts that are meant.

    What they counted goes in the same transaction, daily rows follow at the next refresh. Keys are free again (a row
    that is dropped again counts again), a file's position starts at row 0. Posts whose user retention has blanked
    cannot be found by user. Dead letters keep place and reason, but lose their bytes where they are of the file, or
    hold the id or user as a field; alerts of those days lose their quotes.
    """
    shas = files.shas_of(db, which.file) if which.file is not None else []
    these = _condition(which, shas, hash_key)
    forgotten = db.run(lambda connection: _forget_in(connection, these, shas, which.value))
    db.drop_old_pages()
    return forgotten


def _condition(which: Which, shas: Sequence[tuple[str, str]], hash_key: bytes) -> ColumnElement[bool]:
    if which.id is not None:
        return posts.c.id == storable(which.id)
    if which.user is not None:
        return posts.c.user_id.in_([storable(which.user), hashed_user(which.user, hash_key)])
    of_file = [
        and_(posts.c.source == source, posts.c.position.startswith(f"{sha[:_SHA_DIGITS]}:")) for source, sha in shas
    ]
    return or_(false(), *of_file)


def _forget_in(
    connection: Connection, these: ColumnElement[bool], shas: Sequence[tuple[str, str]], value: str | None
) -> Forgotten:
    lift_time_limit(connection)
    stop_writers(connection)  # else a post could come in between the counting and the deleting
    sums = by_key(connection.execute(counted_from_posts().where(these)))
    n_posts = delete_posts_in(connection, these)
    subtract_in(connection, sums)
    pairs = sorted({(key.brand, key.day) for key in sums})
    first_days = earliest_days(pairs)
    mark_dirty_in(connection, first_days, datetime.now(UTC))
    brands = sorted(first_days)
    for start in range(0, len(brands), 200):
        some = {brand: first_days[brand] for brand in brands[start : start + 200]}
        take_quotes_out_in(connection, of_later_days(some), words_only=True)
    letters = _letters_of_files(shas) if value is None else _letters_with_in(connection, value)
    n_dead_letters = sum(blank_dead_letters_in(connection, some) for some in letters)
    for source, sha in shas:
        reset_in(connection, source, StreamPartition(sha, 0), 0)
    for start in range(0, len(pairs), 200):
        take_quotes_out_in(connection, of_brand_days(pairs[start : start + 200]))
    return Forgotten(n_posts, tuple(pairs), n_dead_letters)


def _letters_of_files(shas: Sequence[tuple[str, str]]) -> Iterator[ColumnElement[bool]]:
    for source, sha in shas:
        yield and_(dead_letters.c.source == source, dead_letters.c.stream == sha)


def _letters_with_in(connection: Connection, value: str) -> Iterator[ColumnElement[bool]]:
    """Dead letters have no columns for id and user: their bytes are read."""
    for chunk in _letters_in(connection):
        ids = [dead_letter_id for dead_letter_id, raw in chunk if holds_field(raw, value)]
        if ids:
            yield dead_letters.c.dead_letter_id.in_(ids)


def _letters_in(connection: Connection) -> Iterator[list[tuple[int, bytes]]]:
    last = 0
    while True:
        query = select(dead_letters.c.dead_letter_id, dead_letters.c.raw).where(dead_letters.c.dead_letter_id > last)
        rows = connection.execute(
            query.where(dead_letters.c.raw.is_not(None)).order_by(dead_letters.c.dead_letter_id).limit(LETTERS_AT_ONCE)
        ).all()
        if not rows:
            return
        last = rows[-1].dead_letter_id
        yield [(row.dead_letter_id, row.raw) for row in rows]


def holds_field(raw: bytes, value: str) -> bool:
    """Whether a refused record holds `value` as one of its fields; in a broken one, or in UTF-16, anywhere."""
    if raw.startswith(_GZIP):
        unpacked = _unpacked(raw)
        return unpacked is None or _holds_word(unpacked.decode("utf-8", "replace"), value)
    if any(value.encode(code, "replace") in raw for code in ("utf-16-le", "utf-16-be")):
        return True  # the head of a file that was refused for it
    text = raw.decode("utf-8", "replace")
    try:
        return value in _json_fields(raw.decode())
    except (ValueError, RecursionError):
        fields = None if _looks_broken(text) else _csv_fields(text)
        words = (text, _unescaped(text))
        return any(_holds_word(each, value) for each in words) if fields is None else value in fields


def _json_fields(text: str) -> set[str]:
    """Every text, number and name in a JSON value; a name that stands twice has both its values."""
    found: set[str] = set()

    def collect(value: object) -> None:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, list):
                collect(each)
            elif each is not None:  # what was an object has been collected
                found.add(str(each).strip())

    def collect_pairs(pairs: list[tuple[str, object]]) -> None:
        for name, value in pairs:
            found.add(name)
            collect(value)

    collect(json.loads(text, object_pairs_hook=collect_pairs))
    return found


def _unescaped(text: str) -> str:
    """JSON's escapes resolved in a text that need not be whole JSON."""
    return _ESCAPES.sub(lambda match: str(json.loads(f'"{match.group()}"')), text)


def _looks_broken(text: str) -> bool:
    """Cut or invalid JSON, or CSV with a quote that is never closed."""
    return text.lstrip().startswith(("{", "[")) or text.count('"') % 2 == 1


def _holds_word(text: str, value: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text) is not None


def _csv_fields(text: str) -> set[str] | None:
    """The fields of rows, by whatever may separate them: files are refused for another separator than ours."""
    try:
        return {
            field.strip()
            for separator in ",;\t|"
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            for field in row
        }
    except csv.Error:
        return None


def _unpacked(raw: bytes) -> bytes | None:
    """The head of a gzip file as far as it goes; None for one that cannot be searched."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(raw, MAX_UNPACKED_BYTES)
    except zlib.error:
        return None
