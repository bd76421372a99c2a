"""The save: posts, dead letters, positions and totals of one micro-batch in ONE transaction.

Everything that counts depends on it.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal

from msgspec.structs import astuple
from sqlalchemy import Connection, select

from monitor import crashpoints
from monitor.errors import PositionsMovedBack, TooManyRefused
from monitor.posts import Batch, DeadLetter, Post, Reason, Record, Saved, Score, ScoredBatch, StreamPartition
from monitor.store import brands
from monitor.store.database import Database, insert_into
from monitor.store.deadletters import save_in as save_dead_letters_in
from monitor.store.files import add_counts_in
from monitor.store.inserting import BatchColumns, PostRow, hashes_in, insert_in
from monitor.store.judging import judge, reasons_of
from monitor.store.schema import positions, recent_outcomes
from monitor.store.texts import hashed_user, storable
from monitor.store.totals import Totals, TotalsKey, add_in, totals_of

INSERTED: Final = "inserted"
SEEN_BEFORE: Final = "seen before"
Outcome = Reason | Literal["inserted", "seen before"]  #: what became of one record

_DETAILS = {
    Reason.ID_CONFLICT: "A post with this id was counted before, with another text, author or time.",
    Reason.TOO_MANY_BRANDS: "The brand is new, and there are max_brands brands already.",
}


_UNSCORED = (None,) * len(Score.__struct_fields__)


@dataclass(frozen=True)
class SaveRules:
    """What the configuration says about saving."""

    max_brands: int
    max_invalid_share: float
    keep_text: bool  # False: text, user_id, lang and the bytes of dead letters are not stored
    user_id: Literal["keep", "hash", "drop"]
    hash_key: bytes  # from settings.hash_key


@dataclass
class _Work:
    """One batch on its way through one attempt at the transaction."""

    scored: ScoredBatch
    rows: dict[str, PostRow]  # by key; where a key is in the batch twice, the first post's
    brand_of: list[str]  # storable brand of every post, in order
    outcomes: list[Outcome] = field(default_factory=list)  # of every record, in order
    conflicts: list[DeadLetter] = field(default_factory=list)


class Saver:
    """Saves scored batches. One per saver thread; it remembers which brands are known."""

    def __init__(self, db: Database, rules: SaveRules) -> None:
        self._db = db
        self._rules = rules
        self._known_brands: frozenset[str] = frozenset()
        self._reached: dict[tuple[str, StreamPartition], tuple[str | None, int]] = {}  # file, next offset

    def save(self, scored: ScoredBatch) -> Saved:
        """Save a batch; saving it again changes nothing.

        In one transaction: (0) admit new brands, (1) insert the posts that are new, (2) dead letters, (3) positions,
        (4) totals of what was inserted, (5) the days to refresh, (6) the window of recent outcomes and the file's
        counters. Rows go in sorted by key, hot rows last. Raises TooManyRefused (nothing is stored; the caller pauses
        the source or fails the file), PositionsMovedBack (nothing is stored; the caller reads again from the stored
        positions) and StoreUnavailable (save it again later).
        """
        rows, brand_of = self._rows_of(scored)

        def work(connection: Connection) -> tuple[Saved, frozenset[str]]:
            return self._save_in(connection, _Work(scored, rows, brand_of))

        try:
            saved, self._known_brands = self._db.run(work)
        except PositionsMovedBack:
            self._reached.clear()
            raise
        crashpoints.passing("database commit")
        self._note_reached(scored.batch)
        return saved

    def _save_in(self, connection: Connection, work: _Work) -> tuple[Saved, frozenset[str]]:
        scored, batch = work.scored, work.scored.batch
        known = brands.admit_in(connection, work.brand_of, self._known_brands, self._rules.max_brands, scored.scored_at)
        candidates = sorted(row for row in work.rows.values() if row.brand in known)
        inserted = insert_in(connection, candidates, BatchColumns(batch.source, scored.model, scored.scored_at))
        _find_outcomes(connection, work, inserted, known)
        crashpoints.passing("insert")
        save_dead_letters_in(connection, batch.dead_letters + work.conflicts, keep_raw=self._rules.keep_text)
        before = _move_positions_in(connection, batch.source, batch.positions, batch.epochs)
        self._check_reached(batch, before)
        sums = _sums_of(work, inserted)
        add_in(connection, sums)
        brands.mark_dirty_in(connection, brands.earliest_days((key.brand, key.day) for key in sums), scored.scored_at)
        self._judge_in(connection, work, before)
        return _saved_of(work.outcomes, tuple(work.conflicts)), known

    def _check_reached(self, batch: Batch, before: dict[StreamPartition, int]) -> None:
        """A running daemon would go on where it is, and never read what a restored database lacks."""
        for at in batch.positions:
            file, reached = self._reached.get((batch.source, at), (None, 0))
            if before.get(at, 0) < max(batch.starts.get(at, 0), reached if file == batch.file else 0):
                raise PositionsMovedBack(batch.source)

    def _note_reached(self, batch: Batch) -> None:
        others = {
            key: place for key, place in self._reached.items() if key[0] != batch.source or place[0] == batch.file
        }
        self._reached = others | {(batch.source, at): (batch.file, offset) for at, offset in batch.positions.items()}

    def _rows_of(self, scored: ScoredBatch) -> tuple[dict[str, PostRow], list[str]]:
        rows: dict[str, PostRow] = {}
        brand_of: list[str] = []
        for post, score in zip(scored.batch.posts, scored.scores, strict=True):
            brand = storable(post.brand)
            brand_of.append(brand)
            if post.post_key not in rows:
                rows[post.post_key] = self._row_of(post, brand, score)
        return rows, brand_of

    def _row_of(self, post: Post, brand: str, score: Score | None) -> PostRow:
        keep = self._rules.keep_text
        return PostRow(
            post.post_key,
            storable(post.label_of_place),
            brand,
            None if post.id is None else storable(post.id),
            post.created_at,
            post.day,
            self._user_of(post.user_id) if keep and post.user_id is not None else None,
            storable(post.lang) if keep and post.lang is not None else None,
            storable(post.text) if keep else None,
            post.content_hash,
            *(_UNSCORED if score is None else astuple(score)),
        )

    def _user_of(self, user_id: str) -> str | None:
        if self._rules.user_id == "drop":
            return None
        return hashed_user(user_id, self._rules.hash_key) if self._rules.user_id == "hash" else storable(user_id)

    def _judge_in(self, connection: Connection, work: _Work, before: dict[StreamPartition, int]) -> None:
        """Judge the records that lie at or after the stored positions.

        Those before were judged when they were saved first.
        """
        batch = work.scored.batch
        stored = {(at.stream, at.partition): offset for at, offset in before.items()}
        fresh = [
            (record, outcome)
            for record, outcome in zip(batch.records, work.outcomes, strict=True)
            if _is_fresh(record, stored)
        ]
        if not fresh or not batch.positions:
            return
        at = recent_outcomes.c.source == batch.source
        window = connection.execute(select(recent_outcomes.c.outcomes).where(at).with_for_update()).scalar() or ""
        marks = (isinstance(outcome, Reason) for _, outcome in fresh)
        try:
            after = judge(batch.source, window, marks, self._rules.max_invalid_share)
        except TooManyRefused as verdict:
            verdict.reasons = reasons_of(fresh)
            raise
        if after != window:
            statement = insert_into(connection, recent_outcomes).values(source=batch.source, outcomes=after)
            connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_={"outcomes": after}))
        if batch.file is not None:
            refused = [(str(outcome), record.line) for record, outcome in fresh if isinstance(outcome, Reason)]
            add_counts_in(connection, batch.source, batch.file, _saved_of([outcome for _, outcome in fresh]), refused)


def _find_outcomes(connection: Connection, work: _Work, inserted: set[str], known: frozenset[str]) -> None:
    """Fill `outcomes` and `conflicts`: a known id was seen before with the same content, is refused with another."""
    if len(inserted) == len(work.scored.batch.records):  # the usual batch: every record a new post
        work.outcomes.extend([INSERTED] * len(inserted))
        return
    firsts = {key: row.content_hash for key, row in work.rows.items() if key in inserted}
    others = [
        key for key, row in work.rows.items() if key not in inserted and row.brand in known and row.id is not None
    ]
    hashes = firsts | hashes_in(connection, others)
    not_yet = set(inserted)
    brand_of = iter(work.brand_of)
    for record in work.scored.batch.records:
        if isinstance(record, DeadLetter):
            work.outcomes.append(record.reason)
            continue
        outcome: Outcome = INSERTED
        if next(brand_of) not in known:
            outcome = Reason.TOO_MANY_BRANDS
        elif record.post_key in not_yet:
            not_yet.discard(record.post_key)
        else:
            same = record.id is None or hashes.get(record.post_key, record.content_hash) == record.content_hash
            outcome = SEEN_BEFORE if same else Reason.ID_CONFLICT
        work.outcomes.append(outcome)
        if isinstance(outcome, Reason):
            work.conflicts.append(_conflict(record, outcome, work.scored))


def _conflict(post: Post, reason: Reason, scored: ScoredBatch) -> DeadLetter:
    detail = _DETAILS[reason]
    if scored.batch.file is not None:
        detail = f"line {post.line} of {scored.batch.file.partition('-')[2]}: {detail}"  # taken as STAMP-NAME
    return DeadLetter(post.source, post.place, scored.scored_at, reason, detail, post.raw, line=post.line)


def _move_positions_in(
    connection: Connection, source: str, moved: dict[StreamPartition, int], epochs: dict[StreamPartition, int]
) -> dict[StreamPartition, int]:
    """Save positions as the greater of old and new, so that a late writer cannot move them back.

    Returns the old ones.
    """
    if not moved:
        return {}
    streams = {at.stream for at in moved}
    old = select(positions).where(positions.c.source == source, positions.c.stream.in_(streams))
    before = {StreamPartition(row.stream, row.partition): row.next_offset for row in connection.execute(old)}
    statement = insert_into(connection, positions)
    moves_on = statement.excluded.next_offset > positions.c.next_offset
    new = {name: statement.excluded[name] for name in ("next_offset", "leader_epoch", "epoch_offset")}
    statement = statement.on_conflict_do_update(index_elements=list(positions.primary_key), set_=new, where=moves_on)
    ordered = sorted(moved, key=lambda at: (at.stream, at.partition))
    rows = [
        {
            "source": source,
            "stream": at.stream,
            "partition": at.partition,
            "next_offset": moved[at],
            "leader_epoch": epochs.get(at),
            "epoch_offset": moved[at] if at in epochs else None,
        }
        for at in ordered
    ]
    connection.execute(statement, rows)
    return before


def _sums_of(work: _Work, inserted: set[str]) -> dict[TotalsKey, Totals]:
    scores: defaultdict[tuple[str, date], list[tuple[float, int, str]]] = defaultdict(list)
    for key in inserted:
        row = work.rows[key]
        if row.pos_prob is not None and row.pred is not None and row.label is not None:
            scores[row.brand, row.day].append((row.pos_prob, row.pred, row.label))
    source, model = work.scored.batch.source, work.scored.model
    return {TotalsKey(brand, day, source, model): totals_of(of_day) for (brand, day), of_day in scores.items()}


def _is_fresh(record: Record, stored: dict[tuple[str, int], int]) -> bool:
    place = record.place
    return place.offset >= stored.get((place.stream, place.partition), place.offset)


def _saved_of(outcomes: list[Outcome], conflicts: tuple[DeadLetter, ...] = ()) -> Saved:
    refused = Counter(outcome for outcome in outcomes if isinstance(outcome, Reason))
    return Saved(outcomes.count(INSERTED), outcomes.count(SEEN_BEFORE), dict(refused), conflicts)
