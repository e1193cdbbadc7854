"""The history of the quarantine, and the guard of its bytes. The SQL is in the file of the same name."""

from consumer.postgres.forward import downgrade, run_sql_of  # noqa: F401 - Alembic looks here for both ways

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Runs the SQL file as it is."""
    run_sql_of(__file__)
