"""Keys of posts begin with what orders them, so that a batch touches few pages of the index."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

POSTS_AT_ONCE = 5_000
HASH_CHARS = 32  #: until now a key was a hash alone; longer ones are new

_COMMENT = "What makes the post count once: what orders it, then a hash"
_OLD_COMMENT = "What makes the post count once: a hash of its identity"

_posts = sa.table(
    "posts",
    sa.column("post_key", sa.Text()),
    sa.column("id", sa.Text()),
    sa.column("position", sa.Text()),
    sa.column("created_at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    change = (
        sa.update(_posts)
        .where(_posts.c.post_key == sa.bindparam("old"))
        .values(post_key=sa.bindparam("order") + "-" + _posts.c.post_key)
    )
    for orders in _orders(op.get_bind()):
        op.get_bind().execute(change, orders)
    if op.get_bind().dialect.name == "postgresql":  # SQLite keeps no comments
        op.alter_column("posts", "post_key", existing_type=sa.Text(), comment=_COMMENT, existing_comment=_OLD_COMMENT)


def _orders(connection: sa.Connection) -> Iterator[list[dict[str, str]]]:
    """Old keys, and what goes before each."""
    last = ""
    while True:
        some = sa.select(_posts).where(_posts.c.post_key > last, sa.func.length(_posts.c.post_key) == HASH_CHARS)
        rows = connection.execute(some.order_by(_posts.c.post_key).limit(POSTS_AT_ONCE)).all()
        if not rows:
            return
        last = rows[-1].post_key
        yield [{"old": row.post_key, "order": _order_of(row.id, row.position, row.created_at)} for row in rows]


def _order_of(id_: str | None, position: str, created_at: datetime) -> str:
    """As monitor/identity.py had it when this was written."""
    if id_ is not None:
        return re.sub("[^0-9A-Za-z]", "", re.split("[/:]", id_)[-1])[:12]
    if position.count(":") == 2:  # topic:partition:offset
        return f"{int(position.rpartition(':')[2]):012x}"
    in_utc = created_at.replace(tzinfo=UTC) if created_at.tzinfo is None else created_at.astimezone(UTC)
    return f"{in_utc:%y%m%d%H%M}"
