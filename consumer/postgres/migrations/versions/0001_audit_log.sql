-- The audit log, its idempotency ledger, the positions and books, the quarantine; who may do what with them.
-- Runs as audit_owner, so every object is its own.

-- What waits behind a lock of a running worker gives up instead of stopping it.
SET LOCAL lock_timeout = '30s';
SET LOCAL statement_timeout = '5min';

-- ---------------------------------------------------------------- the log

CREATE TABLE audit.audit_log (
    event_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    tenant text NOT NULL,
    level text NOT NULL CONSTRAINT audit_log_level_check CHECK (level IN ('Notice', 'Information')),
    service text NOT NULL,
    login_name text NOT NULL,
    module text NOT NULL CONSTRAINT audit_log_module_check CHECK (module IN ('System administration', 'Integrations')),
    action text NOT NULL CONSTRAINT audit_log_action_check CHECK (action IN (
        'add oauth client', 'update oauth client', 'delete oauth client',
        'enable integration', 'disable integration', 'update permitted users',
        'update slack setting', 'generate API token', 'delete API token', 'authorize integration'
    )),
    result text NOT NULL CONSTRAINT audit_log_result_check CHECK (result IN ('SUCCESS', 'FAILED', 'VALIDATION ERROR')),
    error_code text,
    complement jsonb NOT NULL CONSTRAINT audit_log_complement_check CHECK (jsonb_typeof(complement) = 'object'),
    subject_type text NOT NULL,
    source_ip inet,
    kafka_topic text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    content_hash bytea NOT NULL,
    source_bytes bytea,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (occurred_at, event_id)
) PARTITION BY RANGE (occurred_at);

CREATE INDEX audit_log_tenant_idx ON audit.audit_log (tenant, occurred_at);
CREATE INDEX audit_log_login_name_idx ON audit.audit_log (login_name, occurred_at);
CREATE INDEX audit_log_action_idx ON audit.audit_log (action, occurred_at);

COMMENT ON TABLE audit.audit_log IS
    'The audit log, by month (UTC) of occurred_at. It only grows: UPDATE, DELETE and TRUNCATE are refused to everybody.';
COMMENT ON COLUMN audit.audit_log.content_hash IS 'SHA-256 of the record''s canonical JSON, without position and recorded_at.';
COMMENT ON COLUMN audit.audit_log.source_bytes IS 'The raw message, only where a value had to be altered to be storable.';

-- ---------------------------------------------------------------- the ledger

CREATE TABLE audit.event (
    event_id uuid PRIMARY KEY,
    occurred_at timestamptz NOT NULL,
    content_hash bytea NOT NULL
);

COMMENT ON TABLE audit.event IS
    'One row for every event in the log: keeps event_id unique over all months, which no index of a partitioned table can.';

-- ---------------------------------------------------------------- positions and books

-- Few rows, each updated with every batch: room in the page keeps the updates away from the index (HOT), and a table
-- of a few pages is vacuumed after a thousand of them, without pauses, instead of by its share of dead rows.
CREATE TABLE audit.consumer_position (
    kafka_topic text NOT NULL,
    kafka_topic_id text NOT NULL,
    kafka_partition integer NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    written bigint NOT NULL DEFAULT 0,
    duplicates bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    tombstones bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    expired bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kafka_topic, kafka_topic_id, kafka_partition),
    CONSTRAINT consumer_position_books_check CHECK (
        next_offset - first_offset = written + duplicates + quarantined + tombstones + skipped + expired
    )
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 10000
);

COMMENT ON TABLE audit.consumer_position IS
    'Where each partition stands: what is below next_offset is in the log, in quarantine, or in one of the counts.';
COMMENT ON COLUMN audit.consumer_position.skipped IS 'Offsets that hold no message: transaction markers, compaction.';
COMMENT ON COLUMN audit.consumer_position.expired IS 'Offsets that Kafka removed before they were read; see source_gap.';

-- ---------------------------------------------------------------- quarantine and gaps

CREATE TABLE audit.quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kafka_topic text NOT NULL,
    kafka_topic_id text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    reason text NOT NULL CONSTRAINT quarantine_reason_check CHECK (reason IN (
        'undecodable', 'unknown schema', 'unmapped change', 'invalid event', 'out of range', 'conflict', 'unstorable', 'oversized'
    )),
    error text NOT NULL,
    key bytea,
    value bytea,
    headers jsonb,
    status text NOT NULL DEFAULT 'open' CONSTRAINT quarantine_status_check CHECK (status IN ('open', 'retried', 'discarded')),
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    resolved_by text,
    CONSTRAINT quarantine_source_key UNIQUE (kafka_topic, kafka_topic_id, kafka_partition, kafka_offset)
);

COMMENT ON TABLE audit.quarantine IS 'Messages that could not become rows of the log, byte for byte, with the reason.';
COMMENT ON COLUMN audit.quarantine.headers IS 'Array of [name, base64 of the value or null], in the message''s order.';

