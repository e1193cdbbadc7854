-- The way from a place in Kafka to the row of the log: `reconcile` asks for the rows of some thousand offsets at a time.
-- Runs as audit_owner, so every object is its own.

-- What waits behind a lock of a running worker gives up instead of stopping it. The index is built by one pass over the log, while
-- which the workers wait; it needs no sort, so an hour is for logs of billions of rows.
SET LOCAL lock_timeout = '30s';
SET LOCAL statement_timeout = '1h';

-- BRIN: some kilobytes a month, and next to nothing for a COPY, where a B-tree would cost as much as the key of the log. Rows lie in the
-- order in which they were read, so a stretch of offsets is in few pages; multi, since several partitions are read at once.
-- A partitioned table knows no CREATE INDEX CONCURRENTLY, nor does a transaction.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_log_kafka_offset_idx ON audit.audit_log
    USING brin (kafka_offset int8_minmax_multi_ops) WITH (autosummarize = on, pages_per_range = 32);
