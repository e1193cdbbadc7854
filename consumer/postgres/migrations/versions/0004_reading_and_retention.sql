-- Reading the log and retention: the history of exports, holds and removals; what a removed month held; months that stay removed.
-- Runs as audit_owner, so every object is its own.

-- What waits behind a lock of a running worker gives up instead of stopping it.
SET LOCAL lock_timeout = '30s';
SET LOCAL statement_timeout = '5min';

-- ---------------------------------------------------------------- following the log

-- Rows lie in the order in which they were recorded, so a few pages of summary find the newest; a tree would cost every write.
-- squawk-ignore require-concurrent-index-creation -- PostgreSQL has no such way for a partitioned table; a summary is quickly made
CREATE INDEX audit_log_recorded_at_idx ON audit.audit_log USING brin (recorded_at) WITH (pages_per_range = 32, autosummarize = on);

-- ---------------------------------------------------------------- the history

CREATE TABLE audit.operation_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    database_role text NOT NULL DEFAULT session_user,
    who text NOT NULL CONSTRAINT operation_history_who_check CHECK (who ~ '\S'),
    action text NOT NULL CONSTRAINT operation_history_action_check CHECK (action IN (
        'export began', 'export completed', 'export failed',
        'hold added', 'hold released',
        'retention changed', 'removal began', 'month removed', 'month kept'
    )),
    belongs_to bigint REFERENCES audit.operation_history (id),
    detail jsonb NOT NULL CONSTRAINT operation_history_detail_check CHECK (jsonb_typeof(detail) = 'object'),
    -- What ends something says what.
    CONSTRAINT operation_history_belongs_to_check CHECK (
        (belongs_to IS NOT NULL) = (action IN ('export completed', 'export failed', 'hold released', 'month removed', 'month kept'))
    )
);

-- An export ends once, a hold is released once.
CREATE UNIQUE INDEX operation_history_ended_key ON audit.operation_history (belongs_to)
    WHERE action IN ('export completed', 'export failed', 'hold released');

COMMENT ON TABLE audit.operation_history IS
    'Who exported what, held what, removed what. It only grows: UPDATE, DELETE and TRUNCATE are refused to everybody.';
COMMENT ON COLUMN audit.operation_history.database_role IS 'The role that logged in to the database, as PostgreSQL knows it.';
COMMENT ON COLUMN audit.operation_history.who IS 'The person, as the command was told: --by, else the user of the operating system.';
COMMENT ON COLUMN audit.operation_history.belongs_to IS 'What it ends: the entry of the export, the hold or the removal that began.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.operation_history
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.operation_history ENABLE ALWAYS TRIGGER append_only;

-- Nobody inserts into the history but through these functions: a reader can tell of an export, and of nothing else.
CREATE FUNCTION audit.export_began(who text, detail jsonb) RETURNS bigint
LANGUAGE sql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO audit.operation_history (who, action, detail) VALUES (who, 'export began', detail) RETURNING id
$$;

CREATE FUNCTION audit.export_ended(export bigint, completed boolean, detail jsonb) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    began audit.operation_history%ROWTYPE;
    ended bigint;
BEGIN
    SELECT * INTO began FROM audit.operation_history AS entry
    WHERE entry.id = export AND entry.action = 'export began' AND entry.database_role = session_user;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'export % was not begun by %', export, session_user USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO audit.operation_history (who, action, belongs_to, detail)
    VALUES (began.who, CASE WHEN completed THEN 'export completed' ELSE 'export failed' END, export, detail)
    RETURNING id INTO ended;
    RETURN ended;
END
$$;

-- ---------------------------------------------------------------- legal holds

CREATE FUNCTION audit.add_hold(who text, reason text, tenant text, since timestamptz, until timestamptz) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
DECLARE
    added bigint;
BEGIN
    IF coalesce(reason !~ '\S', true) OR (tenant IS NULL AND since IS NULL AND until IS NULL) OR coalesce(since >= until, false) THEN
        RAISE EXCEPTION 'a hold needs a reason, and a tenant or a period that is none the shorter than a moment'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- The last look at the holds before a month is dropped is under the same lock: a hold comes in time, or it waits and sees the month gone.
    PERFORM pg_advisory_xact_lock(1635083369, 3);
    INSERT INTO audit.operation_history (who, action, detail)
    VALUES (who, 'hold added', jsonb_build_object('reason', reason, 'tenant', tenant, 'since', since, 'until', until))
    RETURNING id INTO added;
    RETURN added;
END
$$;

CREATE FUNCTION audit.release_hold(hold bigint, who text, reason text) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    released bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM audit.active_hold WHERE id = hold) OR coalesce(reason !~ '\S', true) THEN
        RAISE EXCEPTION 'there is no hold % to be released, or no reason is given', hold USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO audit.operation_history (who, action, belongs_to, detail)
    VALUES (who, 'hold released', hold, jsonb_build_object('reason', reason))
    RETURNING id INTO released;
    RETURN released;
