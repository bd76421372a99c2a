"""Every table and column of the store, each with its comment.

The only place where names and types are spelt; migrations follow it.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

#: SQLite counts rows up only in a column that is literally INTEGER
AutoId = BigInteger().with_variant(Integer(), "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC datetimes: timestamptz on PostgreSQL, `YYYY-MM-DD HH:MM:SS.ffffff` in UTC on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def column(name: str, kind: Any, comment: str, **options: Any) -> Column[Any]:
    """A column that says what it is; not null unless told otherwise."""
    options.setdefault("nullable", False)
    return Column(name, kind, comment=comment, **options)


posts = Table(
    "posts",
    metadata,
    column("post_key", Text, "What makes the post count once: what orders it, then a hash", primary_key=True),
    column("source", Text, "Name of the source it came from"),
    column("position", Text, "Where it lay there: topic:partition:offset, or file hash:row"),
    column("brand", Text, "The brand it is counted under"),
    column("id", Text, "The record's own id, if it had one", nullable=True),
    column("created_at", UtcDateTime, "When the post was written, UTC"),
    column("day", Date, "Calendar date of created_at in the configured time zone"),
    column("user_id", Text, "Author, kept, hashed or dropped as configured; null after retention", nullable=True),
    column("lang", Text, "Language as the record said; null after retention", nullable=True),
    column("text", Text, "The text; null where texts are not kept and after retention", nullable=True),
    column(
        "pos_prob",
        Float,
        "Calibrated positivity in [0, 1], 6 decimals; null where the post was not scored",
        nullable=True,
    ),
    column("pred", Integer, "1 where pos_prob >= the bundle's threshold, else 0", nullable=True),
    column("label", Text, "Most likely class: negative, neutral or positive", nullable=True),
    column("p_negative", Float, "Calibrated probability of negative", nullable=True),
    column("p_neutral", Float, "Calibrated probability of neutral; null for two classes", nullable=True),
    column("p_positive", Float, "Calibrated probability of positive", nullable=True),
    column("model", Text, "The bundle that scored it"),
    column("scored_at", UtcDateTime, "When it was scored, UTC"),
    column("content_hash", Text, "Hash of created_at, user_id and text: tells a duplicate from an id conflict"),
    Index("ix_posts_day_brand_pos_prob", "day", "brand", "pos_prob"),
    # hashes alone were the keys of schemas before 0003: a replica of such a program must not count posts anew
    CheckConstraint("strpos(post_key, '-') > 0", name="ck_posts_post_key_is_ordered").ddl_if(dialect="postgresql"),
    comment="One row per accepted post, counted exactly once",
)

daily_totals = Table(
    "daily_totals",
    metadata,
    column("brand", Text, "Brand", primary_key=True),
    column("day", Date, "Day", primary_key=True),
    column("source", Text, "Source", primary_key=True),
    column("model", Text, "Bundle", primary_key=True),
    column("n", BigInteger, "Scored posts"),
    column("positives", BigInteger, "Posts with pred = 1"),
    column("n_negative", BigInteger, "Posts labelled negative"),
    column("n_neutral", BigInteger, "Posts labelled neutral"),
    column("n_positive", BigInteger, "Posts labelled positive"),
    column("sum_micro", BigInteger, "Sum of pos_prob in millionths"),
    column("sumsq_micro", BigInteger, "Sum of pos_prob squared in millionths, each square rounded"),
    comment="Additive totals, written in the same transaction as the posts they count",
)

daily_sentiment = Table(
    "daily_sentiment",
    metadata,
    column("brand", Text, "Brand", primary_key=True),
    column("day", Date, "Day", primary_key=True),
    column("total", BigInteger, "Scored posts of that day"),
    column("positives", BigInteger, "Posts with pred = 1"),
    column("n_negative", BigInteger, "Posts labelled negative"),
    column("n_neutral", BigInteger, "Posts labelled neutral"),
    column("n_positive", BigInteger, "Posts labelled positive"),
    column("mean_pos", Float, "Mean pos_prob of the day, never corrected"),
    column("mean_pos_low", Float, "mean_pos - 1.96 sd/sqrt(n); null under two posts", nullable=True),
    column("mean_pos_high", Float, "mean_pos + 1.96 sd/sqrt(n); null under two posts", nullable=True),
    column("ma3", Float, "Mean of mean_pos over the latest three days that have posts, this one included"),
    column("ma3_span_days", Integer, "Calendar days from the first to the last of those days, both included"),
    column(
        "mean_pos_corrected", Float, "mean_pos corrected by the brand's own labels; null without labels", nullable=True
    ),
    column("corrected_low", Float, "Lower end of its 95% interval", nullable=True),
    column("corrected_high", Float, "Upper end of its 95% interval", nullable=True),
    column("model", Text, "Bundle of that day; null if several", nullable=True),
    column("updated_at", UtcDateTime, "When the row was last computed, UTC"),
    comment="One row per brand and day with posts: the daily mean and its 3-day moving average",
)

alerts = Table(
    "alerts",
    metadata,
    column("alert_key", Text, "brand/day/kind", primary_key=True),
    column("episode", Text, "The dip it belongs to: brand/first day", nullable=True),
    column("brand", Text, "Brand"),
    column("day", Date, "The counting day it is about"),
    column("kind", Text, "dip, still_down, recovered or no_data"),
    column("rule_ma3", Float, "Mean over the latest three counting days within max_span_days", nullable=True),
    column("ma3", Float, "ma3 of that day", nullable=True),
    column("mean_pos", Float, "mean_pos of that day", nullable=True),
    column("total", BigInteger, "Posts of that day", nullable=True),
    column("threshold", Float, "Threshold in force", nullable=True),
    column(
        "message", Text, "The rendered message as JSON (text, blocks); blanked of quotes by retention", nullable=True
    ),
    column("state", Text, "pending, sending, sent, unknown, past, superseded, dry_run or dropped"),
    column("attempts", Integer, "Times that sending began"),
    column("next_attempt_at", UtcDateTime, "Not before; while sending: when the sender's lease ends", nullable=True),
    column("created_at", UtcDateTime, "When it was decided, UTC"),
    column("sent_at", UtcDateTime, "When Slack took it, UTC", nullable=True),
    column("slack_channel", Text, "Channel as configured, then Slack's channel id", nullable=True),
    column("slack_ts", Text, "Slack's message timestamp", nullable=True),
    column("last_error", Text, "What Slack or the network said last", nullable=True),
    Index("ix_alerts_state_next_attempt_at", "state", "next_attempt_at"),
    Index("ix_alerts_brand_day", "brand", "day"),
    comment="Outbox and history of alerts; an episode is announced once",
)

dead_letters = Table(
    "dead_letters",
    metadata,
    column("dead_letter_id", AutoId, "Number for people", primary_key=True, autoincrement=True),
    column("source", Text, "Source"),
    column("stream", Text, "Topic with its id, or the file's SHA-256"),
    column("partition", Integer, "Partition; 0 for files"),
    column("position", BigInteger, "Offset or row; -1 for a whole file"),
    column("received_at", UtcDateTime, "When it was refused, UTC"),
    column("reason", Text, "Why, one word"),
    column("detail", Text, "Why, in a sentence"),
    column("raw", LargeBinary, "The record's bytes, at most 64 KiB; null after retention", nullable=True),
    column("raw_truncated", Integer, "1 where raw is only the beginning"),
    column("replayed_at", UtcDateTime, "When it was put through again, UTC", nullable=True),
    UniqueConstraint("source", "stream", "partition", "position"),
    comment="Records that were refused, kept with their bytes and the reason",
)

positions = Table(
    "positions",
    metadata,
    column("source", Text, "Source", primary_key=True),
    column("stream", Text, "Topic with its id, or the file's SHA-256", primary_key=True),
    column("partition", Integer, "Partition; 0 for files", primary_key=True),
    column("next_offset", BigInteger, "The next record to read"),
    column("paused_reason", Text, "Why the source is paused; null while it reads", nullable=True),
    column("leader_epoch", Integer, "Kafka's leader epoch of the record before epoch_offset", nullable=True),
    column(
        "epoch_offset",
        BigInteger,
        "The next_offset that leader_epoch was read with; else it says nothing",
        nullable=True,
    ),
    comment="Where each source goes on; written in the same transaction as the posts",
)

models = Table(
    "models",
    metadata,
    column("model", Text, "Name and first digits of the hash, as in posts.model", primary_key=True),
    column("name", Text, "Bundle name"),
    column("sha256", Text, "Hash of the bundle's manifest"),
    column("classes", Text, "Classes, comma separated"),
    column("languages", Text, "Languages it knows, comma separated"),
    column("pred_threshold", Float, "pos_prob from which pred is 1"),
    column("loaded_at", UtcDateTime, "When a daemon first loaded it, UTC"),
    column("metrics", Text, "Its evaluation report in short, as JSON", nullable=True),
    comment="Bundles that have scored posts here",
)

# --- Below: the monitor's own bookkeeping, not part of what users query ---

settings = Table(
    "settings",
    metadata,
    column("name", Text, "Setting", primary_key=True),
    column("value", Text, "Value"),
    comment="Facts about this store: the time zone its days are counted in, the key of the user hash",
)

brands = Table(
    "brands",
    metadata,
    column("brand", Text, "Brand", primary_key=True),
    column("added_at", UtcDateTime, "When its first post came, UTC"),
    column(
        "dirty_from", Date, "Earliest day whose totals changed since the last refresh; null when fresh", nullable=True
    ),
    column(
        "refreshed_at",
        UtcDateTime,
        "When daily rows of it were last recomputed, UTC; null before the first time",
        nullable=True,
    ),
    Index("ix_brands_dirty_from", "dirty_from"),
    comment="Known brands and what a refresh still has to recompute",
)

files = Table(
    "files",
    metadata,
    column("source", Text, "Drop folder source", primary_key=True),
    column("taken_name", Text, "Name in processing/, done/ or failed/", primary_key=True),
    column("name", Text, "Name it was dropped under"),
    column("sha256", Text, "SHA-256 of the decompressed content"),
    column("taken_at", UtcDateTime, "When it was taken, UTC"),
    column("counted", BigInteger, "Rows counted"),
    column("seen_before", BigInteger, "Rows that were counted before"),
    column("refused", Text, "JSON: reason -> [rows, first line]"),
    column("finished_at", UtcDateTime, "When it moved to done/ or failed/, UTC", nullable=True),
    column("outcome", Text, "done or failed; null while in processing/", nullable=True),
    comment="Files taken from drop folders and what became of their rows",
)

recent_outcomes = Table(
    "recent_outcomes",
    metadata,
    column("source", Text, "Source", primary_key=True),
    column("outcomes", Text, "Its last 1,000 records, oldest first: . accepted, x refused"),
    comment="What max_invalid_share is judged on, kept across restarts",
)

episodes = Table(
    "episodes",
    metadata,
    column("brand", Text, "Brand", primary_key=True),
    column("episode", Text, "brand/first day of the open episode; null when none is open", nullable=True),
    column("began_on", Date, "First counting day of the open episode", nullable=True),
    column("announced", Integer, "1 once a message about the open episode was put into the outbox"),
    column(
        "settled_through",
        Date,
        "Latest day that a message or record is about: up to it all stays as told",
        nullable=True,
    ),
    column("decided_through", Date, "Latest closed counting day that has been decided", nullable=True),
    column(
        "evaluated",
        Text,
        "What the last evaluation saw (refresh, day, rule); equal means that nothing changed",
        nullable=True,
    ),
    comment="One row per brand: locked first by every evaluation, so that any replica may evaluate",
)

label_sums = Table(
    "label_sums",
    metadata,
    column("brand", Text, "Brand", primary_key=True),
    column("model", Text, "The bundle whose scores were compared with the labels", primary_key=True),
    column("n", BigInteger, "Labelled posts"),
    column("label_micro", BigInteger, "Sum of the labels (0, 0.5 or 1) in millionths"),
    column("score_micro", BigInteger, "Sum of their pos_prob in millionths"),
    column("labelsq_micro", BigInteger, "Sum of the labels squared in millionths"),
    column("scoresq_micro", BigInteger, "Sum of pos_prob squared in millionths, each square rounded"),
    column("product_micro", BigInteger, "Sum of label times pos_prob in millionths, each product rounded"),
    column("calibrated_at", UtcDateTime, "When `model calibrate` stored them, UTC"),
    comment="What is kept of a brand's hand-labelled posts: it corrects the days that the same bundle scored",
)

instances = Table(
    "instances",
    metadata,
    column("instance", Text, "host:pid:start", primary_key=True),
    column("role", Text, "all, ingest or schedule"),
    column("started_at", UtcDateTime, "Start, UTC"),
    column("beat_at", UtcDateTime, "Last sign of life, UTC"),
    column("state", Text, "JSON: lag, rates, waiting parts, last job runs"),
    comment="Running daemons, for `status` and for alerts that wait while a source catches up",
)
