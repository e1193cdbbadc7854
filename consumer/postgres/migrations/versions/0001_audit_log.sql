-- The audit log, its ledger, positions, quarantine and books. Roles first: they belong to the cluster, so another database may have made them.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['audit_owner', 'audit_writer', 'audit_reader', 'audit_operator'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of the cluster migrates at the same time
        END;
    END LOOP;
    -- Who is no superuser must be a member of the owner to hand objects over to it.
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AND NOT pg_has_role('audit_owner', 'USAGE') THEN
        EXECUTE format('GRANT audit_owner TO %I', current_user);
    END IF;
END
$$;

ALTER SCHEMA audit OWNER TO audit_owner;
REVOKE ALL ON SCHEMA audit FROM PUBLIC;
GRANT USAGE ON SCHEMA audit TO audit_writer, audit_reader, audit_operator;

-- The idempotency ledger: a partitioned table can't have a unique key without its partition key.
CREATE TABLE audit.event (
    event_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 32),
    PRIMARY KEY (event_id)
);
COMMENT ON TABLE audit.event IS 'One row for every event in the log; content_hash is the SHA-256 of the record''s canonical JSON.';

CREATE TABLE audit.audit_log (
    event_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    tenant text NOT NULL,
    level text NOT NULL CHECK (level IN ('Notice', 'Information')),
    service text NOT NULL CHECK (service = 'Common'),
    login_name text NOT NULL,
    module text NOT NULL CHECK (module IN ('System administration', 'Integrations')),
    action text NOT NULL CHECK (
        action IN (
            'add oauth client', 'delete oauth client', 'update oauth client',
            'enable integration', 'disable integration', 'update permitted users',
            'update slack setting', 'generate API token', 'delete API token', 'authorize integration'
        )
    ),
    result text NOT NULL CHECK (result IN ('SUCCESS', 'FAILED', 'VALIDATION ERROR')),
    error_code text,
    complement jsonb NOT NULL CHECK (jsonb_typeof(complement) = 'object'),
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
COMMENT ON TABLE audit.audit_log IS 'The documented audit log. Rows are never changed; whole months are dropped by the retention.';
COMMENT ON COLUMN audit.audit_log.source_bytes IS 'The raw message, only where a value had to be altered to be storable.';

CREATE INDEX audit_log_tenant ON audit.audit_log (tenant, occurred_at);
CREATE INDEX audit_log_login_name ON audit.audit_log (login_name, occurred_at);
CREATE INDEX audit_log_action ON audit.audit_log (action, occurred_at);

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
    CONSTRAINT books_balance CHECK (
        next_offset - first_offset = written + duplicates + quarantined + tombstones + skipped + expired
    )
) WITH (fillfactor = 50);
COMMENT ON TABLE audit.consumer_position IS 'Where each partition stands, and the books: what became of every offset passed.';

CREATE TABLE audit.quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kafka_topic text NOT NULL,
    kafka_topic_id text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset bigint NOT NULL,
    reason text NOT NULL CHECK (
        reason IN (
            'undecodable', 'unknown schema', 'unmapped change', 'invalid event',
            'out of range', 'conflict', 'unstorable', 'oversized'
        )
    ),
    error text NOT NULL,
    key bytea,
    value bytea,
    headers jsonb,
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'retried', 'discarded')),
    quarantined_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    resolved_by text,
    UNIQUE (kafka_topic, kafka_topic_id, kafka_partition, kafka_offset)
);
COMMENT ON COLUMN audit.quarantine.headers IS 'An array of [name, base64 of the value or null]; null where the headers could not be read.';

CREATE TABLE audit.source_gap (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kafka_topic text NOT NULL,
    kafka_topic_id text NOT NULL,
    kafka_partition integer NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now(),
    CHECK (next_offset > first_offset)
);
COMMENT ON TABLE audit.source_gap IS 'Offsets first_offset up to (not including) next_offset were removed by Kafka''s retention before they were read.';

CREATE FUNCTION audit.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% of %.% is refused: what is written here is never changed', tg_op, tg_table_schema, tg_table_name
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR TRUNCATE ON audit.event
FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_change BEFORE DELETE OR TRUNCATE ON audit.quarantine
FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.source_gap
FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();

-- Makes the month's partition, if it is missing. ATTACH does not block readers or writers of the log; CREATE … PARTITION OF would.
CREATE FUNCTION audit.ensure_month(month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    first_day date := date_trunc('month', month)::date;
    name text := 'audit_log_' || to_char(first_day, 'YYYY_MM');
    lower_bound timestamptz := first_day::timestamptz;
    upper_bound timestamptz := (first_day + interval '1 month')::timestamptz;
BEGIN
    IF to_regclass(format('audit.%I', name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    IF first_day < date_trunc('month', now() - interval '10 years 1 month') OR first_day > now() + interval '3 months' THEN
        RAISE EXCEPTION 'no partition may hold the month %', first_day USING ERRCODE = 'datetime_field_overflow';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('integration-audit ensure_month', 0));
    IF to_regclass(format('audit.%I', name)) IS NOT NULL THEN
        RETURN false; -- made while we waited
    END IF;
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.audit_log INCLUDING ALL)', name);
    -- The check spares ATTACH the scan and the lock that goes with it.
    EXECUTE format(
        'ALTER TABLE audit.%I ADD CONSTRAINT month CHECK (occurred_at >= %L AND occurred_at < %L)', name, lower_bound, upper_bound
    );
    EXECUTE format(
        'CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name
    );
    EXECUTE format('GRANT SELECT ON audit.%I TO audit_reader, audit_operator', name);
    EXECUTE format(
        'ALTER TABLE audit.audit_log ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)', name, lower_bound, upper_bound
    );
    EXECUTE format('ALTER TABLE audit.%I DROP CONSTRAINT month', name);
    RETURN true;
END
$$;

ALTER TABLE audit.event OWNER TO audit_owner;
ALTER TABLE audit.audit_log OWNER TO audit_owner;
ALTER TABLE audit.consumer_position OWNER TO audit_owner;
ALTER TABLE audit.quarantine OWNER TO audit_owner;
ALTER TABLE audit.source_gap OWNER TO audit_owner;
ALTER TABLE audit.alembic_version OWNER TO audit_owner;
ALTER FUNCTION audit.refuse_change() OWNER TO audit_owner;
ALTER FUNCTION audit.ensure_month(date) OWNER TO audit_owner;

REVOKE ALL ON FUNCTION audit.ensure_month(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.ensure_month(date) TO audit_writer, audit_operator;

GRANT SELECT ON ALL TABLES IN SCHEMA audit TO audit_reader, audit_operator;

GRANT INSERT ON audit.audit_log, audit.quarantine, audit.source_gap TO audit_writer, audit_operator;
GRANT SELECT, INSERT ON audit.event TO audit_writer, audit_operator;
GRANT SELECT, INSERT, UPDATE ON audit.consumer_position TO audit_writer, audit_operator;
GRANT SELECT ON audit.alembic_version TO audit_writer;
GRANT UPDATE (status, resolved_at, resolved_by) ON audit.quarantine TO audit_operator;

SELECT audit.ensure_month((date_trunc('month', now()) + make_interval(months => ahead))::date)
FROM generate_series(-1, 2) AS ahead;