END
$$;

CREATE VIEW audit.active_hold AS
SELECT
    added.id,
    added.at,
    added.who,
    added.database_role,
    added.detail ->> 'reason' AS reason,
    added.detail ->> 'tenant' AS tenant,
    (added.detail ->> 'since')::timestamptz AS since,
    (added.detail ->> 'until')::timestamptz AS until
FROM audit.operation_history AS added
WHERE added.action = 'hold added' AND NOT EXISTS (
    SELECT FROM audit.operation_history AS released WHERE released.belongs_to = added.id AND released.action = 'hold released'
);

COMMENT ON VIEW audit.active_hold IS 'Legal holds that are not released: no month with a row of theirs is removed. No tenant: of all.';

-- ---------------------------------------------------------------- months that are gone

CREATE TABLE audit.retention_month (
    month date PRIMARY KEY CONSTRAINT retention_month_check CHECK (month = date_trunc('month', month::timestamp)),
    operation_id bigint NOT NULL REFERENCES audit.operation_history (id)
);

COMMENT ON TABLE audit.retention_month IS
    'Months whose removal has begun. No month up to the last of them is made any more; one that is still there may be written into.';

CREATE TABLE audit.retention_history (
    month date NOT NULL REFERENCES audit.retention_month (month),
    kafka_topic text NOT NULL,
    kafka_partition integer NOT NULL,
    removed bigint NOT NULL CONSTRAINT retention_history_removed_check CHECK (removed > 0),
    first_offset bigint NOT NULL,
    last_offset bigint NOT NULL,
    PRIMARY KEY (month, kafka_topic, kafka_partition)
);

COMMENT ON TABLE audit.retention_history IS
    'Of each month that was removed: how many rows of the log it held of each topic and partition, so that the books can be proven.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.retention_month
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.retention_month ENABLE ALWAYS TRIGGER append_only;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.retention_history
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.retention_history ENABLE ALWAYS TRIGGER append_only;

-- By the catalog's rows and not by to_regclass, whose cache may be from before a lock was waited for; VOLATILE for the same reason.
CREATE FUNCTION audit.has_month(month date) RETURNS boolean
LANGUAGE sql
VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE relnamespace = 'audit'::regnamespace AND relname = 'audit_log_' || to_char(month, 'YYYY_MM')
          AND inhparent = 'audit.audit_log'::regclass AND NOT inhdetachpending
    )
$$;

CREATE FUNCTION audit.is_removed(month date) RETURNS boolean
LANGUAGE sql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT audit.has_month(is_removed.month) AND coalesce(
        date_trunc('month', is_removed.month::timestamp) <= (SELECT max(gone.month) FROM audit.retention_month AS gone), false
    )
$$;

COMMENT ON FUNCTION audit.is_removed(date) IS 'Whether the month is not there and never will be again, since retention has come past it.';

-- As before, but for months that retention has removed, or is about to: those are never made again.
CREATE OR REPLACE FUNCTION audit.ensure_month(month date) RETURNS boolean
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

    -- Quick where the month is there, which is nearly always; otherwise one at a time, and the second one finds it made.
    IF audit.has_month(month) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(1635083369, 2);
    IF audit.has_month(month) THEN
        RETURN false;
    END IF;
    IF audit.is_removed(month) THEN
        RAISE EXCEPTION 'no partition for %: retention has removed its month', month USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- Made like the parent and attached, which stops no reader and no writer; CREATE ... PARTITION OF would.
    first_day := date_trunc('month', month::timestamp);
    partition := 'audit.audit_log_' || to_char(first_day, 'YYYY_MM');
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

-- ---------------------------------------------------------------- rights

REVOKE ALL ON FUNCTION audit.export_began(text, jsonb), audit.export_ended(bigint, boolean, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION audit.add_hold(text, text, text, timestamptz, timestamptz), audit.release_hold(bigint, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION audit.has_month(date), audit.is_removed(date) FROM PUBLIC;

GRANT SELECT ON audit.operation_history, audit.active_hold, audit.retention_month, audit.retention_history
    TO audit_reader, audit_operator, audit_retention;
GRANT EXECUTE ON FUNCTION audit.export_began(text, jsonb), audit.export_ended(bigint, boolean, jsonb) TO audit_reader;
GRANT EXECUTE ON FUNCTION audit.is_removed(date) TO audit_writer, audit_operator;

-- Whoever answers for the retention sees the log and holds it back. To remove a month is the owner's: it drops a table.
GRANT USAGE ON SCHEMA audit TO audit_retention;
GRANT SELECT ON audit.alembic_version, audit.audit_log TO audit_retention;
GRANT EXECUTE ON FUNCTION audit.add_hold(text, text, text, timestamptz, timestamptz), audit.release_hold(bigint, text, text)
    TO audit_retention;
