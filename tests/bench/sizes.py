"""`python -m tests.bench.sizes`: bytes an event, as a worker leaves it behind: on disk, in the WAL, in Kafka. For docs/scaling.md."""

import json

import click
import psycopg

from tests.bench.bed import bed
from tests.bench.drain import drain
from tests.bench.pairs import Ground

_SIZES = """
SELECT 'log: rows', sum(pg_table_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass
UNION ALL
SELECT 'log: ' || regexp_replace(index.relname, '^audit_log_[0-9]{4}_[0-9]{2}_(.*?)(_idx)?$', '\\1'), sum(pg_relation_size(index.oid))
FROM pg_inherits JOIN pg_index ON indrelid = inhrelid JOIN pg_class AS index ON index.oid = indexrelid
WHERE inhparent = 'audit.audit_log'::regclass GROUP BY 1
UNION ALL
SELECT 'ledger: rows', pg_table_size('audit.event')
UNION ALL
SELECT 'ledger: index', pg_indexes_size('audit.event')"""

_WAL = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"


def measure(events: int) -> dict[str, float]:
    """Bytes an event by what they are for; the rest of a table's last page and of its months counts too, so take many."""
    with bed() as parts, parts.database() as database:
        ground = Ground(parts, events, click.echo)
        topic = ground.topic
        parts.settle()
        with psycopg.connect(database, autocommit=True) as connection:
            ((before,),) = connection.execute(_WAL).fetchall()
            drained = drain(parts, database, topic)
            ((after,),) = connection.execute(_WAL).fetchall()
            connection.execute("VACUUM audit.audit_log, audit.event")
            found = dict(connection.execute(_SIZES).fetchall())
        sizes = {name: float(size) / drained.events for name, size in sorted(found.items())}
        on_disk = sum(sizes.values())
        kafka = sum(each.stat().st_size for each in parts.kafka.log.parent.glob(f"data/{topic}-*/*.log"))
        return {**sizes, "on disk": on_disk, "WAL": float(after - before) / drained.events, "Kafka": kafka / drained.events}


@click.command()
@click.option("--events", default=1_000_000, show_default=True, help="How many.")
def main(events: int) -> None:
    """Prints the bytes an event."""
    click.echo(json.dumps({name: round(size, 1) for name, size in measure(events).items()}, indent=1))


if __name__ == "__main__":
    main()
