"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _posts()
    _daily_totals()
    _daily_sentiment()
    _alerts()
    _dead_letters()
    _positions()
    _models()
    _settings()
    _brands()
    _files()
    _recent_outcomes()
    _episodes()
    _instances()


def _posts() -> None:
    op.create_table(
        "posts",
        sa.Column(
            "post_key",
            sa.Text(),
            nullable=False,
            comment="What makes the post count once: a hash of its identity",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="Name of the source it came from"),
        sa.Column(
            "position",
            sa.Text(),
            nullable=False,
            comment="Where it lay there: topic:partition:offset, or file hash:row",
        ),
        sa.Column("brand", sa.Text(), nullable=False, comment="The brand it is counted under"),
        sa.Column("id", sa.Text(), nullable=True, comment="The record's own id, if it had one"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="When the post was written, UTC"),
        sa.Column("day", sa.Date(), nullable=False, comment="Calendar date of created_at in the configured time zone"),
        sa.Column(
            "user_id",
            sa.Text(),
            nullable=True,
            comment="Author, kept, hashed or dropped as configured; null after retention",
        ),
        sa.Column("lang", sa.Text(), nullable=True, comment="Language as the record said; null after retention"),
        sa.Column(
            "text",
            sa.Text(),
            nullable=True,
            comment="The text; null where texts are not kept and after retention",
        ),
        sa.Column(
            "pos_prob",
            sa.Float(),
            nullable=True,
            comment="Calibrated positivity in [0, 1], 6 decimals; null where the post was not scored",
        ),
        sa.Column("pred", sa.Integer(), nullable=True, comment="1 where pos_prob >= the bundle's threshold, else 0"),
        sa.Column("label", sa.Text(), nullable=True, comment="Most likely class: negative, neutral or positive"),
        sa.Column("p_negative", sa.Float(), nullable=True, comment="Calibrated probability of negative"),
        sa.Column(
            "p_neutral",
            sa.Float(),
            nullable=True,
            comment="Calibrated probability of neutral; null for two classes",
        ),
        sa.Column("p_positive", sa.Float(), nullable=True, comment="Calibrated probability of positive"),
        sa.Column("model", sa.Text(), nullable=False, comment="The bundle that scored it"),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=False, comment="When it was scored, UTC"),
        sa.Column(
            "content_hash",
            sa.Text(),
            nullable=False,
            comment="Hash of created_at, user_id and text: tells a duplicate from an id conflict",
        ),
        sa.PrimaryKeyConstraint("post_key", name="pk_posts"),
        comment="One row per accepted post, counted exactly once",
    )
    op.create_index("ix_posts_day_brand_pos_prob", "posts", ["day", "brand", "pos_prob"])


def _daily_totals() -> None:
    op.create_table(
        "daily_totals",
        sa.Column("brand", sa.Text(), nullable=False, comment="Brand"),
        sa.Column("day", sa.Date(), nullable=False, comment="Day"),
        sa.Column("source", sa.Text(), nullable=False, comment="Source"),
        sa.Column("model", sa.Text(), nullable=False, comment="Bundle"),
        sa.Column("n", sa.BigInteger(), nullable=False, comment="Scored posts"),
        sa.Column("positives", sa.BigInteger(), nullable=False, comment="Posts with pred = 1"),
        sa.Column("n_negative", sa.BigInteger(), nullable=False, comment="Posts labelled negative"),
        sa.Column("n_neutral", sa.BigInteger(), nullable=False, comment="Posts labelled neutral"),
        sa.Column("n_positive", sa.BigInteger(), nullable=False, comment="Posts labelled positive"),
        sa.Column("sum_micro", sa.BigInteger(), nullable=False, comment="Sum of pos_prob in millionths"),
        sa.Column(
            "sumsq_micro",
            sa.BigInteger(),
            nullable=False,
            comment="Sum of pos_prob squared in millionths, each square rounded",
        ),
        sa.PrimaryKeyConstraint("brand", "day", "source", "model", name="pk_daily_totals"),
        comment="Additive totals, written in the same transaction as the posts they count",
    )


