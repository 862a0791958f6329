"""what a sampler wrote of its proposals, so that a restart continues its generations"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    op.add_column("trials", sa.Column("sampler_attrs", JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    op.execute("ALTER TABLE trials DROP COLUMN sampler_attrs")
