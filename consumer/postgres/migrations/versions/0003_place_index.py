"""An index from a place in Kafka to the row of the log. The SQL is in the file of the same name."""

from consumer.postgres.forward import downgrade, run_sql_of  # noqa: F401 - Alembic looks here for both ways

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Runs the SQL file as it is."""
    run_sql_of(__file__)
