"""Positions remember Kafka's leader epoch, by which a log that lost its end and grew again is noticed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "positions",
        sa.Column(
            "leader_epoch",
            sa.Integer(),
            nullable=True,
            comment="Kafka's leader epoch of the record before epoch_offset",
        ),
    )
    op.add_column(
        "positions",
        sa.Column(
            "epoch_offset",
            sa.BigInteger(),
            nullable=True,
            comment="The next_offset that leader_epoch was read with; else it says nothing",
        ),
    )
