"""The nouns that travel from a source to the store: posts, dead letters, batches, scores. No clock, no SQL, no
network."""

from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum

import msgspec

MAX_RAW_BYTES = 65_536  #: a dead letter keeps at most this much of the refused record


class Reason(StrEnum):
    """Why a record was refused (README, "Posts in")."""

    BAD_JSON = "bad_json"
    BAD_ENCODING = "bad_encoding"
    NULL_VALUE = "null_value"
    EMPTY_TEXT = "empty_text"
    BAD_TEXT = "bad_text"
    BAD_CREATED_AT = "bad_created_at"
    FUTURE_CREATED_AT = "future_created_at"
    BAD_ID = "bad_id"
    ID_CONFLICT = "id_conflict"
    TEXT_TOO_LONG = "text_too_long"
    RECORD_TOO_LONG = "record_too_long"
    BAD_ROW = "bad_row"
    TOO_MANY_BRANDS = "too_many_brands"
    BAD_FILE = "bad_file"


# gc=False: they hold nothing that could hold them, and the collector need not look at thousands of them


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a record lies: `stream` is a topic with its id or a file's SHA-256, `offset` its own place (not the
    next)."""

    stream: str
    partition: int
    offset: int


class StreamPartition(msgspec.Struct, frozen=True, gc=False):
    """One ordered run of records; positions are kept per stream and partition."""

    stream: str
    partition: int


class Post(msgspec.Struct, frozen=True, gc=False):
    """One accepted record. Every later stage takes any Post without raising."""

    post_key: str  # what makes it count once: see identity.py
    content_hash: str  # 16 hex digits over created_at, user_id and text: tells a duplicate from an id conflict
    source: str
    place: Place
    label_of_place: str  # the `position` column, for people: topic:partition:offset or file hash:row
    brand: str
    id: str | None
    created_at: datetime  # aware, UTC
    day: date  # of created_at in the configured time zone
    user_id: str | None
    lang: str | None
    text: str
    raw: bytes  # the record as it came, for the dead letter that an id conflict makes of it
    line: int | None = None  # first line of the record in its file, for the same dead letter; None for Kafka


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """One refused record, with its bytes (at most MAX_RAW_BYTES) and the reason."""

    source: str
    place: Place  # for a whole file (`bad_file`) the offset is -1
    received_at: datetime  # aware, UTC
    reason: Reason
    detail: str  # a sentence for a person: names fields and line numbers, never quotes user text
    raw: bytes
    raw_truncated: bool = False
    line: int | None = None  # first line of the record in its file; None for Kafka


Record = Post | DeadLetter


class Batch(msgspec.Struct):
    """A micro-batch of one source, in the order of its records; a batch never spans two files."""

    source: str
    records: list[Record]
    positions: dict[StreamPartition, int]  # the next offset to read, once this batch is saved
    file: str | None = None  # drop folder: the file's name in processing/
    ends_file: bool = False  # the last batch of that file
    polled_at: float = 0.0  # monotonic seconds when its first record was polled
    generation: int = 0  # of the source when it was polled, see protocols.Polled
    starts: dict[StreamPartition, int] = {}  # stored positions that it builds on, see protocols.Polled
    epochs: dict[StreamPartition, int] = {}  # of the records before `positions`, see protocols.Polled

    @property
    def posts(self) -> list[Post]:
        """The accepted records, in order."""
        return [record for record in self.records if isinstance(record, Post)]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The refused records, in order."""
        return [record for record in self.records if isinstance(record, DeadLetter)]


class Score(msgspec.Struct, frozen=True, gc=False):
    """What the bundle says of one text; probabilities are calibrated, `pos_prob` is rounded to 6 decimals."""

    pos_prob: float
    pred: int
    label: str
    p_negative: float
    p_neutral: float | None  # None for two classes
    p_positive: float


class ScoredBatch(msgspec.Struct):
    """A batch and, in the order of `batch.posts`, their scores (None: stored unscored and not counted)."""

    batch: Batch
    scores: Sequence[Score | None]
    model: str
    scored_at: datetime


class Saved(msgspec.Struct, frozen=True):
    """What one save did, counted inside its transaction."""

    n_inserted: int
    n_seen_before: int
    refused: dict[Reason, int]  # dead letters of this batch by reason, those found while saving included
    conflicts: tuple[DeadLetter, ...] = ()  # the ones found while saving (id_conflict, too_many_brands)
