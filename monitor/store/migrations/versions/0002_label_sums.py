"""Sums of hand-labelled posts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "label_sums",
        sa.Column("brand", sa.Text(), nullable=False, comment="Brand"),
        sa.Column("model", sa.Text(), nullable=False, comment="The bundle whose scores were compared with the labels"),
        sa.Column("n", sa.BigInteger(), nullable=False, comment="Labelled posts"),
        sa.Column(
            "label_micro",
            sa.BigInteger(),
            nullable=False,
            comment="Sum of the labels (0, 0.5 or 1) in millionths",
        ),
        sa.Column("score_micro", sa.BigInteger(), nullable=False, comment="Sum of their pos_prob in millionths"),
        sa.Column("labelsq_micro", sa.BigInteger(), nullable=False, comment="Sum of the labels squared in millionths"),
        sa.Column(
            "scoresq_micro",
            sa.BigInteger(),
            nullable=False,
            comment="Sum of pos_prob squared in millionths, each square rounded",
        ),
        sa.Column(
            "product_micro",
            sa.BigInteger(),
            nullable=False,
            comment="Sum of label times pos_prob in millionths, each product rounded",
        ),
        sa.Column(
            "calibrated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="When `model calibrate` stored them, UTC",
        ),
        sa.PrimaryKeyConstraint("brand", "model", name="pk_label_sums"),
        comment="What is kept of a brand's hand-labelled posts: it corrects the days that the same bundle scored",
    )
