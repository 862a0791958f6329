"""the quality of a winner's exported program, where candidates are judged with weights of their own"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    op.add_column("trials", sa.Column("program_quality", JSON, nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE trials DROP COLUMN program_quality")
