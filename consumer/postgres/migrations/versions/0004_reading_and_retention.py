"""The history of exports and retention, months that are gone, and how the log is followed. The SQL is in the file of the same name."""

from consumer.postgres.forward import downgrade, run_sql_of  # noqa: F401 - Alembic looks here for both ways

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Runs the SQL file as it is."""
    run_sql_of(__file__)