def _daily_sentiment() -> None:
    op.create_table(
        "daily_sentiment",
        sa.Column("brand", sa.Text(), nullable=False, comment="Brand"),
        sa.Column("day", sa.Date(), nullable=False, comment="Day"),
        sa.Column("total", sa.BigInteger(), nullable=False, comment="Scored posts of that day"),
        sa.Column("positives", sa.BigInteger(), nullable=False, comment="Posts with pred = 1"),
        sa.Column("n_negative", sa.BigInteger(), nullable=False, comment="Posts labelled negative"),
        sa.Column("n_neutral", sa.BigInteger(), nullable=False, comment="Posts labelled neutral"),
        sa.Column("n_positive", sa.BigInteger(), nullable=False, comment="Posts labelled positive"),
        sa.Column("mean_pos", sa.Float(), nullable=False, comment="Mean pos_prob of the day, never corrected"),
        sa.Column(
            "mean_pos_low",
            sa.Float(),
            nullable=True,
            comment="mean_pos - 1.96 sd/sqrt(n); null under two posts",
        ),
        sa.Column(
            "mean_pos_high",
            sa.Float(),
            nullable=True,
            comment="mean_pos + 1.96 sd/sqrt(n); null under two posts",
        ),
        sa.Column(
            "ma3",
            sa.Float(),
            nullable=False,
            comment="Mean of mean_pos over the latest three days that have posts, this one included",
        ),
        sa.Column(
            "ma3_span_days",
            sa.Integer(),
            nullable=False,
            comment="Calendar days from the first to the last of those days, both included",
        ),
        sa.Column(
            "mean_pos_corrected",
            sa.Float(),
            nullable=True,
            comment="mean_pos corrected by the brand's own labels; null without labels",
        ),
        sa.Column("corrected_low", sa.Float(), nullable=True, comment="Lower end of its 95% interval"),
        sa.Column("corrected_high", sa.Float(), nullable=True, comment="Upper end of its 95% interval"),
        sa.Column("model", sa.Text(), nullable=True, comment="Bundle of that day; null if several"),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When the row was last computed, UTC",
        ),
        sa.PrimaryKeyConstraint("brand", "day", name="pk_daily_sentiment"),
        comment="One row per brand and day with posts: the daily mean and its 3-day moving average",
    )


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_key", sa.Text(), nullable=False, comment="brand/day/kind"),
        sa.Column("episode", sa.Text(), nullable=True, comment="The dip it belongs to: brand/first day"),
        sa.Column("brand", sa.Text(), nullable=False, comment="Brand"),
        sa.Column("day", sa.Date(), nullable=False, comment="The counting day it is about"),
        sa.Column("kind", sa.Text(), nullable=False, comment="dip, still_down, recovered or no_data"),
        sa.Column(
            "rule_ma3",
            sa.Float(),
            nullable=True,
            comment="Mean over the latest three counting days within max_span_days",
        ),
        sa.Column("ma3", sa.Float(), nullable=True, comment="ma3 of that day"),
        sa.Column("mean_pos", sa.Float(), nullable=True, comment="mean_pos of that day"),
        sa.Column("total", sa.BigInteger(), nullable=True, comment="Posts of that day"),
        sa.Column("threshold", sa.Float(), nullable=True, comment="Threshold in force"),
        sa.Column(
            "message",
            sa.Text(),
            nullable=True,
            comment="The rendered message as JSON (text, blocks); blanked of quotes by retention",
        ),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="pending, sending, sent, unknown, past, superseded, dry_run or dropped",
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="Times that sending began"),
        sa.Column(
            "next_attempt_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Not before; while sending: when the sender's lease ends",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, comment="When it was decided, UTC"),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True, comment="When Slack took it, UTC"),
        sa.Column("slack_channel", sa.Text(), nullable=True, comment="Channel as configured, then Slack's channel id"),
        sa.Column("slack_ts", sa.Text(), nullable=True, comment="Slack's message timestamp"),
        sa.Column("last_error", sa.Text(), nullable=True, comment="What Slack or the network said last"),
        sa.PrimaryKeyConstraint("alert_key", name="pk_alerts"),
        comment="Outbox and history of alerts; an episode is announced once",
    )
    op.create_index("ix_alerts_brand_day", "alerts", ["brand", "day"])
    op.create_index("ix_alerts_state_next_attempt_at", "alerts", ["state", "next_attempt_at"])


