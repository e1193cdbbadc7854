"""The audit log and all that belongs to it. The SQL is in the file of the same name."""

from consumer.postgres.forward import downgrade, run_sql_of  # noqa: F401 - Alembic looks here for both ways

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Runs the SQL file as it is."""
    run_sql_of(__file__)
