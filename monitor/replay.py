"""Refused records put through again, as the configuration reads them now, under their original identity."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from monitor.bookkeeper import rules_of
from monitor.config import AnySource, Config
from monitor.parsing import Parser
from monitor.posts import Batch, Post, Record, ScoredBatch
from monitor.protocols import Scorer
from monitor.sources.replay import records_of
from monitor.store import daily, deadletters
from monitor.store.database import Database
from monitor.store.deadletters import StoredDeadLetter
from monitor.store.saving import Saver

_AT_ONCE = 256  #: letters in memory, of up to 64 KiB each


@dataclass(frozen=True)
class Wanted:
    """Which letters to replay; None means any. Those that were replayed before are left out unless named by `ids`."""

    source: str | None = None
    reason: str | None = None
    ids: Collection[int] | None = None

    def includes(self, letter: StoredDeadLetter) -> bool:
        """Whether `letter` is among them."""
        if self.ids is not None:
            return letter.dead_letter_id in self.ids
        return letter.replayed_at is None and self.reason in {None, letter.reason}


@dataclass(frozen=True)
class Replayed:
    """What became of the letters: counted now, counted before, refused again, or not replayable at all."""

    n_inserted: int = 0
    n_seen_before: int = 0
    n_refused: int = 0
    n_skipped: int = 0

    def plus(self, other: "Replayed") -> "Replayed":
        """Both together."""
        return Replayed(
            self.n_inserted + other.n_inserted,
            self.n_seen_before + other.n_seen_before,
            self.n_refused + other.n_refused,
            self.n_skipped + other.n_skipped,
        )


def replay(config: Config, db: Database, scorer: Scorer, wanted: Wanted, now: datetime) -> Replayed:
    """Parse, score and save the wanted letters, mark those that were taken, and refresh the daily rows.

    No position moves, and what is refused again stays as it was first refused. Raises StoreUnavailable.
    """
    saver = Saver(db, rules_of(config, db, max_invalid_share=1.0))  # it was asked for: it never pauses a source
    total = Replayed()
    for section in config.sources:
        if wanted.source in {None, section.name}:
            total = total.plus(_replay_source(section, config, saver, db, scorer, wanted, now))
    daily.refresh(db, now)
    return total


def _replay_source(
    section: AnySource, config: Config, saver: Saver, db: Database, scorer: Scorer, wanted: Wanted, now: datetime
) -> Replayed:
    parser = Parser(section, config.brand, config.zone, config.scoring.max_text_chars)
    total = Replayed()
    for stream in deadletters.streams_of(db, section.name, reason=wanted.reason, ids=wanted.ids):
        letters = deadletters.in_order(db, section.name, stream, _AT_ONCE)  # all: they number equal rows of a file
        chosen = (pair for pair in records_of(letters, parser, now) if wanted.includes(pair[0]))
        while chunk := list(islice(chosen, min(_AT_ONCE, config.scoring.max_batch_posts))):
            total = total.plus(_replay_chunk(chunk, saver, db, scorer, now))
    return total


def _replay_chunk(
    chunk: Sequence[tuple[StoredDeadLetter, Record | None]], saver: Saver, db: Database, scorer: Scorer, now: datetime
) -> Replayed:
    posts = [(letter.dead_letter_id, record) for letter, record in chunk if isinstance(record, Post)]
    n_skipped = sum(record is None for _, record in chunk)
    other = Replayed(n_refused=len(chunk) - len(posts) - n_skipped, n_skipped=n_skipped)
    return other.plus(_save(posts, saver, db, scorer, now)) if posts else other


def _save(chunk: Sequence[tuple[int, Post]], saver: Saver, db: Database, scorer: Scorer, now: datetime) -> Replayed:
    """Save a chunk; where the store refuses some of it (id conflicts, too many brands), one by one, to know which."""
    posts = [post for _, post in chunk]
    scores = scorer.score(posts)
    saved = saver.save(ScoredBatch(Batch(posts[0].source, [*posts], {}), scores, scorer.model, now))
    n_refused = sum(saved.refused.values())
    if n_refused == 0:
        deadletters.mark_replayed(db, [number for number, _ in chunk], now)
    elif len(chunk) > 1:
        again = Replayed()
        for one in chunk:
            again = again.plus(_save([one], saver, db, scorer, now))
        # what the first save inserted, the second one has seen before
        return replace(again, n_inserted=saved.n_inserted, n_seen_before=len(chunk) - saved.n_inserted - n_refused)
    return Replayed(saved.n_inserted, saved.n_seen_before, n_refused)