def _dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column(
            "dead_letter_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            nullable=False,
            autoincrement=True,
            comment="Number for people",
        ),
        sa.Column("source", sa.Text(), nullable=False, comment="Source"),
        sa.Column("stream", sa.Text(), nullable=False, comment="Topic with its id, or the file's SHA-256"),
        sa.Column("partition", sa.Integer(), nullable=False, comment="Partition; 0 for files"),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="Offset or row; -1 for a whole file"),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False, comment="When it was refused, UTC"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why, one word"),
        sa.Column("detail", sa.Text(), nullable=False, comment="Why, in a sentence"),
        sa.Column(
            "raw",
            sa.LargeBinary(),
            nullable=True,
            comment="The record's bytes, at most 64 KiB; null after retention",
        ),
        sa.Column("raw_truncated", sa.Integer(), nullable=False, comment="1 where raw is only the beginning"),
        sa.Column(
            "replayed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was put through again, UTC",
        ),
        sa.PrimaryKeyConstraint("dead_letter_id", name="pk_dead_letters"),
        sa.UniqueConstraint(
            "source", "stream", "partition", "position", name="uq_dead_letters_source_stream_partition_position"
        ),
        comment="Records that were refused, kept with their bytes and the reason",
    )


def _positions() -> None:
    op.create_table(
        "positions",
        sa.Column("source", sa.Text(), nullable=False, comment="Source"),
        sa.Column("stream", sa.Text(), nullable=False, comment="Topic with its id, or the file's SHA-256"),
        sa.Column("partition", sa.Integer(), nullable=False, comment="Partition; 0 for files"),
        sa.Column("next_offset", sa.BigInteger(), nullable=False, comment="The next record to read"),
        sa.Column("paused_reason", sa.Text(), nullable=True, comment="Why the source is paused; null while it reads"),
        sa.PrimaryKeyConstraint("source", "stream", "partition", name="pk_positions"),
        comment="Where each source goes on; written in the same transaction as the posts",
    )


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("model", sa.Text(), nullable=False, comment="Name and first digits of the hash, as in posts.model"),
        sa.Column("name", sa.Text(), nullable=False, comment="Bundle name"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="Hash of the bundle's manifest"),
        sa.Column("classes", sa.Text(), nullable=False, comment="Classes, comma separated"),
        sa.Column("languages", sa.Text(), nullable=False, comment="Languages it knows, comma separated"),
        sa.Column("pred_threshold", sa.Float(), nullable=False, comment="pos_prob from which pred is 1"),
        sa.Column(
            "loaded_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When a daemon first loaded it, UTC",
        ),
        sa.Column("metrics", sa.Text(), nullable=True, comment="Its evaluation report in short, as JSON"),
        sa.PrimaryKeyConstraint("model", name="pk_models"),
        comment="Bundles that have scored posts here",
    )


def _settings() -> None:
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False, comment="Setting"),
        sa.Column("value", sa.Text(), nullable=False, comment="Value"),
        sa.PrimaryKeyConstraint("name", name="pk_settings"),
        comment="Facts about this store: the time zone its days are counted in, the key of the user hash",
    )


