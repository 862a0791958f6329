"""the quality of a finalist at a higher fidelity, and of a winner's exported program"""

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
    for name in ("final_quality", "program_quality"):
        op.add_column("trials", sa.Column(name, JSON, nullable=True))


def downgrade() -> None:
    for name in ("final_quality", "program_quality"):
        op.execute(f"ALTER TABLE trials DROP COLUMN {name}")
