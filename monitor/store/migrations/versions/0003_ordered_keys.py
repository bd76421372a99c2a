"""Keys of posts begin with what orders them, so that a batch touches few pages of the index.

Rewrites every key in one transaction: minutes for millions of posts, and room for another copy of the table.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

log = logging.getLogger(__name__)

POSTS_AT_ONCE = 5_000
HASH_CHARS = 32  #: until now a key was a hash alone; longer ones are new

_COMMENT = "What makes the post count once: what orders it, then a hash"
_OLD_COMMENT = "What makes the post count once: a hash of its identity"

_POSTGRESQL_CHUNK = sa.text(
    "SELECT post_key AS place, post_key, id, position, created_at FROM posts WHERE post_key > :last "
    "ORDER BY post_key LIMIT :n"
).columns(created_at=sa.DateTime(timezone=True))
#: in the order of the rows in the file: in that of the keys each would be on another page
_SQLITE_CHUNK = sa.text(
    "SELECT rowid AS place, post_key, id, position, created_at FROM posts WHERE rowid > :last ORDER BY rowid LIMIT :n"
).columns(created_at=sa.DateTime(timezone=True))
_POSTGRESQL_CHANGE = sa.text(
    "UPDATE posts SET post_key = changed.key FROM (SELECT json_array_elements_text(CAST(:old AS json)) AS post_key, "
    "json_array_elements_text(CAST(:new AS json)) AS key) AS changed WHERE posts.post_key = changed.post_key"
)
_SQLITE_CHANGE = sa.text("UPDATE posts SET post_key = :key WHERE rowid = :place")


def upgrade() -> None:
    connection = op.get_bind()
    on_postgresql = connection.dialect.name == "postgresql"
    if on_postgresql:  # SQLite has one writer anyway
        connection.execute(sa.text("LOCK TABLE posts IN SHARE ROW EXCLUSIVE MODE"))
    for rows in _chunks(connection, _POSTGRESQL_CHUNK if on_postgresql else _SQLITE_CHUNK, "" if on_postgresql else 0):
        old = [row for row in rows if len(row.post_key) == HASH_CHARS]
        keys = [f"{_order_of(row.id, row.position, row.created_at)}-{row.post_key}" for row in old]
        if old and on_postgresql:
            posts = {"old": json.dumps([row.post_key for row in old]), "new": json.dumps(keys)}
            connection.execute(_POSTGRESQL_CHANGE, posts)
        elif old:
            changed = [{"place": row.place, "key": key} for row, key in zip(old, keys, strict=True)]
            connection.execute(_SQLITE_CHANGE, changed)
    if on_postgresql:  # SQLite keeps no comments, and lets only one program in
        # a replica of an older program that still runs must not count under old keys what came under new ones
        op.create_check_constraint("ck_posts_post_key_is_ordered", "posts", "strpos(post_key, '-') > 0")
        op.alter_column("posts", "post_key", existing_type=sa.Text(), comment=_COMMENT, existing_comment=_OLD_COMMENT)


def _chunks(connection: sa.Connection, query: Any, last: str | int) -> Iterator[Sequence[Any]]:
    """Every post, some at once; on PostgreSQL changed ones come again, behind their new keys."""
    n = 0
    while rows := connection.execute(query, {"last": last, "n": POSTS_AT_ONCE}).all():
        last = rows[-1].place
        yield rows
        n += len(rows)
        if n % (100 * POSTS_AT_ONCE) == 0:
            log.info("rewriting the keys of posts", extra={"posts": n})


def _order_of(id_: str | None, position: str, created_at: datetime) -> str:
    """As monitor/identity.py had it when this was written."""
    if id_ is not None:
        tail = id_[1 + max(id_.rfind(mark) for mark in "/:_") :]
        return "".join([char for char in tail if char.isascii() and char.isalnum()][:12])
    if position.count(":") == 2:  # topic:partition:offset
        return f"{int(position.rpartition(':')[2]):012x}"
    in_utc = created_at.replace(tzinfo=UTC) if created_at.tzinfo is None else created_at.astimezone(UTC)
    return f"{in_utc:%y%m%d%H%M}"