def _brands() -> None:
    op.create_table(
        "brands",
        sa.Column("brand", sa.Text(), nullable=False, comment="Brand"),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False, comment="When its first post came, UTC"),
        sa.Column(
            "dirty_from",
            sa.Date(),
            nullable=True,
            comment="Earliest day whose totals changed since the last refresh; null when fresh",
        ),
        sa.Column(
            "refreshed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When daily rows of it were last recomputed, UTC; null before the first time",
        ),
        sa.PrimaryKeyConstraint("brand", name="pk_brands"),
        comment="Known brands and what a refresh still has to recompute",
    )
    op.create_index("ix_brands_dirty_from", "brands", ["dirty_from"])


def _files() -> None:
    op.create_table(
        "files",
        sa.Column("source", sa.Text(), nullable=False, comment="Drop folder source"),
        sa.Column("taken_name", sa.Text(), nullable=False, comment="Name in processing/, done/ or failed/"),
        sa.Column("name", sa.Text(), nullable=False, comment="Name it was dropped under"),
        sa.Column("sha256", sa.Text(), nullable=False, comment="SHA-256 of the decompressed content"),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False, comment="When it was taken, UTC"),
        sa.Column("counted", sa.BigInteger(), nullable=False, comment="Rows counted"),
        sa.Column("seen_before", sa.BigInteger(), nullable=False, comment="Rows that were counted before"),
        sa.Column("refused", sa.Text(), nullable=False, comment="JSON: reason -> [rows, first line]"),
        sa.Column(
            "finished_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it moved to done/ or failed/, UTC",
        ),
        sa.Column("outcome", sa.Text(), nullable=True, comment="done or failed; null while in processing/"),
        sa.PrimaryKeyConstraint("source", "taken_name", name="pk_files"),
        comment="Files taken from drop folders and what became of their rows",
    )


def _recent_outcomes() -> None:
    op.create_table(
        "recent_outcomes",
        sa.Column("source", sa.Text(), nullable=False, comment="Source"),
        sa.Column(
            "outcomes",
            sa.Text(),
            nullable=False,
            comment="Its last 1,000 records, oldest first: . accepted, x refused",
        ),
        sa.PrimaryKeyConstraint("source", name="pk_recent_outcomes"),
        comment="What max_invalid_share is judged on, kept across restarts",
    )


def _episodes() -> None:
    op.create_table(
        "episodes",
        sa.Column("brand", sa.Text(), nullable=False, comment="Brand"),
        sa.Column(
            "episode",
            sa.Text(),
            nullable=True,
            comment="brand/first day of the open episode; null when none is open",
        ),
        sa.Column("began_on", sa.Date(), nullable=True, comment="First counting day of the open episode"),
        sa.Column(
            "announced",
            sa.Integer(),
            nullable=False,
            comment="1 once a message about the open episode was put into the outbox",
        ),
        sa.Column(
            "settled_through",
            sa.Date(),
            nullable=True,
            comment="Latest day that a message or record is about: up to it all stays as told",
        ),
        sa.Column(
            "decided_through",
            sa.Date(),
            nullable=True,
            comment="Latest closed counting day that has been decided",
        ),
        sa.Column(
            "evaluated",
            sa.Text(),
            nullable=True,
            comment="What the last evaluation saw (refresh, day, rule); equal means that nothing changed",
        ),
        sa.PrimaryKeyConstraint("brand", name="pk_episodes"),
        comment="One row per brand: locked first by every evaluation, so that any replica may evaluate",
    )


def _instances() -> None:
    op.create_table(
        "instances",
        sa.Column("instance", sa.Text(), nullable=False, comment="host:pid:start"),
        sa.Column("role", sa.Text(), nullable=False, comment="all, ingest or schedule"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="Start, UTC"),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False, comment="Last sign of life, UTC"),
        sa.Column("state", sa.Text(), nullable=False, comment="JSON: lag, rates, waiting parts, last job runs"),
        sa.PrimaryKeyConstraint("instance", name="pk_instances"),
        comment="Running daemons, for `status` and for alerts that wait while a source catches up",
    )