CREATE TABLE audit.source_gap (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kafka_topic text NOT NULL,
    kafka_topic_id text NOT NULL,
    kafka_partition integer NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT source_gap_range_check CHECK (first_offset < next_offset)
);

COMMENT ON TABLE audit.source_gap IS 'Ranges of offsets, next_offset exclusive, that Kafka removed before they were read.';

-- ---------------------------------------------------------------- append-only, for everybody

CREATE FUNCTION audit.refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% on %.% is refused to everybody: what the audit log holds must stay as it was written',
        TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'What is older than the retention leaves by whole months; see the command retention.';
END
$$;

-- ENABLE ALWAYS: otherwise session_replication_role = replica would silence them.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.audit_log ENABLE ALWAYS TRIGGER append_only;

-- The ledger forgets an event together with its month, by DELETE, to which only the owner has a right.
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON audit.event
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.event ENABLE ALWAYS TRIGGER append_only;

-- ---------------------------------------------------------------- months

-- Makes the partition of a month; true if it was not there. The worker may call it, though it may create nothing itself.
CREATE FUNCTION audit.ensure_month(month date) RETURNS boolean
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    this_month CONSTANT timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    earliest CONSTANT timestamp := this_month - interval '10 years 1 month'; -- the longest retention, and a month to spare
    latest CONSTANT timestamp := this_month + interval '3 months';
    first_day timestamp;
    partition text;
    lower_bound text;
    upper_bound text;
BEGIN
    IF month IS NULL OR month < earliest OR month >= latest + interval '1 month' THEN
        RAISE EXCEPTION 'no partition for %: months are made from % to % only',
            coalesce(month::text, 'null'), to_char(earliest, 'YYYY-MM'), to_char(latest, 'YYYY-MM')
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    first_day := date_trunc('month', month::timestamp);
    partition := 'audit.audit_log_' || to_char(first_day, 'YYYY_MM');
    -- Quick where the month is there, which is nearly always; otherwise one at a time, and the second one finds it made.
    IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(partition) AND inhparent = 'audit.audit_log'::regclass) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(1635083369, 2);
    IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(partition) AND inhparent = 'audit.audit_log'::regclass) THEN
        RETURN false;
    END IF;

    -- Made like the parent and attached, which stops no reader and no writer; CREATE ... PARTITION OF would.
    lower_bound := to_char(first_day, 'YYYY-MM-DD') || ' 00:00:00+00';
    upper_bound := to_char(first_day + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00';
    EXECUTE format(
        'CREATE TABLE %s (LIKE audit.audit_log INCLUDING ALL,'
        ' CONSTRAINT audit_log_month_check CHECK (occurred_at >= %L AND occurred_at < %L))',
        partition, lower_bound, upper_bound
    );
    -- Triggers for statements guard the table that the statement names: each partition needs its own.
    EXECUTE format(
        'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %s'
        ' FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()',
        partition
    );
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER append_only', partition);
    EXECUTE format('GRANT SELECT ON %s TO audit_reader, audit_operator', partition);
    EXECUTE format(
        'ALTER TABLE audit.audit_log ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', partition, lower_bound, upper_bound
    );
    RETURN true;
END
$$;

COMMENT ON FUNCTION audit.ensure_month(date) IS
    'Makes the log''s partition for the month (UTC) of the date; true if it was not there. Refuses what no retention keeps.';

-- ---------------------------------------------------------------- rights

REVOKE ALL ON FUNCTION audit.ensure_month(date) FROM PUBLIC;
REVOKE ALL ON FUNCTION audit.refuse_change() FROM PUBLIC;

GRANT USAGE ON SCHEMA audit TO audit_writer, audit_reader, audit_operator;
GRANT SELECT ON audit.alembic_version TO audit_writer, audit_reader, audit_operator;

-- The writer adds, and moves positions; nothing that is written can it change or take away.
GRANT INSERT ON audit.audit_log, audit.quarantine, audit.source_gap TO audit_writer, audit_operator;
GRANT SELECT, INSERT ON audit.event TO audit_writer, audit_operator;
GRANT SELECT, INSERT, UPDATE ON audit.consumer_position TO audit_writer, audit_operator;
GRANT EXECUTE ON FUNCTION audit.ensure_month(date) TO audit_writer, audit_operator;

GRANT SELECT ON audit.audit_log, audit.event, audit.consumer_position, audit.quarantine, audit.source_gap
    TO audit_reader, audit_operator;

-- An operator moreover settles what is in quarantine, but its bytes stay.
GRANT UPDATE (status, resolved_at, resolved_by) ON audit.quarantine TO audit_operator;

-- ---------------------------------------------------------------- the first months

SELECT audit.ensure_month((date_trunc('month', now() AT TIME ZONE 'UTC') + ahead * interval '1 month')::date)
FROM generate_series(-1, 2) AS ahead;
