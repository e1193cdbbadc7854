"""PostgreSQL: the only importer of psycopg and Alembic."""
